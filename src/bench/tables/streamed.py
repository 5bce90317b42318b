"""How fast genotypes that are larger than the memory are multiplied, against the disk and the kernel."""

from __future__ import annotations

import pandas as pd

from bench.statistics import Interval, by_process, median_interval, paired_ratio_interval
from bench.tables import _cells

TITLE = "Genotypes larger than the memory"
CAPTION = (
    "Rates in 10⁹ bytes of the .bed file per second, medians: reading is the file read from end to end, resident the "
    "kernel with a chunk that is in memory, streamed the product over the whole file, a chunk at a time, the next "
    "being read meanwhile. The file was dropped from the page cache beforehand, unless cache says otherwise. Share: "
    "streamed, of the lower of the other two in the same round, in percent, median with its 95 % bootstrap interval. "
    "Memory in MB: given to the product; taken by it at the peak; of the whole process, reference results included."
)
CELL = ["case", "dataset", "n", "m", "kernel", "target", "threads", "k", "direction"]
ORDER = ["dataset", "kernel", "target", "threads", "k", "direction"]
ROUND = ["case", "process", "repeat"]


def draw(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per data set, kernel, target, threads, k and direction. Rates in GB/s, the share in percent, MB."""
    rows = _cells.ok(frame, "streamed")
    rows = rows.assign(process=rows["process"].fillna(0), rate=rows["size"].astype(float) / rows["value"] / 1e9)
    reading = rows[rows["metric"] == "reading_time"].set_index(ROUND)["rate"].rename("reading")
    timed = rows[rows["metric"] == "product_time"]
    rounds = timed.pivot_table(index=[*CELL, "process", "repeat"], columns="method", values="rate").reset_index()
    rounds = rounds.reindex(columns=[*CELL, "process", "repeat", "resident", "streamed"]).join(reading, on=ROUND)
    groups = [(key, found) for key, found in rounds.groupby(CELL)]
    drawn = pd.DataFrame([key for key, _ in groups], columns=CELL)
    for name in ("reading", "resident", "streamed"):
        of = [median_interval(by_process(found[name], found["process"])) for _, found in groups]
        drawn[f"{name}_gb_s"] = [interval.value for interval in of]
    _cells.spread(drawn, "share", [_share(found) for _, found in groups])
    for name, metric in (("given", "memory_given"), ("taken", "streamed_rss"), ("process", "peak_rss")):
        drawn[f"{name}_mb"] = drawn["case"].map(_cells.session_median(rows, metric)) / 1e6
    notes = (
        timed[timed["method"] == "streamed"].groupby("case")["note"].agg(lambda of: ", ".join(sorted(of.unique())))
    )
    drawn["cache"] = drawn["case"].map(notes)
    drawn["contaminated"] = drawn["case"].map(_cells.reasons(timed))
    return drawn.sort_values([*ORDER, "case"], ignore_index=True).drop(columns="case")


def _share(rounds: pd.DataFrame) -> Interval:
    """Streamed, of the lower of the disk's and the kernel's rate in the same round, in percent."""
    lower = rounds[["reading", "resident"]].min(axis=1)
    ratio = paired_ratio_interval(*(by_process(of, rounds["process"]) for of in (rounds["streamed"], lower)))
    return Interval(*(100 * end for end in (ratio.value, ratio.low, ratio.high)))
