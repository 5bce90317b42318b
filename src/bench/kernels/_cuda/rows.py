"""Genotypes on a GPU row by row, at 2 bits a genotype: the layout that a sum along a row reads from end to end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bench.kernels._cuda.architectures import ROWS, padded
from bench.kernels._cuda.gpu import Gpu

SOURCE = Path(__file__).parent / "rows.cu"


class Rows:
    """Dosages 0, 1, 2 of n individuals at m SNPs, a missing call as 3 (marked) or 0, on one GPU.

    codes: (rows, bytes) uint8, a row for each individual or each SNP; both are padded with zeros.
    """

    def __init__(self, gpu: Gpu, n: int, m: int, *, of_individuals: bool, marked: bool):
        self.gpu, self.n, self._marked = gpu, n, marked
        self.count, self.inputs = (n, m) if of_individuals else (m, n)
        with gpu.used():
            self.codes = gpu.cupy.zeros((-(-self.count // ROWS) * ROWS, padded(self.inputs) // 4), np.uint8)
            self._missing = gpu.cupy.zeros(1, np.int64)
        self._of_individuals = of_individuals
        self._kernel = gpu.kernel(SOURCE, "by_individual" if of_individuals else "by_snp")

    @property
    def nbytes(self) -> int:
        return self.codes.nbytes

    @property
    def pitch(self) -> int:
        """Bytes from one row to the next."""
        return self.codes.shape[1]

    @property
    def missing(self) -> bool:
        """Whether a call of those loaded is missing."""
        with self.gpu.used():
            return bool(self._missing.get()[0])

    def load(self, bed: Any, first: int) -> None:
        """Take .bed rows on the device, (SNPs, bytes), as the SNPs from `first` on, a multiple of 16."""
        snps, words = bed.shape[0], -(-self.n // 16)
        groups = -(-snps // 128) * 8 if self._of_individuals else snps  # of 16 SNPs, eight together
        self.gpu.over(
            self._kernel, groups * words, bed, bed.shape[1], snps, first, self.n, self.codes, self.pitch,
            int(self._marked), self._missing,
        )  # fmt: skip


def unpack(gpu: Gpu, bed: Any, out: Any, first: int, missing: Any) -> None:
    """.bed rows on the device → rows of `out` (m, n), float32 or float64, from `first` on; a missing call is 0.

    missing: (1,) int64, which becomes 1 if there is one.
    """
    kernel = gpu.kernel(SOURCE, f"unpack_{out.dtype.str[1:]}")
    gpu.over(kernel, bed.shape[0] * out.shape[1], bed, bed.shape[1], bed.shape[0], first, out.shape[1], out, missing)
