"""Marker effects and imputed genotypes without a polygenic share (Fernando et al. 2014); G may be singular.

The covariate J of the paper, which estimates the mean of the genotyped, is not part of it: it is a fixed effect of
the model, and where it is wanted a tuning of G does the same.
"""

from __future__ import annotations

from bench.errors import BenchError
from bench.single_step.imputed import Imputed
from bench.single_step.problem import Problem
from bench.single_step.variants import Cost, Options, Size, Variant, taskinen


def prepare(problem: Problem, options: Options) -> Imputed:
    if problem.genomic.polygenic:
        raise BenchError(
            f"Fernando's form has no polygenic effect, but its share is {problem.genomic.polygenic:.4g}; use taskinen"
        )
    return Imputed(problem)


def cost(size: Size) -> Cost:
    return taskinen.cost(size)


VARIANT = Variant(
    name="fernando",
    title="Fernando",
    source="Fernando et al. 2014",
    singular=True,
    cost=cost,
    prepare=prepare,
    preconditioners=("second_level", "jacobi", "block"),
)
