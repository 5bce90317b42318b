"""From records, a pedigree and genotypes to the problem that every single-step variant takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from scipy import sparse

from bench.genotypes.packed import PackedGenotypes
from bench.models.design import Design
from bench.models.variances import Variances
from bench.relationships.genomic import Coding, dense_grm
from bench.relationships.numerator import GenotypedNumerator, Numerator
from bench.relationships.pedigree import Pedigree
from bench.relationships.tuning import Tuning, blend
from bench.relationships.unrelated import Unrelated
from bench.single_step.problem import Genomic, Problem, single_step_problem
from bench.solvers.operator import Operator

T = TypeVar("T")
Step = Callable[[str, Callable[[], Any]], Any]


def build_problem(
    design: Design,
    pedigree: Pedigree,
    variances: Variances,
    genotypes: PackedGenotypes,
    coding: Coding,
    markers: Operator,
    genotyped: np.ndarray,
    *,
    library: Path,
    gram_library: Path | None = None,
    inverse: sparse.csr_array | None = None,
    gamma: np.ndarray | None = None,
    polygenic: float = 0.05,
    tuning: Tuning = "none",
    threads: int = 1,
    step: Step | None = None,
) -> Problem:
    """Pedigree BLUP's equations, and the genomic prior of the genotyped.

    design: of the records, on the rows of `pedigree`. genotypes, markers: of the animals `genotyped`, (g,) rows of
    the pedigree, in the same order; markers is their M (g, m), centred and scaled by `coding`. library: the compiled
    pedigree; gram_library: the compiled gram, for the variants that need M M' as an array. inverse: A⁻¹ as the model
    has it (`models.load.inverse`), by default that of the pedigree; gamma: Γ where its groups are metafounders.
    polygenic: w.
    step(what, call): returns call(), by default no more than that; a caller may time it or tell about it.
    """
    step = step or (lambda _, call: call())
    if inverse is None:
        numerator = step("inbreeding", lambda: Numerator(pedigree, library=library, gamma=gamma, threads=threads))
        made = step("inverse", numerator.inverse)
    else:
        made = inverse
    equations = step("equations", lambda: design.assemble(made, variances))
    relationships = step(
        "relationships",
        lambda: GenotypedNumerator(pedigree, genotyped, library=library, gamma=gamma, threads=threads),
    )
    prior = step("tuning", lambda: blend(genotypes, coding, relationships, w=polygenic, tuning=tuning))
    genomic = Genomic(
        genotyped,
        markers,
        prior.marker_variance,
        prior.polygenic,
        relationships,
        prior.constant,
        gram=lambda: _gram(genotypes, coding, gram_library, threads),
    )
    groups = pedigree.groups and gamma is None
    shares = pedigree.group_shares()[genotyped] if groups else None
    return single_step_problem(equations, genomic, made, library=library, shares=shares)


def genomic_problem(
    design: Design,
    variances: Variances,
    markers: Operator,
    marker_variance: float,
    *,
    library: Path,
    gram: Callable[[], np.ndarray] | None = None,
) -> Problem:
    """GBLUP: all levels of the design are genotyped animals, whose relationships are ν MM' alone.

    markers: M (n, m), in the order of the levels; marker_variance: ν. gram: M M' as an array. G may be singular.
    """
    n = design.animals
    inverse = sparse.csr_array(sparse.eye_array(n, format="csr"))
    genomic = Genomic(np.arange(n), markers, marker_variance, 0.0, Unrelated(n), gram=gram)
    return Problem(design.assemble(inverse, variances), genomic, inverse, library)


def _gram(genotypes: PackedGenotypes, coding: Coding, library: Path | None, threads: int) -> np.ndarray:
    """M M', (g, g)."""
    found = dense_grm(genotypes, coding, library=library, threads=threads)
    found *= coding.divisor
    return found
