"""A .bed file that passes by in chunks of SNPs, the next one read while the last is used.

Read, not mapped: a mapped file that somebody shortens kills the process, a read says so. Reads begin at whole pages
of the file and of the buffer: 256 MB from the page cache then take 26 ms, 100 ms where the two are 3 bytes apart as
the header makes them (Zen 4). The page cache is left to the system, which takes it back when it needs memory and
counts it to nobody's resident set: what is still there at the next pass is not read again.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

import numpy as np

from bench.errors import BenchError
from bench.genotypes.packed import PackedGenotypes

BUFFERS = 2
PIECE = 8 << 20  # bytes of one call: an interrupt waits for no more
HUGE_PAGE = 2 << 20


class BedStream:
    """The SNPs of a mapped .bed, `size` at a time, through two buffers of their bytes."""

    def __init__(self, packed: PackedGenotypes, size: int):
        """BenchError: genotypes that are no mapped file."""
        if packed.file is None or packed.path is None:
            raise BenchError(f"{packed.path or 'genotypes'}: only genotypes of a .bed file can be read in chunks")
        self.path: Path = packed.path
        self._offset = packed.file
        self._packed, self._size = packed, size
        self._stride = packed.codes.strides[0]
        self._opened_with = _state(self.path.stat())
        self._passing = Lock()
        self._buffers = [_buffer(buffer_bytes(size, self._stride)) for _ in range(BUFFERS)]

    @property
    def nbytes(self) -> int:
        return sum(len(buffer) for buffer in self._buffers)

    def chunks(self) -> Iterator[tuple[slice, PackedGenotypes]]:
        """(SNPs, their genotypes) in order; a chunk's genotypes may be used until the next is asked for.

        BenchError: the file cannot be read, or is not what it was when it was opened. ValueError: another pass is
        under way, which has the buffers.
        """
        if not self._passing.acquire(blocking=False):
            raise ValueError(f"{self.path}: read in chunks, it takes part in one product at a time")
        try:
            yield from self._pass()
        finally:
            self._passing.release()

    def _pass(self) -> Iterator[tuple[slice, PackedGenotypes]]:
        try:
            file = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise BenchError(f"{self.path}: cannot be read ({error.strerror})") from None
        try:
            if _state(os.fstat(file)) != self._opened_with:
                raise BenchError(f"{self.path}: it was changed since it was opened; open it again")
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_SEQUENTIAL)
            yield from self._read_ahead(file)
        finally:
            os.close(file)

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
        begin = self._offset + snps.start * self._stride
        size = (snps.stop - snps.start) * self._stride
        first = begin // mmap.PAGESIZE * mmap.PAGESIZE
        buffer, done = memoryview(self._buffers[turn])[: begin - first + size], 0
        while done < len(buffer):
            try:
                got = os.preadv(file, [buffer[done : done + PIECE]], first + done)
            except OSError as error:
                raise BenchError(f"{self.path}: cannot be read at byte {first + done} ({error.strerror})") from None
            if not got:
                raise BenchError(
                    f"{self.path}: it ends at byte {os.fstat(file).st_size}, and had {self._opened_with[0]} when it "
                    "was opened: somebody shortened it"
                )
            done += got
        codes = np.frombuffer(buffer, np.uint8, size, begin - first).reshape(-1, self._stride)
        return PackedGenotypes(codes, self._packed.n_samples, self.path)


def buffer_bytes(snps: int, stride: int) -> int:
    """Of one buffer: the bytes of so many SNPs, from whole page to whole page."""
    return -(-(snps * stride + mmap.PAGESIZE) // mmap.PAGESIZE) * mmap.PAGESIZE


def _buffer(size: int) -> mmap.mmap:
    """Memory that begins at a page, in huge pages where it can be."""
    made = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if size >= HUGE_PAGE:
        made.madvise(mmap.MADV_HUGEPAGE)
    return made


def _state(found: os.stat_result) -> tuple[int, int, int]:
    """What tells a file from the one that stands at its place later."""
    return found.st_size, found.st_mtime_ns, found.st_ino
