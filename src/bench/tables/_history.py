"""Measurements of many commits → a point per commit of each kernel, and the steps between them.

Both start from rows that `bench.history.in_order` has put in order. They are of one machine class or refused.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from bench.errors import BenchError
from bench.statistics import ratio_interval
from bench.steps import LEAST, find_steps, noise
from bench.tables import _cells

TITLE = "Steps in the history of each kernel"
CAPTION = (
    "Where the rate of a kernel changed to another level and stayed there: a fit of levels that are constant in "
    f"pieces to the logarithms of the median times, with at least {LEAST} commits to a level. The rates are medians "
    "over the commits of the levels before and after; the change is their ratio less 1 with its 95 % bootstrap "
    "interval, and negative where the kernel became slower. The noise is the standard deviation between neighbouring "
    "commits. What else changed between the two commits stands in the last column: a new compiler is no change of "
    "the kernel. Runs with changes that were not committed do not count."
)
# What a kernel multiplied, how it was timed, and what: a change of any of these begins another series.
SERIES = ["dataset", "dtype", "threads", "direction", "k", "kernel", "target", "n", "m", "dataset_hash", "protocol",
          "version"]  # fmt: skip
PLACED = ["dataset", "n", "m", "dtype", "threads", "direction", "k", "kernel", "target", "place"]
BESIDE = {"compiler": "compiler", "flags": "flags", "blas": "BLAS", "python": "Python", "lock_hash": "environment",
          "driver": "driver"}  # fmt: skip


def points(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per series and place of the experiment `products`, in order. Seconds and multiply-adds per second.

    Columns: SERIES, place, label, clean, commit, time (median, with _low and _high; the processes of all the commit's
    runs are the outer level), rate (likewise), repeats, contaminated (why, or missing), and of BESIDE what the first
    session had. A time that is not positive counts as missing.
    """
    if (classes := frame["machine_class"].dropna().unique()).size > 1:
        raise BenchError(
            f"measurements of {classes.size} machine classes ({', '.join(sorted(classes))}) are never compared: "
            "name one with --machine"
        )
    rows = _cells.ok(frame, "products")
    rows = rows[(rows["metric"] == "product_time") & (rows["value"] > 0)]
    by = [*SERIES, "place"]
    if rows.empty:
        return pd.DataFrame(
            columns=[*by, "label", "clean", "commit", "time", "rate", "repeats", "contaminated", *BESIDE]
        )
    rows = rows.assign(process=rows.groupby(["run", "case", "process"], dropna=False).ngroup())
    groups = rows.groupby(by, dropna=False)
    drawn = groups[["label", "clean", "commit", *BESIDE]].first().reset_index()
    _cells.put_times(drawn, "time", groups)
    work = (drawn["n"] * drawn["m"] * drawn["k"]).astype(float)
    drawn["rate"], drawn["rate_low"], drawn["rate_high"] = (
        work / drawn[name] for name in ("time", "time_high", "time_low")
    )
    return drawn


def steps(drawn: pd.DataFrame) -> pd.DataFrame:
    """One row per step of each series of `points`; `place` is that of its first commit. Rates in G/s, change in %."""
    found = [row for _, series in drawn[drawn["clean"].eq(True)].groupby(SERIES, dropna=False) for row in _of(series)]
    columns = [*PLACED, "commit", "previous", "rate_before", "rate_after", "change", "change_low", "change_high",
               "noise", "commits_before", "commits_after", "beside"]  # fmt: skip
    return pd.DataFrame(found, columns=columns)


def _of(series: pd.DataFrame) -> list[dict[str, Any]]:
    """The steps of one series of clean commits, in order."""
    series = series.sort_values("place")
    records = series.to_dict("records")
    times = series["time"].to_numpy(dtype=float)
    starts = find_steps(np.log(times))
    rows = []
    for begin, at, end in zip([0, *starts], starts, [*starts[1:], len(times)], strict=False):
        before, after, first, last = times[begin:at], times[at:end], records[at], records[at - 1]
        ratio = ratio_interval(before, after)
        work = float(first["n"]) * float(first["m"]) * float(first["k"]) / 1e9
        rows.append(
            {name: first[name] for name in PLACED}
            | {"commit": first["commit"][:10], "previous": last["commit"][:10]}
            | {"rate_before": work / np.median(before), "rate_after": work / np.median(after)}
            | {"change": 100 * (ratio.value - 1)}
            | {"change_low": 100 * (ratio.low - 1), "change_high": 100 * (ratio.high - 1)}
            | {"noise": math.expm1(noise(np.log(times))), "commits_before": len(before), "commits_after": len(after)}
            | {"beside": ", ".join(said for name, said in BESIDE.items() if _differ(first[name], last[name]))}
        )
    return rows


def _differ(one: Any, other: Any) -> bool:
    """Whether two values differ; two that are missing do not."""
    return (pd.isna(one) != pd.isna(other)) or (not pd.isna(one) and one != other)
