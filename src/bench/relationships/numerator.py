"""A, the numerator relationship matrix, as products; its inverse, and both for the genotyped animals alone.

A = T⁻¹ D T⁻ᵀ: row i of T is e_i less half of its parents' rows, D holds the variances of Mendelian sampling,
d_i = ½ − ¼(F_sire + F_dam) with F = −1 for an unknown parent (Henderson 1976; Quaas 1976).
Groups of unknown parents are rows after the animals. Without Γ they are the groups of Quaas & Pollak (1981), which
only the inverse knows; with Γ they are metafounders (Legarra et al. 2015), founders related by Γ, F_k = Γ_kk − 1.
"""

from __future__ import annotations

import ctypes as ct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
from scipy import sparse
from scipy.linalg import cho_factor, cho_solve

from bench.errors import BenchError
from bench.relationships.pedigree import Pedigree
from bench.shared_library import INT, POINTER, SIZE, load
from bench.solvers.incomplete import IncompletePCG
from bench.solvers.sparse_cholesky import MEMORY, SparseCholesky, choose

SIGNATURES = {
    "pedigree_inbreeding": (INT, [SIZE, POINTER, POINTER, SIZE, POINTER, INT, INT, POINTER, POINTER]),
    "pedigree_multiply": (None, [SIZE, POINTER, POINTER, SIZE, *[POINTER] * 3, SIZE]),
    "pedigree_inverse": (ct.c_int64, [SIZE, POINTER, POINTER, SIZE, POINTER, POINTER, INT, *[POINTER] * 3]),
    "pedigree_descend": (None, [SIZE, POINTER, POINTER, POINTER, POINTER, SIZE]),
}
_METHOD_OF_INBREEDING = 0  # the cheaper; 1: by each animal's way up, 2: by the sires' columns, for tests
METHODS = ("ic0", "cholesky", "dense")


class Solver(Protocol):
    """Solves with one matrix."""

    def solve(self, B: np.ndarray) -> np.ndarray: ...


class Numerator:
    """A of a whole pedigree, inbreeding included.

    library: the compiled _pedigree/pedigree.cc (`bench.build.installed("pedigree")`).
    gamma: (G, G) relationships Γ of the pedigree's groups, which are then metafounders: this is A^Γ of the n animals
    and, after them, the G metafounders. Without gamma, A of the animals, whatever their groups.
    shape: of the products. inbreeding: (n,) F, by the way up through every animal's ancestors (Meuwissen & Luo 1992)
    or, where these are many, by the sires' columns of A; mendelian: (n,) d.
    """

    def __init__(self, pedigree: Pedigree, *, library: Path, gamma: np.ndarray | None = None, threads: int = 1):
        self.pedigree, self._library, self._threads = pedigree, _bind(library), threads
        self.gamma = None if gamma is None else _checked(gamma, pedigree)
        n = len(pedigree)
        self.shape = (n, n) if gamma is None else (n + len(pedigree.groups), n + len(pedigree.groups))
        related = pedigree if gamma is not None else pedigree.without_groups()
        self._sire, self._dam = related.parent_rows()
        self._groups = len(related.groups), None if self.gamma is None else self.gamma.ctypes.data
        self.inbreeding, self.mendelian = np.zeros(n), np.ones(n)
        sizes = (n, self._sire.ctypes.data, self._dam.ctypes.data, *self._groups, threads, _METHOD_OF_INBREEDING)
        if self._library.pedigree_inbreeding(*sizes, self.inbreeding.ctypes.data, self.mendelian.ctypes.data):
            raise MemoryError("no memory for the inbreeding of the pedigree")

    def matmul(self, X: np.ndarray) -> np.ndarray:
        """A X, or A^Γ X: up to the ancestors and down again (Colleau 2002). X: (shape[0], k)."""
        X = np.array(X, float, order="C")  # a copy, which is multiplied in its place
        if X.ndim != 2 or X.shape[0] != self.shape[0]:
            raise ValueError(f"expected a ({self.shape[0]}, k) array, got {X.shape}")
        rows = self._sire.ctypes.data, self._dam.ctypes.data
        self._library.pedigree_multiply(
            *(len(self.pedigree), *rows, *self._groups, self.mendelian.ctypes.data, X.ctypes.data, X.shape[1])
        )
        return X

    def draw(self, rngs: Sequence[np.random.Generator]) -> np.ndarray:
        """Draws from N(0, A), (shape[0], k): a column from each of k generators."""
        X = np.column_stack([rng.standard_normal(self.shape[0]) for rng in rngs])
        if self.gamma is not None:
            n = len(self.pedigree)
            X[n:] = np.linalg.cholesky(self.gamma) @ X[n:]
        self._library.pedigree_descend(
            *(len(self.pedigree), self._sire.ctypes.data, self._dam.ctypes.data),
            *(self.mendelian.ctypes.data, X.ctypes.data, X.shape[1]),
        )
        return X

    def inverse(self) -> sparse.csr_array:
        """A⁻¹ = T'D⁻¹T, about seven numbers an animal, by Henderson's rules.

        Of a pedigree with G groups, (n + G, n + G). With Γ the inverse of A^Γ. Without it Quaas & Pollak's
        [A⁻¹, −A⁻¹Q; −Q'A⁻¹, Q'A⁻¹Q], whose rows sum to zero: singular, for groups that are fixed effects.
        """
        n, groups = len(self.pedigree), len(self.pedigree.groups)
        sire, dam = self.pedigree.parent_rows()
        corner = np.zeros((groups, groups)) if self.gamma is None else np.linalg.inv(self.gamma)
        corner = (corner + corner.T) / 2
        room = 7 * n + groups * (groups + 1)
        first, column, value = np.empty(n + groups + 1, np.int32), np.empty(room, np.int32), np.empty(room)
        size = self._library.pedigree_inverse(
            *(n, sire.ctypes.data, dam.ctypes.data, groups, self.mendelian.ctypes.data, corner.ctypes.data),
            *(self._threads, first.ctypes.data, column.ctypes.data, value.ctypes.data),
        )
        if size < 0:
            raise MemoryError(f"no memory for the inverse of the relationships of {n} animals")
        return sparse.csr_array((value[:size], column[:size], first), shape=(n + groups, n + groups))


