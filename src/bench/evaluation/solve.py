"""`bench solve`: an evaluation from its model file to its solutions."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench.errors import BenchError
from bench.evaluation import over_ranks, results
from bench.evaluation.checkpoint import Checkpoint
from bench.evaluation.genotyped import Genotyped
from bench.evaluation.inputs import Inputs, chosen_threads, read_inputs, read_problem
from bench.evaluation.journal import Iterations, Journal, Silent
from bench.evaluation.kept import CALLS, Kept, problem_of
from bench.evaluation.state import FILE as STATE
from bench.evaluation.state import State
from bench.machine import memory_available
from bench.measure import CLOCK, Clock
from bench.ranks.genotypes import Spread
from bench.single_step.genomic_reliability import check_gblup, exact_gblup
from bench.single_step.model_data import DesignData
from bench.single_step.pedigree_blup import solve_pedigree
from bench.single_step.problem import Problem
from bench.single_step.reliability import Reliabilities, check_exact, check_sampled, exact, sampled
from bench.single_step.samples import GeneticSampler
from bench.single_step.solve import PUBLISHED_RULES, Estimates, Prepared, prepare, solve
from bench.single_step.warm import resume_from
from bench.solvers import pcg
from bench.solvers.pcg import Solution, state_bytes

CHECKPOINT = "checkpoint.npz"
AGAIN = "solve without --resume, or start from a finished evaluation with --start"


@dataclass(frozen=True)
class Settings:
    """threads: None for all cores. start: folder of an earlier evaluation. resume: go on from the checkpoint of an
    interrupted one. max_steps: of PCG. memory: bytes, None for what is free;
    genotypes that it does not hold are read anew at each product. blupf90: write its `solutions` too. spread: over
    the ranks of MPI, None for one process."""

    threads: int | None = None
    start: Path | None = None
    resume: bool = False
    max_steps: int = 10_000
    memory: int | None = None
    blupf90: bool = False
    spread: Spread | None = field(default=None, repr=False)

    @property
    def writes(self) -> bool:
        """Whether this process writes the files: of several ranks the first."""
        return self.spread is None or self.spread.ranks.first


def evaluate(path: Path, out: Path, settings: Settings, *, clock: Clock = CLOCK) -> bool:
    """Write solutions, effects, SNP effects, convergence and a log of model file `path` to folder `out`.

    True if the solver reached the tolerance; where it did not, the solutions are those of its last step, their
    summary says so, and the checkpoint is kept. BenchError: what cannot be, in a sentence.
    """
    threads = chosen_threads(settings.threads)
    if settings.max_steps < 1:
        raise BenchError(f"--max-steps: {settings.max_steps} was given; at least 1 was needed")
    if settings.resume and settings.start is not None:
        raise BenchError("--resume goes on from the checkpoint in --out, --start from another evaluation: give one")
    with _journal(out, settings, clock) as journal:
        if settings.spread is not None:
            over_ranks.check(path, settings.spread, settings, earlier=_earlier(out, settings))
            journal.say(f"{settings.spread.ranks.size} ranks, {threads} threads each, share the {settings.spread.by}")
        if settings.resume and not (out / CHECKPOINT).exists():  # before everything is read
            raise BenchError(f"{out / CHECKPOINT}: there is no such checkpoint; {AGAIN}")
        inputs = read_inputs(path, threads, journal, memory=settings.memory, spread=settings.spread)
        if inputs.genotyped is None:
            return _pedigree_blup(inputs, out, settings, journal)
        return _single_step(inputs, inputs.genotyped, out, settings, journal)


def _earlier(out: Path, settings: Settings) -> list[Path]:
    """The files that this run goes on from."""
    if settings.resume:
        return [out / CHECKPOINT]
    return [] if settings.start is None else [settings.start / STATE]


def _journal(out: Path, settings: Settings, clock: Clock) -> Journal:
    if not settings.writes:
        return Silent(clock)
    return Journal(out / "log.txt", append=settings.resume or (out / results.EVALUATION).exists(), clock=clock)


def _single_step(inputs: Inputs, genotyped: Genotyped, out: Path, settings: Settings, journal: Journal) -> bool:
    model = inputs.model
    problem = read_problem(inputs, genotyped, journal)
    spread = settings.spread
    memory = settings.memory or (over_ranks.memory_of_rank(spread.ranks) if spread else memory_available())
    wanted = model.single_step
    checkpoint = _checkpoint(inputs, out, settings, journal)
    begin = _begin(checkpoint, settings, journal, wanted.tolerance)
    _check_reliabilities(inputs, problem, memory)  # before the solver's work, not after it
    with journal.step("set-up of the solver"):
        prepared = prepare(wanted.variant, problem, memory=memory, preconditioner=wanted.preconditioner)
    names = f"{prepared.variant.title}, preconditioner {prepared.preconditioner_name}"
    journal.say(f"{names}: {prepared.system.shape[0]} equations, to ‖r‖/‖b‖ = {wanted.tolerance:g}")
    start, resume = _start(inputs, genotyped, prepared, begin, settings, journal)
    checkpoint.start(begin.iterations, state_bytes(prepared.system.shape[0], 1, carried=_carried(prepared)))
    with journal.step("iterations"), checkpoint.kept_on_interrupt():
        estimates = solve(
            prepared,
            rtol=wanted.tolerance,
            max_steps=settings.max_steps,
            start=start,
            progress=begin.iterations,
            keep=checkpoint.keep,
            resume=resume,
        )
    checkpoint.write()  # what follows may fail, or be interrupted
    reliabilities = _reliabilities(inputs, genotyped, problem, journal, memory)
    _ = estimates.marker_effects, estimates.weights  # products, for which all ranks are needed
    if settings.writes:
        _write(inputs, genotyped, prepared, estimates, reliabilities, begin.iterations, out, settings, journal)
    return _conclude(estimates.solution, settings.max_steps, checkpoint, out, journal)


@dataclass(frozen=True)
class _Begin:
    """iterations: with the history of an interrupted run. state: where that stood. mended: whether the genotypes are
    others by now, so that only its solution can be gone on from."""

    iterations: Iterations
    state: pcg.State | None = None
    mended: bool = False


def _begin(checkpoint: Checkpoint, settings: Settings, journal: Journal, target: float) -> _Begin:
    if not settings.resume:
        return _Begin(Iterations(journal, target))
    state, history, mended = checkpoint.read(may_differ=CALLS)
    return _Begin(Iterations(journal, target, () if mended else history), state, mended)


def _start(
    inputs: Inputs, genotyped: Genotyped, prepared: Prepared, begin: _Begin, settings: Settings, journal: Journal
) -> tuple[np.ndarray | None, pcg.State | None]:
    """What the solve starts from, or the state that it goes on from."""
    if begin.state is not None:
        if begin.state.value.shape != (prepared.system.shape[1], 1):
            raise BenchError(
                f"the checkpoint has {begin.state.value.shape[0]} unknowns, and this solver has "
                f"{prepared.system.shape[1]}; {AGAIN}"
            )
        if not begin.mended:
            return None, begin.state
        journal.say("the genotypes were changed since: from the checkpoint's solution, the iteration begins anew")
        return resume_from(prepared.system, begin.state.value[:, 0]), None
    if settings.start is None:
        return None, None
    state = State.read(settings.start)
    start, known = state.start(prepared.system, inputs, genotyped)
    journal.say(f"starting from {settings.start}, which knows {known} of {len(inputs.pedigree)} animals")
    return start, None


def _carried(prepared: Prepared) -> int:
    return prepared.system.shape[1] - prepared.system.shape[0]


def _check_reliabilities(inputs: Inputs, problem: Problem, memory: int) -> None:
    if inputs.model.output.reliability == "exact" and inputs.model.pedigree is None:
        check_gblup(problem, memory)
    elif inputs.model.output.reliability == "exact":
        check_exact(problem, len(inputs.pedigree), memory)
    if inputs.model.output.reliability == "sampled":
        check_sampled(problem, inputs.design.records.y.size, memory)


def _reliabilities(
    inputs: Inputs, genotyped: Genotyped, problem: Problem, journal: Journal, memory: int
) -> Reliabilities | None:
    kind = inputs.model.output.reliability
    if kind == "none":
        return None
    with journal.step(f"{kind} reliabilities"):
        if kind == "exact":
            found = exact_gblup if inputs.model.pedigree is None else exact
            return found(problem, memory=memory)
        numerator = inputs.numerator()
        data = DesignData(inputs.design, inputs.model.covariances, problem.equations.groups)
        return sampled(
            problem,
            GeneticSampler(problem, numerator),
            data,
            memory=memory,
            batch=check_sampled(problem, data.y.size, memory),
            gram_diagonal=genotyped.gram_diagonal(),
            progress=lambda done, samples: journal.say(f"reliabilities: {done} of {samples} samples"),
        )


def _write(
    inputs: Inputs,
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
    how = {
        "variant": prepared.variant.name,
        "preconditioner": prepared.preconditioner_name,
        "steps_to_published_rules": {name: estimates.steps_to(rule) for name, rule in PUBLISHED_RULES.items()},
    }
    effects = inputs.whole(estimates.effects)
    if genotyped.width is not None:
        journal.say("no snp_effects.parquet: with the Gaussian kernel breeding values are not sums of SNP effects")
    if problem.shares is not None:
        journal.say("snp_effects.parquet predicts deviations from the groups of unknown parents, not their effects")
    with journal.step("write"), results.whole(out) as summary:
        ebv = equations.genetic(effects)
        results.write_solutions(out, inputs.pedigree, equations.components, ebv, reliabilities)
        results.write_effects(out, inputs.design, effects)
        if genotyped.width is None:
            results.write_snp_effects(out, genotyped, problem, estimates)
        results.write_convergence(out, iterations.history, estimates.solution.preconditioned_norms[:, 0])
        State.of(inputs, genotyped, problem, estimates).write(out)
        if settings.blupf90:
            results.write_blupf90(out, inputs.design, inputs.pedigree, equations.components, effects, ebv)
        summary |= results.summary(inputs.model, estimates.solution, journal) | how


def _pedigree_blup(inputs: Inputs, out: Path, settings: Settings, journal: Journal) -> bool:
    model = inputs.model
    if settings.start is not None:
        raise BenchError("--start: pedigree BLUP starts from 0; leave it out")
    related = inputs.inverse(journal)
    with journal.step("equations"):
        equations = inputs.design.assemble(related, model.covariances)
    journal.say(f"pedigree BLUP: {equations.size} equations, to ‖r‖/‖b‖ = {model.single_step.tolerance:g}")
    checkpoint = _checkpoint(inputs, out, settings, journal)
    begin = _begin(checkpoint, settings, journal, model.single_step.tolerance)
    checkpoint.start(begin.iterations, state_bytes(equations.size, 1))
    with journal.step("iterations"), checkpoint.kept_on_interrupt():
        solution = solve_pedigree(
            equations,
            library=inputs.library,
            rtol=model.single_step.tolerance,
            max_steps=settings.max_steps,
            progress=begin.iterations,
            keep=checkpoint.keep,
            resume=begin.state,
        )
    checkpoint.write()
    effects = inputs.whole(solution.value[:, 0])
    with journal.step("write"), results.whole(out) as summary:
        ebv = equations.genetic(effects)
        results.write_solutions(out, inputs.pedigree, equations.components, ebv, None)
        results.write_effects(out, inputs.design, effects)
        results.write_convergence(out, begin.iterations.history, solution.preconditioned_norms[:, 0])
        if settings.blupf90:
            results.write_blupf90(out, inputs.design, inputs.pedigree, equations.components, effects, ebv)
        summary |= results.summary(model, solution, journal) | {"variant": "pedigree", "preconditioner": "ic0"}
    return _conclude(solution, settings.max_steps, checkpoint, out, journal)


def _conclude(solution: Solution, max_steps: int, checkpoint: Checkpoint, out: Path, journal: Journal) -> bool:
    """Whether the solver converged; the checkpoint goes if it did."""
    residual, converged = float(solution.true_residual_norms[0]), bool(solution.converged.all())
    if converged:
        checkpoint.remove()
        journal.say(f"solved in {solution.steps} steps, ‖r‖/‖b‖ = {residual:.1e}; {out}/solutions.parquet")
    elif solution.steps < max_steps:
        journal.say(
            f"NOT CONVERGED: after {solution.steps} steps ‖r‖/‖b‖ is {residual:.1e} and falls no further, which is "
            "as far as float64 goes for this variant; raise single_step.tolerance, or take prior_pcg"
        )
    else:
        journal.say(
            f"NOT CONVERGED: after {solution.steps} steps ‖r‖/‖b‖ is {residual:.1e}; the solutions are those of the "
            "last step. Go on with --resume and more --max-steps, and look at the variances and the genotypes' checks"
        )
    return converged


def _checkpoint(inputs: Inputs, out: Path, settings: Settings, journal: Journal) -> Checkpoint:
    def problem() -> dict[str, str]:
        return problem_of(inputs.path, inputs.model, threads=inputs.threads, task="solve")

    with journal.step("hashes of all files, for the checkpoint"):
        found = problem() if settings.spread is None else settings.spread.ranks.once(problem)
    kept = Kept(out / CHECKPOINT, found, AGAIN)
    if settings.spread is None:
        return Checkpoint(kept, journal)
    return over_ranks.SharedCheckpoint(kept, journal, settings.spread.ranks)
