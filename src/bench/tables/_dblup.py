"""Rows of D-BLUP by study, and paired differences from REML: tables and figures start from here."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bench.statistics import Interval, median_interval
from bench.tables import _cells

EXPERIMENT = "dblup"
PLACE = ["dataset", "n", "m", "trait"]
BASE = "reml"  # what the others are compared with
OBJECTIVES = ["reml", "loo", "gcv", "heldout", "train"]
METHODS = [
    "reml",
    "loo",
    "train",
    "reml+w",
    "loo+w",
    "train+w",
    "reml+w+ridge",
    "loo+w+ridge",
    "linear",
    "network",
    "truth",
]


def rows_of(frame: pd.DataFrame, *studies: str) -> pd.DataFrame:
    """The usable rows of some studies."""
    found = _cells.ok(frame, EXPERIMENT)
    return found[found["variant"].isin(studies)]


def in_order(names: pd.Series, order: list[str]) -> pd.Series:
    """Sort keys of names: those in `order` first, in its order."""
    places = {name: f"{place:02d}" for place, name in enumerate(order)}
    return names.map(lambda name: places.get(str(name), str(name)))


def paired(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One row per place and method: `value`, the median over repeats, and `difference`, the median of the paired
    differences from the unweighted REML of the same repeat, both with their 95 % bootstrap interval; `repeats`, and
    `better`, the share of the repeats in which the method is above REML."""
    wanted = rows[rows["metric"] == metric]
    found = []
    for place, of in wanted.groupby(PLACE, dropna=False):
        values = of.pivot_table(index="repeat", columns="method", values="value")
        for method in values.columns:
            own = values[method].dropna()
            shared = values[[method, BASE]].dropna() if BASE in values and method != BASE else values.head(0)
            gap = (shared[method] - shared[BASE]).to_numpy(float) if len(shared) else np.empty(0)
            row = dict(zip(PLACE, place, strict=True)) | {"method": method, "repeats": len(own)}
            row |= _spread("value", median_interval(own.to_numpy(float)))
            row |= _spread("difference", median_interval(gap))
            found.append(row | {"better": float(np.mean(gap > 0)) if gap.size else np.nan})
    ends = [f"{name}{end}" for name in ("value", "difference") for end in ("", "_low", "_high")]
    drawn = pd.DataFrame(found, columns=[*PLACE, "method", "repeats", *ends, "better"])
    return drawn.sort_values(
        [*PLACE, "method"], key=lambda c: in_order(c, METHODS) if c.name == "method" else c, ignore_index=True
    )


def _spread(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
