"""The whole comparison: build both revisions, count, measure in turn, and judge."""

from __future__ import annotations

import functools
import itertools
import shlex
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from bench import measure
from bench.errors import BenchError, meant
from bench.machine import this_machine
from bench.regression import counts, rounds
from bench.regression.data import Data, make_data
from bench.regression.progress import Progress
from bench.regression.revisions import Revision
from bench.regression.rounds import SIDES, Contestant, Product, Round, Wrong
from bench.regression.sides import Description, describe
from bench.regression.verdict import (
    EXIT_STATUS,
    GATES,
    LEAST_PAIRS,
    Finding,
    Pairs,
    Undecided,
    judge_count,
    judge_time,
    overall,
    settled,
)

DIRECTIONS = ("matmul", "rmatmul")
UNIT = {"instructions": "1", "prepare": "1", "bytes": "B", "memory": "B", "iterations": "1"}


@dataclass(frozen=True)
class Settings:
    """What to compare. kernels: None for all that run here. pairs: of times of each product, in a round."""

    kernels: tuple[str, ...] | None = None
    k: tuple[int, ...] = (1, 10, 32)
    pairs: int = 15
    gates: tuple[str, ...] = GATES
    compiler: str = "g++"
    seed: int = 0

    def __post_init__(self) -> None:
        if unknown := [gate for gate in self.gates if gate not in GATES]:
            raise BenchError(f"--gates: there is no gate {unknown[0]!r}; there are {', '.join(GATES)}")
        if not self.gates or not self.k or min(self.k) < 1:
            raise BenchError("--gates and --k: at least one of each is needed, and numbers of columns from 1 on")
        try:
            shlex.split(self.compiler)
        except ValueError as error:
            raise BenchError(f"--compiler: {self.compiler!r} is no command ({error})") from None
        if self.pairs < 1:
            raise BenchError(
                f"--pairs: {self.pairs} pairs cannot be taken; {LEAST_PAIRS} are the fewest that say anything"
            )

    @property
    def products(self) -> list[Product]:
        return list(itertools.product(DIRECTIONS, sorted(set(self.k))))


@dataclass
class Comparison:
    """What was compared and what was found."""

    base: Revision
    head: Revision
    settings: Settings
    findings: list[Finding] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)  # kernels that run here in neither revision, and why
    seconds: float = 0.0
    started_at: str = ""

    @property
    def verdict(self) -> str:
        return overall(finding.verdict for finding in self.findings)

    @property
    def exit_status(self) -> int:
        return EXIT_STATUS[self.verdict]

    def sides(self) -> dict[str, Revision]:
        return {"base": self.base, "head": self.head}


@dataclass(frozen=True)
class Subject:
    """A kernel to compare: the target that is timed, the one that is counted (None: not native)."""

    kernel: str
    timed: str
    counted: str | None
    native: bool


ALL = Subject("all kernels", "", None, True)


def compare(base: Revision, head: Revision, settings: Settings, folder: Path, out: Any = None) -> Comparison:
    """Compare two revisions; `folder` keeps what was built."""
    made = Comparison(base, head, settings, started_at=datetime.now(UTC).isoformat(timespec="seconds"))
    progress = Progress(1.0, out=out)
    try:
        said = {"base": describe(base), "head": describe(head)}
    except Undecided as undecided:
        made.findings += _undecided(ALL, settings, settings.gates, str(undecided))
        made.seconds = progress.seconds
        return made
    subjects = _subjects(said, made)
    weights = {"counts": 9.0, "times": 14.0 if "time" in settings.gates else 6.0}
    progress = Progress(10.0 + sum(weights["counts"] * bool(s.counted) + weights["times"] for s in subjects), out=out)
    progress.step(f"building {base} and {head}", 10.0)
    with tempfile.TemporaryDirectory() as scratch:
        data = make_data(Path(scratch), max(settings.k))
        builds = _Builds(made, subjects)
        if "counts" in settings.gates:
            progress.step("counting instructions", weights["counts"] * sum(bool(s.counted) for s in subjects))
            _count_all(made, subjects, builds, data, Path(scratch))
        if {"counters", "time"} & set(settings.gates):
            order = np.random.default_rng(settings.seed)
            with measure.exclusive():
                for subject in subjects:
                    progress.step(f"{subject.kernel}/{subject.timed}: both sides in turn", weights["times"])
                    _measure(made, subject, said, builds, data, order)
    made.seconds = progress.seconds
    return made


