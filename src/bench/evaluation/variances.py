"""`bench variances`: variance components of a model file, by AI-REML where it fits, elsewhere by simulated scores;
where there is but one ratio to find, as `variance_ratio` does.

AI-REML takes the dense inverse of A or H: for u with unknown-parent groups γ it is A*⁻¹ + B'(Gw⁻¹ − A_gg⁻¹)B, where
Bu = u_g − Q_g γ (Quaas & Pollak 1981; Misztal et al. 2013).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.errors import BenchError
from bench.evaluation import results, variance_ratio
from bench.evaluation.components import Components
from bench.evaluation.inputs import Inputs, chosen_threads, read_inputs, read_problem
from bench.evaluation.journal import Journal
from bench.evaluation.kept import Kept, problem_of
from bench.evaluation.rounds import Rounds
from bench.machine import memory_available
from bench.measure import CLOCK, Clock, peak_rss
from bench.models import ai_reml
from bench.models.design import Design
from bench.models.load import gamma
from bench.models.variances import Variances
from bench.single_step.model_data import design_model, trait_variances
from bench.single_step.problem import Problem
from bench.single_step.variance_components import Evaluations, estimate
from bench.single_step.variants.ss_h import difference_of_inverses

SUMMARY = "variances.json"
METHODS = ("auto", "exact", "simulated", *variance_ratio.METHODS)


@dataclass(frozen=True)
class Settings:
    """method: one of METHODS. simulations, seed: of the simulated score. max_steps: None for the method's own.
    threads: None for all cores. memory: bytes, None for what is free. resume: go on from the rounds of an interrupted
    search."""

    method: str = "auto"
    simulations: int = 15
    seed: int = 1
    max_steps: int | None = None
    threads: int | None = None
    memory: int | None = None
    resume: bool = False


@dataclass
class _Found:
    """trace: a row per step. facts: of variances.json."""

    components: Components | None = None
    trace: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


def estimate_variances(path: Path, out: Path, settings: Settings, *, clock: Clock = CLOCK) -> bool:
    """Write variances.yaml, variances, shares, trace (parquet and text), variances.json and log.txt to `out`.

    The search starts at the model file's variances. True if it converged, at a boundary or not. BenchError: what
    cannot be estimated, in a sentence; the trace is written nevertheless.
    """
    if settings.method not in METHODS:
        raise BenchError(f"there is no method {settings.method!r}; there are {', '.join(METHODS)}")
    for name, value, least in (("seed", settings.seed, 0), ("max-steps", settings.max_steps, 1)):
        if value is not None and value < least:
            raise BenchError(f"--{name}: {value} was given; {least} or more was needed")
    threads = chosen_threads(settings.threads)
    memory = settings.memory or memory_available()
    append = settings.resume or (out / SUMMARY).exists()
    with Journal(out / "log.txt", append=append, clock=clock) as journal:
        inputs = read_inputs(path, threads, journal, memory=settings.memory)
        problem = read_problem(inputs, inputs.genotyped, journal) if inputs.genotyped else None
        method = _chosen(inputs, problem, settings, memory, journal)
        rounds = _rounds(out, inputs, settings, method, journal)
        with _written(out, inputs, journal) as found, rounds.kept_unless_found():
            _find(inputs, problem, settings, found, journal, memory, method, rounds)
        if found.facts["status"] == "not converged":
            rounds.write()
        else:
            rounds.remove()
    return found.facts["status"] != "not converged"


def _rounds(out: Path, inputs: Inputs, settings: Settings, method: str, journal: Journal) -> Rounds:
    options = {"method": method, "seed": settings.seed, "simulations": settings.simulations}
    problem = problem_of(inputs.path, inputs.model, threads=inputs.threads, task="variances", **options)
    again = "estimate without --resume"
    return Rounds(Kept(out / "checkpoint.npz", problem, again), journal, resume=settings.resume)


def estimated(inputs: Inputs, problem: Problem, settings: Settings, journal: Journal) -> tuple[Variances, str]:
    """The estimates alone, and their status, of inputs that a caller has made."""
    memory = settings.memory or memory_available()
    found = _Found()
    method = _chosen(inputs, problem, settings, memory, journal)
    _find(inputs, problem, settings, found, journal, memory, method, Rounds(None, journal))
    assert found.components is not None
    return found.components.variances, found.facts["status"]


def _chosen(inputs: Inputs, problem: Problem | None, settings: Settings, memory: int, journal: Journal) -> str:
    """The method. BenchError: none, or not the one that is asked for, can take this model."""
    method, several = settings.method, variance_ratio.refusal(inputs)
    if method in variance_ratio.METHODS:
        if several:
            raise BenchError(f"{inputs.path}: {several}")
        return method
    if method == "auto" and several is None:
        return variance_ratio.fitting(inputs, memory)
    reason = _not_exact(inputs, problem, memory)
    exact = method == "exact" or (method == "auto" and reason is None)
    if exact and reason:
        raise BenchError(f"{inputs.path}: {reason}")
    if not exact and (other := _not_simulated(inputs)):
        also = f"{reason}; " if method == "auto" else ""
        raise BenchError(f"{inputs.path}: {also}{other}")
    if not exact and method == "auto":
        journal.say(f"by simulated scores: {reason}")
    return "exact" if exact else "simulated"


def _find(
    inputs: Inputs,
    problem: Problem | None,
    settings: Settings,
    found: _Found,
    journal: Journal,
    memory: int,
    method: str,
    rounds: Rounds,
) -> None:
    if method == "exact":
        _exact(inputs, problem, settings, found, journal, rounds)
        return
    assert problem is not None
    if method == "simulated":
        _simulated(inputs, problem, settings, found, journal, memory, rounds)
    else:
        _one_ratio(method, inputs, problem, settings, found, journal, memory)


def _one_ratio(
    method: str, inputs: Inputs, problem: Problem, settings: Settings, found: _Found, journal: Journal, memory: int
) -> None:
    model, given = inputs.model, {"seed": settings.seed, "max_steps": settings.max_steps, "memory": memory}
    made = variance_ratio.find(method, inputs, problem, journal, **given)
    genetic, residual = made.variances.reshape(2, 1, 1)
    parameters = (("genetic", 0, 0), ("residual", 0, 0))
    found.components = Components(
        Variances(genetic, residual), parameters, made.covariance, model.traits, model.components
    )
    found.trace, found.facts = made.trace, made.facts


def _not_exact(inputs: Inputs, problem: Problem | None, memory: int) -> str | None:
    """Why AI-REML cannot take this model; None if it can."""
    model, design, levels = inputs.model, inputs.design, inputs.levels
    if model.pedigree is None:
        return _no_dense(design, levels, memory)
    size = design.others + levels * len(model.components)
    if max(size, design.records.y.size) > ai_reml.MOST_EQUATIONS:
        return (
            f"AI-REML takes up to {ai_reml.MOST_EQUATIONS} equations and records × traits, these are {size} and "
            f"{design.records.y.size}"
        )
    if (need := ai_reml.bytes_needed(design, levels) + 16 * levels**2) > memory:
        return f"AI-REML needs {need / 1e9:.3g} GB of memory, {memory / 1e9:.3g} GB can be used"
    if inputs.pedigree.groups and gamma(model) is None and model.pedigree.group_effect == "fixed":
        return "AI-REML takes unknown-parent groups as random effects or as metafounders, here they are fixed"
    if problem is not None and model.pedigree and problem.genomic.polygenic <= 0:
        return "AI-REML needs H⁻¹, for which single_step.polygenic must be above 0"
    return None


def _no_dense(design: Design, levels: int, memory: int) -> str | None:
    """The same of GBLUP, whose likelihood is that of the records' covariance matrix."""
    values = int(design.records.observed.sum())
    if values > ai_reml.MOST_EQUATIONS:
        return f"AI-REML takes up to {ai_reml.MOST_EQUATIONS} records × traits, these are {values}"
    if (need := 8 * (6 * values**2 + 2 * levels**2)) > memory:
        return f"AI-REML needs {need / 1e9:.3g} GB of memory, {memory / 1e9:.3g} GB can be used"
    return None


