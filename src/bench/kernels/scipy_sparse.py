"""The nonzero dosages as a scipy.sparse matrix: what a general sparse library makes of genotypes.

Z is stored once, by SNPs (CSC); its transpose is the same arrays read as CSR, so one copy serves both products.
A stored dosage takes its number and a row index: 12 bytes in float64, 8 in float32, with 32-bit indices. Whether
that is less than the dense matrix depends on the share of dosages that are not 0, which n and m do not tell.
Missing calls are zeros, and zeros are not stored: 0 · NaN and 0 · ∞ count as 0 here.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csc_array

from bench.errors import BenchError
from bench.genotypes.packed import PackedGenotypes
from bench.kernels import Kernel, Problem
from bench.kernels._operands import Resident

BLOCK = 16  # SNPs unpacked at a time
INT32 = 2**31 - 1


class ScipySparse(Resident[csc_array]):
    """Z (n, m) as csc_array, a missing call counting as 0."""

    def __init__(self, packed: PackedGenotypes, *, dtype: str = "f8", threads: int = 1, target: str = "csc"):
        if threads > 1:
            raise BenchError(ONE_THREAD)
        self.shape = packed.shape
        self.dtype = np.dtype(dtype)
        Z = nonzero_dosages(packed, self.dtype)
        super().__init__(Z)
        self.bytes_held = Z.data.nbytes + Z.indices.nbytes + Z.indptr.nbytes

    def matmul(self, V: np.ndarray) -> np.ndarray:
        """Z V, (m, k) → (n, k)."""
        return self._open() @ self._checked(V, self.shape[1])

    def rmatmul(self, U: np.ndarray) -> np.ndarray:
        """Z'U, (n, k) → (m, k)."""
        return self._open().T @ self._checked(U, self.shape[0])


def nonzero_dosages(packed: PackedGenotypes, dtype: np.dtype) -> csc_array:
    """The (n, m) dosages that are 1 or 2. Counted first, so that nothing is held twice."""
    counts = packed.code_counts()[:, 2:].sum(1)
    total = int(counts.sum())
    index = np.int32 if max(total, *packed.shape) <= INT32 else np.int64
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(index)
    data, rows = np.empty(total, dtype), np.empty(total, index)
    for snps in packed.blocks(BLOCK):
        dosages = packed.dosages(snps).T
        stored = slice(starts[snps.start], starts[snps.stop])
        _, rows[stored] = np.nonzero(dosages > 0)
        data[stored] = dosages[dosages > 0]
    return csc_array((data, rows, starts), shape=packed.shape)


def declines(problem: Problem) -> str | None:
    return ONE_THREAD if problem.threads > 1 else None


def bytes_needed(problem: Problem) -> int:
    """The .bed pages, every dosage stored with its index, and a block being unpacked.

    It is an upper bound: as many dosages as are 0 are not stored, but n and m do not tell how many.
    """
    n, m = problem.n, problem.m
    index = 4 if n * m <= INT32 else 8
    return problem.packed_bytes + n * m * (problem.itemsize + index) + m * (index + 48) + min(BLOCK, m) * (n + 4) * 19


ONE_THREAD = "scipy.sparse multiplies on one thread"
KERNEL = Kernel(
    name="scipy_sparse",
    open="bench.kernels.scipy_sparse:ScipySparse",
    targets=("csc",),
    dtypes=("f4", "f8"),
    bytes_needed=bytes_needed,
    bytes_read=None,
    declines=declines,
    summary="the nonzero dosages as a scipy.sparse matrix",
)
