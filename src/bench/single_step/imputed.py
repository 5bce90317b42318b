"""Single-step systems in marker effects whose genotypes of the others are imputed through the pedigree."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from bench.errors import BenchError
from bench.single_step.problem import Problem
from bench.single_step.system import level_blocks, subtract_relationships
from bench.solvers.incomplete import IncompletePCG


class Imputed:
    """(b, a, ε, g): u_g = Mg + a_g and u_n = M_n g + ε + a_n with M_n = −(A^nn)⁻¹A^ng M, never formed.

    g ~ νI, ε ~ (1−λ)(A^nn)⁻¹, a ~ λA, all times G₀. With λ = 0 there is no a, and singular G is allowed.
    """

    def __init__(self, problem: Problem):
        if problem.shares is not None:
            raise BenchError(
                "imputed genotypes do not go with unknown-parent groups; use metafounders, or another variant"
            )
        self.problem, self._snps = problem, problem.genomic.extended()
        self.markers = self._snps.shape[1]
        genotyped = np.zeros(problem.levels, bool)
        genotyped[problem.genomic.rows] = True
        self._others = np.flatnonzero(~genotyped)[::-1]
        rows = sparse.csr_array(problem.inverse[self._others])
        self._nn = sparse.csr_array(rows[:, self._others])
        self._ng = sparse.csr_array(rows[:, problem.genomic.rows])
        order = np.arange(self._others.size)
        self._solver = IncompletePCG(self._nn, order, library=problem.library) if order.size else None
        self._data = subtract_relationships(problem)
        q, first = problem.components, problem.equations.others
        self._polygenic = problem.levels * q if problem.genomic.polygenic else 0
        self._ends = np.cumsum([first, self._polygenic, self._others.size * q, self.markers * q])
        self.shape = (int(self._ends[-1]), int(self._ends[-1]))
        self.rhs = self._transposed(problem.equations.rhs[:, None])

    def _parts(self, V: np.ndarray) -> list[np.ndarray]:
        """Others, a, ε and g: the last three with a row a level or marker."""
        others, *parts = np.split(V, self._ends[:-1])
        width = self.problem.components * V.shape[1]
        return [others, *(part.reshape(-1, width) for part in parts)]

    def _impute(self, X: np.ndarray) -> np.ndarray:
        """−(A^nn)⁻¹A^ng X, (g, k) → (others, k)."""
        return -self._solver.solve(self._ng @ X) if self._solver else X[:0]

    def effects(self, V: np.ndarray) -> np.ndarray:
        others, polygenic, rest, snps = self._parts(V)
        p = self.problem
        U = polygenic.copy() if self._polygenic else np.zeros((p.levels, p.components * V.shape[1]))
        genotyped = self._snps.matmul(snps)
        U[p.genomic.rows] += genotyped
        U[self._others] += rest + self._impute(genotyped)
        return np.concatenate([others, U.reshape(-1, V.shape[1])])

    def _transposed(self, R: np.ndarray) -> np.ndarray:
        """The transpose of `effects`: (size, k) → (rows, k)."""
        p, first = self.problem, self.problem.equations.others
        U = R[first:].reshape(p.levels, -1)
        genotyped, rest = U[p.genomic.rows], U[self._others]
        if self._solver:
            genotyped = genotyped - self._ng.T @ self._solver.solve(rest)
        parts = [U] if self._polygenic else []
        return np.concatenate(
            [R[:first], *(x.reshape(-1, R.shape[1]) for x in (*parts, rest, self._snps.rmatmul(genotyped)))]
        )

    def matmul(self, V: np.ndarray) -> np.ndarray:
        p, share = self.problem, self.problem.genomic.polygenic
        out = self._transposed(self._data @ self.effects(V))
        _, polygenic, rest, snps = self._parts(V)
        prior = [p.inverse @ polygenic / share] if self._polygenic else []
        prior += [self._nn @ rest / (1 - share), snps / p.genomic.marker_variance]
        at = self._ends[0]
        for part in prior:
            rows = p.scaled(part, p.precision).reshape(-1, V.shape[1])
            out[at : at + len(rows)] += rows
            at += len(rows)
        return out

    def blocks(self) -> np.ndarray:
        """Those of the markers are approximate: imputed genotypes are given half the variance of observed ones."""
        p, share = self.problem, self.problem.genomic.polygenic
        data = level_blocks(p, self._data)
        relationships = p.inverse.diagonal()[:, None, None] * p.precision
        genotyped = p.genomic.rows
        records = data[genotyped].sum(axis=0) + data[self._others].sum(axis=0) / 2
        squares = p.genomic.extended_squares
        parts = [data + relationships / share] if self._polygenic else []
        parts.append(data[self._others] + relationships[self._others] / (1 - share))
        parts.append(squares[:, None, None] / genotyped.size * records + p.precision / p.genomic.marker_variance)
        return np.concatenate(parts)

    def marker_effects(self, v: np.ndarray) -> np.ndarray:
        return self._parts(v)[-1][: self.problem.genomic.markers.shape[1]]
