"""Kernels timed in turn in one process."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bench.statistics import by_process, centre, paired_ratio_interval, superiority
from bench.tables import _cells

TITLE = "Pairs of kernels, timed in turn"
CAPTION = (
    "The kernels hold the same matrix in one process and are called in turn, in random order within each round, so "
    "that drift of the machine hits all. Times as fast: the median over rounds of (time of the second) ÷ (time of "
    "the first), with the 95 % bootstrap interval over rounds, or over processes and their rounds; 4 means that "
    "the first kernel needs a quarter of the time. By minima: the same ratio of the fastest calls. First faster: "
    "the share of rounds in which the first was the faster one; 50 % is no difference, 100 % is one that every "
    "round shows, however small. The shares of the FMA peak use the peak measured in the same process before and "
    "after; in a contaminated session, the best that the run measured at no more threads."
)
PAIR = ["case", "dataset", "n", "m", "dtype", "threads", "direction", "k"]
PARTNER = ["kernel_against", "target_against"]
ORDER = ["dataset", "kernel", "against", "dtype", "threads", "k", "direction", "target"]


def rounds(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per round of each pair, the first kernel of a case with each of its others: PAIR, process, repeat,
    kernel, target and value (s) of the first, and these with _against of the other."""
    rows = _cells.ok(frame, "paired")
    timed = rows[rows["metric"] == "product_time"]
    timed = timed.assign(process=timed["process"].fillna(0))
    name = timed["kernel"] + "/" + timed["target"]
    partner = [own in others.split(",") for own, others in zip(name, timed["against"], strict=True)]
    second = pd.Series(partner, index=timed.index, dtype=bool)
    return timed[~second].merge(timed[second], on=[*PAIR, "process", "repeat"], suffixes=("", "_against"))


def draw(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per pair, data set, dtype, threads, direction and k. Rates in G/s."""
    groups = rounds(frame).groupby([*PAIR, *PARTNER])
    sides = groups[["kernel", "target"]].first().reset_index()[[*PAIR, "kernel", "target", *PARTNER]]
    drawn = sides.drop(columns="case").rename(
        columns={"kernel_against": "against", "target_against": "against_target"}
    )
    times = [
        tuple(by_process(pairs[name], pairs["process"]) for name in ("value_against", "value")) for _, pairs in groups
    ]
    _cells.spread(drawn, "times_as_fast", [paired_ratio_interval(*both) for both in times])
    drawn["minima_ratio"] = (groups["value_against"].min() / groups["value"].min()).to_numpy()
    drawn["faster_share"] = [superiority(first, second) for second, first in times]
    work = (drawn["n"] * drawn["m"] * drawn["k"]).astype(float).to_numpy()
    peak = _cells.session_peak(frame, sides, _cells.ok(frame, "paired"), "fma_peak").to_numpy()
    for i, name in enumerate(("against_", "")):
        rate = work / np.array([centre(both[i]) for both in times], dtype=float)
        drawn[f"{name}rate"] = rate / 1e9
        drawn[f"{name}fma_share"] = rate / peak
    drawn["pairs"] = groups.size().to_numpy()
    drawn["contaminated"] = sides["case"].map(_cells.reasons(_cells.ok(frame, "paired"))).astype("string")
    columns = ["rate", "fma_share", "against_rate", "against_fma_share", "pairs", "contaminated"]
    drawn = drawn[[name for name in drawn if name not in columns] + columns]
    return drawn.sort_values(ORDER, ignore_index=True)
