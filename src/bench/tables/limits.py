"""What the machine does at the most."""

from __future__ import annotations

import pandas as pd

from bench.tables import _bounds

TITLE = "The limits of the machine"
CAPTION = (
    "The best of the tries of each limit, by instruction set and number of threads (docs/limits.md says what is "
    "timed): multiply-adds in float64 and float32, 8-bit multiply-adds, lookups and additions of table entries as "
    "wide as 8 and 4 doubles in one table, and of 8 in eight tables, in 10⁹ per second; bytes read from the largest "
    "buffer, and read and written by copying, in GB/s. A wider instruction set and more threads count at least what "
    "less of them reached."
)
COLUMNS = ["fma_f8", "fma_f4", "int8", "lookup8", "lookup8_far", "lookup4", "read", "copy"]


def draw(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per target and number of threads, the narrowest target first. 10⁹ per second, and GB/s."""
    best = _bounds.limits(frame)
    if best.empty:
        return pd.DataFrame(columns=["target", "threads", *COLUMNS])
    near = best["size"] == best.groupby(["metric", "k"], dropna=False)["size"].transform("min")
    far = best["size"] == best.groupby(["metric", "k"], dropna=False)["size"].transform("max")
    of = {
        "fma_f8": (best["metric"] == "fma_peak") & (best["dtype"] == "f8"),
        "fma_f4": (best["metric"] == "fma_peak") & (best["dtype"] == "f4"),
        "int8": best["metric"] == "int8_peak",
        "lookup8": (best["metric"] == "lookup_peak") & (best["k"] == 8) & near,
        "lookup8_far": (best["metric"] == "lookup_peak") & (best["k"] == 8) & far,
        "lookup4": (best["metric"] == "lookup_peak") & (best["k"] == 4) & near,
        "read": (best["metric"] == "read_peak") & far,
        "copy": best["metric"] == "copy_peak",
    }
    place = ["order", "target", "threads"]
    columns = {
        name: best[rows.fillna(False).astype(bool)].groupby(place)["value"].max() / 1e9 for name, rows in of.items()
    }
    return pd.DataFrame(columns).sort_index().reset_index().drop(columns="order")
