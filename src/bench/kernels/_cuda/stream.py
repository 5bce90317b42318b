"""Genotypes that stay in the host's memory and pass by a GPU in chunks of SNPs.

The host's copy is pinned, so that the device fetches it by itself, while it computes with the chunk before.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bench.errors import BenchError
from bench.genotypes.packed import PackedGenotypes
from bench.kernels._cuda.architectures import PANEL, panel_bytes
from bench.kernels._cuda.gpu import Gpu, pinned_exactly
from bench.kernels._cuda.panels import Panels, blocks, rows_of
from bench.memory import memory_available

BUFFERS = 2
STREAMED = 2 * BUFFERS  # times a chunk: its .bed rows and its panels
CHUNK = 512 << 20  # bytes of a chunk at the most
SHARE = 0.5  # of a device's free memory that the chunks take


def chunk_of(gpu: Gpu, n: int) -> int:
    """How many SNPs of n individuals a chunk can have. BenchError: the device's memory does not hold one panel's."""
    free, needed = gpu.free_memory(), panel_bytes(n, PANEL)
    if not (panels := min(CHUNK, int(SHARE * free / STREAMED)) // needed):
        raise BenchError(
            f"GPU {gpu.number}: to stream {PANEL} SNPs of {n} individuals at a time takes "
            f"{STREAMED * needed / SHARE / 1e9:.3g} GB, {free / 1e9:.3g} GB are free"
        )
    return panels * PANEL


class Stream:
    """Some individuals of a .bed, `size` SNPs at a time. BenchError: the host has too little memory."""

    def __init__(self, gpu: Gpu, packed: PackedGenotypes, individuals: slice, size: int):
        rows = rows_of(packed, individuals)
        n = individuals.stop - individuals.start
        if rows.size > (there := memory_available()):
            raise BenchError(
                f"{packed.path or 'genotypes'}: the GPU's memory does not hold them, and to stream them takes "
                f"{rows.size / 1e9:.3g} GB of the host's, {there / 1e9:.3g} GB can be used"
            )
        self.gpu, self._snps = gpu, list(blocks(len(rows), size))
        with gpu.used():
            xp = gpu.cupy
            self._rows = pinned_exactly(rows.shape, np.uint8)
            for snps in self._snps:
                self._rows[snps] = rows[snps]
            self._copying = xp.cuda.Stream(non_blocking=True)
            self._staged = [xp.empty((size, rows.shape[1]), np.uint8) for _ in range(BUFFERS)]
            self._panels = [Panels(gpu, n, size) for _ in range(BUFFERS)]
            self._loaded = [xp.cuda.Event() for _ in range(BUFFERS)]
            self._used = [xp.cuda.Event() for _ in range(BUFFERS)]
            for event in self._used:  # the copying stream waits for the zeros of the panels as well
                event.record()

    @property
    def nbytes(self) -> int:
        """Of the device and of the host."""
        return self._rows.nbytes + sum(s.nbytes for s in self._staged) + sum(p.nbytes for p in self._panels)

    def chunks(self) -> Iterator[tuple[slice, Panels]]:
        """(SNPs, their panels), in order; a chunk's panels may be used until the next is asked for."""
        with self.gpu.used():
            self._fetch(0)
        for number, snps in enumerate(self._snps):
            turn = number % BUFFERS
            with self.gpu.used():
                if number + 1 < len(self._snps):
                    self._fetch(number + 1)
                computing = self.gpu.cupy.cuda.get_current_stream()
                computing.wait_event(self._loaded[turn])
            yield snps, self._panels[turn]
            with self.gpu.used():
                self._used[turn].record(self.gpu.cupy.cuda.get_current_stream())

    def _fetch(self, number: int) -> None:
        """Start to bring a chunk, once what was computed with its buffer's last content has ended."""
        turn, snps = number % BUFFERS, self._snps[number]
        count = snps.stop - snps.start
        self._copying.wait_event(self._used[turn])
        with self._copying:
            staged = self._staged[turn][:count]
            staged.set(self._rows[snps])
            self._panels[turn].m = count
            self._panels[turn].load(staged, 0)
        self._loaded[turn].record(self._copying)
