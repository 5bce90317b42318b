"""How fast genotypes that are larger than the memory are multiplied, against the disk and the kernel."""

from __future__ import annotations

import pandas as pd

from bench.statistics import by_process, median_interval, paired_ratio_interval
from bench.tables import _cells

TITLE = "Genotypes larger than the memory"
CAPTION = (
    "Rates in 10⁹ bytes of the .bed file per second, medians: reading is the file read from end to end, resident is "
    "the kernel with a chunk that is in memory, streamed is the product over the whole file, a chunk at a time, while "
    "the next is read. The file was dropped from the page cache before each reading, unless cache says otherwise. "
    "Share: streamed, of the lower of the other two in the same round, in percent, median with its 95 % bootstrap "
    "interval. Memory: given to the product; taken by it at the peak; of the whole process with its reference results."
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
    shares = [
        paired_ratio_interval(
            *(by_process(values, found["process"]) for values in (found["streamed"], _lower(found)))
        )
        for _, found in groups
    ]
    for end, values in (
        ("", [s.value for s in shares]), ("_low", [s.low for s in shares]), ("_high", [s.high for s in shares]),
    ):  # fmt: skip
        drawn[f"share{end}"] = [100 * value for value in values]
    for name, metric in (("given", "memory_given"), ("taken", "streamed_rss"), ("process", "peak_rss")):
        drawn[f"{name}_mb"] = drawn["case"].map(_cells.session_median(rows, metric)) / 1e6
    notes = timed[timed["method"] == "streamed"].groupby("case")["note"].unique()
    drawn["cache"] = drawn["case"].map(lambda case: ", ".join(sorted(notes[case])) if case in notes else "")
    drawn["contaminated"] = drawn["case"].map(_cells.reasons(timed))
    return drawn.sort_values([*ORDER, "case"], ignore_index=True).drop(columns="case")


def _lower(rounds: pd.DataFrame) -> pd.Series:
    """What a round allows: the lower of the disk's and the kernel's rate."""
    return rounds[["reading", "resident"]].min(axis=1)
