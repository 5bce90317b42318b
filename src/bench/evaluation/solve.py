"""`bench solve`: an evaluation from its model file to its solutions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.build import installed
from bench.errors import BenchError
from bench.evaluation import results
from bench.evaluation.genotyped import Genotyped, read_genotyped
from bench.evaluation.journal import Iterations, Journal
from bench.evaluation.state import Checkpoint, State
from bench.machine import memory_available, this_machine
from bench.measure import CLOCK, Clock
from bench.models.design import Design
from bench.models.load import gamma, inverse, load
from bench.models.model_file import Model
from bench.provenance import set_threads
from bench.relationships.genomic import grm_diagonal
from bench.relationships.numerator import Numerator
from bench.relationships.pedigree import Pedigree
from bench.single_step.build import build_problem
from bench.single_step.model_data import DesignData
from bench.single_step.pedigree_blup import solve_pedigree
from bench.single_step.problem import Problem
from bench.single_step.reliability import Reliabilities, exact, sampled
from bench.single_step.samples import GeneticSampler
from bench.single_step.solve import Estimates, Prepared, prepare, solve


@dataclass(frozen=True)
class Settings:
    """threads: None for all cores. start: folder of an earlier evaluation. resume: go on from the checkpoint of an
    interrupted one. max_steps: of PCG. memory: bytes, None for what is free. blupf90: write its `solutions` too."""

    threads: int | None = None
    start: Path | None = None
    resume: bool = False
    max_steps: int = 10_000
    memory: int | None = None
    blupf90: bool = False


@dataclass(frozen=True)
class _Inputs:
    model: Model
    pedigree: Pedigree
    design: Design
    genotyped: Genotyped | None
    threads: int
    library: Path


def evaluate(path: Path, out: Path, settings: Settings, *, clock: Clock = CLOCK) -> bool:
    """Write solutions, effects, SNP effects, convergence and a log of model file `path` to folder `out`.

    True if the solver reached the tolerance; where it did not, the solutions are those of its last step, their
    summary says so, and the checkpoint is kept. BenchError: what cannot be, in a sentence.
    """
    threads = this_machine().cores if settings.threads is None else settings.threads
    set_threads(threads)
    made = installed("pedigree")
    if made.library is None:
        raise BenchError(f"the pedigree's recursions are compiled: {made.reason}")
    with Journal(out / "log.txt", clock=clock) as journal:
        journal.say(f"model {path}")
        inputs = _read(path, threads, made.library, journal)
        if inputs.genotyped is None:
            return _pedigree_blup(inputs, out, settings, journal)
        return _single_step(inputs, inputs.genotyped, path, out, settings, journal)


def _read(path: Path, threads: int, library: Path, journal: Journal) -> _Inputs:
    with journal.step("read records and pedigree"):
        model, pedigree, records, design = load(path)
    values = int(records.observed.sum())
    journal.say(
        f"{len(pedigree)} animals, {len(records)} records with {values} values, {design.others} other effects"
    )
    for note in design.notes:
        journal.say(note)
    if model.genotypes is None:
        journal.say("no genotypes: pedigree BLUP")
        return _Inputs(model, pedigree, design, None, threads, library)
    with journal.step("read genotypes"):
        genotyped = read_genotyped(model, pedigree, threads=threads, say=journal.say)
    journal.say(f"{len(genotyped.rows)} genotyped animals × {genotyped.matrix.shape[1]} SNPs")
    return _Inputs(model, pedigree, design, genotyped, threads, library)


def _single_step(
    inputs: _Inputs, genotyped: Genotyped, path: Path, out: Path, settings: Settings, journal: Journal
) -> bool:
    model = inputs.model
    problem = _problem(inputs, genotyped, journal)
    memory = settings.memory or memory_available()
    wanted = model.single_step
    with journal.step("set-up of the solver"):
        prepared = prepare(wanted.variant, problem, memory=memory, preconditioner=wanted.preconditioner)
    names = f"{prepared.variant.title}, preconditioner {prepared.preconditioner_name}"
    journal.say(f"{names}: {prepared.system.shape[0]} equations, to ‖r‖/‖b‖ = {wanted.tolerance:g}")
    checkpoint = Checkpoint(out / "checkpoint.npz", _fingerprint(path, prepared), journal)
    start = _start(inputs, genotyped, prepared, settings, checkpoint, journal)
    iterations = Iterations(journal, wanted.tolerance)
    with journal.step("iterations"):
        estimates = solve(
            prepared,
            rtol=wanted.tolerance,
            max_steps=settings.max_steps,
            start=start,
            progress=iterations,
            checkpoint=checkpoint.offer,
        )
    reliabilities = _reliabilities(inputs, genotyped, problem, journal, memory)
    _write(inputs, genotyped, prepared, estimates, reliabilities, iterations, out, settings, journal)
    converged = bool(estimates.solution.converged.all())
    if converged:
        checkpoint.remove()
    else:
        checkpoint.write(estimates.state)
    return _conclude(converged, estimates.solution.true_residual_norms[0], estimates.solution.steps, out, journal)


def _problem(inputs: _Inputs, genotyped: Genotyped, journal: Journal) -> Problem:
    model = inputs.model

    def step(what: str, call: Callable[[], Any]) -> Any:
        with journal.step(what):
            return call()

    with journal.step("inverse of A"):
        related = inverse(model, inputs.pedigree, library=inputs.library, threads=inputs.threads)
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
        inverse=related,
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


def _start(
    inputs: _Inputs,
    genotyped: Genotyped,
    prepared: Prepared,
    settings: Settings,
    checkpoint: Checkpoint,
    journal: Journal,
) -> np.ndarray | None:
    if settings.resume:
        state = checkpoint.read()
        journal.say(f"going on from {checkpoint.path}")
        return state
    if settings.start is None:
        return None
    state = State.read(settings.start)
    start, known = state.start(prepared.system, inputs.design, inputs.pedigree, genotyped)
    journal.say(f"starting from {settings.start}, which knows {known} of {len(inputs.pedigree)} animals")
    return start


def _reliabilities(
    inputs: _Inputs, genotyped: Genotyped, problem: Problem, journal: Journal, memory: int
) -> Reliabilities | None:
    kind = inputs.model.output.reliability
    if kind == "none":
        return None
    with journal.step(f"{kind} reliabilities"):
        if kind == "exact":
            return exact(problem, memory=memory)
        numerator = Numerator(
            inputs.pedigree, library=inputs.library, gamma=gamma(inputs.model), threads=inputs.threads
        )
        data = DesignData(inputs.design, inputs.model.covariances, problem.equations.groups)
        diagonal = grm_diagonal(genotyped.matrix.packed, genotyped.coding) * genotyped.coding.divisor
        return sampled(
            problem,
            GeneticSampler(problem, numerator),
            data,
            memory=memory,
            gram_diagonal=diagonal,
            progress=lambda done, samples: journal.say(f"reliabilities: {done} of {samples} samples"),
        )


def _write(
    inputs: _Inputs,
    genotyped: Genotyped,
    prepared: Prepared,
    estimates: Estimates,
    reliabilities: Reliabilities | None,
    iterations: Iterations,
    out: Path,
    settings: Settings,
    journal: Journal,
) -> None:
    equations, problem = prepared.system.problem.equations, prepared.system.problem
    with journal.step("write"):
        ebv = equations.genetic(estimates.effects)
        results.write_solutions(out, inputs.pedigree, equations.components, ebv, reliabilities)
        results.write_effects(out, inputs.design, estimates.effects)
        results.write_snp_effects(out, genotyped, problem, estimates)
        results.write_convergence(out, iterations.history, estimates.solution.preconditioned_norms[:, 0])
        State.of(inputs.design, inputs.pedigree, genotyped, problem, estimates).write(out)
        results.write_summary(out, inputs.model, prepared, estimates, journal)
        if settings.blupf90:
            results.write_blupf90(out, inputs.design, inputs.pedigree, equations.components, estimates.effects, ebv)


def _pedigree_blup(inputs: _Inputs, out: Path, settings: Settings, journal: Journal) -> bool:
    model = inputs.model
    if model.output.reliability != "none":
        raise BenchError("output: reliabilities are computed with genotypes; this model has none")
    with journal.step("inverse of A"):
        related = inverse(model, inputs.pedigree, library=inputs.library, threads=inputs.threads)
    with journal.step("equations"):
        equations = inputs.design.assemble(related, model.covariances)
    iterations = Iterations(journal, model.single_step.tolerance)
    with journal.step("iterations"):
        solution = solve_pedigree(
            equations,
            library=inputs.library,
            rtol=model.single_step.tolerance,
            max_steps=settings.max_steps,
            observe=iterations,
        )
    effects = solution.value[:, 0]
    with journal.step("write"):
        ebv = equations.genetic(effects)
        results.write_solutions(out, inputs.pedigree, equations.components, ebv, None)
        results.write_effects(out, inputs.design, effects)
        results.write_convergence(out, iterations.history, solution.preconditioned_norms[:, 0])
        if settings.blupf90:
            results.write_blupf90(out, inputs.design, inputs.pedigree, equations.components, effects, ebv)
    return _conclude(bool(solution.converged.all()), solution.true_residual_norms[0], solution.steps, out, journal)


def _conclude(converged: bool, residual: float, steps: int, out: Path, journal: Journal) -> bool:
    if converged:
        journal.say(f"solved in {steps} steps, ‖r‖/‖b‖ = {residual:.1e}; {out}/solutions.parquet")
    else:
        journal.say(
            f"NOT CONVERGED: after {steps} steps ‖r‖/‖b‖ is {residual:.1e}; the solutions are those of the last "
            "step. Go on with --resume and more --max-steps, and look at the variances and the genotypes' checks"
        )
    return converged


def _fingerprint(path: Path, prepared: Prepared) -> str:
    """What a checkpoint belongs to: the model's text, the variant, and the right-hand side."""
    digest = hashlib.sha256(path.read_bytes())
    digest.update(prepared.variant.name.encode())
    digest.update(np.ascontiguousarray(prepared.system.rhs).tobytes())
    return digest.hexdigest()