def _subjects(said: dict[str, Description], made: Comparison) -> list[Subject]:
    """The kernels of either side that run here; rows for those that only one side has, and for targets that HEAD
    has lost: what is left is compared, which may be slower. BenchError for a name that neither side knows."""
    settings, found = made.settings, []
    names = sorted(set(said["base"].kernels) | set(said["head"].kernels))
    for name in dict.fromkeys(settings.kernels or names):
        missing = [side for side in SIDES if name not in said[side].kernels]
        if len(missing) == len(SIDES):
            raise BenchError(
                f"--kernels: there is no kernel {name!r} in {made.base} and {made.head}{meant(name, names)}"
            )
        if missing:
            of = made.sides()[missing[0]]
            reason = f"there is no kernel {name!r} in {of}"
            made.findings += _undecided(Subject(name, "", None, True), settings, settings.gates, reason)
            continue
        runs = [target for target in said["base"].runs(name) if target in said["head"].runs(name)]
        if not runs:
            lacks = said["head"].kernels[name]["lacks"]
            reason = next((str(why) for why in lacks.values() if why), "the two have no target in common")
            alone = said["base"].runs(name) or said["head"].runs(name)
            if settings.kernels is None and not alone:
                made.skipped[name] = reason
            else:
                made.findings += _undecided(Subject(name, "", None, True), settings, settings.gates, reason)
            continue
        if lost := [target for target in said["base"].runs(name) if target not in said["head"].runs(name)]:
            lacks = said["head"].kernels[name]["lacks"].get(lost[-1]) or f"it has no target {lost[-1]!r}"
            reason = f"{made.head} does not run {name}/{', '.join(lost)}, which {made.base} does: {lacks}"
            made.findings.append(Finding(name, "result", "result", "inconclusive", reason, lost[-1]))
        native = all(said[side].kernels[name]["native"] for side in SIDES)
        countable = [t for t in said["base"].countable(name) if t in said["head"].countable(name)] if native else []
        # Of a native kernel the widest build, as the target "best"; of another the first, which needs least.
        found.append(Subject(name, runs[-1] if native else runs[0], countable[-1] if countable else None, native))
    return found


class _Builds:
    """The libraries of both sides, compiled on all cores; a build that failed is told when it is asked for."""

    def __init__(self, made: Comparison, subjects: Sequence[Subject]):
        gates = set(made.settings.gates)
        wanted = {(s.kernel, s.timed) for s in subjects if s.native and gates & {"counters", "time"}}
        if "counts" in gates and not counts.lacks():
            wanted |= {(s.kernel, s.counted) for s in subjects if s.counted}
        jobs = [(side, *build) for side in SIDES for build in sorted(wanted)]
        with ThreadPoolExecutor(this_machine().cores) as pool:
            results = pool.map(lambda job: _outcome(self._build, made, *job), jobs)
            self._made = dict(zip(jobs, results, strict=True))
        for kernel, target in sorted(wanted):
            head, base = self._made["head", kernel, target], self._made["base", kernel, target]
            if isinstance(head, Undecided) and not isinstance(base, Undecided):
                made.findings.append(Finding(kernel, "result", "result", "wrong", str(head), target))

    @staticmethod
    def _build(made: Comparison, side: str, kernel: str, target: str) -> Path:
        return made.sides()[side].build(kernel, target, compiler=made.settings.compiler)

    def get(self, side: str, kernel: str, target: str) -> Path:
        outcome = self._made[side, kernel, target]
        if isinstance(outcome, Undecided):
            raise outcome
        return outcome


def _outcome(call: Callable[..., Any], *arguments: Any) -> Any:
    """What the call returns, or the Undecided that it raises."""
    try:
        return call(*arguments)
    except Undecided as undecided:
        return undecided


def _undecided(subject: Subject, settings: Settings, gates: Sequence[str], reason: str) -> list[Finding]:
    """A row per product and gate that says why there is nothing; one per gate where it is so of every kernel."""
    rows = []
    for gate in gates:
        target = (subject.counted if gate == "counts" else subject.timed) or ""
        for direction, k in settings.products if gate != "counters" and subject != ALL else [(None, None)]:
            metric = {"counts": "instructions", "counters": "bytes", "time": "time"}[gate]
            rows.append(
                Finding(subject.kernel, gate, metric, "inconclusive", reason, target, direction=direction, k=k)
            )
    return rows


