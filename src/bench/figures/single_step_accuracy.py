"""Accuracy and slope of young animals by single-step and by pedigree BLUP."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.figures import style
from bench.tables import single_step_accuracy as table

TITLE = "Accuracy of young animals"
CAPTION = (
    "Animals born last, without records: correlation of EBVs with the true breeding values, and regression of the "
    "true ones on the EBVs, 1 where these are neither inflated nor deflated. Filled: single-step; open: pedigree "
    "BLUP on the same records. Bars: 95 % of 200 bootstrap samples of half-sib families; one simulated population "
    "each."
)
METHODS = {"": ("single-step BLUP", "#0072B2", True), "pedigree_": ("pedigree BLUP", "#E69F00", False)}
MOST_ROWS = 36


def draw(frame: pd.DataFrame) -> Figure:
    """A line per population, trait and group of animals."""
    found = table.draw(frame).head(MOST_ROWS)
    if found.empty:
        return style.nothing(frame, "single_step", "no reference was solved, or no animal is young")
    labels = [f"{r['dataset']} · {r['trait']} · {r['group']}" for r in found.to_dict("records")]
    with style.paper():
        figure, axes = style.panels(1, 2, row_height=min(0.7 + 0.23 * len(found), 8.4), extra=0.5, sharey=True)
        for at, (column, label) in zip(axes[0], (("accuracy", "accuracy"), ("slope", "slope")), strict=True):
            _panel(at, found, column)
            at.set_xlabel(label)
        axes[0, 0].set_yticks(range(len(found)), labels)
        axes[0, 0].set_ylim(len(found) - 0.5, -0.5)
        axes[0, 1].axvline(1, color=style.GREY, lw=0.8, ls=":")
        handles = [Line2D([], [], color=colour, marker="o", mfc=colour if filled else "white", ls="", label=name)
                   for name, colour, filled in METHODS.values()]  # fmt: skip
        style.legend(figure, handles)
    return figure


def _panel(at: Axes, found: pd.DataFrame, column: str) -> None:
    for shift, (prefix, (_, colour, filled)) in zip((-0.14, 0.14), METHODS.items(), strict=True):
        name = f"{prefix}{column}"
        face = colour if filled else "white"
        at.errorbar(
            found[name], np.arange(len(found)) + shift, xerr=style.yerr(found, name), color=colour, marker="o",
            mfc=face, ls="", elinewidth=0.9, ms=4,
        )  # fmt: skip
    at.grid(axis="x", color=style.LIGHT, lw=0.5)
    at.tick_params(axis="y", length=0)
