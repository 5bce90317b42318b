"""What a GPU reached: every product, its limits, and what was wanted of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bench.gpu import cells
from bench.statistics import Interval, median_interval, paired_ratio_interval

N, M, K = 751_000, 50_241, 10  # where the bars are
SHARES = {7: 0.60, 4: 0.85}  # digits → of the copy bandwidth
TIMES_FMA, MEMORY, PCG = 10.0, 1.05, 0.80

MILLISECONDS = {  # column → of cells.times
    "time_ms": "median",
    "min_ms": "least",
    "max_ms": "most",
    "predicted_ms": "predicted",
    "digits_ms": "digits",
    "kernel_ms": "product",
    "finish_ms": "finish",
    "whole_ms": "whole",
}
TIMES_TITLE = "Products on the GPU"
TIMES_CAPTION = (
    "Median, least and largest time of a product by the GPU's own events, vectors on the GPU; TB/s of the least "
    "bytes that it moves (the genotypes at 2 bits and the vectors, once) and their share of the measured copy "
    "bandwidth. The model is the larger of what it moves over that bandwidth and what it multiplies over the "
    "measured rates of the tensor cores or of float64. Digits, tensor cores and finish are the times of the "
    "kernels that a product consists of; whole call is with vectors in the host's memory, copied there and back. "
    "The error is that of some outputs against sums in long double, relative to the largest."
)
BARS_TITLE = "What was wanted of the GPU, and what was measured"
BARS_CAPTION = (
    f"At {N:,} × {M:,} with {K} columns, by the GPU's events, in the faster of the paths; 95 % intervals. The "
    "share of the copy bandwidth counts the genotypes at 2 bits and the vectors once; memory is what CuPy has "
    "taken of the GPU for matrix, work space and vectors, less the vectors, over the packed genotypes. The "
    "model's figure beside it is computed from the limits measured in the same run."
)
LIMITS_TITLE = "The limits of the GPU"
LIMITS_CAPTION = (
    "The best of the tries: bytes a second of a copy (read and written) and of reading, and operations a second "
    "of 8-bit multiply-adds on the tensor cores (mma.sync, and wgmma of sm_90a), and-popcount of bits, "
    "conversions of integers to float64, and float64 multiply-adds. TB/s, and 10¹² a second."
)


def times(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per product, largest matrix first."""
    found, copy = cells.times(frame), cells.best(frame, "copy_peak")
    drawn = found[[*cells.PLACE]].copy()
    for name, column in MILLISECONDS.items():
        drawn[name] = found[column].astype(float) * 1e3
    drawn["repeats"] = found["repeats"]
    drawn["bandwidth"], drawn["copy_share"] = found["bandwidth"] / 1e12, found["bandwidth"] / copy
    drawn["of_model"] = found["predicted"] / found["median"]
    drawn["rel_error"] = found["rel_error"]
    return drawn.sort_values(
        ["n", "k", "direction", "target"], ascending=[False, True, True, True], ignore_index=True
    )


