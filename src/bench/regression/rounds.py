"""The two sides of a comparison in turn: what a matrix holds, what a solve needs, and paired CPU times."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench.regression.data import Data
from bench.regression.disturbance import Ticks, disturbance
from bench.regression.revisions import Revision
from bench.regression.sides import Crash, Side
from bench.regression.verdict import Pairs, Undecided

Product = tuple[str, int]  # direction, k
SIDES = ("base", "head")
PROCESSES = 3  # of each side in a round: where memory comes to lie differs between processes, not between calls
SAMPLE = 0.004  # seconds of CPU time that a sample takes at the least, by repeated calls


class Wrong(Exception):
    """HEAD gives a wrong product, or dies of one: a sentence."""


@dataclass(frozen=True)
class Contestant:
    """A revision's build of a kernel."""

    revision: Revision
    kernel: str
    target: str
    library: Path | None  # None for a kernel that is not native


@dataclass
class Round:
    """What a round found. counters: side → metric → its values, one of each process. unsolved: why there are no
    iterations, None if there are."""

    pairs: dict[Product, Pairs]
    counters: dict[str, dict[str, list[float]]] = field(
        default_factory=lambda: {side: {"bytes": [], "memory": [], "iterations": []} for side in SIDES}
    )
    unsolved: str | None = None

    def counter(self, side: str, metric: str) -> float:
        """The median over processes; NaN where there is none."""
        values = self.counters[side][metric]
        return statistics.median(values) if values else float("nan")


def run_round(
    contestants: dict[str, Contestant],
    products: Sequence[Product],
    data: Data,
    *,
    pairs: int,
    processes: int = PROCESSES,
    solve: bool = False,
    order: np.random.Generator,
) -> Round:
    """Time `pairs` pairs of each product, dealt out to `processes` fresh processes of each side.

    Within a pair the order is random, and so is that of the products. Only one side runs at a time.
    Wrong: HEAD multiplies wrongly. Undecided: a side cannot be had, or BASE is wrong.
    """
    found = Round({product: Pairs() for product in products})
    taken = dict.fromkeys(products, (0.0, 0.0))
    before = Ticks.now()
    for process in range(processes):
        share = pairs * (process + 1) // processes - pairs * process // processes
        with ExitStack() as stack:
            sides, faults = {}, []
            for name in order.permutation(SIDES):
                sides[str(name)] = stack.enter_context(Side(contestants[name].revision))
                try:
                    _prepare(str(name), sides[str(name)], contestants[name], products, data, found)
                except Undecided as undecided:  # whether HEAD is wrong is told whatever BASE is
                    faults.append(undecided)
            if faults:
                raise faults[0]
            calls = {product: _calls(sides["base"], product) for product in products} if share else {}
            for _ in range(share):
                for i in order.permutation(len(products)):
                    waited = _pair(sides, products[i], calls[products[i]], found.pairs[products[i]], order)
                    taken[products[i]] = tuple(np.add(taken[products[i]], waited))
            _count(sides, found, solve=solve and process == 0)
    after = Ticks.now()
    for product, (wall, cpu) in taken.items():
        found.pairs[product].disturbed = disturbance(wall=wall, cpu=cpu, before=before, after=after)
    return found


def _prepare(
    name: str, side: Side, contestant: Contestant, products: Sequence[Product], data: Data, found: Round
) -> None:
    """Open the matrix and check each product before any is timed."""
    library = str(contestant.library) if contestant.library else None
    kernel, target = contestant.kernel, contestant.target
    try:
        held = side.ask(
            "prepare", kernel=kernel, target=target, library=library, bed=str(data.bed), n=data.n, m=data.m
        )
        for direction, k in products:
            said = side.ask("check", oracle=str(data.oracle), direction=direction, k=k)
            if said["mismatches"] or not said["error"] <= said["allowed"]:
                raise Wrong(
                    f"{contestant.revision}: {kernel}/{target}, {direction} with k = {k}: {said['mismatches']} "
                    f"integer results differ, relative error {said['error']:.2g} (allowed {said['allowed']:.0e})"
                )
    except Crash as crash:
        fault = Wrong(f"{kernel}/{target}: {crash}")
        raise (fault if name == "head" else Undecided(str(fault))) from None
    except Wrong as wrong:
        raise (wrong if name == "head" else Undecided(f"the baseline is wrong: {wrong}")) from None
    found.counters[name]["bytes"].append(held["bytes"])


def _calls(side: Side, product: Product) -> int:
    """How many calls make a sample of SAMPLE seconds, by the second of two: the first one warms up."""
    direction, k = product
    cpu = [side.ask("product", direction=direction, k=k, calls=1)["cpu"] for _ in range(2)][1]
    return max(1, min(100, round(SAMPLE / cpu + 0.5))) if cpu > 0 else 1


def _pair(
    sides: dict[str, Side], product: Product, calls: int, pairs: Pairs, order: np.random.Generator
) -> tuple[float, float]:
    """One pair of times; the wall and CPU seconds of both."""
    direction, k = product
    wall = cpu = 0.0
    for name in order.permutation(SIDES):
        took = sides[str(name)].ask("product", direction=direction, k=k, calls=calls)
        getattr(pairs, str(name)).append(took["cpu"] / calls)
        wall, cpu = wall + took["wall"], cpu + took["cpu"]
    return wall, cpu


def _count(sides: dict[str, Side], found: Round, *, solve: bool) -> None:
    """Memory first: a solve takes more than a product."""
    for name, side in sides.items():
        found.counters[name]["memory"].append(side.ask("usage")["memory"])
        if not solve:
            continue
        try:
            said = side.ask("solve")
        except Undecided as undecided:  # an older package may solve in another way: that says nothing of the kernel
            found.unsolved = str(undecided)
            continue
        found.counters[name]["iterations"].append(said["iterations"])
        if not said["converged"]:
            found.unsolved = f"{side.revision}: the solve did not converge in {said['iterations']} iterations"