def _checked(gamma: np.ndarray, pedigree: Pedigree) -> np.ndarray:
    """Γ as float64, or BenchError where it cannot be the relationships of the pedigree's groups."""
    gamma = np.ascontiguousarray(gamma, float)
    needed = len(pedigree.groups)
    if needed == 0:
        raise BenchError("gamma: the pedigree has no groups; read it with the ids of its metafounders")
    if gamma.shape != (needed, needed):
        raise BenchError(f"gamma: found an array of {gamma.shape}, the pedigree's {needed} groups need as many rows")
    if not np.isfinite(gamma).all() or not np.allclose(gamma, gamma.T, rtol=1e-10, atol=0):
        raise BenchError("gamma: the relationships of metafounders must be finite and symmetric")
    if (smallest := np.linalg.eigvalsh(gamma)[0]) <= 1e-12 * np.abs(gamma).max():
        raise BenchError(f"gamma is not positive definite: its smallest eigenvalue is {smallest:.3g}")
    if (gamma.diagonal() >= 2).any():
        worst = int(np.argmax(gamma.diagonal()))
        raise BenchError(
            f"gamma: group {pedigree.groups[worst]!r} has {gamma[worst, worst]:g} with itself, less than 2 is "
            "needed: otherwise its offspring have no Mendelian sampling"
        )
    return gamma


@dataclass(frozen=True)
class _Blocks:
    """A⁻¹ of the genotyped and their ancestors, in blocks: g genotyped, n not."""

    gg: sparse.csr_array
    gn: sparse.csr_array
    ng: sparse.csr_array
    nn: sparse.csr_array


class GenotypedNumerator:
    """A_gg of the genotyped animals and its inverse, both (g, g), as products.

    Only the genotyped and their ancestors are held; with gamma, of the pedigree's groups, A^Γ. matmul is exact. solve
    is A_gg⁻¹v = A^gg v − A^gn (A^nn)⁻¹ A^ng v (Strandén et al. 2017), where A^nn is solved by `method`: "ic0", PCG
    with its incomplete Cholesky factor, up to rtol; "cholesky", a sparse factor, which needs cvxopt; "dense", for few
    animals and for tests. None takes the one that its cost speaks for.

    threads: of inbreeding and of ic0 with several columns. memory: bytes that a sparse factor may take.
    reason: a sentence why this method was taken.
    """

    def __init__(
        self,
        pedigree: Pedigree,
        genotyped: np.ndarray,
        *,
        library: Path,
        gamma: np.ndarray | None = None,
        threads: int = 1,
        method: str | None = None,
        rtol: float = 1e-12,
        memory: float = MEMORY,
    ):
        genotyped = np.asarray(genotyped)
        if np.unique(genotyped).size < genotyped.size:
            raise BenchError("an animal is genotyped twice; keep one of its genotypes")
        if method not in (None, *METHODS):
            raise BenchError(f"there is no way {method!r} to solve A^nn; there are {', '.join(METHODS)}")
        small, kept = (pedigree if gamma is not None else pedigree.without_groups()).pruned(genotyped)
        self.numerator, self.rtol = Numerator(small, library=library, gamma=gamma, threads=threads), rtol
        self._genotyped = np.searchsorted(kept, genotyped)
        among = np.zeros(len(small), bool)
        among[self._genotyped] = True
        youngest_first = np.flatnonzero(~among)[::-1]  # their elimination fills nothing in
        others = np.r_[youngest_first, len(small) : self.numerator.shape[0]]  # metafounders are the oldest
        self.shape = (genotyped.size, genotyped.size)
        self._blocks = _split(self.numerator.inverse(), self._genotyped, others)
        self.method, self.reason = method or "ic0", "the caller has chosen it"
        if method is None:
            self.method, self.reason = choose(self._blocks.nn, memory, library=library)
        self._others = self._solver(library, threads) if others.size else None

    def _solver(self, library: Path, threads: int) -> Solver:
        matrix = self._blocks.nn
        if self.method == "dense":
            return _Dense(matrix)
        if self.method == "cholesky":
            return SparseCholesky(matrix)
        in_order = np.arange(len(matrix.indptr) - 1)
        return IncompletePCG(matrix, in_order, library=library, rtol=self.rtol, threads=threads)

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

    def __init__(self, matrix: sparse.csr_array):
        self._factor = cho_factor(matrix.toarray())

    def solve(self, B: np.ndarray) -> np.ndarray:
        return cho_solve(self._factor, B)


@cache
def _bind(library: Path) -> ct.CDLL:
    return load(library, "pedigree", SIGNATURES, prefix="pedigree", build="bench build pedigree")
