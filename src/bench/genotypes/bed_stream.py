"""A .bed file that passes by in chunks of SNPs, the next one read while the last is used."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

from bench.errors import BenchError
from bench.genotypes.bed_file import buffer_bytes, make_buffer
from bench.genotypes.packed import PackedGenotypes

BUFFERS = 2


class BedStream:
    """The SNPs of a mapped .bed, `size` at a time, through two buffers of their bytes."""

    def __init__(self, packed: PackedGenotypes, size: int):
        """BenchError: genotypes that are no mapped file."""
        bed = packed.bed_file()
        if bed is None:
            raise BenchError(f"{packed.path or 'genotypes'}: only genotypes of a .bed file can be read in chunks")
        self._bed, self._packed, self._size = bed, packed, size
        self._passing = Lock()
        self._buffers = [make_buffer(buffer_bytes(size, bed.stride)) for _ in range(BUFFERS)]

    @property
    def nbytes(self) -> int:
        return sum(len(buffer) for buffer in self._buffers)

    def chunks(self) -> Iterator[tuple[slice, PackedGenotypes]]:
        """(SNPs, their genotypes) in order; a chunk's genotypes may be used until the next is asked for.

        BenchError: the file cannot be read, or is not what it was when it was opened. ValueError: another pass is
        under way, which has the buffers.
        """
        if not self._passing.acquire(blocking=False):
            raise ValueError(f"{self._bed.path}: read in chunks, it takes part in one product at a time")
        try:
            with self._bed.opened() as file:
                yield from self._read_ahead(file)
        finally:
            self._passing.release()

    def close(self) -> None:
        """Give the buffers back as soon as nothing looks at them."""
        self._buffers = []

    def _read_ahead(self, file: int) -> Iterator[tuple[slice, PackedGenotypes]]:
        slices = list(self._packed.blocks(self._size))
        with ThreadPoolExecutor(1) as reader:  # leaving it waits for the read that is under way
            coming = reader.submit(self._read, file, slices[0], 0)
            for number, snps in enumerate(slices):
                chunk = coming.result()
                if number + 1 < len(slices):
                    coming = reader.submit(self._read, file, slices[number + 1], (number + 1) % BUFFERS)
                yield snps, chunk

    def _read(self, file: int, snps: slice, turn: int) -> PackedGenotypes:
        codes = self._bed.read(file, snps, self._buffers[turn])
        return PackedGenotypes(codes, self._packed.n_samples, self._bed.path)
