"""Rates of X X' by method."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.figures import style
from bench.tables import gram as table

TITLE = "Rate of X X′ by method"
CAPTION = (
    "Multiply-adds per second, n(n + 1)/2·m over the median time; whiskers are 95 % bootstrap intervals over "
    "repeats, the figure beside a bar says how many times as fast as dsyrk it is. gram is this package's, exact in "
    "integers; dsyrk the BLAS on a resident float64 matrix; float32 the BLAS on blocks that it unpacks; plink2 the "
    "whole program --make-rel. Hatched bars: something else disturbed the machine in that session. A column per "
    "number of threads, a row per data set."
)
COLOURS = {"gram": "#D55E00", "dsyrk": "#000000", "float32": "#0072B2", "plink2": "#009E73"}


def draw(frame: pd.DataFrame) -> Figure:
    """A panel per data set × threads; a bar per method and target."""
    found, shown = table.timed(frame), table.draw(frame)
    if found.empty:
        return style.nothing(frame, "gram", "no method was timed")
    datasets, threads = shown["dataset"].unique(), sorted(shown["threads"].unique())
    bars = found.groupby(["dataset", "threads"]).size().max()
    handles = style.hatch_handles(shown)
    with style.paper():
        extra = 0.5 if handles else 0.2
        figure, axes = style.panels(len(datasets), len(threads), row_height=0.55 + 0.22 * bars, extra=extra)
        for line, dataset in zip(axes, datasets, strict=True):
            for at, count in zip(line, threads, strict=True):
                here = shown[(shown["dataset"] == dataset) & (shown["threads"] == count)]
                style.name_panel(at, f"{dataset}, {style.threads(count)}")
                _panel(at, here)
        for at in axes[-1]:  # of the axes: the layout would put a legend over a label of the figure
            at.set_xlabel("10⁹ multiply-adds per second")
        if handles:
            style.legend(figure, handles)
    return figure


def _panel(at: Axes, rows: pd.DataFrame) -> None:
    y = np.arange(len(rows))[::-1]
    colours = [COLOURS.get(method, style.GREY) for method in rows["method"]]
    bars = at.barh(
        y, rows["rate"], 0.7, color=colours, xerr=style.yerr(rows, "rate"), error_kw={"lw": 0.6, "ecolor": style.GREY}
    )
    for bar, colour, reason in zip(bars, colours, rows["contaminated"], strict=True):
        if not pd.isna(reason):
            bar.set(hatch=style.HATCH, edgecolor=colour, facecolor=(colour, 0.3))
    for height, rate, ratio in zip(y, rows["rate_high"].fillna(rows["rate"]), rows["dsyrk_speedup"], strict=True):
        if np.isfinite(ratio):
            at.annotate(f"{ratio:.3g}×", (rate, height), (3, 0), textcoords="offset points", va="center", fontsize=7)
    names = [f"{m} ({t})" if m == "gram" else m for m, t in zip(rows["method"], rows["target"], strict=True)]
    at.set_yticks(y, names)
    at.tick_params(axis="y", length=0)
    at.margins(x=0.15)
    at.set_xlim(left=0)