def _not_simulated(inputs: Inputs) -> str | None:
    if inputs.genotyped is None:
        return "simulated scores are of single-step models, and this one has no genotypes"
    if len(inputs.model.components) > 1:
        return (
            "simulated scores estimate the variances of one trait without maternal effects, this model has "
            f"{', '.join(inputs.model.components)}"
        )
    return None


@contextmanager
def _written(out: Path, inputs: Inputs, journal: Journal) -> Iterator[_Found]:
    """What the block finds; the trace also if it is interrupted or fails."""
    found = _Found()
    with results.whole(out, SUMMARY) as summary:
        try:
            yield found
        finally:
            if found.trace:
                results.write_table(out / "trace", pd.DataFrame(found.trace))
        components = found.components
        assert components is not None
        components.write_yaml(out / "variances.yaml")
        results.write_table(out / "variances", components.table())
        shares = components.shares()
        results.write_table(out / "shares", shares)
        summary |= found.facts | {
            "seconds": {what: round(seconds, 3) for what, seconds in journal.seconds.items()},
            "peak_bytes": peak_rss(),
        }
    for trait, share, error in shares.loc[shares["effect"] == "genetic", ["trait", "share", "error"]].to_numpy():
        journal.say(f"h² of {trait}: {share:.4f} ± {error:.4f}")
    journal.say(f"{found.facts['status']}; {out}/variances.yaml has what replaces `variances` in {inputs.path}")


