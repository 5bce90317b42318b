"""X X' by different methods."""

from __future__ import annotations

import pandas as pd

from bench.statistics import NOTHING, Interval, median_interval, ratio_interval
from bench.tables import _cells

TITLE = "Genomic relationships: X X′"
CAPTION = (
    "Time to multiply the dosages of n individuals at m SNPs with themselves: the median of all repeats with its "
    "95 % bootstrap interval. gram is this package's, exact in integers, from the packed genotypes; dsyrk is "
    "the BLAS on a float64 matrix that is resident already; float32 unpacks blocks of SNPs for the BLAS; plink2 "
    "is the whole program --make-rel, with its start, reading, standardising and writing. The rate counts "
    "n(n + 1)/2·m multiply-adds. Times as fast as dsyrk is a ratio of medians of sessions that ran one after the "
    "other. Peak memory is that of the process (of plink2 its own), the check of the result included."
)
PLACE = ["dataset", "n", "m", "threads"]
COLUMNS = ["case", *PLACE, "method", "target"]


def timed(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per case: COLUMNS, times (array), time and rate in s and 1/s with their bounds."""
    rows = _cells.ok(frame, "gram")
    groups = rows[rows["metric"] == "gram_time"].groupby(COLUMNS)["value"]
    drawn = pd.DataFrame([key for key, _ in groups], columns=COLUMNS)
    times = [values.to_numpy() for _, values in groups]
    drawn["times"] = pd.Series(times, dtype=object)
    _cells.spread(drawn, "time", [median_interval(t) for t in times])
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
    _cells.spread(drawn, "dsyrk_speedup", _against_dsyrk(found))
    drawn["peak_rss"] = found["peak_rss"]
    drawn["repeats"] = [len(times) for times in found["times"]]
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
