"""A, the numerator relationship matrix, as products; its inverse, and both for the genotyped animals alone.

A = T⁻¹ D T⁻ᵀ: row i of T is e_i less half of its parents' rows, D holds the variances of Mendelian sampling,
d_i = ½ − ¼(F_sire + F_dam) with F = −1 for an unknown parent (Henderson 1976; Quaas 1976).
"""

from __future__ import annotations

import ctypes as ct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from scipy import sparse

from bench.errors import BenchError
from bench.relationships.pedigree import Pedigree
from bench.shared_library import INT, POINTER, SIZE, load
from bench.solvers.pcg import pcg

SIGNATURES = {
    "pedigree_inbreeding": (INT, [SIZE, POINTER, POINTER, INT, POINTER, POINTER]),
    "pedigree_multiply": (None, [SIZE, POINTER, POINTER, POINTER, POINTER, SIZE]),
    "pedigree_descend": (None, [SIZE, POINTER, POINTER, POINTER, POINTER, SIZE]),
    "incomplete_cholesky": (SIZE, [SIZE, POINTER, POINTER, POINTER]),
    "incomplete_solve": (None, [SIZE, POINTER, POINTER, POINTER, POINTER, SIZE]),
}
DENSE = 2000  # animals without genotypes up to which A^nn is factored densely: 32 MB, and under a second


class Numerator:
    """A of a whole pedigree: (n, n), inbreeding included.

    library: the compiled _pedigree/pedigree.cc (`bench.build.installed("pedigree")`).
    inbreeding: (n,) F, by the way up through every animal's ancestors (Meuwissen & Luo 1992); mendelian: (n,) d.
    """

    def __init__(self, pedigree: Pedigree, *, library: Path, threads: int = 1):
        self.pedigree, self._library = pedigree, _bind(library)
        self.shape = (len(pedigree), len(pedigree))
        self._sire, self._dam = (np.ascontiguousarray(p, np.int32) for p in (pedigree.sire, pedigree.dam))
        self.inbreeding, self.mendelian = np.zeros(len(pedigree)), np.ones(len(pedigree))
        sizes = (len(pedigree), self._sire.ctypes.data, self._dam.ctypes.data, threads)
        if self._library.pedigree_inbreeding(*sizes, self.inbreeding.ctypes.data, self.mendelian.ctypes.data):
            raise MemoryError("no memory for the inbreeding of the pedigree")

    def matmul(self, X: np.ndarray) -> np.ndarray:
        """A X, (n, k) → (n, k): up to the ancestors and down again (Colleau 2002)."""
        X = np.array(X, float, order="C")  # a copy, which is multiplied in its place
        if X.ndim != 2 or X.shape[0] != self.shape[0]:
            raise ValueError(f"expected a ({self.shape[0]}, k) array, got {X.shape}")
        self._library.pedigree_multiply(
            X.shape[0],
            self._sire.ctypes.data,
            self._dam.ctypes.data,
            self.mendelian.ctypes.data,
            X.ctypes.data,
            X.shape[1],
        )
        return X

    def draw(self, rngs: Sequence[np.random.Generator]) -> np.ndarray:
        """Draws from N(0, A), (n, k): a column from each of k generators."""
        X = np.column_stack([rng.standard_normal(self.shape[0]) for rng in rngs])
        self._library.pedigree_descend(
            *(len(self.pedigree), self._sire.ctypes.data, self._dam.ctypes.data),
            *(self.mendelian.ctypes.data, X.ctypes.data, X.shape[1]),
        )
        return X

    def inverse(self) -> sparse.csr_array:
        """A⁻¹ = T'D⁻¹T, about seven numbers an animal."""
        n = self.shape[0]
        rows = np.arange(n)
        T = sparse.eye_array(n, format="csr")
        for parent in (self._sire, self._dam):
            known = parent >= 0
            half = np.full(int(known.sum()), 0.5)
            T = T - sparse.csr_array((half, (rows[known], parent[known])), shape=(n, n))
        return sparse.csr_array(T.T @ sparse.dia_array((1 / self.mendelian[None], [0]), shape=(n, n)) @ T)


@dataclass(frozen=True)
class _Blocks:
    """A⁻¹ of the genotyped and their ancestors, in blocks: g genotyped, n not."""

    gg: sparse.csr_array
    gn: sparse.csr_array
    ng: sparse.csr_array
    nn: sparse.csr_array


