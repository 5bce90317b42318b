"""Variance components, predictive ability and reliability of GBLUP on each data set."""

from __future__ import annotations

import pandas as pd

from bench.tables import _cells

TITLE = "GBLUP: variances, prediction, reliability"
CAPTION = (
    "y = Xb + u + e with u ~ N(0, Gσ²ᵤ) and λ = σ²ₑ/σ²ᵤ, by REML through one eigendecomposition (Kang et "
    "al. 2008) where the number of records allows; the notes say where λ was assumed instead. Predictive "
    "ability: correlation of phenotype and prediction in individuals whose fold was left out, pooled over "
    "folds, with the standard deviation of the folds' own correlations. Accuracy: correlation of EBVs with "
    "the true breeding values, where a simulation knows them. Reliability: 1 − PEV/(Gᵢᵢσ²ᵤ), averaged over "
    "individuals. SNP-BLUP error: the largest difference of EBVs from the m × m marker equations and from "
    "the exact solution, relative to the largest EBV, over all kernels."
)
GROUP = ["dataset", "n", "m", "trait", "relationship"]
METRICS = {  # column → metric of the exact solution
    "records": "n_records",
    "lambda": "variance_ratio",
    "h2": "h2",
    "var_u": "variance_u",
    "var_e": "variance_e",
    "predictive_ability": "predictive_ability",
    "accuracy": "accuracy",
    "reliability": "reliability_mean",
}

NOTED = {"variance_ratio": "λ: ", "predictive_ability": "folds: "}


def draw(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per data set, trait and relationship that has an exact solution."""
    rows = frame[frame["experiment"] == "gblup"]
    exact = rows[rows["solver"] == "cholesky"]
    found = _cells.ok(exact, "gblup")
    place = found[GROUP].drop_duplicates().sort_values(GROUP, ignore_index=True)

    def column(source: pd.DataFrame, how: str) -> pd.Series:
        values = source.groupby(GROUP, dropna=False)["value"].agg(how).astype(float)
        return values.reindex(pd.MultiIndex.from_frame(place)).reset_index(drop=True)

    drawn = place.copy()
    for name, metric in METRICS.items():
        drawn[name] = column(found[found["metric"] == metric], "median")
    folds_sd = column(found[found["metric"] == "predictive_ability_fold"], "std")
    marker = _cells.ok(rows, "gblup").query("phase == 'snp_blup' and metric == 'ebv_error'")
    drawn["snp_blup_error"] = column(marker, "max")
    said = exact.assign(said=_said(exact)).dropna(subset="said").groupby(GROUP, dropna=False)["said"]
    notes = said.unique().map("; ".join)
    drawn["note"] = notes.reindex(pd.MultiIndex.from_frame(place)).to_numpy()
    drawn.insert(list(drawn).index("predictive_ability") + 1, "predictive_ability_sd", folds_sd)
    return drawn


def _said(exact: pd.DataFrame) -> pd.Series:
    """What a row tells about the method: where λ and the folds came from, or why a step was left out."""
    return exact["reason"].fillna(exact["metric"].map(NOTED) + exact["note"])
