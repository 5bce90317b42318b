"""Genotypes on a GPU, as all its kernels read them (panels.h): one copy at 2 bits a genotype for both directions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.genotypes.packed import PackedGenotypes
from bench.kernels._cuda.architectures import PANEL, STAGE, padded
from bench.kernels._cuda.gpu import Gpu, pinned

SOURCE = Path(__file__).parent / "panels.cu"
ROW = PANEL // 4  # bytes of a SNP in a panel


class Panels:
    """n individuals at up to m SNPs on one GPU.

    codes: (panels, SNPs padded, 128) uint8 on the device. missing: whether a call of those loaded is missing.
    """

    def __init__(self, gpu: Gpu, n: int, m: int):
        self.gpu, self.n, self.m = gpu, n, m
        with gpu.used():
            # Zeros, for what pads: it counts as dosage 0.
            self.codes = gpu.cupy.zeros((padded(n) // PANEL, padded(m), ROW), np.uint8)
            self._missing = gpu.cupy.zeros(1, np.int64)
        self._pack = gpu.kernel(SOURCE, "pack")

    @property
    def nbytes(self) -> int:
        return self.codes.nbytes

    @property
    def pitch(self) -> int:
        """Bytes from one panel to the next."""
        return self.codes.shape[1] * ROW

    @property
    def missing(self) -> bool:
        with self.gpu.used():
            return bool(self._missing.get()[0])

    def load(self, rows: Any, first: int) -> None:
        """Take .bed rows on the device, (SNPs, bytes), as the SNPs from `first` on; on the current stream."""
        words = len(self.codes) * ROW // 4
        self.gpu.over(
            self._pack, rows.shape[0] * words, rows, rows.shape[1], rows.shape[0], first, self.n, len(self.codes),
            self.codes, self.pitch, self._missing,
        )  # fmt: skip


def rows_of(packed: PackedGenotypes, individuals: slice) -> np.ndarray:
    """The bytes of .bed rows that hold `individuals`, of which the first is the first of a byte."""
    return packed.codes[:, individuals.start // 4 : -(-individuals.stop // 4)]


class Uploads:
    """Two buffers through which .bed rows go to a GPU: while one is on its way the other is filled."""

    def __init__(self, gpu: Gpu, snps: int, width: int):
        self.gpu, self._turn = gpu, 0
        with gpu.used():
            self._host = [pinned((snps, width), np.uint8) for _ in range(2)]
            self._rows = [gpu.cupy.empty((snps, width), np.uint8) for _ in range(2)]
            self._done = [gpu.cupy.cuda.Event() for _ in range(2)]

    def send(self, rows: np.ndarray) -> Any:
        """`rows` of the host on the device; they stay as they are until the next but one are sent."""
        turn, self._turn = self._turn, 1 - self._turn
        self._done[turn].synchronize()  # of the last use of this buffer
        host, there = self._host[turn][: len(rows)], self._rows[turn][: len(rows)]
        np.copyto(host, rows)
        there.set(host)
        self._done[turn].record()
        return there


def resident(gpu: Gpu, packed: PackedGenotypes, individuals: slice) -> Panels:
    """Some individuals of `packed`, whole, on a GPU."""
    panels = Panels(gpu, individuals.stop - individuals.start, packed.n_snps)
    with gpu.used():
        for snps, rows in uploaded(gpu, rows_of(packed, individuals)):
            panels.load(rows, snps.start)
        gpu.cupy.cuda.get_current_stream().synchronize()
    return panels


def uploaded(gpu: Gpu, rows: np.ndarray) -> Iterator[tuple[slice, Any]]:
    """(SNPs, their .bed rows on the device), a multiple of 16 SNPs at a time; rows stay until the next but one."""
    size = max(16, STAGE // rows.shape[1] // 16 * 16)
    uploads = Uploads(gpu, min(size, len(rows)), rows.shape[1])
    for snps in blocks(len(rows), size):
        yield snps, uploads.send(rows[snps])


def blocks(count: int, size: int) -> Iterator[slice]:
    """0 … count in slices of `size`."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))
