"""The rows of a run → what each product reached. Tables and the figure start from here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

PLACE = ["n", "m", "missing_rate", "kernel", "target", "k", "direction"]
STAGES = ["digits", "product", "finish"]
FOUND = [
    "time",
    "median",
    "least",
    "most",
    "repeats",
    "whole",
    "rel_error",
    *STAGES,
    "predicted",
    "rate",
    "bandwidth",
]


def of(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of the experiment that hold a value which may be shown."""
    return frame[(frame["experiment"] == "gpu") & (frame["status"] == "ok") & frame["value"].notna()]


def best(frame: pd.DataFrame, metric: str, target: str | None = None) -> float:
    """The highest of the tries of a limit; NaN where it was not measured."""
    rows = of(frame)
    rows = rows[(rows["phase"] == "limits") & (rows["metric"] == metric)]
    if target is not None:
        rows = rows[rows["target"] == target]
    return float(rows["value"].max()) if len(rows) else np.nan


def slices(target: str) -> int:
    """7 of sm_90a, 4 of sm_90a_s4."""
    return int(target.rpartition("_s")[2]) if target.count("_") > 1 else 7


def architecture(target: str) -> str:
    return "_".join(target.split("_")[:2])


def least_bytes(n: int, m: int, k: int) -> int:
    """Bytes that no product at 2 bits a genotype can do without: the genotypes and the vectors, once."""
    return m * -(-n // 4) + 8 * (n + m) * k


def times(frame: pd.DataFrame, phase: str = "product") -> pd.DataFrame:
    """One row per product. Seconds: time (an array of the repeats), median, least, most; whole, the call with vectors
    on the host; digits, product, finish; predicted. 1/s: rate, n·m·k over the median. B/s: bandwidth, of the least
    bytes. rel_error."""
    rows = of(frame)
    rows = rows[(rows["phase"] == phase) & rows["method"].isna()]
    found = []
    for key, group in rows.groupby([*PLACE, "against"], dropna=False, sort=False):
        cell: dict[str, Any] = dict(zip([*PLACE, "against"], key, strict=True))
        time = _values(group, "kernel_time")
        if not time.size:
            continue
        n, m, k = int(cell["n"]), int(cell["m"]), int(cell["k"])
        stages, models = _parts(group, "stage_time"), _parts(group, "predicted_time")
        found.append(
            cell
            | {"time": time, "median": np.median(time), "least": time.min(), "most": time.max(), "repeats": time.size}
            | {"whole": _median(group, "product_time"), "rel_error": _median(group, "rel_error")}
            | {part: stages.get(part, np.nan) for part in STAGES}
            | {"predicted": max(models.values(), default=np.nan)}
            | {"rate": n * m * k / np.median(time), "bandwidth": least_bytes(n, m, k) / np.median(time)}
        )
    return pd.DataFrame(found, columns=[*PLACE, "against", *FOUND])


def _values(rows: pd.DataFrame, metric: str) -> np.ndarray:
    return rows.loc[rows["metric"] == metric, "value"].to_numpy(float)


def _median(rows: pd.DataFrame, metric: str) -> float:
    values = _values(rows, metric)
    return float(np.median(values)) if values.size else np.nan


def _parts(rows: pd.DataFrame, metric: str) -> dict[str, float]:
    chosen = rows[rows["metric"] == metric]
    return dict(zip(chosen["part"], chosen["value"], strict=True))
