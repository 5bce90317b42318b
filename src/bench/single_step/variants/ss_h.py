"""SS-H: Gw⁻¹ − A_gg⁻¹ as one dense matrix (Aguilar et al. 2010; Christensen & Lund 2010)."""

from __future__ import annotations

import numpy as np

from bench.errors import BenchError
from bench.single_step.problem import Genomic, Problem
from bench.single_step.system import HForm
from bench.single_step.variants import Cost, Options, Size, Variant
from bench.solvers.direct import Cholesky


def inverse(matrix: np.ndarray, what: str) -> np.ndarray:
    """A symmetric matrix's inverse; the matrix is used up."""
    n = len(matrix)
    try:
        factor = Cholesky(matrix)
    except BenchError:
        raise BenchError(
            f"{what} of {n} genotyped animals is not positive definite: look for duplicated genotypes, or raise the "
            "polygenic share"
        ) from None
    return factor.solve(np.eye(n))


def difference_of_inverses(genomic: Genomic) -> np.ndarray:
    """Gw⁻¹ − A_gg⁻¹, (g, g): what H⁻¹ has more than A⁻¹."""
    difference = inverse(genomic.dense(), "Gw")
    difference -= inverse(genomic.dense_numerator(), "A_gg")
    return difference


def prepare(problem: Problem, options: Options) -> HForm:
    difference = difference_of_inverses(problem.genomic)
    return HForm(problem, lambda X: difference @ X, lambda: difference.diagonal().copy())


def cost(size: Size) -> Cost:
    g = size.genotyped
    return Cost(flops=2 * g**3 * 2 + 2.0 * g * g * size.markers, peak=32 * g * g, held=8 * g * g)


VARIANT = Variant(
    name="ss_h",
    title="SS-H",
    source="Boerner & Johnston 2019, Eq. 10; Christensen & Lund 2010",
    cost=cost,
    prepare=prepare,
)
