"""Cross-validation: held-out phenotypes over their predictions, and the predictive ability of each fold."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.figures import style

MOST_POINTS = 5000  # of a panel: more would be a blot, and a vector file of megabytes
COLOUR = "#0072B2"


def draw(predictions: pd.DataFrame, folds: pd.DataFrame, together: pd.DataFrame) -> Figure:
    """A row per trait: y − Xb over û, with the line of slope 1; the ability of each fold, and pooled as a band.

    predictions, folds, together: the tables of evaluation.crossvalidation_files.
    """
    traits = list(dict.fromkeys(folds["trait"]))
    with style.paper():
        figure, axes = style.panels(len(traits), 2, row_height=2.4, extra=0.5)
        for (left, right), trait in zip(axes, traits, strict=True):
            rows = predictions[(predictions["trait"] == trait) & predictions["fixed"].notna()]
            _scatter(left, rows, trait)
            _abilities(right, folds[folds["trait"] == trait], together[together["trait"] == trait])
        named = {str(handle.get_label()): handle for at in axes.flat for handle in at.get_legend_handles_labels()[0]}
        if named:
            style.legend(figure, list(named.values()))
    return figure


def _scatter(at: Axes, rows: pd.DataFrame, trait: str) -> None:
    style.name_panel(at, f"{trait}: held-out animals")
    if len(rows) > MOST_POINTS:
        rows = rows.sample(MOST_POINTS, random_state=1)
    u, left = rows["ebv"].to_numpy(float), (rows["y"] - rows["fixed"]).to_numpy(float)
    at.plot(u, left, ".", ms=5 if len(rows) < 500 else 2.5, color=COLOUR, alpha=0.5, mec="none")
    if len(rows):
        ends = np.array([u.min(), u.max()])
        at.plot(ends, ends, color=style.GREY, lw=0.8, ls="--", label="slope 1")
    at.set_xlabel("û")
    at.set_ylabel("y − Xb")


def _abilities(at: Axes, folds: pd.DataFrame, together: pd.DataFrame) -> None:
    style.name_panel(at, "predictive ability by fold")
    x = np.arange(len(folds))
    known = folds["ability"].notna().to_numpy()
    errors = np.abs(folds[["ability_low", "ability_high"]].to_numpy(float).T - folds["ability"].to_numpy(float))
    at.errorbar(
        x[known], folds["ability"][known], errors[:, known], fmt="o", ms=3, lw=0, elinewidth=0.8, color=COLOUR,
        label="fold, 95 % interval",
    )  # fmt: skip
    pooled = together[together["over"] == "pooled"]
    if len(pooled):
        of = pooled.iloc[0]
        at.axhline(of["ability"], color="black", lw=0.9, label="pooled")
        at.axhspan(of["ability_low"], of["ability_high"], color=style.LIGHT, zorder=0, label="pooled, 95 % interval")
    every = -(-len(folds) // 12)
    at.set_xticks(x[::every], folds["fold"].iloc[::every], rotation=45 if len(folds) > 6 else 0)
    at.set_xlabel("fold")
    at.set_ylabel("correlation of û and y − Xb")
