"""SS-H~: Gw⁻¹ dense, A_gg⁻¹ through the pedigree (Boerner & Johnston 2019)."""

from __future__ import annotations

from bench.single_step.problem import Problem
from bench.single_step.system import HForm, inverse_diagonal
from bench.single_step.variants import Cost, Options, Size, Variant
from bench.single_step.variants.ss_h import inverse


def prepare(problem: Problem, options: Options) -> HForm:
    numerator = problem.genomic.numerator
    genomic_inverse = inverse(problem.genomic.dense(), "Gw")
    return HForm(
        problem,
        lambda X: genomic_inverse @ X - numerator.solve(X),
        lambda: genomic_inverse.diagonal() - inverse_diagonal(problem),
    )


def cost(size: Size) -> Cost:
    g = size.genotyped
    return Cost(flops=2.0 * g**3 + 2.0 * g * g * size.markers, peak=32 * g * g, held=8 * g * g)


VARIANT = Variant(
    name="ss_h_tilde",
    title="SS-H~",
    source="Boerner & Johnston 2019; Strandén et al. 2017",
    cost=cost,
    prepare=prepare,
)