def _count_all(made: Comparison, subjects: Sequence[Subject], builds: _Builds, data: Data, scratch: Path) -> None:
    """Instructions of all native kernels. Runs go on all cores at once: a count does not mind company."""
    native = [subject for subject in subjects if subject.native]
    if reason := counts.lacks():
        for subject in native:
            made.findings += _undecided(subject, made.settings, ("counts",), reason)
        return
    driver = _outcome(counts.compile_driver, scratch, made.settings.compiler)

    def counted(subject: Subject, side: str) -> Any:
        if isinstance(driver, Undecided):
            return driver
        if subject.counted is None:
            return Undecided(f"{subject.kernel} has no build that callgrind can run in both revisions")
        get = functools.partial(builds.get, side, subject.kernel, subject.counted)
        return _outcome(lambda: counts.count(driver, get(), data, made.settings.products))

    jobs = [(subject, side) for subject in native for side in SIDES]
    with ThreadPoolExecutor(this_machine().cores) as pool:
        outcomes = dict(zip(jobs, pool.map(lambda job: counted(*job), jobs), strict=True))
    for subject in native:
        base, head = outcomes[subject, "base"], outcomes[subject, "head"]
        if failed := next((side for side in (base, head) if isinstance(side, Undecided)), None):
            made.findings += _undecided(subject, made.settings, ("counts",), str(failed))
            continue
        made.findings.append(_number(subject, "counts", "prepare", base.prepare, head.prepare))
        for direction, k in made.settings.products:
            numbers = (base.products[direction, k], head.products[direction, k])
            made.findings.append(_number(subject, "counts", "instructions", *numbers, direction=direction, k=k))


def _number(subject: Subject, gate: str, metric: str, base: float, head: float, **place: Any) -> Finding:
    verdict, reason = judge_count(metric, base, head)
    target = (subject.counted if gate == "counts" else subject.timed) or ""
    ratio = head / base if base > 0 else None
    return Finding(
        subject.kernel, gate, metric, verdict, reason, target, unit=UNIT[metric],
        base=base, head=head, ratio=ratio, **place,
    )  # fmt: skip


def _measure(
    made: Comparison,
    subject: Subject,
    said: dict[str, Description],
    builds: _Builds,
    data: Data,
    order: np.random.Generator,
) -> None:
    """Counters and times of one kernel, in one round or two."""
    settings = made.settings
    gates = [gate for gate in ("counters", "time") if gate in settings.gates]
    timed = "time" in gates
    if timed and said["base"].protocol != said["head"].protocol:
        protocols = f"PROTOCOL {said['base'].protocol} and {said['head'].protocol}"
        reason = f"the two revisions take time in different ways ({protocols})"
        made.findings += _undecided(subject, settings, ("time",), reason)
        gates, timed = [gate for gate in gates if gate != "time"], False
    if not gates:
        return
    try:
        contestants = {side: _contestant(made, subject, side, builds) for side in SIDES}
        run = functools.partial(rounds.run_round, contestants, data=data, order=order)
        first = run(
            settings.products,
            pairs=settings.pairs if timed else 0,
            processes=rounds.PROCESSES if timed else 1,
            solve="counters" in gates,
        )
        again = [product for product in settings.products if not settled(first.pairs[product])]
        worth = timed and again and settings.pairs >= LEAST_PAIRS
        second = run(again, pairs=settings.pairs) if worth else None
    except Undecided as undecided:
        made.findings += _undecided(subject, settings, gates, str(undecided))
        return
    except Wrong as wrong:
        made.findings.append(Finding(subject.kernel, "result", "result", "wrong", str(wrong), subject.timed))
        return
    if "counters" in gates:
        made.findings += _counters(subject, first)
    if timed:
        made.findings += [_time(subject, product, first, second) for product in settings.products]


def _contestant(made: Comparison, subject: Subject, side: str, builds: _Builds) -> Contestant:
    library = builds.get(side, subject.kernel, subject.timed) if subject.native else None
    return Contestant(made.sides()[side], subject.kernel, subject.timed, library)


def _counters(subject: Subject, found: Round) -> list[Finding]:
    numbers = [
        _number(subject, "counters", metric, found.counter("base", metric), found.counter("head", metric))
        for metric in ("bytes", "memory", "iterations")
    ]
    if found.unsolved:
        numbers[-1] = replace(numbers[-1], verdict="inconclusive", reason=found.unsolved)
    return numbers


def _time(subject: Subject, product: Product, first: Round, second: Round | None) -> Finding:
    taken: list[Pairs] = [found.pairs[product] for found in (first, second) if found and product in found.pairs]
    verdict, reason, ratio = judge_time(taken)
    every = sum(taken[1:], taken[0])
    return Finding(
        subject.kernel, "time", "time", verdict, reason, subject.timed, *product, unit="s",
        base=float(np.median(every.base)), head=float(np.median(every.head)),
        ratio=ratio.value, low=ratio.low, high=ratio.high, pairs=len(every.base),
    )  # fmt: skip
