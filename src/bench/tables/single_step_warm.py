"""Rounds that the last evaluation's solution saves."""

from __future__ import annotations

import pandas as pd

from bench.tables import _cells
from bench.tables import _single_step as shared

TITLE = "Warm starts"
CAPTION = (
    "The same equations solved from zero (cold) and from the solution of the last evaluation (warm), which lacked "
    "the 5 % of the records and 2 % of the genotypes that belong to the youngest animals. Rounds until ‖r‖/‖b‖ ≤ "
    "1e-9, and until no EBV is further than 1e-2 genetic standard deviations from the reference. Start: the largest "
    "EBV difference before the first round. Both count the same ‖b‖, so a warm start is not let off its last "
    "digits."
)
RULES = {"rounds": "rounds_1e9", "rounds_ebv": "rounds_ebv_1e2"}


def draw(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per population, traits, variant and preconditioner."""
    rows = shared.rows_of(frame, "warm")
    place = rows.groupby("case")[shared.SOLVE].first()
    drawn = place.copy()
    for name, metric in RULES.items():
        of = rows[rows["metric"] == metric]
        for phase in ("cold", "warm"):
            drawn[f"{phase}_{name}"] = of[of["phase"] == phase].groupby("case")["value"].median()
        drawn[f"{name}_saved"] = 1 - drawn[f"warm_{name}"] / drawn[f"cold_{name}"]
    first = rows[(rows["metric"] == "ebv_error") & (rows["step"] == 0) & (rows["phase"] == "warm")]
    drawn["start_error"] = first.groupby("case")["value"].median()
    drawn["contaminated"] = pd.Series(_cells.reasons(rows), dtype="string").reindex(drawn.index)
    return drawn.sort_values([*shared.POPULATION, "variant", "preconditioner"]).reset_index(drop=True)
