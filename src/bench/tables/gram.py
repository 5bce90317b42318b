"""X X' by different methods."""

from __future__ import annotations

import pandas as pd

from bench.statistics import NOTHING, Interval, ratio_interval
from bench.tables import _cells

TITLE = "Genomic relationships: X X′"
CAPTION = (
    "Time to multiply the dosages of n individuals at m SNPs with themselves: the median of all repeats with its 95 "
    "% bootstrap interval; min is the fastest. gram is this package's, exact in integers, from the packed "
    "genotypes; dsyrk is the BLAS on a float64 matrix that is resident already; float32 unpacks blocks of SNPs for "
    "the BLAS; plink2 is the whole program --make-rel, with its start, reading, standardising and writing. The rate "
    "counts n(n + 1)/2·m multiply-adds. Times as fast as dsyrk is a ratio of medians of sessions that ran one after "
    "the other. Peak memory is that of the process (of plink2 its own), the check of the result included."
)
PLACE = ["dataset", "n", "m", "threads"]
COLUMNS = ["case", *PLACE, "method", "target"]


def timed(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per case: COLUMNS, those of `_cells.put_times`, and the rate in 1/s with its bounds."""
    rows = _cells.ok(frame, "gram")
    groups = rows[rows["metric"] == "gram_time"].groupby(COLUMNS)
    drawn = pd.DataFrame([key for key, _ in groups], columns=COLUMNS)
    _cells.put_times(drawn, "time", groups)
    work = (drawn["n"] * (drawn["n"] + 1) / 2 * drawn["m"]).astype(float)
    for end, of in (("", "time"), ("_low", "time_high"), ("_high", "time_low")):
        drawn[f"rate{end}"] = work / drawn[of]
    for metric in ("peak_rss", "bytes_needed"):
        drawn[metric] = drawn["case"].map(_cells.session_median(rows, metric)).astype(float)
    return drawn


def draw(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per data set, threads, method and target, the fastest first. Times in s, rates in G/s."""
    found = timed(frame).sort_values([*PLACE, "time", "case"], ignore_index=True)
    drawn = found[[*PLACE, "method", "target"]].copy()
    for end in ("", "_low", "_high"):
        drawn[f"time_s{end}"] = found[f"time{end}"]
        drawn[f"rate{end}"] = found[f"rate{end}"] / 1e9
    drawn["min_s"] = found["time_min"]
    _cells.spread(drawn, "dsyrk_speedup", _against_dsyrk(found))
    drawn["peak_rss"] = found["peak_rss"]
    drawn["repeats"] = found["repeats"]
    drawn["contaminated"] = found["contaminated"]
    return drawn


def _against_dsyrk(found: pd.DataFrame) -> list[Interval]:
    """dsyrk's time over each one's own, on the same data and threads."""
    base = {tuple(row[name] for name in PLACE): row for row in found.to_dict("records") if row["method"] == "dsyrk"}
    ratios = []
    for row in found.to_dict("records"):
        other = base.get(tuple(row[name] for name in PLACE))
        if other is None:
            ratios.append(NOTHING)
        elif other["case"] == row["case"]:
            ratios.append(Interval(1.0, float("nan"), float("nan")))
        else:
            ratios.append(ratio_interval(other["times"], row["times"]))
    return ratios
