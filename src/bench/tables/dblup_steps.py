"""What one gradient step costs, dense and matrix-free."""

from __future__ import annotations

import pandas as pd

from bench.tables import _cells
from bench.tables import _dblup as shared

TITLE = "D-BLUP: cost and memory of one gradient step"
CAPTION = (
    "One evaluation of the gradients of the REML objective along λ and the weights of all SNPs: the median of all "
    "repeats with its 95 % bootstrap interval, and the CPU time of all threads. dense: G from the genotypes, its "
    "Cholesky factor, and backwards through both. dense_fixed: λ alone, G made beforehand: the least that a dense "
    "step can cost. matrix_free: conjugate gradients through the packed genotypes; ritz: preconditioned with 100 "
    "pairs of a block Lanczos run that is part of the set-up. Memory: the largest resident set during the steps "
    "less that before the genotypes were loaded. Passes: over the genotypes, Z or Z′ with all right-hand sides at "
    "once; of the kernel: what they take in the kernel alone, as a share of the step's CPU time. Warm: a step as in "
    "learning, at weights that have changed by a twentieth, from what the step before has solved."
)
GROUP = ["dataset", "n", "m", "threads", "method", "preconditioner"]
METRICS = ["step_rss", "peak_rss", "bytes_needed", "setup_time"]
STEP_METRICS = ["passes", "iterations", "kernel_cpu", "step_cpu", "step_time"]  # of a step, and of a warm one


def timed(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per case: GROUP, case, those of `_cells.put_times`, and METRICS."""
    rows = shared.rows_of(frame, "steps")
    step, warm = rows[rows["phase"] == "step"], rows[rows["phase"] == "warm"]
    groups = step[step["metric"] == "step_time"].groupby([*GROUP, "case"], dropna=False)
    drawn = pd.DataFrame([key for key, _ in groups], columns=[*GROUP, "case"])
    _cells.put_times(drawn, "time_s", groups)
    for metric in METRICS:
        drawn[metric] = drawn["case"].map(_cells.session_median(rows, metric)).astype(float)
    for metric in STEP_METRICS:
        drawn[metric] = drawn["case"].map(_cells.session_median(step, metric)).astype(float)
        drawn[f"warm_{metric}"] = drawn["case"].map(_cells.session_median(warm, metric)).astype(float)
    return drawn


def draw(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per data set, n, threads and way."""
    found = timed(frame).sort_values(["dataset", "m", "threads", "method", "preconditioner", "n"], ignore_index=True)
    columns = [*GROUP, "time_s", "time_s_low", "time_s_high", "step_cpu", "step_rss", "bytes_needed"]
    found["kernel_share"] = found["kernel_cpu"] / found["step_cpu"]
    found["warm_kernel_share"] = found["warm_kernel_cpu"] / found["warm_step_cpu"]
    columns += ["passes", "iterations", "kernel_share"]
    columns += ["warm_step_time", "warm_step_cpu", "warm_passes", "warm_iterations", "warm_kernel_share"]
    names = {"setup_time": "setup_s", "step_cpu": "cpu_s", "warm_step_time": "warm_s", "warm_step_cpu": "warm_cpu_s"}
    return found[[*columns, "setup_time", "repeats", "contaminated"]].rename(columns=names)
