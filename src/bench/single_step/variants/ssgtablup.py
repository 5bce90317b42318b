"""ssGTABLUP: Gw⁻¹ by Woodbury through A_gg⁻¹ and the genotypes as they are packed (Mäntysaari et al. 2017).

Gw⁻¹ = A_gg⁻¹/λ − A_gg⁻¹M Q⁻¹ M'A_gg⁻¹/λ, Q = M'A_gg⁻¹M + (λ/ν)I: only Q, m × m, is held. What ssGTBLUP is with the
residual polygenic share on A_gg (Vandenplas et al. 2023; Freudenberg et al. 2023).
"""

from __future__ import annotations

import numpy as np

from bench.single_step.problem import BLOCK, Problem
from bench.single_step.system import HForm, diagonal_of, inverse_diagonal
from bench.single_step.variants import Cost, Options, Size, Variant
from bench.solvers.direct import Cholesky


def prepare(problem: Problem, options: Options) -> HForm:
    genomic, markers = problem.genomic, problem.genomic.extended()
    share, m = genomic.polygenic, problem.genomic.extended().shape[1]
    inner = np.empty((m, m))
    for at in range(0, m, BLOCK):
        unit = np.eye(m, min(BLOCK, m - at), -at)
        inner[:, at : at + BLOCK] = markers.rmatmul(genomic.numerator.solve(markers.matmul(unit)))
    inner += inner.T
    inner /= 2
    inner[np.diag_indices(m)] += share / genomic.marker_variance
    factor = Cholesky(inner)

    def genomic_inverse(A: np.ndarray) -> np.ndarray:
        """Gw⁻¹X from A_gg⁻¹X."""
        return (A - genomic.numerator.solve(markers.matmul(factor.solve(markers.rmatmul(A))))) / share

    def product(X: np.ndarray) -> np.ndarray:
        A = genomic.numerator.solve(X)
        return genomic_inverse(A) - A

    def diagonal() -> np.ndarray:
        g = len(genomic.rows)
        whole = diagonal_of(lambda X: genomic_inverse(genomic.numerator.solve(X)), g)
        # An estimate can fall below what no inverse's diagonal does: 1/(Gw)_ii, here with its mean.
        floor = share * (1 + genomic.numerator.inbreeding) + genomic.marker_variance * genomic.squares.sum() / g
        return np.maximum(whole, 1 / floor) - inverse_diagonal(problem)

    return HForm(problem, product, diagonal)


def cost(size: Size) -> Cost:
    g, m = size.genotyped, size.markers
    return Cost(flops=2.0 * g * m * m + m**3 / 3, peak=16 * m * m + 24 * g * BLOCK, held=8 * m * m)


VARIANT = Variant(
    name="ssgtablup",
    title="ssGTABLUP",
    source="Mäntysaari et al. 2017; Freudenberg et al. 2023",
    cost=cost,
    prepare=prepare,
)
