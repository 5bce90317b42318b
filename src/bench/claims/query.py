"""A query over the long table: the cells it speaks of, each with the statistic and its interval."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from bench.collect import COLUMNS
from bench.statistics import Interval, median_interval, paired_ratio_interval, ratio_interval
from bench.tables import _bounds, _cells, paired

if TYPE_CHECKING:
    from bench.claims.spec import Query

# What tells cells apart. A build is told apart from the others, a process or a case is not.
PLACE = ["dataset", "n", "m", "kernel", "target", "method", "dtype", "threads", "direction", "k", "solver", "trait",
         "relationship"]  # fmt: skip
# What methods that were timed in turn share; a process, where the table tells them apart.
ROUND = [name for name in ("case", "process", "direction", "k", "repeat") if name in COLUMNS]
BUILD = ["dataset", "n", "m", "kernel", "target", "dtype", "threads"]
CHOICE = {"kernel", "method"}  # what is compared in these has targets of its own
TIMES = ("product_time", "gram_time", "solve_time")
# What `metric` may name: observations of docs/result-schema.md that mean something without any other.
MEASURED = (*TIMES, "prepare_time", "grm_time", "reml_time", "bytes_held", "bytes_read", "bytes_needed", "peak_rss",
            "prepare_rss", "integer_mismatches", "rel_error", "ebv_error", "snp_effect_error", "iterations",
            "variance_ratio", "h2", "predictive_ability", "accuracy", "reliability_mean", "fma_peak", "lookup_peak",
            "int8_peak", "read_peak", "copy_peak")  # fmt: skip

Place = dict[str, Any]
Found = Iterator[tuple[Place, Interval]]


@dataclass(frozen=True)
class Cell:
    """One place in the measurements (the columns of PLACE that apply) and what the statistic is there.

    disturbed: why sessions that a time was taken in were contaminated, nothing if none was.
    """

    place: Place
    interval: Interval
    disturbed: str = ""

    @property
    def exact(self) -> bool:
        """Whether it is what it is, as an error or a number of bytes."""
        return self.interval.low == self.interval.high


@dataclass(frozen=True)
class Statistic:
    """How a statistic is computed, and in which unit its bounds are written.

    compute: (rows that `where` selects, rows that it selects with `than` laid over it, all good rows, the query)
    → cells.
    """

    unit: str
    compute: Callable[[pd.DataFrame, pd.DataFrame, pd.DataFrame, Query], Found]
    compares: bool = False  # needs `than`
    named: bool = False  # needs `metric`


def observed(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows with a value of cases that ended well."""
    return frame[(frame["status"] == "ok") & frame["value"].notna()]


def select(frame: pd.DataFrame, where: dict[str, Any]) -> pd.DataFrame:
    """The rows whose columns have the values, or one of the values, of `where`; `against` names kernels."""
    keep = pd.Series(True, index=frame.index)
    for column, value in where.items():
        wanted = value if isinstance(value, list) else [value]
        if column == "against":  # such as "decompress/avx512", or several with commas
            kernels = "|".join(map(re.escape, wanted))
            found = frame[column].str.contains(rf"(?:^|,)(?:{kernels})(?:/|,|$)")
        else:
            found = frame[column].isin(wanted)
        keep &= found.fillna(False).astype(bool)
    return frame[keep]


def cells(query: Query, frame: pd.DataFrame) -> list[Cell]:
    """The cells of a query in the order of their places; none where nothing was measured."""
    statistic, good = STATISTICS[query.statistic], observed(frame)
    rows, others = select(good, query.where), select(good, query.where | query.than)
    found = []
    for place, interval in statistic.compute(rows, others, good, query):
        of = [select(rows, place)]
        if statistic.compares:  # a disturbed baseline is as bad
            same = {name: value for name, value in place.items() if name not in _differing(query)}
            of.append(select(others, same))
        found.append(Cell(place, interval, _disturbed(pd.concat(of))))
    return sorted(found, key=lambda cell: [str(cell.place.get(name, "")).zfill(9) for name in PLACE])


def _differing(query: Query) -> set[str]:
    """The columns in which the two sides of a comparison may differ."""
    return {*query.than, *(["target"] if CHOICE & set(query.than) else [])}


