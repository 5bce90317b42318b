"""APY: the genomic inverse from a core of animals, the others conditionally independent (Misztal et al. 2014).

With P = G_nc G_cc⁻¹ and d_i = g_ii − p_i'g_ci: G_APY⁻¹ = blk(G_cc⁻¹, 0) + [−P'; I] diag(1/d) [−P, I]. Exact when all
animals but one are in the core, an approximation otherwise.
"""

from __future__ import annotations

import numpy as np

from bench.errors import BenchError
from bench.single_step.problem import BLOCK, Problem
from bench.single_step.system import HForm, inverse_diagonal
from bench.single_step.variants import Cost, Options, Size, Variant
from bench.solvers.direct import Cholesky


def prepare(problem: Problem, options: Options) -> HForm:
    """options: core, the share of the genotyped in it, or a whole number of them; seed of the draw."""
    genomic = problem.genomic
    g = len(genomic.rows)
    core, others = draw(g, options["core"], options["seed"])
    to_core = np.empty((g, core.size))
    for at in range(0, core.size, BLOCK):
        unit = np.zeros((g, min(BLOCK, core.size - at)))
        unit[core[at : at + BLOCK], np.arange(unit.shape[1])] = 1
        to_core[:, at : at + BLOCK] = genomic.matmul(unit)
    factor = Cholesky(np.asfortranarray(to_core[core]))
    P = factor.solve(to_core[others].T).T
    residual = relationship_diagonal(problem)[others] - np.einsum("ij,ij->i", P, to_core[others])
    if not np.all(residual > 0):
        raise BenchError(
            f"APY: {int((residual <= 0).sum())} animals outside the core have no variance left; they are duplicates "
            "of animals in it: remove them, or raise the polygenic share"
        )
    weight = 1 / residual[:, None]

    def genomic_inverse(X: np.ndarray) -> np.ndarray:
        out = np.empty_like(X)
        rest = weight * (X[others] - P @ X[core])
        out[others] = rest
        out[core] = factor.solve(X[core]) - P.T @ rest
        return out

    def diagonal() -> np.ndarray:
        out = np.empty(g)
        out[others] = weight[:, 0]
        half = factor.half_solve(np.eye(core.size))
        out[core] = np.einsum("ij,ij->j", half, half) + np.einsum("ij,ij->j", P, weight * P)
        return out - inverse_diagonal(problem)

    return HForm(problem, lambda X: genomic_inverse(X) - genomic.numerator.solve(X), diagonal)


def draw(g: int, core: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The core at random, and the others; both in order."""
    size = round(core * g) if core < 1 else int(core)
    if not 0 < size < g:
        raise BenchError(f"APY: a core of {size} was asked for, of {g} genotyped animals 1 to {g - 1} can be in it")
    chosen = np.zeros(g, bool)
    chosen[np.random.default_rng(seed).choice(g, size, replace=False)] = True
    return np.flatnonzero(chosen), np.flatnonzero(~chosen)


def relationship_diagonal(problem: Problem) -> np.ndarray:
    """(g,) diagonal of Gw: exact, m columns through the genotypes."""
    genomic = problem.genomic
    m = genomic.markers.shape[1]
    total = np.zeros(len(genomic.rows))
    for at in range(0, m, BLOCK):
        total += (genomic.markers.matmul(np.eye(m, min(BLOCK, m - at), -at)) ** 2).sum(axis=1)
    return genomic.marker_variance * total + genomic.constant + genomic.polygenic * (1 + genomic.numerator.inbreeding)


def cost(size: Size) -> Cost:
    g = size.genotyped  # as if the core were a third of them; the draw is checked when it is made
    core = g / 3
    return Cost(
        flops=4 * core * g * size.markers + core**3 / 3 + core * core * g,
        peak=int(24 * g * core),
        held=int(8 * g * core),
    )


VARIANT = Variant(
    name="apy",
    title="APY",
    source="Misztal et al. 2014",
    exact=False,
    cost=cost,
    prepare=prepare,
    options={"core": 1 / 3, "seed": 1},
)
