"""The variance ratio that each objective learns, against REML."""

from __future__ import annotations

import pandas as pd

from bench.tables import _dblup as shared

TITLE = "D-BLUP: the variance ratio under each objective"
CAPTION = (
    "λ learned by gradients through the BLUP solve under each objective, all SNPs weighted alike: restricted "
    "likelihood, exact leave-one-out MSE, generalised cross-validation, MSE of held-out folds, and MSE of the "
    "training records themselves, whose minimum is λ = 0. From eigen-REML: the relative distance of λ from the "
    "suite's REML by an eigendecomposition. EBV error: the largest difference of the EBVs from the suite's Cholesky"
    " solution at that λ, relative to the largest EBV. LOO MSE and 5-fold MSE are those at the learned λ, divided "
    "by the variance of the records."
)
METRICS = {
    "lambda": "variance_ratio",
    "lambda_difference": "lambda_difference",
    "ebv_error": "ebv_error",
    "loo_mse": "loo_mse",
    "cv_mse": "cv_mse",
    "iterations": "iterations",
}


def draw(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per data set, trait and objective."""
    rows = shared.rows_of(frame, "learned").query("phase == 'learned'")
    by = [*shared.PLACE, "method"]
    values = rows.pivot_table(index=by, columns="metric", values="value", aggfunc="median")
    drawn = values.reindex(columns=list(METRICS.values())).set_axis(list(METRICS), axis=1).reset_index()
    drawn[list(METRICS)] = drawn[list(METRICS)].astype(float)
    return drawn.sort_values(
        by, key=lambda c: shared.in_order(c, shared.OBJECTIVES) if c.name == "method" else c, ignore_index=True
    )
