"""EBVs by PCG through each kernel."""

from __future__ import annotations

import pandas as pd

from bench.statistics import ratio_interval
from bench.tables import _cells

TITLE = "GBLUP solved through each kernel"
CAPTION = (
    "EBVs and SNP effects by preconditioned conjugate gradients, G never formed: every step is one Z′U and "
    "one Z V through the kernel. Solve is the median over repeats with its 95 % bootstrap interval, min the fastest, "
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
    """One row per solve: SOLVE, case, solve_s and what else `_cells.put_times` makes, ONCE, peak_rss, cholesky_s."""
    rows = _cells.ok(frame, "gblup")
    rows = rows[rows["solver"] == "pcg"]
    timed = rows[(rows["metric"] == "solve_time") & (rows["phase"] == "solve")]
    groups = timed.groupby([*SOLVE, "case"], dropna=False)
    drawn = pd.DataFrame([key for key, _ in groups], columns=[*SOLVE, "case"])
    _cells.put_times(drawn, "solve_s", groups)
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
    drawn = found[[*SOLVE, "solve_s", "solve_s_low", "solve_s_high"]].copy()
    drawn["min_s"] = found["solve_s_min"]
    drawn = drawn.join(found[[*ONCE, "peak_rss", "cholesky_s"]])
    versus = [ratio_interval([c], times) for c, times in zip(found["cholesky_s"], found["times"], strict=True)]
    drawn["cholesky_speedup"] = [interval.value for interval in versus]
    drawn["contaminated"] = found["contaminated"]
    return drawn
