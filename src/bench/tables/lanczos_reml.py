"""The variance ratio from one block-Lanczos run: cost, share of the kernel's rate, both errors."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bench.tables import _cells

TITLE = "Variance ratio by REML from one block-Lanczos run"
CAPTION = (
    "From centred genotypes and records to the variance ratio λ and its errors: products of G with a block of k "
    "vectors until log λ stands to 1e-3. Preparing: packing for the kernel, and counting the codes for allele "
    "frequencies and the exact trace of G. Passes: products of k columns with Z or Z′. Kernel share: (products × "
    "median time of the kernel's own Z′U and ZV of k columns, timed before and after in the same process) ÷ time; "
    "CPU share the same in CPU time, which other programs disturb less. Statistical error: of log λ, by the "
    "curvature of the restricted likelihood; Monte Carlo error: what the choice of the k − 1 probes leaves. "
    "Truncation: how far log λ moves in three times as many steps; eigen: log λ by the eigendecomposition, less "
    "that of the run, where n allows. Records of the heritability named in the trait are drawn around the true "
    "breeding values. Peak memory is that of the process, the mapped file included."
)
KEYS = ["case", "dataset", "trait", "n", "m", "kernel", "target", "threads", "k"]


def runs(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per case: KEYS and what was measured, times in s."""
    rows = _cells.ok(frame, "lanczos_reml")
    found = rows.drop_duplicates("case")[["case", "dataset", "trait", "n", "m", "kernel", "target", "threads"]]
    found = found.reset_index(drop=True)

    def of(metric: str, phase: str | None = None) -> pd.Series:
        chosen = rows if phase is None else rows[rows["phase"] == phase]
        return found["case"].map(_cells.session_median(chosen, metric)).astype(float)

    timed = rows[rows["metric"] == "product_time"]
    found["k"] = found["case"].map(timed.groupby("case")["k"].first()).astype("Int64")
    for column, metric in (("product_s", "product_time"), ("product_cpu", "product_cpu")):
        medians = rows[rows["metric"] == metric].groupby(["case", "direction"])["value"].median()
        found[column] = found["case"].map(medians.groupby("case").sum()).astype(float)
    for name in ("reml_time", "reml_cpu", "products", "passes", "h2", "converged", "truncation_error"):
        found[name] = of(name, "reml")
    found["kernel_share"] = found["products"] * found["product_s"] / found["reml_time"]
    found["cpu_share"] = found["products"] * found["product_cpu"] / found["reml_cpu"]
    found["prepare_s"] = of("prepare_time") + of("coding_time")
    found["peak_rss"] = of("peak_rss")
    found["variance_ratio"] = of("variance_ratio", "reml")
    found["bound"] = of("variance_ratio_at_bound", "reml")
    found["standard_error"] = of("log_variance_ratio_standard_error", "reml")
    found["monte_carlo_error"] = of("log_variance_ratio_monte_carlo_error", "reml")
    found["eigen_difference"] = np.log(of("variance_ratio", "eigen") / found["variance_ratio"])
    found["contaminated"] = found["case"].map(_cells.reasons(rows)).astype("string")
    return found


def draw(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per run. Times in s."""
    found = runs(frame).sort_values(["dataset", "trait", "n", "kernel", "threads", "case"], ignore_index=True)
    found["status"] = np.where(found["converged"] == 1, "converged", "step cap")
    found.loc[(found["converged"] == 1) & (found["bound"] == 1), "status"] = "λ at its bound"
    columns = [
        *KEYS[1:], "prepare_s", "reml_time", "products", "passes", "product_s", "kernel_share", "cpu_share",
        "peak_rss", "variance_ratio", "h2",
        "standard_error", "monte_carlo_error", "truncation_error", "eigen_difference", "status", "contaminated",
    ]  # fmt: skip
    return found[columns].rename(columns={"reml_time": "reml_s"})
