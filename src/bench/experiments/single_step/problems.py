"""An evaluation and products with its genotypes as the problem that a variant solves."""

from __future__ import annotations

from bench.build import installed
from bench.errors import BenchError
from bench.experiments.single_step.evaluation import Evaluation
from bench.plan import Case
from bench.relationships.genomic import Centred, Coding, vanraden1
from bench.relationships.missing import missing_of
from bench.single_step.build import Step, build_problem
from bench.single_step.problem import Problem
from bench.solvers.operator import Operator


def centred_problem(case: Case, evaluation: Evaluation, dosages: Operator, step: Step | None = None) -> Problem:
    """dosages: the genotypes as a kernel multiplies them."""
    step = step or (lambda _, call: call())
    packed, threads, library = evaluation.packed, case["threads"], installed("missing").library
    coding = step("coding", lambda: vanraden1(packed))
    missing = step("missing", lambda: missing_of(dosages, packed, threads=threads, library=library))
    return make_problem(case, evaluation, coding, Centred(dosages, coding, missing), step)


def make_problem(
    case: Case, evaluation: Evaluation, coding: Coding, markers: Operator, step: Step | None = None
) -> Problem:
    """markers: the coded genotypes."""
    library = installed("pedigree")
    if library.library is None:
        raise BenchError(f"the pedigree's products: {library.reason}")
    return build_problem(
        evaluation.design,
        evaluation.pedigree,
        evaluation.model.covariances,
        evaluation.packed,
        coding,
        markers,
        evaluation.genotyped,
        library=library.library,
        gram_library=installed("gram").library,
        polygenic=case["polygenic"],
        tuning=case["tuning"],
        threads=case["threads"],
        step=step,
    )
