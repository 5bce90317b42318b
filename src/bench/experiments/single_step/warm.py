"""A solve that starts from the last evaluation's solution, beside one that starts from nothing."""

from __future__ import annotations

import numpy as np

from bench import kernels, surroundings
from bench.build import Build
from bench.errors import BenchError
from bench.experiments.single_step.evaluation import Evaluation
from bench.experiments.single_step.instruments import Instruments
from bench.experiments.single_step.problems import centred_problem
from bench.experiments.single_step.solves import History, Refused, Session, set_up, solved, verdict
from bench.single_step.problem import Problem
from bench.single_step.solve import Estimates, prepare, solve
from bench.single_step.system import System
from bench.single_step.warm import start_from
from bench.solvers.operator import Operator

NEW_RECORDS, NEW_GENOTYPED = 0.05, 0.02  # shares that came since the last evaluation: of the youngest animals


def last_evaluation(now: Evaluation) -> Evaluation:
    """Before the youngest animals' records, and the youngest genotyped animals' genotypes, came in."""
    records = np.argsort(now.records.animal, kind="stable")[: round((1 - NEW_RECORDS) * len(now.records))]
    genotyped = np.argsort(now.genotyped, kind="stable")[: round((1 - NEW_GENOTYPED) * len(now.genotyped))]
    return now.keep_records(np.sort(records)).keep_genotyped(np.sort(genotyped))


def carried_effects(last: Evaluation, now: Evaluation, effects: np.ndarray) -> np.ndarray:
    """(size,) effects of the last evaluation at their places in this one.

    A level that is new takes the mean of its effect's and trait's levels; animals are the same in both.
    """
    keys = ["effect", "level", "trait"]
    found = last.design.labels().assign(value=effects[: last.design.others])
    wanted = now.design.labels().merge(found[[*keys, "value"]], on=keys, how="left")
    means = wanted.groupby(["effect", "trait"])["value"].transform("mean")
    others = wanted["value"].fillna(means).fillna(0.0).to_numpy()
    return np.concatenate([others, effects[last.design.others :]])


def solve_twice(s: Session, operator: Operator, build: Build | None) -> str | None:
    """Rows of a cold and of a warm start of the same equations, phases `cold` and `warm`."""
    last = last_evaluation(s.evaluation)
    before, of = _last_solution(s, last, build)
    instruments = Instruments()
    problem = instruments.fitted(centred_problem(s.case, s.evaluation, operator, s.timed))
    s.doc.add("n_records", len(s.evaluation.records), "1", phase="data")
    s.doc.add("n_records", len(last.records), "1", phase="last")
    s.doc.add("n_genotyped", len(last.genotyped), "1", phase="last")
    wrong = None
    with surroundings.watched(s.doc, s.case["threads"]):
        prepared = set_up(s, problem, instruments)
        start = _start(s, prepared.system, last, before, of)
        for phase, begin in (("cold", None), ("warm", start)):
            history = History(s, problem, instruments)
            found = solved(s, prepared, instruments, history, begin)
            history.write(found, phase)
            wrong = wrong or verdict(s, prepared, found, history.errors[-1])
    return wrong


def _last_solution(s: Session, last: Evaluation, build: Build | None) -> tuple[Estimates, Problem]:
    """What the last evaluation found, by the same variant."""
    case, kernel = s.case, kernels.load(s.case["kernel"])
    operator = kernel.prepare(
        last.packed,
        target=case["target"],
        dtype=case["dtype"],
        library=build.library if build else None,
        threads=case["threads"],
    )
    try:
        problem = centred_problem(case, last, operator)
        made = prepare(case["variant"], problem, memory=s.memory, preconditioner=case["preconditioner"])
        found = solve(made, **s.control)
        _ = found.marker_effects, found.weights  # computed while there are genotypes to multiply
    finally:
        operator.close()
    if not found.solution.converged.all():
        raise BenchError(f"the last evaluation stopped after {found.solution.steps} rounds without having converged")
    return found, problem


def _start(s: Session, system: System, last: Evaluation, before: Estimates, of: Problem) -> np.ndarray:
    now = s.evaluation
    carried = np.zeros((len(now.genotyped), of.components))
    if before.weights is not None:
        at = np.searchsorted(now.genotyped, last.genotyped, sorter=np.argsort(now.genotyped))
        rows = np.argsort(now.genotyped)[at]
        carried[rows] = of.scaled(before.weights, of.precision)
    effects = carried_effects(last, now, before.effects)
    try:
        return start_from(system, effects, before.marker_effects, carried)
    except BenchError as error:
        raise Refused(str(error)) from None
