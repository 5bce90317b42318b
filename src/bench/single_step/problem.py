"""What every single-step variant solves: pedigree BLUP's equations, and the genomic prior of the genotyped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from scipy import sparse

from bench.errors import BenchError
from bench.models.equations import Equations
from bench.relationships.genomic import gram_product
from bench.solvers.operator import Operator


class Relationships(Protocol):
    """A_gg of the genotyped, (g, g), and its inverse, as products (`GenotypedNumerator`)."""

    @property
    def shape(self) -> tuple[int, int]: ...

    @property
    def inbreeding(self) -> np.ndarray: ...

    def matmul(self, X: np.ndarray) -> np.ndarray: ...

    def draw(self, rngs: Sequence[np.random.Generator]) -> np.ndarray: ...

    def solve(self, X: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class Genomic:
    """Gw = ν M M' + τ 11' + λ A_gg: the genotyped animals' relationships, in units of the genetic variance.

    rows: (g,) the level of each genotyped animal. markers: M (g, m), centred. marker_variance ν, constant τ and
    polygenic λ: see relationships.tuning. numerator: A_gg. gram: M M' as an array, where something computes it faster
    than products with M do.
    """

    rows: np.ndarray
    markers: Operator
    marker_variance: float
    polygenic: float
    numerator: Relationships
    constant: float = 0.0
    gram: Callable[[], np.ndarray] | None = None

    def matmul(self, X: np.ndarray) -> np.ndarray:
        """Gw X, (g, k) → (g, k)."""
        out = self.marker_variance * gram_product(self.markers, X)
        if self.constant:
            out += self.constant * X.sum(axis=0)
        if self.polygenic:
            out += self.polygenic * self.numerator.matmul(X)
        return out

    def dense(self) -> np.ndarray:
        """Gw, (g, g)."""
        gram = self.gram() if self.gram else self.markers.matmul(dense(self.markers).T)
        own = self.polygenic * self.dense_numerator() if self.polygenic else 0.0
        return self.marker_variance * gram + self.constant + own

    def dense_numerator(self) -> np.ndarray:
        """A_gg, (g, g)."""
        return columns(self.numerator.matmul, len(self.rows))

    @cached_property
    def squares(self) -> np.ndarray:
        """(m,) sums of squares of M's columns: ν times these, over λ, is about the diagonal of M'A_gg⁻¹M ν/λ."""
        m = self.markers.shape[1]
        total = np.empty(m)
        for at in range(0, m, BLOCK):
            total[at : at + BLOCK] = (self.markers.matmul(_unit(m, at)) ** 2).sum(axis=0)
        return total

    @property
    def extended_squares(self) -> np.ndarray:
        """The same of `extended`."""
        if not self.constant:
            return self.squares
        return np.append(self.squares, self.constant / self.marker_variance * len(self.rows))

    def extended(self) -> Operator:
        """M with √(τ/ν)·1 as a last column, so that Gw = ν M M' + λ A_gg."""
        if self.constant < 0:
            raise BenchError(
                f"the tuning subtracts {-self.constant:.4g} from every genomic relationship; this variant needs the "
                "constant to be a variance: use ss_h, ss_h_tilde or prior_pcg, or another tuning"
            )
        if not self.constant:
            return self.markers
        return _WithConstant(self.markers, float(np.sqrt(self.constant / self.marker_variance)))


BLOCK = 256  # columns of an identity multiplied at a time


def columns(product: Callable[[np.ndarray], np.ndarray], n: int) -> np.ndarray:
    """The matrix of a product, from the identity in blocks of columns."""
    return np.concatenate([product(_unit(n, at)) for at in range(0, n, BLOCK)], axis=1)


def dense(operator: Operator) -> np.ndarray:
    """An operator's (r, c) matrix."""
    return columns(operator.matmul, operator.shape[1])


def _unit(n: int, at: int) -> np.ndarray:
    return np.eye(n, min(BLOCK, n - at), -at)


class _WithConstant:
    """[M, κ1]."""

    def __init__(self, markers: Operator, value: float):
        self._markers, self._value = markers, value
        self.shape: tuple[int, int] = (markers.shape[0], markers.shape[1] + 1)

    def matmul(self, V: np.ndarray) -> np.ndarray:
        return self._markers.matmul(V[:-1]) + self._value * V[-1]

    def rmatmul(self, U: np.ndarray) -> np.ndarray:
        return np.concatenate([self._markers.rmatmul(U), self._value * U.sum(axis=0, keepdims=True)])