class GenotypedNumerator:
    """A_gg of the genotyped animals and its inverse, both (g, g), as products.

    Only the genotyped and their ancestors are held. matmul is exact. solve is exact up to rtol: A_gg⁻¹v =
    A^gg v − A^gn (A^nn)⁻¹ A^ng v (Strandén et al. 2017), where A^nn is solved by PCG with its incomplete Cholesky
    factor as the preconditioner (`method` "ic0"), or by a dense factor ("dense", for few animals and for tests).
    """

    def __init__(
        self,
        pedigree: Pedigree,
        genotyped: np.ndarray,
        *,
        library: Path,
        threads: int = 1,
        method: str | None = None,
        rtol: float = 1e-12,
    ):
        genotyped = np.asarray(genotyped)
        if np.unique(genotyped).size < genotyped.size:
            raise BenchError("an animal is genotyped twice; keep one of its genotypes")
        small, kept = pedigree.pruned(genotyped)
        self.numerator, self.rtol = Numerator(small, library=library, threads=threads), rtol
        self._genotyped = np.searchsorted(kept, genotyped)
        among = np.zeros(len(small), bool)
        among[self._genotyped] = True
        others = np.flatnonzero(~among)[::-1]  # the youngest first: their elimination fills nothing in
        self.shape = (genotyped.size, genotyped.size)
        self._blocks = _split(self.numerator.inverse(), self._genotyped, others)
        self.method = method or ("dense" if others.size <= DENSE else "ic0")
        if self.method not in _SOLVERS:
            raise BenchError(f"there is no way {self.method!r} to solve A^nn; there are {', '.join(_SOLVERS)}")
        self._others = _SOLVERS[self.method](self._blocks.nn, rtol, library) if others.size else None

    @property
    def inbreeding(self) -> np.ndarray:
        """(g,) of the genotyped; 1 + F is the diagonal of A_gg."""
        return self.numerator.inbreeding[self._genotyped]

    def matmul(self, X: np.ndarray) -> np.ndarray:
        """A_gg X, (g, k) → (g, k)."""
        spread = np.zeros((self.numerator.shape[0], X.shape[1]))
        spread[self._genotyped] = X
        return self.numerator.matmul(spread)[self._genotyped]

    def draw(self, rngs: Sequence[np.random.Generator]) -> np.ndarray:
        """Draws from N(0, A_gg), (g, k): a column from each of k generators."""
        return self.numerator.draw(rngs)[self._genotyped]

    def solve(self, X: np.ndarray) -> np.ndarray:
        """A_gg⁻¹ X, (g, k) → (g, k)."""
        X = np.asarray(X, float)
        found = self._blocks.gg @ X
        if self._others is not None:
            found -= self._blocks.gn @ self._others.solve(self._blocks.ng @ X)
        return found


def _split(inverse: sparse.csr_array, genotyped: np.ndarray, others: np.ndarray) -> _Blocks:
    rows_g, rows_n = inverse[genotyped], inverse[others]
    parts = (rows_g[:, genotyped], rows_g[:, others], rows_n[:, genotyped], rows_n[:, others])
    return _Blocks(*(sparse.csr_array(part) for part in parts))


class _Dense:
    """Solves with a dense Cholesky factor."""

    def __init__(self, matrix: sparse.csr_array, rtol: float, library: Path):
        from scipy.linalg import cho_factor

        self._factor = cho_factor(matrix.toarray())

    def solve(self, X: np.ndarray) -> np.ndarray:
        from scipy.linalg import cho_solve

        return cho_solve(self._factor, X)


class Incomplete:
    """Solves with PCG; the preconditioner is the incomplete Cholesky factor with the matrix's own pattern.

    The order of the rows decides how good it is: of A^nn with the youngest first the condition is about 6 whatever
    the size and the mating, with the oldest first five times as many steps are needed.
    """

    def __init__(self, matrix: sparse.csr_array, rtol: float, library: Path):
        self.matrix, self.rtol, self._library = matrix, rtol, _bind(library)
        n = len(matrix.indptr) - 1
        self.shape: tuple[int, int] = (n, n)
        lower = sparse.csr_array(sparse.tril(matrix, format="csr"))
        lower.sort_indices()
        self._first, self._column = lower.indptr.astype(np.int64), lower.indices.astype(np.int32)
        self._value = np.array(lower.data, float)
        self.replaced = int(self._library.incomplete_cholesky(*self._lower()))

    def _lower(self) -> tuple[int, int, int, int]:
        return self.shape[0], self._first.ctypes.data, self._column.ctypes.data, self._value.ctypes.data

    def matmul(self, V: np.ndarray) -> np.ndarray:
        return self.matrix @ V

    def precondition(self, R: np.ndarray) -> np.ndarray:
        """(L L')⁻¹ R."""
        R = np.array(R, float, order="C")
        self._library.incomplete_solve(*self._lower(), R.ctypes.data, R.shape[1])
        return R

    def solve(self, X: np.ndarray) -> np.ndarray:
        """The solution, or BenchError where PCG does not reach rtol."""
        found = pcg(self, X, preconditioner=self.precondition, rtol=self.rtol, max_steps=1000)
        if not found.converged.all():
            raise BenchError(
                f"A^nn: PCG stopped at a relative residual of {found.true_residual_norms.max():.1e} after "
                f"{found.steps} steps, {self.rtol:.0e} was needed"
            )
        return found.value


_SOLVERS = {"dense": _Dense, "ic0": Incomplete}


@cache
def _bind(library: Path) -> ct.CDLL:
    return load(library, "pedigree", SIGNATURES, prefix="pedigree", build="bench build pedigree")
