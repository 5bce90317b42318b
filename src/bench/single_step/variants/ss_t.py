"""SS-T: Gw⁻¹ by Woodbury from a dense g × m matrix (Mäntysaari et al. 2017; Boerner & Johnston 2019).

With M_s = √ν M, M† = A_gg⁻¹M_s/λ and K'K = I + M_s'M†: Gw⁻¹ = A_gg⁻¹/λ − M*M*', M* = M†K⁻¹.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve_triangular

from bench.errors import BenchError
from bench.single_step.problem import Problem, dense
from bench.single_step.system import HForm, inverse_diagonal
from bench.single_step.variants import Cost, Options, Size, Variant


def prepare(problem: Problem, options: Options) -> HForm:
    genomic = problem.genomic
    share = genomic.polygenic
    scaled = np.sqrt(genomic.marker_variance) * dense(genomic.extended())
    outer = genomic.numerator.solve(scaled) / share
    inner = scaled.T @ outer
    inner[np.diag_indices_from(inner)] += 1
    outer = solve_triangular(upper(inner), outer.T, trans=1, overwrite_b=True).T

    def product(X: np.ndarray) -> np.ndarray:
        return (1 / share - 1) * genomic.numerator.solve(X) - outer @ (outer.T @ X)

    def diagonal() -> np.ndarray:
        return (1 / share - 1) * inverse_diagonal(problem) - np.einsum("ij,ij->i", outer, outer)

    return HForm(problem, product, diagonal)


def upper(matrix: np.ndarray) -> np.ndarray:
    """K of K'K, upper triangular."""
    try:
        return np.linalg.cholesky((matrix + matrix.T) / 2).T
    except np.linalg.LinAlgError:
        raise BenchError(
            f"the marker equations of {len(matrix)} markers are not positive definite: raise the polygenic share"
        ) from None


def cost(size: Size) -> Cost:
    g, m = size.genotyped, size.markers
    flops = 2.0 * g * m * m + m**3 / 3 + 1.0 * g * m * m
    return Cost(flops=flops, peak=24 * g * m + 24 * m * m, held=8 * g * m)


VARIANT = Variant(
    name="ss_t",
    title="SS-T",
    source="Boerner & Johnston 2019; Mäntysaari et al. 2017",
    cost=cost,
    prepare=prepare,
)
