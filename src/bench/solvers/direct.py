"""Dense Cholesky in place: one n × n array is all that an exact solve holds."""

from __future__ import annotations

import numpy as np
from scipy.linalg import get_blas_funcs, get_lapack_funcs

from bench.errors import BenchError


class Cholesky:
    """A = LL' of a symmetric positive definite matrix.

    matrix: (n, n) float64, C- or Fortran-contiguous and symmetric, is overwritten: the factor takes one
    triangle and the diagonal; the other triangle stays as it was.
    """

    def __init__(self, matrix: np.ndarray):
        if matrix.dtype != np.float64 or matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise ValueError(f"expected a square float64 matrix, got {matrix.shape} {matrix.dtype}")
        columns = matrix if matrix.flags.f_contiguous else matrix.T
        if not columns.flags.f_contiguous:
            raise ValueError("the matrix must be contiguous, it is factored in place")
        (potrf,) = get_lapack_funcs(("potrf",), (columns,))
        self.factor, info = potrf(columns, lower=1, overwrite_a=1, clean=0)
        if info != 0 or not np.isfinite(self.factor.diagonal()).all():
            where = f"at row {info} of" if info > 0 else "(NaN) in"
            raise BenchError(
                f"Cholesky: no positive pivot {where} {matrix.shape[0]}; the matrix is singular or "
                "indefinite: look for duplicated individuals, or raise the variance ratio"
            )

    @property
    def shape(self) -> tuple[int, int]:
        return self.factor.shape

    def solve(self, rhs: np.ndarray) -> np.ndarray:
        """A⁻¹B, (n, k) → (n, k)."""
        (potrs,) = get_lapack_funcs(("potrs",), (self.factor,))
        X, info = potrs(self.factor, rhs, lower=1)
        if info != 0:
            raise ValueError(f"dpotrs: argument {-info} is wrong")
        return X

    def half_solve(self, rhs: np.ndarray) -> np.ndarray:
        """L⁻¹B, so that B'A⁻¹B is its inner product; (n, k) → (n, k)."""
        (trsm,) = get_blas_funcs(("trsm",), (self.factor,))
        return trsm(1.0, self.factor, rhs, lower=1)

    def log_determinant(self) -> float:
        """log|A|."""
        return 2 * float(np.log(self.factor.diagonal()).sum())

    def inverse_diagonal(self) -> np.ndarray:
        """diag(A⁻¹), (n,). Uses the factor up: it cannot solve afterwards."""
        (potri,) = get_lapack_funcs(("potri",), (self.factor,))
        inverse, info = potri(self.factor, lower=1, overwrite_c=1)
        if info != 0:
            raise BenchError(f"Cholesky: no inverse, the factor has a zero at row {info}")
        del self.factor
        return inverse.diagonal().copy()


def semidefinite_root(matrix: np.ndarray) -> np.ndarray:
    """T (n, r) with TT' = A of rank r, by Cholesky with pivoting (LAPACK's dpstrf; Higham 1990).

    matrix: (n, n) float64, symmetric and positive semidefinite; it is used up.
    """
    (pstrf,) = get_lapack_funcs(("pstrf",), (matrix,))
    factor, pivots, rank, info = pstrf(matrix.T, lower=1, overwrite_a=1)
    if info < 0:
        raise ValueError(f"dpstrf: argument {-info} is wrong")
    T = np.zeros((len(matrix), rank))
    T[pivots - 1] = np.tril(factor)[:, :rank]
    return T
