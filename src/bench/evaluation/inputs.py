"""What a model file names, read, checked and said in the log; and the single-step problem that it makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from bench.build import installed
from bench.errors import BenchError, meant
from bench.evaluation.genotyped import Genotyped, read_genotyped
from bench.evaluation.journal import Journal
from bench.machine import this_machine
from bench.models.design import Design
from bench.models.load import gamma, inverse, load_data
from bench.models.model_file import Model, read_model
from bench.models.variation import check_variation
from bench.provenance import set_threads
from bench.ranks.genotypes import Spread
from bench.relationships.numerator import Numerator
from bench.relationships.pedigree import Pedigree
from bench.relationships.unrelated import Unrelated
from bench.single_step import variants
from bench.single_step.build import build_problem
from bench.single_step.problem import Problem


@dataclass(frozen=True)
class Inputs:
    """design: of records less a quick fit of their fixed effects; fixed_fit: (fixed,) that fit, which solutions get
    back. genotyped: None for pedigree BLUP. library: the compiled pedigree."""

    path: Path
    model: Model
    pedigree: Pedigree
    design: Design
    fixed_fit: np.ndarray
    genotyped: Genotyped | None
    threads: int
    library: Path

    def whole(self, effects: np.ndarray) -> np.ndarray:
        """(size,) solutions with what was taken off the records."""
        out = effects.copy()
        out[: self.fixed_fit.size] += self.fixed_fit
        return out

    @property
    def levels(self) -> int:
        """Of the genetic effects: animals and groups."""
        return len(self.pedigree) + len(self.pedigree.groups)

    def numerator(self) -> Numerator | Unrelated:
        """A, with metafounders where the model has them, to draw from."""
        if self.model.pedigree is None:
            return Unrelated(len(self.pedigree))
        return Numerator(self.pedigree, library=self.library, gamma=gamma(self.model), threads=self.threads)

    def inverse(self, journal: Journal) -> sparse.csr_array:
        """A⁻¹ as the model has it."""
        with journal.step("inverse of A"):
            return inverse(self.model, self.pedigree, library=self.library, threads=self.threads)


def chosen_threads(threads: int | None) -> int:
    """How many threads to use, which BLAS is told; None for all cores. BenchError: fewer than one."""
    threads = this_machine().cores if threads is None else threads
    if threads < 1:
        raise BenchError(f"--threads: {threads} was given; at least 1 was needed")
    set_threads(threads)
    return threads


def read_inputs(
    path: Path, threads: int, journal: Journal, *, memory: int | None = None, spread: Spread | None = None
) -> Inputs:
    """memory: bytes that the genotypes may take, None for what is free. spread: of the genotypes over ranks, None for
    one process.

    BenchError: what cannot be, in a sentence; what can be told from the model file alone is told first."""
    journal.say(f"model {path}")
    model = read_model(path)
    try:
        check_solver(model)
    except BenchError as error:
        raise BenchError(f"{path}: {error}") from None
    made = installed("pedigree")
    if made.library is None:
        raise BenchError(f"the pedigree's recursions are compiled: {made.reason}")
    with journal.step("read records and pedigree"):
        pedigree, records, read = load_data(model)
        design, fixed_fit = read.less_fixed()
    values = int(records.observed.sum())
    journal.say(
        f"{len(pedigree)} animals, {len(records)} records with {values} values, {design.others} other effects"
    )
    if pedigree.added and model.pedigree:
        journal.say(f"{pedigree.added} parents have no line of their own in {model.pedigree.file}; they are founders")
    for note in design.notes:
        journal.say(note)
    check_variation(read, design)
    if model.pedigree is None:
        journal.say("no pedigree: GBLUP of the genotyped animals")
    if model.genotypes is None:
        journal.say("no genotypes: pedigree BLUP")
        return Inputs(path, model, pedigree, design, fixed_fit, None, threads, made.library)
    with journal.step("read genotypes"):
        genotyped = read_genotyped(model, pedigree, threads=threads, say=journal.say, memory=memory, spread=spread)
    journal.say(f"{len(genotyped.rows)} genotyped animals × {genotyped.matrix.shape[1]} SNPs")
    return Inputs(path, model, pedigree, design, fixed_fit, genotyped, threads, made.library)


def check_solver(model: Model) -> None:
    """BenchError: what the model's `single_step` and `output` cannot have."""
    wanted = model.single_step
    if wanted.variant not in variants.names():
        raise BenchError(
            f"single_step.variant: there is no {wanted.variant!r}; there are {', '.join(variants.names())}"
            f"{meant(wanted.variant, variants.names())}"
        )
    variant, chosen = variants.load(wanted.variant), wanted.preconditioner
    if chosen is not None and chosen not in variant.preconditioners:
        raise BenchError(
            f"single_step.preconditioner: {variant.name} has no {chosen!r}; it has "
            f"{', '.join(variant.preconditioners)}{meant(chosen, variant.preconditioners)}"
        )
    if model.genotypes is None:
        if model.output.reliability != "none":
            raise BenchError(
                f"output.reliability is {model.output.reliability!r}, and the model has no genotypes: reliabilities "
                "are those of single-step models; take it off"
            )
        return
    if model.polygenic == 0 and not variant.singular:
        able = [name for name in variants.names() if variants.load(name).singular]
        why = "single_step.polygenic is 0" if model.pedigree else "without a pedigree there is no polygenic share"
        raise BenchError(
            f"{why}, and {variant.name} needs a share above 0, which makes the genomic "
            f"relationships invertible; {', '.join(able)} take 0"
        )
    if model.pedigree and wanted.polygenic == 0 and model.output.reliability == "exact":
        raise BenchError("output.reliability: exact ones need a single_step.polygenic above 0; sampled ones take 0")


def read_problem(inputs: Inputs, genotyped: Genotyped, journal: Journal) -> Problem:
    """The single-step problem at the variances of the model file; without a pedigree that of GBLUP."""
    model = inputs.model
    if model.pedigree is None:
        with journal.step("equations"):
            problem = genotyped.problem(inputs.design, model.covariances, inputs.library)
        if genotyped.width is None:
            journal.say(f"G = {problem.genomic.marker_variance:.6g} MM' ({model.relationship.kind})")
        else:
            journal.say(f"K = exp(−D²/{genotyped.width:.6g}), of rank {genotyped.markers.shape[1]}")
        return problem

    def step(what: str, call: Callable[[], Any]) -> Any:
        with journal.step(what):
            return call()

    problem = build_problem(
        inputs.design,
        inputs.pedigree,
        model.covariances,
        genotyped.matrix.packed,
        genotyped.coding,
        genotyped.markers,
        genotyped.rows,
        library=inputs.library,
        gram_library=installed("gram").library,
        inverse=inputs.inverse(journal),
        gamma=gamma(model),
        polygenic=model.single_step.polygenic,
        tuning=model.single_step.tuning,
        threads=inputs.threads,
        step=step,
    )
    genotyped.matrix.packed.forget()
    prior = problem.genomic
    journal.say(
        f"Gw = {prior.marker_variance:.6g} MM' {prior.constant:+.6g} 11' + {prior.polygenic:.6g} A_gg "
        f"(w = {model.single_step.polygenic:g}, tuning {model.single_step.tuning})"
    )
    return problem
