"""Two kernels timed in turn in one process."""

from __future__ import annotations

import pandas as pd

from bench.statistics import Interval, paired_ratio_interval
from bench.tables import _cells

TITLE = "Pairs of kernels, timed in turn"
CAPTION = (
    "Both kernels hold the same matrix in one process and are called in turn, in random order within each round, so "
    "that drift of the machine hits both. Times as fast: the median over rounds of (time of the second) ÷ (time of "
    "the first), with the 95 % bootstrap interval over rounds; 4 means that the first kernel needs a quarter of the "
    "time. The shares of the FMA peak use the peak measured in the same process before and after."
)
PAIR = ["case", "dataset", "n", "m", "dtype", "threads", "direction", "k"]


def draw(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per pair, data set, dtype, threads, direction and k."""
    rows = _cells.ok(frame, "paired")
    rows = rows.assign(name=rows["kernel"] + "/" + rows["target"])
    peak = _cells.session_median(rows, "fma_peak")
    timed = rows[rows["metric"] == "product_time"]
    found, ratios = [], []
    for key, pair in timed.groupby(PAIR):
        at = dict(zip(PAIR, key, strict=True))
        first, second = (_by_round(pair[pair["name"] != pair["against"]]), _by_round(pair[pair["name"] == pair["against"]]))
        both = first.join(second, lsuffix="_a", rsuffix="_b", how="inner")
        ratios.append(paired_ratio_interval(both["value_b"].to_numpy(), both["value_a"].to_numpy()))
        work = at["n"] * at["m"] * at["k"]
        rates = [work / both[side].median() for side in ("value_a", "value_b")]
        names = [*both["name_a"].head(1).str.split("/").item(), *both["name_b"].head(1).str.split("/").item()]
        limit = peak.get(at.pop("case"), float("nan"))
        found.append([*at.values(), *names, *(r / 1e9 for r in rates), *(r / limit for r in rates), len(both)])
    columns = [*PAIR[1:], "kernel", "target", "against", "against_target", "rate", "against_rate", "fma_share"]
    drawn = pd.DataFrame(found, columns=[*columns, "against_fma_share", "pairs"])
    _cells.spread(drawn, "times_as_fast", ratios)
    shown = [*PAIR[1:6], "k", "direction", *columns[7:11], *_triple("times_as_fast"), "rate", "against_rate"]
    order = ["dataset", "kernel", "against", "dtype", "threads", "k", "direction", "target"]
    return drawn[[*dict.fromkeys(shown), "fma_share", "against_fma_share", "pairs"]].sort_values(order, ignore_index=True)


def _by_round(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.set_index("repeat")[["name", "value"]]


def _triple(name: str) -> list[str]:
    return [name, f"{name}_low", f"{name}_high"]
