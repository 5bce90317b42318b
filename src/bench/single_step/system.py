"""A variant's linear system, and what all variants in the H-form share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
from scipy import sparse

from bench.single_step.problem import Problem, columns

EXACT_DIAGONAL = 2000  # genotyped up to which a diagonal is computed rather than estimated
PROBES = 32


class System(Protocol):
    """A symmetric positive definite system of one variant."""

    problem: Problem
    shape: tuple[int, int]
    rhs: np.ndarray  # (rows, 1)

    def matmul(self, V: np.ndarray) -> np.ndarray:
        """(columns, k) → (rows, k)."""
        ...

    def effects(self, V: np.ndarray) -> np.ndarray:
        """(size, k) others and genetic effects of the equations, from a solution (columns, k)."""
        ...


@runtime_checkable
class MarkerSystem(System, Protocol):
    """A system whose unknowns hold the effects of the SNPs."""

    def marker_effects(self, v: np.ndarray) -> np.ndarray:
        """(m, q) effects of the SNPs as they are centred, from a solution (columns, 1)."""
        ...


@runtime_checkable
class Weighted(System, Protocol):
    """A system whose unknowns tell Gw⁻¹u_g."""

    def weights(self, v: np.ndarray) -> np.ndarray:
        """(g, q) of it, from a solution (columns, 1)."""
        ...


@runtime_checkable
class Carrying(System, Protocol):
    """A system that carries (Gw⁻¹ ⊗ G₀⁻¹)u_g along with its unknowns."""

    def carried(self, V: np.ndarray) -> np.ndarray:
        """(g·q, k) of it, from a solution (columns, k)."""
        ...

    def state(self, effects: np.ndarray, carried: np.ndarray) -> np.ndarray:
        """(columns,) a start, from effects (size,) of the equations and (g·q,) carried."""
        ...


@runtime_checkable
class Blocked(System, Protocol):
    """A system whose diagonal is known: others, then levels × components, in the end markers × components.

    markers: unknown marker effects of a component, 0 where there are none.
    """

    markers: int

    def blocks(self) -> np.ndarray:
        """(levels + markers, q, q) diagonal blocks of the matrix."""
        ...


@runtime_checkable
class OwnPreconditioner(System, Protocol):
    """A system with a preconditioner of its own."""

    def precondition(self, R: np.ndarray) -> np.ndarray:
        """(rows, k) → (columns, k)."""
        ...


class HForm:
    """S + (Gw⁻¹ − A_gg⁻¹) ⊗ G₀⁻¹ at the genotyped: (b, u).

    product: X → (Gw⁻¹ − A_gg⁻¹) X, (g, k) → (g, k). diagonal: (g,) of it.
    """

    markers = 0

    def __init__(
        self, problem: Problem, product: Callable[[np.ndarray], np.ndarray], diagonal: Callable[[], np.ndarray]
    ):
        self.problem, self.product, self._diagonal = problem, product, diagonal
        self.shape = (problem.equations.size, problem.equations.size)
        self.rhs = problem.equations.rhs[:, None]

    def matmul(self, V: np.ndarray) -> np.ndarray:
        p = self.problem
        out = p.equations.matrix @ V
        p.put(p.scaled(self.product(p.take(V)), p.precision), out)
        return out

    def blocks(self) -> np.ndarray:
        p = self.problem
        blocks = level_blocks(p, p.equations.matrix)
        blocks[p.genomic.rows] += self._diagonal()[:, None, None] * p.precision
        return blocks

    def effects(self, V: np.ndarray) -> np.ndarray:
        return V

    def weights(self, v: np.ndarray) -> np.ndarray:
        """Gw⁻¹û_g, (g, q), from a solution (size, 1)."""
        X = self.problem.take(v)
        return self.product(X) + self.problem.genomic.numerator.solve(X)


def level_blocks(problem: Problem, matrix: sparse.csr_array) -> np.ndarray:
    """(levels, q, q) diagonal blocks of S, or of another matrix of the equations' unknowns."""
    q, first = problem.components, problem.equations.others
    blocks = np.empty((problem.levels, q, q))
    for a in range(q):
        for b in range(a, q):
            blocks[:, a, b] = blocks[:, b, a] = matrix.diagonal(b - a)[first + a :: q][: len(blocks)]
    return blocks


def inverse_diagonal(problem: Problem) -> np.ndarray:
    """(g,) diagonal of A_gg⁻¹, exact or estimated; never below 1/(A_gg)_ii, which it cannot be."""
    numerator = problem.genomic.numerator
    return np.maximum(diagonal_of(numerator.solve, numerator.shape[0]), 1 / (1 + numerator.inbreeding))


def diagonal_of(product: Callable[[np.ndarray], np.ndarray], n: int) -> np.ndarray:
    """(n,) diagonal of a symmetric matrix: exact to EXACT_DIAGONAL rows, beyond by Rademacher probes (Bekas 2007)."""
    if n <= EXACT_DIAGONAL:
        return columns(product, n).diagonal().copy()
    probes = np.sign(np.random.default_rng(3).standard_normal((n, PROBES)))
    return (probes * product(probes)).mean(axis=1)


def subtract_relationships(problem: Problem) -> sparse.csr_array:
    """S without A⁻¹ ⊗ G₀⁻¹: the data's part and that of the independent effects."""
    relationships = sparse.kron(problem.inverse, problem.precision, format="csr")
    first = sparse.csr_array((problem.equations.others, problem.equations.others))
    return sparse.csr_array(problem.equations.matrix - sparse.block_diag([first, relationships], format="csr"))
