"""Do two runs on the same machine tell the same? In what share of the cells their kernel ratios agree.

A cell is one data set, size, dtype, number of threads, k and direction. In it every two kernels (or builds) that both
runs have timed have a ratio with an interval: of `products` and `scaling` that of two sessions, of `paired` that of
rounds. Two ratios agree as `statistics.agree` says: their logarithms differ by no more than √(h² + g²), h and g being
what their own intervals allow on the side of the other.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from bench import tables
from bench.errors import BenchError
from bench.statistics import Interval, agree, by_process, paired_ratio_interval
from bench.tables import _cells, _page
from bench.tables import paired as pairs

TITLE = "Agreement of two runs"
CAPTION = (
    "How many times as fast the first kernel is as the second, in two runs on the same machine, with 95 % intervals: "
    "of products and scaling ratios of medians of two sessions, of paired of rounds. They agree where their "
    "logarithms differ by no more than √(h² + g²), h and g reaching from each to its own bound on the side of the "
    "other."
)
CELL = ["experiment", "dataset", "n", "m", "dtype", "threads", "k", "direction"]
KEY = [*CELL, "kernel", "target", "against", "against_target"]
SAME = {"cpu": "CPU", "cores": "number of cores", "protocol": "timing protocol"}  # columns that two runs must share
MOST_LINES = 40
Ratios = dict[tuple[Any, ...], tuple[Interval, str]]


def compare(one: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """One row per ratio that both runs have: KEY, times_as_fast and again (with bounds), agrees ("yes", "no", or
    "unknown" without a bound), contaminated. BenchError where the machines differ or nothing is shared."""
    for column, said in SAME.items():
        found = [sorted(map(str, run[column].dropna().unique())) for run in (one, other)]
        if found[0] != found[1]:
            first, second = (", ".join(values) or "none" for values in found)
            raise BenchError(
                f"the runs differ in {said}: {first} and {second}; agreement is asked of two runs on one machine"
            )
    first, second = ratios(one), ratios(other)
    shared = [key for key in first if key in second]
    if not shared:
        raise BenchError(
            f"the runs share no kernel ratio: {len(first)} in the first, {len(second)} in the second; run the same "
            "configuration twice"
        )
    drawn = pd.DataFrame(shared, columns=KEY)
    _cells.spread(drawn, "times_as_fast", [first[key][0] for key in shared])
    _cells.spread(drawn, "again", [second[key][0] for key in shared])
    words = {True: "yes", False: "no", None: "unknown"}
    drawn["agrees"] = [words[agree(first[key][0], second[key][0])] for key in shared]
    why = ["; ".join(dict.fromkeys(filter(None, (first[key][1], second[key][1])))) for key in shared]
    drawn["contaminated"] = pd.Series([reason or None for reason in why], dtype="string")
    return drawn


def ratios(frame: pd.DataFrame) -> Ratios:
    """{KEY: (times as fast, why a session of it was contaminated or "")} of every two kernels in every cell."""
    return dict([*_of_sessions(frame, "products"), *_of_sessions(frame, "scaling"), *_of_rounds(frame)])


def _of_sessions(frame: pd.DataFrame, experiment: str) -> Iterator[tuple[tuple[Any, ...], tuple[Interval, str]]]:
    cells = _cells.cells(frame, experiment).assign(experiment=experiment).sort_values(["kernel", "target", "case"])
    for place, of in cells.groupby(CELL):
        for a, b in itertools.combinations(of.to_dict("records"), 2):
            why = [str(side["contaminated"]) for side in (a, b) if not pd.isna(side["contaminated"])]
            key = *place, a["kernel"], a["target"], b["kernel"], b["target"]
            yield key, (_cells.session_ratio(b, a), "; ".join(dict.fromkeys(why)))


def _of_rounds(frame: pd.DataFrame) -> Iterator[tuple[tuple[Any, ...], tuple[Interval, str]]]:
    rounds = pairs.rounds(frame).assign(experiment="paired")
    for key, of in rounds.groupby([*CELL, "kernel", "target", *pairs.PARTNER]):
        second, first = (by_process(of[name], of["process"]) for name in ("value_against", "value"))
        yield key, (paired_ratio_interval(second, first), _cells.contaminated(of) or "")


def to_text(drawn: pd.DataFrame) -> str:
    """The shares, by experiment and of all, and the cells that do not agree."""
    lines = [_share(name, of) for name, of in drawn.groupby("experiment")]
    clean = drawn[drawn["contaminated"].isna()]
    lines += [_share("all", drawn), _share("all whose sessions were not contaminated", clean)]
    apart = drawn[drawn["agrees"] == "no"]
    if len(apart):
        found = _page.to_lines(apart.drop(columns="agrees"))
        lines += ["", "These do not agree:", "", *found[: MOST_LINES + 1]]
        lines += [f"… and {len(apart) - MOST_LINES} more"] if len(apart) > MOST_LINES else []
    return "\n".join(lines)


def _share(name: Any, drawn: pd.DataFrame) -> str:
    judged = drawn[drawn["agrees"] != "unknown"]
    if judged.empty:
        return f"{name}: no kernel ratio can be judged"
    agreed = int((judged["agrees"] == "yes").sum())
    return (
        f"{name}: {agreed} of {len(judged)} kernel ratios agree within their intervals ({agreed / len(judged):.1%})"
    )


def write(drawn: pd.DataFrame, folder: Path) -> None:
    """agreement.csv, .html and .md in `folder`."""
    tables.save(drawn, "agreement", TITLE, CAPTION, folder)
