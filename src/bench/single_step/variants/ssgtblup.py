"""ssGTBLUP: (G + εI)⁻¹ by Woodbury; the residual polygenic share stands on the identity (Mäntysaari et al. 2017).

(νMM' + λI)⁻¹ = I/λ − T'T, T = U⁻¹M'/λ, UU' = M'M/λ + I/ν. It is exact for this Gw, which is not that of the other
variants: their polygenic share stands on A_gg.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve_triangular

from bench.single_step.problem import Problem, dense
from bench.single_step.system import HForm, inverse_diagonal
from bench.single_step.variants import Cost, Options, Size, Variant
from bench.single_step.variants.ss_t import upper


def prepare(problem: Problem, options: Options) -> HForm:
    genomic = problem.genomic
    share = genomic.polygenic
    M = dense(genomic.extended())
    inner = M.T @ M / share
    inner[np.diag_indices_from(inner)] += 1 / genomic.marker_variance
    outer = solve_triangular(upper(inner), M.T, trans=1) / share  # T, (m, g)

    def product(X: np.ndarray) -> np.ndarray:
        return X / share - outer.T @ (outer @ X) - genomic.numerator.solve(X)

    def diagonal() -> np.ndarray:
        return 1 / share - np.einsum("ij,ij->j", outer, outer) - inverse_diagonal(problem)

    return HForm(problem, product, diagonal)


def cost(size: Size) -> Cost:
    g, m = size.genotyped, size.markers
    return Cost(flops=2.0 * g * m * m + m**3 / 3, peak=24 * g * m + 24 * m * m, held=8 * g * m)


VARIANT = Variant(
    name="ssgtblup",
    title="ssGTBLUP",
    source="Mäntysaari et al. 2017",
    exact=False,
    cost=cost,
    prepare=prepare,
)