def _exact(
    inputs: Inputs, problem: Problem | None, settings: Settings, found: _Found, journal: Journal, rounds: Rounds
) -> None:
    design, model = inputs.design, inputs.model

    def tell(number: int, step: ai_reml.Step) -> None:
        h2 = _heritabilities(step.variances)
        found.trace.append(
            {"step": number, "kind": step.kind, "log_likelihood": step.log_likelihood}
            | {f"h2_{trait}": value for trait, value in zip(model.traits, h2, strict=True)}
        )
        shown = ", ".join(f"{value:.4f}" for value in h2)
        journal.say(f"step {number}: log-likelihood {step.log_likelihood:.6f}, h² {shown}")

    most = {} if settings.max_steps is None else {"most": settings.max_steps}
    if problem is not None and model.pedigree is None:
        with journal.step("relationships"):
            related, climb = problem.genomic.dense(), ai_reml.ai_reml_of_relationships
    else:
        with journal.step("dense inverse"):
            related = inputs.inverse(journal).toarray() if problem is None else inverse_of_h(problem)
            climb = ai_reml.ai_reml
    with journal.step("AI-REML"):
        earlier = None if rounds.earlier is None else ai_reml.Climb.of(rounds.earlier)

        def keep(state: ai_reml.Climb) -> None:
            rounds.keep(state.arrays())

        made = climb(design, related, model.covariances, progress=tell, keep=keep, resume=earlier, **most)
    found.components = Components(made.variances, made.parameters, made.covariance, model.traits, model.components)
    found.facts |= {
        "method": "exact", "status": made.status, "steps": len(made.steps), "log_likelihood": made.log_likelihood,
    }  # fmt: skip


def inverse_of_h(problem: Problem) -> np.ndarray:
    """H⁻¹, (levels, levels), dense, with groups as the model has them."""
    found = problem.inverse.toarray()
    g, groups = len(problem.genomic.rows), problem.equations.groups
    B = np.zeros((g, problem.levels))
    B[np.arange(g), problem.genomic.rows] = 1
    if problem.shares is not None:
        B[:, problem.levels - groups :] = -problem.shares
    return found + B.T @ difference_of_inverses(problem.genomic) @ B


def _simulated(
    inputs: Inputs, problem: Problem, settings: Settings, found: _Found, journal: Journal, memory: int, rounds: Rounds
) -> None:
    design, model = inputs.design, inputs.model
    names = ["genetic", *(term.name for term in design.random_terms), "residual"]

    def tell(number: int, shares: np.ndarray, scores: np.ndarray) -> None:
        of = {f"share_{name}": share for name, share in zip(names, shares, strict=True)}
        found.trace.append({"step": number} | of | {"score": float(np.abs(scores).max())})
        journal.say(f"evaluation {number}: h² {shares[0]:.4f}, largest score {np.abs(scores).max():.1e}")

    start = model.covariances
    values = [start.genetic, *(start.others[name] for name in names[1:-1]), start.residual]
    more = {} if settings.max_steps is None else {"max_evaluations": settings.max_steps}
    with journal.step("simulated scores"):
        made = estimate(
            design_model(design, problem.genomic, problem.inverse, library=inputs.library, shares=problem.shares),
            inputs.numerator(),
            start=np.array([value[0, 0] for value in values]),
            memory=memory,
            simulations=settings.simulations,
            seed=settings.seed,
            observe=tell,
            keep=lambda state: rounds.keep(vars(state)),
            resume=None if rounds.earlier is None else Evaluations(**rounds.earlier),
            **more,
        )
    covariance = made.covariance * np.outer(made.variances, made.variances)
    parameters = tuple((name, 0, 0) for name in names)
    variances = trait_variances(design, made.variances)
    found.components = Components(variances, parameters, covariance, model.traits, model.components)
    found.facts |= {
        "method": "simulated", "status": "boundary" if made.bound else "converged", "steps": len(made.evaluations),
        "simulations": made.simulations, "simulation_error_of_h2": _number(made.simulation_errors[0]),
    }  # fmt: skip


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _heritabilities(variances: Any) -> np.ndarray:
    """(t,) direct genetic variance over the sum of all variances of a record."""
    traits = len(variances.residual)
    genetic = np.diag(variances.genetic)
    total = np.diag(variances.residual) + genetic[:traits] + sum(np.diag(m) for m in variances.others.values())
    if len(genetic) > traits:
        total = total + genetic[traits:] + np.diag(variances.genetic[traits:, :traits])
    return genetic[:traits] / total
