"""A variant set up and solved once, each round compared with the reference."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from bench import measure, surroundings
from bench.errors import BenchError, DeviceLost
from bench.experiments import Files, products
from bench.experiments.single_step.evaluation import Evaluation, evaluation_of
from bench.experiments.single_step.instruments import OBSERVE, PARTS, Instruments
from bench.experiments.single_step.problems import centred_problem
from bench.experiments.single_step.references import Reference
from bench.genotypes.dataset import Dataset
from bench.machine import memory_available
from bench.measure import CLOCK, Clock
from bench.plan import Case
from bench.record import Document
from bench.single_step import variants
from bench.single_step.problem import Problem
from bench.single_step.solve import PUBLISHED_RULES, Estimates, Prepared, prepare, solve
from bench.single_step.variants import Size
from bench.solvers.operator import Operator

# Largest difference of an exact variant's EBVs from the reference, in genetic standard deviations. At a residual of
# 1e-11, which views ask for, systems in the H-form are off by up to 1e-6 in populations of 30,000.
EBV_TOLERANCE = 1e-5
RULES = {
    "boerner_johnston": PUBLISHED_RULES["Boerner & Johnston 2019"],
    "freudenberg": PUBLISHED_RULES["Freudenberg et al. 2023"],
    "1e9": 1e-9,
}
EBV_RULES = {"ebv_1e2": 1e-2, "ebv_1e4": 1e-4, "ebv_1e6": 1e-6}  # of the largest EBV difference, in genetic sd
EVERY_ROUND = 100  # is kept up to here; later about a hundred of each factor e
T = TypeVar("T")


class Refused(Exception):
    """What cannot be had here, in a sentence."""


@dataclass(frozen=True)
class Session:
    """What the steps of a solve share. memory: bytes that a variant may take."""

    doc: Document
    case: Case
    evaluation: Evaluation
    reference: Reference
    memory: int
    clock: Clock = CLOCK

    def timed(self, what: str, call: Callable[[], T]) -> T:
        """Run a step of the preparation; its wall time is a row."""
        made: list[T] = []
        took = measure.once(lambda: made.append(call()), self.clock)
        self.doc.add(f"{what}_time", took.wall, "s", phase="prepare")
        return made[0]

    @property
    def control(self) -> dict[str, Any]:
        """rtol and max_steps."""
        return dict(self.case["options"])


def run(case: Case, files: Files, path: Path, *, version: int) -> Document:
    """Set up, solve, compare. path: of the reference."""
    from bench.experiments.single_step import warm

    data, build, reference = Dataset.read(files.dataset), products.read_build(files.build), Reference.read(path)
    doc = products.begin(case, files, build, data, version=version)
    if doc.status != "ok":
        return doc
    if reference.reason:
        return doc.refuse(f"there is no reference to compare with: {reference.reason}")
    with measure.exclusive():
        try:
            evaluation = _read(doc, data, case)
            operator = products.prepare(doc, case, evaluation.packed, build)
            memory = min(memory_available(), files.memory or memory_available())
            session = Session(doc, case, evaluation, reference, memory)
            if case["solver"] == "warm":
                wrong = warm.solve_twice(session, operator, build)
            else:
                wrong = solve_once(session, operator)
        except (MemoryError, DeviceLost) as error:
            return doc.broken(error)
        except Refused as error:
            return doc.refuse(str(error))
        except BenchError as error:  # PCG broke down
            return doc.wrong(str(error))
    operator.close()
    return doc.wrong(wrong) if wrong else doc


def _read(doc: Document, data: Dataset, case: Case) -> Evaluation:
    """The evaluation with its incidence; the time is a row."""
    made: list[Evaluation] = []

    def work() -> None:
        made.append(evaluation_of(data, case["trait"].split("+"), genotyped=case.get("samples")))
        assert made[0].design

    doc.add("read_time", measure.once(work).wall, "s", phase="prepare")
    doc.identity["animals"] = len(made[0].pedigree)
    return made[0]


def solve_once(s: Session, operator: Operator) -> str | None:
    """Rows of set-up and solve; the sentence that says what is wrong, or None."""
    instruments = Instruments()
    problem = instruments.fitted(centred_problem(s.case, s.evaluation, operator, s.timed))
    s.doc.add("n_records", len(s.evaluation.records), "1", phase="data")
    with surroundings.watched(s.doc, s.case["threads"]):
        prepared = set_up(s, problem, instruments)
        history = History(s, problem, instruments)
        found = solved(s, prepared, instruments, history)
    s.doc.add("unknowns", prepared.system.shape[0], "1", phase="data")
    history.write(found)
    return verdict(s, prepared, found, history.errors[-1])


def set_up(s: Session, problem: Problem, instruments: Instruments) -> Prepared:
    """Rows of what setting up took, and of what the variant had declared."""
    variant = variants.load(s.case["variant"])
    if reason := variant.refuses(problem, s.memory):
        raise Refused(reason)
    declared = variant.cost(Size.of(problem))
    s.doc.add("bytes_declared", declared.peak, "B", phase="setup")
    s.doc.add("flops_declared", declared.flops, "1", phase="setup")
    gc.collect()
    earlier, before = measure.forget_peak_rss(), measure.current_rss()
    made: list[Prepared] = []

    def work() -> None:
        chosen = s.case["preconditioner"]
        made.append(prepare(variant.name, problem, memory=s.memory, preconditioner=chosen))

    try:
        took = measure.once(work, s.clock)
    except BenchError as error:
        raise Refused(str(error)) from None
    peak = measure.peak_rss()
    gc.collect()
    s.doc.add("setup_time", took.wall, "s", phase="setup")
    s.doc.add("setup_cpu", took.cpu, "s", phase="setup")
    s.doc.add("setup_rss", max(0, peak - before), "B", phase="setup")
    s.doc.add("held_rss", max(0, measure.current_rss() - before), "B", phase="setup")
    s.doc.add("setup_passes", instruments.columns / problem.components, "1", phase="setup")
    s.doc.add("peak_rss", max(earlier, peak), "B", phase="memory")
    return made[0]


def solved(
    s: Session,
    prepared: Prepared,
    instruments: Instruments,
    history: History | None,
    start: np.ndarray | None = None,
) -> Estimates:
    """Solve; without a history nothing is looked at between the rounds."""
    instruments.restart()
    with instruments.watch.part("rest"):
        return solve(
            instruments.fitted_to(prepared), start=start, observe=history.observe if history else None, **s.control
        )


@dataclass
class History:
    """Every round of a solve. errors: the largest EBV difference from the reference, in genetic sd; seconds: spent on
    solving up to the round; passes: of a column per component over the genotypes."""

    session: Session
    problem: Problem
    instruments: Instruments
    errors: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    passes: list[float] = field(default_factory=list)

    def observe(self, step: int, effects: np.ndarray, residual: float) -> None:
        with self.instruments.watch.part(OBSERVE, whole=True):
            self.seconds.append(self.instruments.solving)
            self.passes.append(self.instruments.columns / self.problem.components)
            self.errors.append(self._error(self.problem.animals_effects(effects)))

    def _error(self, effects: np.ndarray) -> float:
        equations = self.problem.equations
        found = equations.genetic(effects)[: equations.animals]
        return float((np.abs(found - self.session.reference.ebv).max(axis=0) / self.session.evaluation.sd).max())

    def write(self, found: Estimates, phase: str = "solve") -> None:
        """Rows of the rounds, of what they add up to, and of when each rule was met."""
        doc, solution = self.session.doc, found.solution
        residual, last = solution.residual_norms[:, 0], solution.steps
        for step in _kept(last):
            place = {"phase": phase, "step": step}
            doc.add("residual_norm", residual[step], "1", **place)
            doc.add("preconditioned_norm", solution.preconditioned_norms[step, 0], "1", **place)
            doc.add("ebv_error", self.errors[step], "1", **place)
            doc.add("passes", self.passes[step], "1", **place)
            if step:
                doc.add("round_time", self.seconds[step] - self.seconds[step - 1], "s", **place)
        for values, rules in ((residual, RULES), (np.array(self.errors), EBV_RULES)):
            for name, rule in rules.items():
                reached = np.flatnonzero(values <= rule)
                if reached.size:
                    doc.add(f"rounds_{name}", reached[0], "1", phase=phase)
                    doc.add(f"passes_{name}", self.passes[reached[0]], "1", phase=phase)
                    doc.add(f"seconds_{name}", self.seconds[reached[0]], "s", phase=phase)
        doc.add("iterations", last, "1", phase=phase)
        doc.add("converged", float(solution.converged.all()), "1", phase=phase)
        doc.add("true_residual_norm", float(solution.true_residual_norms[0]), "1", phase=phase)
        doc.add("final_ebv_error", self.errors[-1], "1", phase=phase)
        doc.add("solve_time", self.instruments.solving, "s", phase=phase)
        for part in PARTS:
            doc.add("part_time", self.instruments.watch.seconds.get(part, 0.0), "s", phase=phase, part=part)


def _kept(last: int) -> list[int]:
    """The rounds whose rows are kept, the last among them."""
    return [step for step in range(last + 1) if step % max(1, step // EVERY_ROUND) == 0 or step == last]


def verdict(s: Session, prepared: Prepared, found: Estimates, error: float) -> str | None:
    """The sentence that says what is wrong with a solve; an approximate variant has its distance as a row."""
    if not prepared.variant.exact or error <= EBV_TOLERANCE:
        return None
    stopped = "" if found.solution.converged.all() else (
        f"stopped after {found.solution.steps} rounds at ‖r‖/‖b‖ = {found.solution.true_residual_norms[0]:.1e}; "
    )  # fmt: skip
    return (
        f"{stopped}EBVs differ from the reference by {error:.2g} genetic standard deviations; "
        f"{EBV_TOLERANCE:.0e} is allowed"
    )
