"""From what was measured of two revisions to faster, slower, same, inconclusive or wrong."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from bench.statistics import Interval, paired_ratio_interval

GATES = ("counts", "counters", "time")
# The whole is the first of these that any part is.
VERDICTS = ("wrong", "slower", "inconclusive", "faster", "same")
EXIT_STATUS = {"wrong": 1, "slower": 1, "inconclusive": 3, "faster": 0, "same": 0}

TIME_BAR = 1.25  # the smallest ratio of times that fails, if it recurs
LEAST_PAIRS = 5
# The largest increase of each number that passes. Instructions, bytes and iterations are the same from run to run;
# 2 % leaves room for another inlining. Peak memory differs by some pages, and by a huge page more or less.
BARS = {"instructions": 1.02, "prepare": 1.02, "bytes": 1.02, "iterations": 1.02, "memory": 1.10}
MEMORY_GRAIN = 4 << 20  # two huge pages: less is not a difference


class Undecided(Exception):
    """Why nothing can be said about some cells, in a sentence; they become `inconclusive`."""


@dataclass(frozen=True)
class Finding:
    """What one gate says of one cell: a kernel, or one of its products.

    base, head: the two numbers, medians for times. ratio: head / base, with its interval where there is one; above 1
    HEAD costs more.
    """

    kernel: str
    gate: str
    metric: str
    verdict: str
    reason: str = ""
    target: str = ""
    direction: str | None = None
    k: int | None = None
    unit: str = "1"
    base: float | None = None
    head: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    pairs: int | None = None


@dataclass
class Pairs:
    """CPU seconds of one product in one round: base[i] and head[i] were taken one after the other.

    disturbed: why times of this round cannot be believed, None if they can.
    """

    base: list[float] = field(default_factory=list)
    head: list[float] = field(default_factory=list)
    disturbed: str | None = None

    def __add__(self, other: Pairs) -> Pairs:
        return Pairs(self.base + other.base, self.head + other.head)

    def fault(self) -> str | None:
        """Why the round says nothing, None if it says something."""
        if any(not seconds > 0 for seconds in self.base + self.head):
            return "the clock stood still or went backwards during a product"
        if len(self.base) < LEAST_PAIRS:
            return f"{len(self.base)} pairs of times were taken, at least {LEAST_PAIRS} are needed"
        return self.disturbed

    def ratio(self) -> Interval:
        return paired_ratio_interval(self.head, self.base)


def judge_count(metric: str, base: float, head: float) -> tuple[str, str]:
    """The verdict, and why, of a number that is the same whenever it is taken again."""
    if metric == "memory" and abs(head - base) <= MEMORY_GRAIN:
        return "same", ""
    if not (math.isfinite(base) and math.isfinite(head) and base > 0 and head > 0):
        return "inconclusive", f"{metric}: {base:g} and {head:g} cannot be compared"
    bar = BARS[metric]
    if head > bar * base:
        return "slower", f"{metric}: {head / base - 1:+.1%}, more than {bar - 1:.0%} is too much"
    return ("faster", "") if base > bar * head else ("same", "")


def tends(ratio: Interval) -> str | None:
    """What one round says of a ratio of times: slower, faster, same, or None for nothing."""
    if ratio.low > 1 and ratio.value >= TIME_BAR:
        return "slower"
    if ratio.high < 1 and ratio.value <= 1 / TIME_BAR:
        return "faster"
    if ratio.low > 1 / TIME_BAR and ratio.high < TIME_BAR:
        return "same"
    return None


def settled(first: Pairs) -> bool:
    """Whether the first round alone decides: only by `same`, since a difference has to recur."""
    return first.fault() is None and tends(first.ratio()) == "same"


def judge_time(rounds: Sequence[Pairs]) -> tuple[str, str, Interval]:
    """The verdict of one or two rounds, why, and the ratio over all pairs that can be believed.

    slower and faster need two rounds, in fresh processes, that both say so; same needs an interval, of all their
    pairs together, that excludes a difference of TIME_BAR.
    """
    usable = [pairs for pairs in rounds if pairs.fault() is None]
    if not usable:
        return "inconclusive", rounds[-1].fault() or "no times were taken", Interval(math.nan, math.nan, math.nan)
    together = sum(usable[1:], usable[0]).ratio()
    each = [tends(pairs.ratio()) for pairs in usable]
    for verdict in ("slower", "faster"):
        if len(each) >= 2 and set(each) == {verdict}:
            return verdict, f"CPU time × {together} in two rounds" if verdict == "slower" else "", together
    if tends(together) == "same":
        return "same", "", together
    if faults := [fault for pairs in rounds if (fault := pairs.fault())]:
        return "inconclusive", f"one round only: {faults[0]}", together
    said = " and ".join(str(pairs.ratio()) for pairs in usable)
    return "inconclusive", f"CPU time × {said}: neither the same nor a difference that recurs", together


def overall(verdicts: Iterable[str]) -> str:
    """The verdict of several together; inconclusive where there is none."""
    found = set(verdicts)
    return next((verdict for verdict in VERDICTS if verdict in found), "inconclusive")
