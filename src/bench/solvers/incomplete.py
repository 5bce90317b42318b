"""The incomplete Cholesky factor of a sparse symmetric positive definite matrix, and PCG with it, compiled."""

from __future__ import annotations

import ctypes as ct
from functools import cache
from pathlib import Path

import numpy as np
from scipy import sparse

from bench.errors import BenchError
from bench.shared_library import INT, POINTER, SIZE, load

LONG = ct.c_int64
SIGNATURES = {
    "incomplete_factor": (INT, [SIZE, *[POINTER] * 9]),
    "incomplete_solve_factor": (INT, [SIZE, *[POINTER] * 5, SIZE]),
    "incomplete_pcg": (INT, [SIZE, *[POINTER] * 6, SIZE, ct.c_double, LONG, INT, POINTER, POINTER]),
}


class IncompleteCholesky:
    """LL' ≈ A, where L has the pattern of A's lower triangle: IC(0), a preconditioner.

    Meijerink & van der Vorst (1977). matrix: (n, n) symmetric with a full diagonal. order: (n,) its rows in the order
    of their elimination, which decides how good the factor is. In a pedigree's inverse the youngest come first: of
    A^nn the condition is then about 6 whatever the size and the mating; with the oldest first five times as many
    steps are needed. Mixed model equations: see single_step.elimination. library: the compiled _pedigree/pedigree.cc
    (`bench.build.installed("pedigree")`).
    shrunk: how many rows had no positive pivot and were shrunk beside the diagonal, as happens where the matrix is
    nearly singular; the more, the poorer the factor. BenchError where the pattern is not symmetric, or the diagonal
    is not positive.
    """

    def __init__(self, matrix: sparse.csr_array, order: np.ndarray, *, library: Path):
        self._prepare(matrix, order, library, keep=False)

    def _prepare(self, matrix: sparse.csr_array, order: np.ndarray, library: Path, *, keep: bool) -> None:
        n = len(matrix.indptr) - 1
        if matrix.shape != (n, n) or not np.array_equal(np.sort(order), np.arange(n)):
            raise ValueError(
                f"expected a square matrix and an order of its rows, got {matrix.shape} and {len(order)}"
            )
        self.shape: tuple[int, int] = (n, n)
        self._library = _bind(library)
        self._order = np.ascontiguousarray(order, np.int32)
        matrix.sum_duplicates()
        first, column = matrix.indptr.astype(np.int64), np.ascontiguousarray(matrix.indices, np.int32)
        value = np.ascontiguousarray(matrix.data, float)
        size = (int(first[-1]) + n) // 2
        self._first, self._row, self._factor = np.empty(n + 1, np.int64), np.empty(size, np.int32), np.empty(size)
        self._matrix = np.empty(size if keep else 0)
        shrunk = ct.c_int64()
        status = self._library.incomplete_factor(
            *(n, first.ctypes.data, column.ctypes.data, value.ctypes.data, self._order.ctypes.data),
            *(self._first.ctypes.data, self._row.ctypes.data),
            *(self._matrix.ctypes.data if keep else None, self._factor.ctypes.data, ct.byref(shrunk)),
        )
        self.shrunk = shrunk.value
        if status == 1:
            raise MemoryError(f"no memory for an incomplete factor of {size} entries")
        if status == 2:
            raise BenchError("incomplete Cholesky: the matrix's pattern is not symmetric or lacks a diagonal element")
        if status == 3:
            raise BenchError("incomplete Cholesky: the matrix's diagonal holds zero, a negative number or NaN")

    @property
    def bytes(self) -> int:
        """What is held: 12 bytes an entry of the lower triangle and 12 a row (20 an entry with the matrix)."""
        held = (self._first, self._row, self._factor, self._matrix, self._order)
        return sum(array.nbytes for array in held)

    def solve_factor(self, R: np.ndarray) -> np.ndarray:
        """(LL')⁻¹R, (n, k) → (n, k)."""
        X = self._columns(R)
        pattern = self._first.ctypes.data, self._row.ctypes.data
        if self._library.incomplete_solve_factor(
            *(X.shape[0], *pattern, self._factor.ctypes.data, self._order.ctypes.data, X.ctypes.data, X.shape[1])
        ):
            raise MemoryError(f"no memory for {X.shape[1]} columns of {X.shape[0]}")
        return X

    def _columns(self, R: np.ndarray) -> np.ndarray:
        """A copy of R that can be overwritten."""
        R = np.array(R, float, order="C")
        if R.ndim != 2 or R.shape[0] != self.shape[0]:
            raise ValueError(f"expected a ({self.shape[0]}, k) array, got {R.shape}")
        return R


class IncompletePCG(IncompleteCholesky):
    """A⁻¹B by conjugate gradients with IC(0), all of it compiled; matrix, order, library: as in IncompleteCholesky.

    rtol: where to stop, ‖b − Ax‖ / ‖b‖ of every column, which is computed from x and not taken from the recurrence.
    threads: over groups of columns. steps, residual: the most that a column of the last solve needed, and the largest
    that it left.
    """

    def __init__(
        self,
        matrix: sparse.csr_array,
        order: np.ndarray,
        *,
        library: Path,
        rtol: float = 1e-12,
        max_steps: int = 1000,
        threads: int = 1,
    ):
        self._prepare(matrix, order, library, keep=True)
        self.rtol, self.max_steps, self.threads = rtol, max_steps, threads
        self.steps, self.residual = 0, 0.0

    def solve(self, B: np.ndarray) -> np.ndarray:
        """A⁻¹B, (n, k) → (n, k). BenchError where A is not positive definite or rtol is not reached."""
        X = self._columns(B)
        if not np.isfinite(X).all():
            raise BenchError("PCG: the right-hand side holds NaN or infinity")
        steps, residual = ct.c_int64(), ct.c_double()
        status = self._library.incomplete_pcg(
            *(X.shape[0], self._first.ctypes.data, self._row.ctypes.data),
            *(self._matrix.ctypes.data, self._factor.ctypes.data, self._order.ctypes.data),
            *(X.ctypes.data, X.shape[1], self.rtol, self.max_steps, self.threads),
            *(ct.byref(steps), ct.byref(residual)),
        )
        self.steps, self.residual = steps.value, residual.value
        if status == 1:
            raise MemoryError(f"no memory for PCG with {X.shape[1]} columns of {X.shape[0]}")
        if status == 2:
            raise BenchError("PCG: the matrix is not positive definite (a quadratic form was not positive)")
        if self.residual > self.rtol:
            raise BenchError(
                f"PCG stopped at a relative residual of {self.residual:.1e} after {self.steps} steps, "
                f"{self.rtol:.0e} was needed"
            )
        return X


@cache
def _bind(library: Path) -> ct.CDLL:
    return load(library, "pedigree", SIGNATURES, prefix="pedigree", build="bench build pedigree")
