"""ssSNPBLUP of Liu et al. (2014): SNP effects are unknowns beside all breeding values.

For (u_n, u_g, ĝ) the prior's inverse is, ⊗ G₀⁻¹,
    [A^nn, A^ng, 0; A^gn, A^gg + (1/λ − 1)A_gg⁻¹, −A_gg⁻¹M/λ; 0, −M'A_gg⁻¹/λ, M'A_gg⁻¹M/λ + I/ν].
"""

from __future__ import annotations

import numpy as np

from bench.single_step.problem import Problem
from bench.single_step.system import inverse_diagonal, level_blocks
from bench.single_step.variants import Cost, Options, Size, Variant


class Liu:
    """(b, u, ĝ): the system that Freudenberg et al. (2023) solve."""

    def __init__(self, problem: Problem):
        self.problem, self._markers = problem, problem.genomic.extended()
        self.markers = self._markers.shape[1]
        size = problem.equations.size + self.markers * problem.components
        self.shape = (size, size)
        self.rhs = np.zeros((size, 1))
        self.rhs[: problem.equations.size, 0] = problem.equations.rhs

    def matmul(self, V: np.ndarray) -> np.ndarray:
        p, genomic, size = self.problem, self.problem.genomic, self.problem.equations.size
        effects, snps = V[:size], V[size:].reshape(self.markers, -1)
        out = np.empty((self.shape[0], V.shape[1]))
        out[:size] = p.equations.matrix @ effects
        X = p.take(effects)
        # Both solves with A_gg at once: they share each pass over the pedigree.
        solved = genomic.numerator.solve(np.concatenate([X, self._markers.matmul(snps)], axis=1))
        own, through = solved[:, : X.shape[1]], solved[:, X.shape[1] :]
        share = genomic.polygenic
        p.put(p.scaled((1 / share - 1) * own - through / share, p.precision), out)
        rows = self._markers.rmatmul(through - own) / share + snps / genomic.marker_variance
        out[size:] = p.scaled(rows, p.precision).reshape(-1, V.shape[1])
        return out

    def blocks(self) -> np.ndarray:
        p, genomic = self.problem, self.problem.genomic
        levels = level_blocks(p, p.equations.matrix)
        levels[genomic.rows] += ((1 / genomic.polygenic - 1) * inverse_diagonal(p))[:, None, None] * p.precision
        # diag(M'A_gg⁻¹M) is close to that of M'M: ratio 1.03 ± 0.09 in a dairy population.
        snps = genomic.extended_squares / genomic.polygenic + 1 / genomic.marker_variance
        return np.concatenate([levels, snps[:, None, None] * p.precision])

    def effects(self, V: np.ndarray) -> np.ndarray:
        return V[: self.problem.equations.size]

    def marker_effects(self, v: np.ndarray) -> np.ndarray:
        m = self.problem.genomic.markers.shape[1]
        return v[self.problem.equations.size :].reshape(self.markers, -1)[:m]


def prepare(problem: Problem, options: Options) -> Liu:
    return Liu(problem)


def cost(size: Size) -> Cost:
    vectors = 8 * (size.unknowns + size.markers * size.components)
    return Cost(flops=0.0, peak=8 * vectors, held=vectors)


VARIANT = Variant(
    name="sssnpblup",
    title="ssSNPBLUP",
    source="Liu et al. 2014; Freudenberg et al. 2023",
    cost=cost,
    prepare=prepare,
    preconditioners=("second_level", "jacobi", "block", "deflation"),
)