def limits(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per limit and target."""
    rows = cells.of(frame)
    rows = rows[rows["phase"] == "limits"]
    best = rows.groupby(["metric", "target"], dropna=False, sort=False)["value"].max().reset_index()
    return best.assign(value=best["value"] / 1e12).rename(columns={"metric": "measure", "value": "reached"})


def bars(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per bar: wanted, found (with bounds), what the model says, and whether it is met."""
    timed, copy = cells.times(frame), cells.best(frame, "copy_peak")
    timed = timed[(timed["n"] == N) & (timed["m"] == M) & (timed["k"] == K) & (timed["missing_rate"] == 0)]
    found = []
    for slices, wanted in SHARES.items():
        for direction in ("matmul", "rmatmul"):
            at = timed[(timed["direction"] == direction) & (timed["target"].map(cells.slices) == slices)]
            found.append(_bar(f"share of the copy bandwidth, S = {slices}", direction, wanted, *_share(at, copy)))
    found += [
        _bar("times as fast as gpu_fma", direction, TIMES_FMA, *_against_fma(frame, direction))
        for direction in ("matmul", "rmatmul")
    ]
    found.append(_bar("memory over the packed genotypes", "", MEMORY, *_memory(frame), most=True))
    found.append(_bar("share of a PCG iteration in products", "", PCG, *_pcg(frame)))
    return pd.DataFrame(found)


def _bar(
    bar: str, direction: str, wanted: float, found: Interval | None, model: float, *, most: bool = False
) -> dict[str, Any]:
    """most: what is wanted is at the most so much."""
    row = {
        "what": bar,
        "direction": direction,
        "wanted": wanted,
        "measured": np.nan,
        "measured_low": np.nan,
        "measured_high": np.nan,
        "predicted": model,
        "meets": "not measured",
    }
    if found is None:
        return row
    low, high = (found.value if np.isnan(b) else b for b in (found.low, found.high))
    sign = -1 if most else 1
    ends = sorted((sign * low, sign * high))
    meets = "yes" if ends[0] >= sign * wanted else "no" if ends[1] < sign * wanted else "inconclusive"
    return row | {"measured": found.value, "measured_low": found.low, "measured_high": found.high, "meets": meets}


def _share(timed: pd.DataFrame, copy: float) -> tuple[Interval | None, float]:
    """Of the copy bandwidth, in the path of the least median; the model's."""
    if timed.empty or np.isnan(copy):
        return None, np.nan
    row = timed.iloc[int(timed["median"].argmin())]
    ideal = cells.least_bytes(N, M, K) / copy
    time = median_interval(row["time"])
    return Interval(ideal / time.value, ideal / time.high, ideal / time.low), ideal / row["predicted"]


def _against_fma(frame: pd.DataFrame, direction: str) -> tuple[Interval | None, float]:
    rows = cells.of(frame)
    rows = rows[
        (rows["phase"] == "pair")
        & (rows["against"] == "gpu_fma")
        & (rows["n"] == N)
        & (rows["m"] == M)
        & (rows["k"] == K)
        & (rows["direction"] == direction)
    ]
    times = (
        rows[rows["metric"] == "kernel_time"].pivot_table(index="repeat", columns="kernel", values="value").dropna()
    )
    if not {"gpu_2bit", "gpu_fma"} <= set(times.columns) or times.empty:
        return None, np.nan
    models = {name: _predicted(frame, name, direction) for name in ("gpu_2bit", "gpu_fma")}
    return paired_ratio_interval(times["gpu_fma"], times["gpu_2bit"]), models["gpu_fma"] / models["gpu_2bit"]


def _predicted(frame: pd.DataFrame, kernel: str, direction: str) -> float:
    """The model's seconds of a kernel where the bars are; of gpu_2bit with 7 digits in the faster path."""
    rows = cells.of(frame).dropna(subset=["target"])
    rows = rows[
        (rows["metric"] == "predicted_time")
        & (rows["kernel"] == kernel)
        & (rows["n"] == N)
        & (rows["m"] == M)
        & (rows["k"] == K)
        & (rows["direction"] == direction)
        & (rows["target"].map(cells.slices) == 7)
    ]
    return float(rows.groupby("target")["value"].max().min()) if len(rows) else np.nan


def _memory(frame: pd.DataFrame) -> tuple[Interval | None, float]:
    rows = cells.of(frame)
    rows = rows[(rows["phase"] == "memory") & (rows["n"] == N) & (rows["m"] == M) & (rows["k"] == K)]
    sizes: dict[Any, float] = rows.groupby("metric")["value"].max().to_dict()
    if not {"device_bytes", "packed_bytes", "vector_bytes"} <= set(sizes):
        return None, np.nan
    held = (sizes["device_bytes"] - sizes["vector_bytes"]) / sizes["packed_bytes"]
    return Interval(float(held), np.nan, np.nan), np.nan


def _pcg(frame: pd.DataFrame) -> tuple[Interval | None, float]:
    rows = cells.of(frame)
    rows = rows[(rows["metric"] == "product_share") & (rows["n"] == N) & (rows["m"] == M)]
    return (Interval(float(rows["value"].max()), np.nan, np.nan) if len(rows) else None), np.nan