@dataclass(frozen=True)
class Problem:
    """Equations and genomic prior together.

    equations: unknowns in the order of Equations; where there are unknown-parent groups those of the genotyped are
    deviations from their groups (`single_step_problem` sees to it). inverse: (levels, levels) the sparse A⁻¹ in the
    equations. library: the compiled _pedigree/pedigree.cc, which factors incompletely. shares: (g, G) expected share
    of each group in each genotyped animal, None without groups.
    """

    equations: Equations
    genomic: Genomic
    inverse: sparse.csr_array
    library: Path
    shares: np.ndarray | None = None

    @property
    def components(self) -> int:
        return len(self.equations.components)

    @property
    def levels(self) -> int:
        return self.equations.animals + self.equations.groups

    @cached_property
    def fixed_groups(self) -> bool:
        """Whether there are unknown-parent groups whose effects are fixed: then their rows of A⁻¹ sum to 0."""
        rows = self.inverse[self.equations.animals :]
        return self.shares is not None and bool(np.abs(rows.sum(axis=1)).max() < 1e-9 * (1 + np.abs(rows).max()))

    @cached_property
    def precision(self) -> np.ndarray:
        """G₀⁻¹, (q, q)."""
        inverse = np.linalg.inv(self.equations.genetic_covariance)
        return (inverse + inverse.T) / 2

    @cached_property
    def places(self) -> np.ndarray:
        """(g·q,) where the genotyped animals' effects stand among the unknowns."""
        q = self.components
        return (self.equations.others + self.genomic.rows[:, None] * q + np.arange(q)).ravel()

    def take(self, V: np.ndarray) -> np.ndarray:
        """The genotyped animals' effects, (size, k) → (g, q·k)."""
        return V[self.places].reshape(len(self.genomic.rows), -1)

    def put(self, X: np.ndarray, out: np.ndarray) -> None:
        """Add X (g, q·k) to the genotyped animals' rows of out (size, k)."""
        out[self.places] += X.reshape(len(self.places), -1)

    def scaled(self, X: np.ndarray, by: np.ndarray) -> np.ndarray:
        """(· ⊗ by) X for a symmetric (q, q) matrix: (r, q·k) → (r, q·k)."""
        if self.components == 1:
            return X * by[0, 0]
        parts = X.reshape(len(X), self.components, X.shape[1] // self.components)
        return np.einsum("ab,rbk->rak", by, parts).reshape(X.shape)

    @cached_property
    def change(self) -> sparse.csr_array | None:
        """(size, size) from these unknowns to those of the equations as they were; None if they are the same."""
        return None if self.shares is None else group_deviations(self.equations, self.genomic.rows, self.shares)

    def animals_effects(self, v: np.ndarray) -> np.ndarray:
        """(size,) or (size, k) solutions with the genotyped animals' groups added back: those of the equations as
        they were."""
        return v if self.change is None else self.change @ v

    def deviations(self, v: np.ndarray) -> np.ndarray:
        """(size,) these unknowns from solutions of the equations as they were."""
        if self.shares is None:
            return v
        out = v.copy()
        effects = self.equations.genetic(out)
        effects[self.genomic.rows] -= self.shares @ effects[self.equations.animals :]
        return out

    def right_hand_sides(self, B: np.ndarray) -> np.ndarray:
        """Other right-hand sides (size, k) of the equations as they were, for these unknowns."""
        return B if self.change is None else self.change.T @ B


def single_step_problem(
    equations: Equations,
    genomic: Genomic,
    inverse: sparse.csr_array,
    *,
    library: Path,
    shares: np.ndarray | None = None,
) -> Problem:
    """The problem; with unknown-parent groups its genotyped animals' effects become deviations from their groups.

    shares: (g, G), for Quaas-Pollak groups. H⁻¹ then acts on u − Qγ, as in the explicit model y = Xb + WQγ + Wu + e
    (Quaas 1988; Misztal et al. 2013 call it the full QP transformation).
    """
    if shares is None:
        return Problem(equations, genomic, inverse, library)
    change = group_deviations(equations, genomic.rows, shares)
    matrix = sparse.csr_array(change.T @ equations.matrix @ change)
    matrix = sparse.csr_array((matrix + matrix.T) / 2)  # sums that cancel do so in one triangle alone
    changed = replace(equations, matrix=matrix, rhs=change.T @ equations.rhs)
    return Problem(changed, genomic, inverse, library, shares)


def group_deviations(equations: Equations, levels: np.ndarray, shares: np.ndarray) -> sparse.csr_array:
    """(size, size) from the deviations of `levels` from their groups, other unknowns as they are, to the unknowns.

    shares: (levels, G).
    """
    q, groups = len(equations.components), shares.shape[1]
    rows = np.repeat(equations.others + levels * q, q * groups)
    component = np.tile(np.repeat(np.arange(q), groups), len(levels))
    first = equations.others + equations.animals * q
    group = np.tile(np.arange(groups), len(levels) * q)
    values = np.repeat(shares, q, axis=0).ravel()
    move = sparse.csr_array(
        (values, (rows + component, first + group * q + component)), shape=(equations.size, equations.size)
    )
    return sparse.csr_array(sparse.eye_array(equations.size, format="csr") + move)
