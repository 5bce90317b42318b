"""What learned weights gain or lose in prediction, against REML with equal weights."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.figures import _dblup, style
from bench.tables import _dblup as rows
from bench.tables import dblup_prediction as table

TITLE = "Gain of learned weights in prediction"
CAPTION = (
    "Median of the paired differences from REML with equal weights, with 95 % bootstrap intervals: of the "
    "predictive ability in each left-out fold (recorded traits), and of the accuracy in the held-out fifth of each "
    "replicate (simulated traits). Everything is learned without the individuals that are predicted. A panel per "
    "data set and trait, with REML's own value in its title; right of the line, learning gains. "
    "All panels have one scale."
)
COLUMNS = 3
MOST = 12


def draw(frame: pd.DataFrame) -> Figure:
    """A panel per data set and trait, a line per method."""
    found = table.draw(frame).dropna(subset=["correlation"])
    if found.empty:
        return style.nothing(frame, "dblup", "nothing was predicted")
    places = list(found.groupby([*rows.PLACE, "measure"], dropna=False, sort=False))[:MOST]
    methods = [m for m in rows.METHODS if m in set(found["method"]) and m != rows.BASE]
    columns = min(COLUMNS, len(places))
    lines = -(-len(places) // columns)
    with style.paper():
        figure, axes = style.panels(
            lines, columns, row_height=0.75 + 0.16 * len(methods), extra=0.2, sharex=True, sharey=True
        )
        for at, (place, of) in zip(axes.flat, places, strict=False):
            _panel(at, of.set_index("method"), methods)
            own = of.loc[of["method"] == rows.BASE, "correlation"]
            base = f"\nREML {own.iloc[0]:.3f}" if len(own) else ""
            style.name_panel(at, f"{place[0]} · {place[3]}{base}")
        for at in axes.flat[len(places) :]:
            at.set_axis_off()
        axes.flat[0].set_yticks(range(len(methods)), [_dblup.name(m) for m in methods])
        axes.flat[0].set_ylim(len(methods) - 0.5, -0.5)
        figure.supxlabel("difference of correlations from REML", fontsize=8)
    return figure


def _panel(at: Axes, of: pd.DataFrame, methods: list[str]) -> None:
    at.axvline(0, color=style.GREY, lw=0.8, ls=":")
    shown = of.reindex(methods)
    for line, (method, row) in enumerate(shown.iterrows()):
        look = _dblup.look(str(method))
        low, high = row["difference"] - row["difference_low"], row["difference_high"] - row["difference"]
        error = np.nan_to_num([[low], [high]])
        at.errorbar(row["difference"], line, xerr=error.clip(min=0), color=look.colour, marker=look.marker, ls="",
                    elinewidth=0.9, ms=4)  # fmt: skip
    at.grid(axis="x", color=style.LIGHT, lw=0.5)
    at.tick_params(axis="y", length=0)
    at.tick_params(axis="x", labelbottom=True)  # of every panel: below some there is none
    at.locator_params(axis="x", nbins=4)