def _disturbed(rows: pd.DataFrame) -> str:
    """Why the sessions of these rows were contaminated, every reason once, where the table says so."""
    return "; ".join(sorted(set(rows["contaminated"].dropna()))) if "contaminated" in rows else ""


def _groups(rows: pd.DataFrame, by: Sequence[str]) -> Iterator[tuple[Place, pd.DataFrame]]:
    for key, group in rows.groupby(list(by), dropna=False):
        place = dict(zip(by, key, strict=True))
        yield {name: value for name, value in place.items() if value is not pd.NA and value == value}, group


def _scaled(interval: Interval, factor: float) -> Interval:
    return Interval(interval.value * factor, interval.low * factor, interval.high * factor)


def _inverse(interval: Interval, work: float) -> Interval:
    """work ÷ a time."""
    return Interval(work / interval.value, work / interval.high, work / interval.low)


def _work(place: Place) -> float:
    return float(place["n"]) * float(place["m"]) * float(place["k"])


def _rate(rows: pd.DataFrame, others: pd.DataFrame, good: pd.DataFrame, query: Query) -> Found:
    """n·m·k ÷ the median time of a product, 10⁹ a second."""
    for place, group in _groups(rows[rows["metric"] == "product_time"], PLACE):
        yield place, _inverse(median_interval(_cells.repeats(group)), _work(place) / 1e9)


def _share_of(peak: str, amount: str | None = None) -> Callable[..., Found]:
    """What a product does in a second, as a share of `peak` in the same sessions: n·m·k, or the metric `amount`."""

    def compute(rows: pd.DataFrame, others: pd.DataFrame, good: pd.DataFrame, query: Query) -> Found:
        for place, group in _groups(rows[rows["metric"] == "product_time"], PLACE):
            session = good[good["case"].isin(group["case"]) & good["experiment"].isin(group["experiment"])]
            peaks = session.loc[session["metric"] == peak, "value"]
            work = session.loc[session["metric"] == amount, "value"].median() if amount else _work(place)
            if len(peaks):
                yield place, _scaled(ratio_interval(work / peaks, _cells.repeats(group)), 100)

    return compute


def _target_share(rows: pd.DataFrame, others: pd.DataFrame, good: pd.DataFrame, query: Query) -> Found:
    """A rate as a share of the best multiply-add peak of the same instruction set (experiment limits)."""
    limits = _limits(good, "fma_peak")
    for place, rate in _rate(rows, others, good, query):
        at = limits[(limits["target"] == place["target"]) & (limits["dtype"] == place["dtype"])]
        at = at.loc[at["threads"] == place["threads"], "value"]
        if len(at):
            yield place, _scaled(rate, 100 * 1e9 / at.max())


def _copy_share(rows: pd.DataFrame, others: pd.DataFrame, good: pd.DataFrame, query: Query) -> Found:
    """Reading a .bed file's n·m/4 bytes and writing as many, in the time of preparing, as a share of the best rate
    of copying."""
    limits = _limits(good, "copy_peak")
    for place, group in _groups(rows[rows["metric"] == "prepare_time"], BUILD):
        at = limits.loc[limits["threads"] == place["threads"], "value"]
        if len(at):
            moved = float(place["n"]) * float(place["m"]) / 2
            yield place, _inverse(median_interval(_cells.repeats(group)), 100 * moved / at.max())


def _limits(good: pd.DataFrame, metric: str) -> pd.DataFrame:
    limits = _bounds.limits(good)
    return limits[limits["metric"] == metric]


def _times_as_fast(rows: pd.DataFrame, others: pd.DataFrame, good: pd.DataFrame, query: Query) -> Found:
    """Time of the second of a pair ÷ that of the first, over rounds: the table of pairs."""
    cases = good[good["case"].isin(rows["case"]) & good["experiment"].isin(rows["experiment"])]
    drawn = paired.draw(cases)
    drawn = select(drawn, {name: of for name, of in query.where.items() if name in drawn})
    for row in drawn.to_dict("records"):
        place = {name: row[name] for name in (*BUILD, "against", "direction", "k")}
        yield place, Interval(row["times_as_fast"], row["times_as_fast_low"], row["times_as_fast_high"])


