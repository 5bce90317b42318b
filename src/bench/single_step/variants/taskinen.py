"""Marker effects, imputed genotypes and a polygenic effect: no inverse of G or A_gg (Taskinen et al. 2017)."""

from __future__ import annotations

from bench.errors import BenchError
from bench.single_step.imputed import Imputed
from bench.single_step.problem import Problem
from bench.single_step.variants import Cost, Options, Size, Variant


def prepare(problem: Problem, options: Options) -> Imputed:
    if not 0 < problem.genomic.polygenic < 1:
        raise BenchError(f"Taskinen's form needs a polygenic share in (0, 1), found {problem.genomic.polygenic:.4g}")
    return Imputed(problem)


def cost(size: Size) -> Cost:
    vectors = 8 * (2 * size.unknowns + size.markers * size.components)
    return Cost(flops=0.0, peak=10 * vectors + 24 * size.nonzeros, held=vectors + 24 * size.nonzeros)


VARIANT = Variant(
    name="taskinen",
    title="Taskinen",
    source="Taskinen et al. 2017",
    cost=cost,
    prepare=prepare,
    preconditioners=("second_level", "jacobi", "block"),
)
