"""How well young animals are predicted, with their genotypes and without."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bench.statistics import Interval
from bench.tables import _cells
from bench.tables import _single_step as shared

TITLE = "Accuracy of young animals against pedigree BLUP"
CAPTION = (
    "Animals born last, without records: all of them, and those that are genotyped. Accuracy: correlation of EBVs "
    "with the true breeding values; slope: regression of the true ones on the EBVs, 1 where these are neither "
    "inflated nor deflated. Gain: single-step less pedigree BLUP on the same records and variances. Intervals: 95 "
    "%, from 200 bootstrap samples of half-sib families, the same families for both methods; one simulated "
    "population each, so that what another population would give is not in them."
)
GROUP = ["dataset", "animals", "n", "trait", "phase"]
SINGLE_STEP, PEDIGREE = "single-step", "pedigree"


def draw(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per population, trait and group of animals."""
    rows = shared.rows_of(frame, "reference")
    rows = rows[rows["metric"].isin(["accuracy", "slope", "accuracy_draw", "slope_draw"])]
    found = []
    for key, of in rows.groupby(GROUP, dropna=False):
        # A trait may be in the reference of several traits, too: the one with the fewest is taken.
        of = of[of["case"] == of["case"].iloc[0]]
        found.append(dict(zip(GROUP, key, strict=True)) | _figures(of))
    columns = [*GROUP, *(f"{name}{end}" for name in NAMES for end in ("", "_low", "_high")), "contaminated"]
    return pd.DataFrame(found, columns=columns).rename(columns={"phase": "group"})


NAMES = ("accuracy", "pedigree_accuracy", "gain", "slope", "pedigree_slope")


def _figures(of: pd.DataFrame) -> dict:
    accuracy, slope = ({m: _one(of, metric, m) for m in (SINGLE_STEP, PEDIGREE)} for metric in ("accuracy", "slope"))
    gain = accuracy[SINGLE_STEP][0] - accuracy[PEDIGREE][0], accuracy[SINGLE_STEP][1] - accuracy[PEDIGREE][1]
    values = (accuracy[SINGLE_STEP], accuracy[PEDIGREE], gain, slope[SINGLE_STEP], slope[PEDIGREE])
    drawn: dict = {"contaminated": _cells.contaminated(of)}
    for name, (value, draws) in zip(NAMES, values, strict=True):
        interval = Interval(value, *(np.quantile(draws, [0.025, 0.975]) if draws.size else (np.nan, np.nan)))
        drawn |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
    return drawn


def _one(of: pd.DataFrame, metric: str, method: str) -> tuple[float, np.ndarray]:
    mine = of[of["method"] == method]
    value = mine.loc[mine["metric"] == metric, "value"]
    draws = mine[mine["metric"] == f"{metric}_draw"].sort_values("repeat")["value"].to_numpy(float)
    return (float(value.iloc[0]) if len(value) else np.nan), draws
