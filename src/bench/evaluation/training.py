"""GBLUP of some of the records: everything that is learned, is learned from the animals that these are of.

Allele frequencies, spreads, which SNPs are kept, fixed effects and, where asked for, variances: the training animals'
genotypes are copied out, and nothing else is at hand while a model is fitted.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.build import installed
from bench.errors import BenchError
from bench.evaluation.checkpoint import Checkpoint
from bench.evaluation.genotyped import Genotyped, read_coding
from bench.evaluation.inputs import Inputs
from bench.evaluation.journal import Silent
from bench.evaluation.variances import Settings, estimated
from bench.genotypes.packed import PackedGenotypes
from bench.machine import memory_available
from bench.matrix import GenotypeMatrix
from bench.models.design import Design
from bench.models.fixed_part import fixed_part
from bench.models.model_file import Model
from bench.models.records import Records
from bench.models.terms import fixed_terms
from bench.models.variances import Variances
from bench.models.variation import check_variation
from bench.relationships.gaussian import distances_between, kernel
from bench.relationships.genomic import Centred, Coding
from bench.relationships.missing import missing_of
from bench.relationships.pedigree import Pedigree, founders
from bench.single_step.solve import prepare, solve


@dataclass(frozen=True)
class Whole:
    """All that the model file names. pedigree: of the genotyped, unrelated. library: the compiled pedigree."""

    path: Path
    model: Model
    pedigree: Pedigree
    records: Records
    packed: PackedGenotypes
    snps: np.ndarray
    library: Path
    threads: int


@dataclass(frozen=True)
class Fitted:
    """design: of the training records. animals: (g,) their places among all genotyped, sorted. effects: (others,) of
    the model's effects that are not genetic; ebv: (g, q). learned: (m, q) SNP effects, as they are coded, or with the
    Gaussian kernel of this width (g, q) K⁻¹û. status: "converged" or why not."""

    design: Design
    animals: np.ndarray
    coding: Coding
    effects: np.ndarray
    ebv: np.ndarray
    learned: np.ndarray
    width: float | None
    variances: Variances
    steps: int
    status: str

    def breeding_values(self, whole: Whole, animals: np.ndarray) -> np.ndarray:
        """û (animals, q) from their genotypes alone. animals: places among all genotyped."""
        if self.width is not None:
            D2 = distances_between(whole.packed, self.coding, animals, self.animals)
            return kernel(D2, self.width) @ self.learned
        packed = whole.packed.take(animals)
        matrix = GenotypeMatrix(packed, threads=whole.threads)
        missing = missing_of(matrix.products, packed, threads=whole.threads, library=installed("missing").library)
        return Centred(matrix.products, self.coding, missing).matmul(self.learned)

    def fixed_part(self, whole: Whole, rows: np.ndarray) -> np.ndarray:
        """Xb, (rows, t), of records `rows` (R,) bool; NaN where the training records leave it open."""
        return fixed_part(self.design, self.effects, fixed_terms(whole.model, whole.records), rows)


def fit(
    whole: Whole,
    training: np.ndarray,
    *,
    like: Fitted | None = None,
    reml: Settings | None = None,
    max_steps: int = 10_000,
    checkpoint: Checkpoint | None = None,
) -> Fitted:
    """The model fitted to the records `training` (R,) bool.

    like: whose coding and variances to take. reml: have the variances estimated, from those of the model file as a
    start. checkpoint: of the solve. BenchError: what cannot be fitted.
    """
    model, quiet = whole.model, Silent()
    for j, trait in enumerate(model.traits):
        if not whole.records.observed[training, j].any():
            raise BenchError(f"trait {trait!r} has no training records")
    animals = np.unique(whole.records.animal[training])
    records = whole.records.of_animals(training, animals)
    pedigree = founders(list(whole.pedigree.ids[animals]))
    read = Design.of(model, pedigree, records)
    design, fixed_fit = read.less_fixed()
    check_variation(read, design)
    genotyped = _genotyped(whole, animals, like)
    inputs = Inputs(whole.path, model, pedigree, design, fixed_fit, genotyped, whole.threads, whole.library)
    variances, status = like.variances if like else model.covariances, "converged"
    problem = genotyped.problem(design, variances, whole.library)
    if reml is not None:
        variances, status = estimated(inputs, problem, reml, quiet)
        problem = genotyped.problem(design, variances, whole.library)
    wanted = model.single_step
    prepared = prepare(wanted.variant, problem, memory=memory_available(), preconditioner=wanted.preconditioner)
    if checkpoint is None:
        found = solve(prepared, rtol=wanted.tolerance, max_steps=max_steps)
    else:
        found = checkpoint.solve(prepared, wanted.tolerance, max_steps)
    if status != "converged":
        status = f"variances: {status}"
    if not found.solution.converged.all():
        status = f"not converged: ‖r‖/‖b‖ = {float(found.solution.true_residual_norms[0]):.1e}"
    effects = inputs.whole(found.effects)
    learned = found.marker_effects if genotyped.width is None else found.weights
    assert learned is not None, "a solver without SNP effects knows K⁻¹û"
    return Fitted(
        design,
        animals,
        genotyped.coding,
        effects[: design.others],
        problem.equations.genetic(effects),
        learned,
        genotyped.width,
        variances,
        found.solution.steps,
        status,
    )


def _genotyped(whole: Whole, animals: np.ndarray, like: Fitted | None) -> Genotyped:
    """The training animals' genotypes, copied out, and their coding."""
    packed = whole.packed.take(animals)
    coding = like.coding if like else read_coding(whole.model, packed)
    ids = whole.pedigree.ids[animals]
    matrix = GenotypeMatrix(packed, threads=whole.threads, individuals=ids, snps=whole.snps)
    return Genotyped.of(whole.model, matrix, np.arange(ids.size), coding, like.width if like else None)
