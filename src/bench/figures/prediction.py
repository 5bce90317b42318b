"""How well GBLUP predicts."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.figures import style
from bench.tables import _cells

TITLE = "Predictive ability, accuracy and reliability"
CAPTION = (
    "Predictive ability: correlation of phenotype and prediction in individuals whose fold was left out, pooled "
    "over folds (filled), the mean within folds (hollow) and each fold (grey). The pooled value includes "
    "differences between the folds' means, and a fold of high records leaves a low mean to the others: in small "
    "sets, and for weak traits, it lies below the mean within folds and can be negative. Accuracy: correlation of "
    "EBVs with true breeding values, where the data are simulated; every individual with its own record in the "
    "model. Reliability: 1 − PEV/(Gᵢᵢσ²ᵤ), mean over individuals with the smallest and largest as a line. A row "
    "per data set and trait; what is missing is named: reliabilities are not computed at every size, and without "
    "simulated data true values are unknown."
)
PANELS = {
    "predictive_ability": "predictive ability",
    "accuracy": "accuracy of EBVs",
    "reliability_mean": "reliability",
}
LOOKS = {"vanraden1": style.Look("#0072B2", "o"), "standardised": style.Look("#D55E00", "s")}


def draw(frame: pd.DataFrame) -> Figure:
    """A panel per quantity, a row per data set and trait, a colour per relationship."""
    rows = _cells.ok(frame, "gblup")
    rows = rows[(rows["solver"] == "cholesky")]
    panels = {metric: title for metric, title in PANELS.items() if (rows["metric"] == metric).any()}
    if not panels:
        return style.nothing(frame, "gblup", "no GBLUP reference finished")
    lines = rows[["dataset", "trait"]].drop_duplicates().sort_values(["dataset", "trait"], ignore_index=True)
    relationships = sorted(rows["relationship"].unique())
    with style.paper():
        figure, axes = style.panels(1, len(panels), row_height=0.5 + 0.24 * len(lines), extra=0.5, sharey=True)
        for at, (metric, title) in zip(axes[0], panels.items(), strict=True):
            style.name_panel(at, title)
            for i, relationship in enumerate(relationships):
                shift = 0.3 * (i - (len(relationships) - 1) / 2) / max(len(relationships) - 1, 1)
                _points(at, rows[rows["relationship"] == relationship], metric, lines, shift)
            _say_missing(at, rows[rows["metric"] == metric], metric, lines)
            _frame(at, lines)
        handles = [
            Line2D([], [], color=_look(r).colour, marker=_look(r).marker, ls="", label=r, ms=3.5)
            for r in relationships
        ]
        fold = Line2D([], [], color=style.GREY, marker="|", ls="", label="single fold")
        mean = Line2D([], [], color=style.GREY, marker="o", mfc="white", ms=6, ls="", label="mean within folds")
        extent = Line2D([], [], color=style.GREY, lw=0.8, label="smallest to largest")
        style.legend(figure, [*handles, mean, fold, extent])
    return figure


def _look(relationship: str) -> style.Look:
    return LOOKS.get(relationship) or style.look(relationship)


def _points(at: Axes, rows: pd.DataFrame, metric: str, lines: pd.DataFrame, shift: float) -> None:
    colour, marker = _look(rows["relationship"].iloc[0])
    for y, line in enumerate(lines.itertuples(index=False)):
        here = rows[(rows["dataset"] == line.dataset) & (rows["trait"] == line.trait)]
        values = here.set_index("metric")["value"]
        if metric == "predictive_ability" and "predictive_ability_fold" in values:
            folds = np.atleast_1d(values["predictive_ability_fold"])
            at.plot(folds, np.full(len(folds), y + shift), "|", color=style.GREY, ms=5, zorder=2)
            at.plot(folds.mean(), y + shift, color=colour, marker=marker, mfc="white", ls="", ms=6, zorder=2.5,
                    clip_on=False)  # fmt: skip
        if metric == "reliability_mean" and {"reliability_min", "reliability_max"} <= set(values.index):
            at.plot(values[["reliability_min", "reliability_max"]], [y + shift] * 2, color=style.GREY, lw=0.8)
        if metric in values:
            at.plot(values[metric], y + shift, color=colour, marker=marker, ls="", ms=3.5, zorder=3, clip_on=False)


def _say_missing(at: Axes, rows: pd.DataFrame, metric: str, lines: pd.DataFrame) -> None:
    known = set(zip(rows["dataset"], rows["trait"], strict=True))
    for y, line in enumerate(lines.itertuples(index=False)):
        if (line.dataset, line.trait) not in known:
            why = "true values unknown" if metric == "accuracy" else "not computed"
            at.annotate(why, (0.03, y), xycoords=at.get_yaxis_transform(), va="center", fontsize=7, color=style.GREY)


def _frame(at: Axes, lines: pd.DataFrame) -> None:
    at.set_yticks(range(len(lines)), [f"{line.dataset} · {line.trait}" for line in lines.itertuples()])
    at.set_ylim(len(lines) - 0.5, -0.5)
    at.tick_params(axis="y", length=0)
    at.grid(axis="both", color=style.LIGHT, lw=0.5)
    at.set_axisbelow(True)
    at.set_xlim(min(0.0, at.get_xlim()[0]), 1.03)
