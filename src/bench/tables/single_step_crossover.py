"""What each variant costs as genotyped animals grow past the number of SNPs."""

from __future__ import annotations

import pandas as pd

from bench.tables import _single_step as shared

TITLE = "Genotyped animals past the number of SNPs"
CAPTION = (
    "After Table 1 and Fig. 1 of Boerner & Johnston (2019): the same population and SNPs with more and more "
    "genotyped animals n. Rounds are those until ‖r‖/‖b‖ ≤ 2.68e-9, their rule; the total is set-up and rounds "
    "together. Memory is the growth at the peak of the set-up, beside it what the variant had declared beforehand. "
    "Variants that hold an n × n matrix grow with n², those that hold n × m or m × m do not: the fastest of each n "
    "is marked."
)


def draw(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per number of genotyped and variant, of data sets that were solved with several such numbers."""
    found = shared.one_kernel(shared.solves(frame))
    counts = found.groupby(["dataset", "trait"])["n"].transform("nunique") if len(found) else found["n"]
    found = found[counts > 1].sort_values(["dataset", "trait", "n", "variant", "case"], ignore_index=True)
    drawn = found[["dataset", "n", "m", "variant", "preconditioner", "threads"]].copy()
    drawn["setup_s"] = found["setup_time"]
    for end in ("", "_low", "_high"):
        drawn[f"round_ms{end}"] = 1e3 * found[f"round_s{end}"]
    drawn["rounds"] = found["rounds_boerner_johnston"]
    drawn["total_s"] = total(found)
    least = drawn.groupby(["dataset", "n", "m"])["total_s"].transform("min")
    drawn["fastest"] = [
        "✓" if is_least else "" for is_least in (drawn["total_s"] == least) & drawn["total_s"].notna()
    ]
    drawn["setup_rss"], drawn["bytes_declared"] = found["setup_rss"], found["bytes_declared"]
    drawn["contaminated"] = found["contaminated"]
    return drawn


def total(found: pd.DataFrame) -> pd.Series:
    """Seconds to set up and to solve until the rule of Boerner & Johnston."""
    return found["setup_time"] + found["rounds_boerner_johnston"] * found["solve_time"] / found["iterations"]
