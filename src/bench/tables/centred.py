"""What centring and mean imputation cost on top of a kernel's products."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bench.statistics import Interval, by_process, median_interval, paired_ratio_interval
from bench.tables import _cells

TITLE = "What centring and missing calls cost"
CAPTION = (
    "Time of a kernel's product with the raw dosages (the median with its 95 % bootstrap interval; min is the "
    "fastest), and how much longer the product takes with centred dosages, in percent. Centring alone counts a "
    "missing call as 0 before the mean is taken off; with imputation it takes the mean of its SNP. All are called "
    "in turn in one process, in random order within each round: a cost is the median over rounds of (time) ÷ (time "
    "of the raw product), less 1, with its 95 % bootstrap interval over rounds. A dash: the data set has no missing "
    "call."
)
CELL = ["case", "dataset", "n", "m", "missing_rate", "kernel", "target", "threads", "k", "direction"]
ORDER = ["dataset", "kernel", "target", "threads", "k", "direction"]


def draw(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per data set, kernel, target, threads, k and direction. Times in ms, costs in percent."""
    rows = _cells.ok(frame, "centred")
    timed = rows[rows["metric"] == "product_time"]
    timed = timed.assign(process=timed["process"].fillna(0))
    rounds = timed.pivot_table(index=[*CELL, "process", "repeat"], columns="method", values="value")
    rounds = rounds.reindex(columns=["raw", "centred", "imputed"]).reset_index("process")
    groups = [(key, found) for key, found in rounds.groupby(CELL)]
    drawn = pd.DataFrame([key for key, _ in groups], columns=CELL)
    raw = [by_process(1e3 * found["raw"], found["process"]) for _, found in groups]
    _cells.spread(drawn, "time_ms", [median_interval(times) for times in raw])
    drawn["min_ms"] = [min(map(np.min, times)) for times in raw]
    for method in ("centred", "imputed"):
        _cells.spread(drawn, f"{method}_cost", [_cost(method, found) for _, found in groups])
    drawn["repeats"] = [len(found) for _, found in groups]
    drawn["contaminated"] = drawn["case"].map(_cells.reasons(timed))
    return drawn.sort_values([*ORDER, "case"], ignore_index=True).drop(columns="case")


def _cost(method: str, rounds: pd.DataFrame) -> Interval:
    """How much longer than the raw product of the same round, in percent; NaN where it was not timed."""
    times, raw = (by_process(rounds[name], rounds["process"]) for name in (method, "raw"))
    ratio = paired_ratio_interval(times, raw)
    return Interval(*(100 * (of - 1) for of in (ratio.value, ratio.low, ratio.high)))
