"""Draws from the single-step model: breeding values without a factor of H, and records of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from scipy import sparse

from bench.errors import BenchError
from bench.single_step.problem import Genomic, Problem
from bench.solvers.incomplete import IncompletePCG

RTOL = 1e-8  # of u_n given u_g: far below what a sample's û is solved to


class Draws(Protocol):
    """A whole pedigree's A, (n, n), to draw from (`Numerator`)."""

    @property
    def shape(self) -> tuple[int, int]: ...

    def draw(self, rngs: Sequence[np.random.Generator]) -> np.ndarray: ...


class Data(Protocol):
    """The records of a model with its variances."""

    def simulate(self, rng: np.random.Generator, u: np.ndarray) -> np.ndarray:
        """Records with genetic effects u (levels, q), all fixed effects 0 and all other effects drawn: (R, t)."""
        ...

    def rhs(self, Y: np.ndarray) -> np.ndarray:
        """W'R⁻¹y of k sets of records, (R, t, k) → (size, k)."""
        ...


def check_drawn(genomic: Genomic) -> None:
    """BenchError if breeding values of this prior cannot be drawn."""
    if genomic.constant < 0:
        raise BenchError(
            f"the tuning subtracts {-genomic.constant:.4g} from every genomic relationship, and such breeding "
            "values cannot be drawn; use another tuning, or the exact method"
        )


class GeneticSampler:
    """Draws from N(0, H), a column each.

    u_g = √ν Mε + √τ 1ε₀ + √λ a_g with a ~ N(0, A), and u_n = v_n + P(u_g − v_g) with v ~ N(0, A) and
    P = A_ng A_gg⁻¹ = −(A^nn)⁻¹A^ng, which is solved with. One product with M, one with the pedigree of the genotyped
    and one with the whole, and a solve: the cost of an iteration or two.
    numerator: A of the whole pedigree; with metafounders A^Γ, so that they are levels like the animals. The effects
    of unknown-parent groups, which are fixed, are 0.
    """

    def __init__(self, problem: Problem, numerator: Draws):
        genomic, self._problem, self._numerator = problem.genomic, problem, numerator
        check_drawn(genomic)
        self._drawn = problem.equations.animals if problem.shares is not None else problem.levels
        if numerator.shape[0] != self._drawn:
            raise ValueError(f"A has {numerator.shape[0]} rows, the equations have {self._drawn} levels")
        genotyped = np.zeros(self._drawn, bool)
        genotyped[genomic.rows] = True
        self._others = np.flatnonzero(~genotyped)[::-1]  # the youngest first: see IncompleteCholesky
        rows = sparse.csr_array(problem.inverse[self._others])
        self._ng = sparse.csr_array(rows[:, genomic.rows])
        self._solver: IncompletePCG | None = None
        if self._others.size:
            order = np.arange(self._others.size)
            matrix = sparse.csr_array(rows[:, self._others])
            self._solver = IncompletePCG(matrix, order, library=problem.library, rtol=RTOL)

    def draw(self, rngs: Sequence[np.random.Generator]) -> np.ndarray:
        """(levels, k), a column from each of k generators, in units of the genetic variance."""
        genomic = self._problem.genomic
        effects = np.column_stack([rng.standard_normal(genomic.markers.shape[1]) for rng in rngs])
        of_genotyped = np.sqrt(genomic.marker_variance) * genomic.markers.matmul(effects)
        if genomic.constant:
            of_genotyped += np.sqrt(genomic.constant) * np.array([rng.standard_normal() for rng in rngs])
        if genomic.polygenic:
            of_genotyped += np.sqrt(genomic.polygenic) * genomic.numerator.draw(rngs)
        out = np.zeros((self._problem.levels, len(rngs)))
        out[: self._drawn] = self._numerator.draw(rngs)
        if self._solver:
            difference = of_genotyped - out[genomic.rows]
            out[self._others] -= self._solver.solve(self._ng @ difference)
        out[genomic.rows] = of_genotyped
        return out

    def draw_components(self, rngs: Sequence[np.random.Generator]) -> np.ndarray:
        """(levels, q, k): the components of each draw independent, q columns in a row from its generator."""
        q = self._problem.components
        columns = self.draw([rng for rng in rngs for _ in range(q)])
        return columns.reshape(self._problem.levels, len(rngs), q).transpose(0, 2, 1)


def generators(seed: int, first: int, count: int) -> list[np.random.Generator]:
    """Of the samples `first` and on: each sample has its own, so that batches of any size draw the same."""
    return [np.random.default_rng([seed, sample]) for sample in range(first, first + count)]
