"""Weights from SNP annotations through a network, trained through the BLUP solve."""

from __future__ import annotations

import pandas as pd

from bench.tables import _dblup as shared

TITLE = "D-BLUP: weights from SNP annotations"
CAPTION = (
    "Simulated traits whose SNP effects have variances that the annotations give by a function that is not linear. "
    "A small network (linear: a linear function) maps annotations to weights and is trained through the BLUP solve "
    "on the training records alone; reml gives all SNPs the same weight, truth uses the function that the trait was"
    " simulated with. Accuracy: correlation of the EBVs with the true breeding values of the held-out fifth, the "
    "median over replicates; gain: the median of the paired differences from reml; 95 % bootstrap intervals. "
    "Correlation of weights: of the logarithms of learned and true weights over the SNPs."
)


def draw(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per data set and method."""
    rows = shared.rows_of(frame, "annotations")
    drawn = shared.paired(rows, "accuracy")
    similar = rows[rows["metric"] == "weight_correlation"].groupby([*shared.PLACE, "method"])["value"].median()
    keys = pd.MultiIndex.from_frame(drawn[[*shared.PLACE, "method"]])
    ends = ("", "_low", "_high")
    renamed = {f"value{e}": f"accuracy{e}" for e in ends} | {f"difference{e}": f"gain{e}" for e in ends}
    drawn = drawn.rename(columns=renamed)
    drawn["weight_correlation"] = similar.reindex(keys).to_numpy(float)
    return drawn
