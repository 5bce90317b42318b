"""Two kernels timed in turn in one process."""

from __future__ import annotations

import pandas as pd

from bench.statistics import paired_ratio_interval
from bench.tables import _cells

TITLE = "Pairs of kernels, timed in turn"
CAPTION = (
    "Both kernels hold the same matrix in one process and are called in turn, in random order within each "
    "round, so that drift of the machine hits both. Times as fast: the median over rounds of (time of the "
    "second) ÷ (time of the first), with the 95 % bootstrap interval over rounds; 4 means that the first "
    "kernel needs a quarter of the time. The shares of the FMA peak use the peak measured in the same "
    "process before and after."
)
PAIR = ["case", "dataset", "n", "m", "dtype", "threads", "direction", "k"]
ORDER = ["dataset", "kernel", "against", "dtype", "threads", "k", "direction", "target"]


def draw(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per pair, data set, dtype, threads, direction and k. Rates in G/s."""
    rows = _cells.ok(frame, "paired")
    peaks = _cells.session_median(rows, "fma_peak")
    timed = rows[rows["metric"] == "product_time"]
    second = timed["kernel"] + "/" + timed["target"] == timed["against"]
    keys = [*PAIR, "repeat"]
    rounds = timed[~second].merge(timed[second], on=keys, suffixes=("", "_against"))
    groups = rounds.groupby(PAIR)
    sides = groups[["kernel", "target", "kernel_against", "target_against"]].first()
    drawn = sides.reset_index().drop(columns="case")
    drawn = drawn.rename(columns={"kernel_against": "against", "target_against": "against_target"})
    ratios = [paired_ratio_interval(pairs["value_against"], pairs["value"]) for _, pairs in groups]
    _cells.spread(drawn, "times_as_fast", ratios)
    work = (drawn["n"] * drawn["m"] * drawn["k"]).astype(float).to_numpy()
    peak = peaks.reindex(sides.index.get_level_values("case")).to_numpy()
    for name, value in (("", "value"), ("against_", "value_against")):
        rate = work / groups[value].median().to_numpy()
        drawn[f"{name}rate"] = rate / 1e9
        drawn[f"{name}fma_share"] = rate / peak
    drawn["pairs"] = groups.size().to_numpy()
    return drawn.sort_values(ORDER, ignore_index=True)
