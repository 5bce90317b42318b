"""Sparse Cholesky by CHOLMOD (Chen et al. 2008), which the optional package cvxopt brings; what it would cost."""

from __future__ import annotations

import ctypes as ct
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from bench.errors import BenchError
from bench.shared_library import INT, POINTER, SIZE, load

SIGNATURES = {"cholesky_cost": (INT, [SIZE, POINTER, POINTER, POINTER, ct.c_int64, POINTER, POINTER])}
FLOPS = 3e12  # multiplications and additions: about a minute on one core
MEMORY = 3e9  # bytes
BYTES = 18  # an entry: supernodes are stored as rectangles, whose zeros count as well
MISSING = "sparse Cholesky needs the package cvxopt: pip install 'blupbench[cholesky]', or take method \"ic0\""


@dataclass(frozen=True)
class Cost:
    """What a factor takes: its entries, the operations to make it, and about how many bytes.

    complete: False where counting stopped at `limit` entries; the numbers are then lower bounds.
    """

    nonzeros: int
    flops: float
    bytes: float
    complete: bool


def available() -> bool:
    """Whether cvxopt is installed."""
    return find_spec("cvxopt") is not None


def symbolic(matrix: sparse.csr_array, *, library: Path, limit: int = int(MEMORY / BYTES)) -> Cost:
    """The cost of factoring a symmetric matrix in AMD's order, from its pattern alone.

    library: the compiled _pedigree/pedigree.cc (`bench.build.installed("pedigree")`). Counting takes a step for each
    entry of the factor, so it gives up beyond `limit` of them. BenchError without cvxopt.
    """
    n = len(matrix.indptr) - 1
    order = np.asarray(_cvxopt("amd").order(_lower(matrix)), np.int32).ravel()
    first, column = matrix.indptr.astype(np.int64), np.ascontiguousarray(matrix.indices, np.int32)
    nonzeros, flops = ct.c_int64(), ct.c_double()
    if _bind(library).cholesky_cost(
        *(n, first.ctypes.data, column.ctypes.data, order.ctypes.data, limit, ct.byref(nonzeros), ct.byref(flops))
    ):
        raise MemoryError(f"no memory to count the entries of a factor of {n} rows")
    return Cost(nonzeros.value, flops.value, BYTES * nonzeros.value, nonzeros.value <= limit)


def choose(matrix: sparse.csr_array, memory: float = MEMORY, *, library: Path) -> tuple[str, str]:
    """How to solve with a symmetric positive definite matrix, "cholesky" or "ic0", and a sentence why.

    memory: bytes that the factor may take.
    """
    if not available():
        return "ic0", "cvxopt, which has the sparse Cholesky factor, is not installed"
    if len(matrix.indptr) == 1:
        return "ic0", "there is nothing to factor"
    cost = symbolic(matrix, library=library, limit=int(memory / BYTES))
    more = "" if cost.complete else "more than "
    found = f"the sparse Cholesky factor has {more}{cost.nonzeros:.3g} entries, {cost.bytes / 1e9:.3g} GB"
    if not cost.complete or cost.bytes >= memory:
        return "ic0", f"{found}, of {memory / 1e9:.3g} GB allowed"
    found = f"{found}, and takes {cost.flops:.2g} operations"
    return ("cholesky", found) if cost.flops < FLOPS else ("ic0", f"{found}, {FLOPS:.0e} are allowed")


class SparseCholesky:
    """A⁻¹B by a supernodal factor in AMD's order.

    matrix: (n, n) symmetric positive definite, of which the lower triangle is read. BenchError without cvxopt, or
    where the matrix is not positive definite.
    """

    def __init__(self, matrix: sparse.csr_array):
        rows = len(matrix.indptr) - 1
        self._cholmod, self.shape = _cvxopt("cholmod"), (rows, rows)
        lower = _lower(matrix)
        try:
            self._factor = self._cholmod.symbolic(lower, uplo="L")
            self._cholmod.numeric(lower, self._factor)
        except ArithmeticError as error:
            raise BenchError(
                f"sparse Cholesky: no positive pivot in row {error} of {rows} in the order of elimination; "
                "the matrix is singular or indefinite"
            ) from None

    def solve(self, B: np.ndarray) -> np.ndarray:
        """A⁻¹B, (n, k) → (n, k)."""
        if B.ndim != 2 or B.shape[0] != self.shape[0]:
            raise ValueError(f"expected a ({self.shape[0]}, k) array, got {B.shape}")
        X = _cvxopt("base").matrix(np.asfortranarray(B, float))
        self._cholmod.solve(self._factor, X)
        return np.array(X)


def _lower(matrix: sparse.csr_array) -> Any:
    """The lower triangle as cvxopt's sparse matrix, by way of arrays."""
    base = _cvxopt("base")
    lower, rows = sparse.tril(matrix, format="coo"), len(matrix.indptr) - 1
    row, column = (base.matrix(np.ascontiguousarray(part, np.int64)) for part in lower.coords)
    return base.spmatrix(base.matrix(np.ascontiguousarray(lower.data, float)), row, column, (rows, rows))


def _cvxopt(module: str) -> Any:
    try:
        return import_module(f"cvxopt.{module}")
    except ImportError:
        raise BenchError(MISSING) from None


@cache
def _bind(library: Path) -> ct.CDLL:
    return load(library, "pedigree", SIGNATURES, prefix="pedigree", build="bench build pedigree")
