"""Prediction of what was not trained on, with learned weights and without."""

from __future__ import annotations

import pandas as pd

from bench.tables import _dblup as shared

TITLE = "D-BLUP: prediction with and without learned weights"
CAPTION = (
    "Everything (allele frequencies, λ, weights) is learned without the individuals that are predicted. Recorded "
    "traits: correlation of EBVs and records, less their fixed effects (the mean, and sex where it is known), in "
    "each left-out fold; simulated traits: correlation of the EBVs with the true breeding values of the held-out "
    "fifth of each replicate. The median over folds or replicates, and that of the paired differences from the "
    "unweighted REML, with 95 % bootstrap intervals; better is the share of them in which the method is above REML."
    " +w: weights of blocks of neighbouring SNPs; +ridge: with a prior on their logarithms. Folds of one data set "
    "share most of their training records: their intervals say how alike the folds are, not what another data set "
    "would give."
)
MEASURES = {"folds": ("predictive_ability_fold", "predictive ability"), "simulated": ("accuracy", "accuracy")}


def draw(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per data set, trait and method."""
    drawn = []
    for study, (metric, said) in MEASURES.items():
        found = shared.paired(shared.rows_of(frame, study), metric)
        found.insert(len(shared.PLACE) + 1, "measure", said)
        drawn.append(found)
    filled = [found for found in drawn if len(found)] or drawn[:1]
    table = pd.concat(filled, ignore_index=True)
    return table.rename(columns={f"value{end}": f"correlation{end}" for end in ("", "_low", "_high")})
