"""Single-step solves, a row each: tables and figures start from here."""

from __future__ import annotations

import pandas as pd

from bench.tables import _cells

EXPERIMENT = "single_step"
SOLVE = ["dataset", "animals", "n", "m", "trait", "variant", "preconditioner", "kernel", "target", "threads"]
POPULATION = ["dataset", "animals", "n", "m", "trait"]
PARTS = ["Zv", "Ztu", "A", "A_inverse", "S", "matrix", "preconditioner", "rest"]
SPARSE = ["A", "A_inverse", "S", "preconditioner"]
ONCE = [
    "setup_time", "setup_rss", "setup_passes", "bytes_declared", "iterations", "converged", "solve_time",
    "final_ebv_error", "rounds_boerner_johnston", "rounds_freudenberg", "rounds_1e9", "passes_1e9", "seconds_1e9",
    "rounds_ebv_1e2", "rounds_ebv_1e6", "passes_ebv_1e2", "peak_rss",
]  # fmt: skip


def rows_of(frame: pd.DataFrame, solver: str) -> pd.DataFrame:
    """The usable rows of the solves, the warm starts or the references."""
    found = _cells.ok(frame, EXPERIMENT)
    return found[found["solver"] == solver]


def solves(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per solve from zero: SOLVE, case, ONCE, the times of its rounds (what `_cells.put_times` makes of them,
    `round_s`), and the seconds of each part, `part_NAME`, of all its rounds."""
    rows = rows_of(frame, "pcg")
    timed = rows[rows["metric"] == "round_time"]
    groups = timed.groupby([*SOLVE, "case"], dropna=False)
    drawn = pd.DataFrame([key for key, _ in groups], columns=[*SOLVE, "case"])
    _cells.put_times(drawn, "round_s", groups)
    for metric in ONCE:
        drawn[metric] = drawn["case"].map(_cells.session_median(rows, metric)).astype(float)
    parts = rows[rows["metric"] == "part_time"]
    for part in PARTS:
        values = parts[parts["part"] == part].groupby("case")["value"].median()
        drawn[f"part_{part}"] = drawn["case"].map(values).astype(float)
    return drawn


def per_round(found: pd.DataFrame, *parts: str) -> pd.Series:
    """Seconds of the parts together in a round."""
    return found[[f"part_{part}" for part in parts]].sum(axis=1, min_count=1) / found["iterations"]


def multiplying(found: pd.DataFrame) -> pd.DataFrame:
    """The solves that multiply the genotypes in each round."""
    return found[per_round(found, "Zv", "Ztu") > 0]


def best(found: pd.DataFrame, by: list[str], metric: str) -> pd.DataFrame:
    """The solve with the least `metric` in each group."""
    return found.dropna(subset=[metric]).sort_values([metric, "case"]).drop_duplicates(by)


def one_kernel(found: pd.DataFrame) -> pd.DataFrame:
    """The solves through the kernel that most of them went through; auto where there are as many of another."""
    if found.empty:
        return found
    counts = found.groupby("kernel").size()
    most = counts[counts == counts.max()].index
    return found[found["kernel"] == ("auto" if "auto" in most else sorted(most)[0])]