def _extra_time(rows: pd.DataFrame, others: pd.DataFrame, good: pd.DataFrame, query: Query) -> Found:
    """How much longer than `than` a product takes in the same round, in percent."""
    base = others.loc[others["metric"] == "product_time", [*ROUND, "value"]]
    both = rows[rows["metric"] == "product_time"].merge(base, on=ROUND, suffixes=("", "_than"))
    for place, group in _groups(both, PLACE):
        than = group.assign(value=group["value_than"])
        ratio = paired_ratio_interval(_cells.repeats(group), _cells.repeats(than))
        yield place, _scaled(Interval(ratio.value - 1, ratio.low - 1, ratio.high - 1), 100)


def _speed_up(rows: pd.DataFrame, others: pd.DataFrame, good: pd.DataFrame, query: Query) -> Found:
    """Median time of `than` ÷ that of `where`; of several targets of `than` the fastest counts. Two sessions differ
    by the drift of their run, as in the tables."""
    rows, others = rows[rows["metric"].isin(TIMES)], others[others["metric"].isin(TIMES)]
    same = [name for name in PLACE if name not in _differing(query)]
    drift = _cells.drift(good[good["experiment"].isin(rows["experiment"])])
    base: dict[tuple[Any, ...], pd.DataFrame] = {}
    for place, group in _groups(others, PLACE):
        key = tuple(place.get(name) for name in same)
        if key not in base or group["value"].median() < base[key]["value"].median():
            base[key] = group
    for place, group in _groups(rows, PLACE):
        key = tuple(place.get(name) for name in same)
        if key in base:
            together = set(base[key]["case"]) == set(group["case"])
            sides = [
                {
                    "times": _cells.repeats(of),
                    "drift": 0.0 if together else drift.get(int(of["threads"].iloc[0]), 0.0),
                }
                for of in (base[key], group)
            ]
            yield place, _cells.session_ratio(*sides)


def _median(rows: pd.DataFrame, others: pd.DataFrame, good: pd.DataFrame, query: Query) -> Found:
    """The median of a metric; what is no time or rate is exact, and its interval a point."""
    for place, group in _groups(rows[rows["metric"] == query.metric], PLACE):
        middle = float(group["value"].median())
        exact = set(group["unit"]) <= {"1", "B"}
        yield place, Interval(middle, middle, middle) if exact else median_interval(_cells.repeats(group))


def _greatest(rows: pd.DataFrame, others: pd.DataFrame, good: pd.DataFrame, query: Query) -> Found:
    """The greatest value of a metric, such as an error: it is what it is, and its interval a point."""
    for place, group in _groups(rows[rows["metric"] == query.metric], PLACE):
        most = float(group["value"].max())
        yield place, Interval(most, most, most)


def _bytes_per_genotype(rows: pd.DataFrame, others: pd.DataFrame, good: pd.DataFrame, query: Query) -> Found:
    """Bytes that a prepared matrix keeps, per genotype."""
    for place, group in _groups(rows[rows["metric"] == "bytes_held"], BUILD):
        held = float(group["value"].max()) / (float(place["n"]) * float(place["m"]))
        yield place, Interval(held, held, held)


STATISTICS = {
    "rate": Statistic("G/s", _rate),
    "peak_share": Statistic("%", _share_of("fma_peak")),
    "target_share": Statistic("%", _target_share),
    "read_share": Statistic("%", _share_of("read_peak", "bytes_read")),
    "copy_share": Statistic("%", _copy_share),
    "times_as_fast": Statistic("×", _times_as_fast),
    "speed_up": Statistic("×", _speed_up, compares=True),
    "extra_time": Statistic("%", _extra_time, compares=True),
    "median": Statistic("", _median, named=True),
    "greatest": Statistic("", _greatest, named=True),
    "bytes_per_genotype": Statistic("B", _bytes_per_genotype),
}


def certain(interval: Interval) -> bool:
    """Whether it has bounds: one observation of a time gives none."""
    return not (math.isnan(interval.low) or math.isnan(interval.high))
