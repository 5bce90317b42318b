"""EBVs by PCG through each kernel."""

from __future__ import annotations

import pandas as pd

from bench.statistics import median_interval, ratio_interval
from bench.tables import _cells

TITLE = "GBLUP solved through each kernel"
CAPTION = (
    "EBVs and SNP effects by preconditioned conjugate gradients, G never formed: every step is one Z′U and "
    "one Z V through the kernel. Solve is the median over repeats with its 95 % bootstrap interval, "
    "preparation not counted. Cholesky is the time to form the dense G and to factor and solve with it, "
    "once, on the same data; × Cholesky is its ratio to the solve. EBV error: the largest difference from "
    "the Cholesky solution, relative to the largest EBV; a solve above 1e-8 is wrong and is not shown here."
)
SOLVE = ["dataset", "n", "m", "trait", "relationship", "kernel", "target", "dtype", "threads"]
REFERENCE = ["dataset", "trait", "relationship"]
ONCE = {"iterations": "median", "ebv_error": "max", "snp_effect_error": "max"}


def cholesky_times(frame: pd.DataFrame) -> pd.Series:
    """Seconds to form G and to solve with it by Cholesky, per data set, trait and relationship.

    Of several numbers of threads the largest is taken.
    """
    rows = _cells.ok(frame, "gblup")
    rows = rows[rows["solver"] == "cholesky"]
    parts = rows[
        rows["metric"].isin(["coding_time", "grm_time"])
        | ((rows["metric"] == "solve_time") & (rows["phase"] == "cholesky"))
    ]
    total = parts.groupby([*REFERENCE, "case", "threads"], dropna=False)["value"].sum().reset_index()
    total = total.sort_values("threads", na_position="first", kind="stable")
    return total.groupby(REFERENCE)["value"].last()


def solves(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per solve: SOLVE, case, times (array, s), solve_s with bounds, ONCE, peak_rss, cholesky_s."""
    rows = _cells.ok(frame, "gblup")
    rows = rows[rows["solver"] == "pcg"]
    timed = rows[(rows["metric"] == "solve_time") & (rows["phase"] == "solve")]
    groups = timed.groupby([*SOLVE, "case"], dropna=False)["value"]
    drawn = pd.DataFrame([key for key, _ in groups], columns=[*SOLVE, "case"])
    drawn["times"] = pd.Series([values.to_numpy() for _, values in groups], dtype=object)
    _cells.spread(drawn, "solve_s", [median_interval(times) for times in drawn["times"]])
    solving = rows[rows["phase"] == "solve"]
    for metric, how in ONCE.items():
        values = solving[solving["metric"] == metric].groupby("case")["value"].agg(how)
        drawn[metric] = drawn["case"].map(values).astype(float)
    drawn["peak_rss"] = drawn["case"].map(_cells.session_median(rows, "peak_rss")).astype(float)
    exact = cholesky_times(frame)
    drawn["cholesky_s"] = [exact.get(key, float("nan")) for key in zip(*(drawn[c] for c in REFERENCE), strict=True)]
    return drawn


def draw(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per data set, trait, relationship, kernel, target and threads."""
    found = solves(frame).sort_values(["dataset", "trait", "relationship", "threads", "solve_s"], ignore_index=True)
    drawn = found.drop(columns=["case", "times"])
    versus = [ratio_interval([c], times) for c, times in zip(found["cholesky_s"], found["times"], strict=True)]
    drawn["cholesky_speedup"] = [interval.value for interval in versus]
    return drawn
