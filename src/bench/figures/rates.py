"""Rates of the kernels side by side."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from bench.figures import style
from bench.tables import _cells

TITLE = "Rate by kernel, product and k"
CAPTION = (
    "Multiply-adds per second, n·m·k over the median time; whiskers are 95 % bootstrap intervals over repeats. "
    "Filled bars are float64, outlines in front of them float32. The lines are the FMA peak of the machine in "
    "float64 (solid) and float32 (dashed), the best that any session of the run, or the job limits, measured at no "
    "more threads: the roof of the figure of the roofline. Where one lies above the axis its value is written at "
    "the top. Of each kernel the target with the least total time in the panel is drawn. Hatched bars: something "
    "else disturbed the machine in that session. A column per number of threads, a row per data set."
)
WIDE = 0.8  # of a group, for its bars


def draw(frame: pd.DataFrame) -> Figure:
    """A panel per data set × threads; a group per k and direction, a bar per kernel and dtype."""
    cells = _cells.best_target(_cells.cells(frame, "products"))
    if cells.empty:
        return style.nothing(frame, "products", "no product was timed")
    cells["fma_best"] = _cells.best_peak(frame, cells, "fma_peak")
    datasets, threads = cells["dataset"].unique(), sorted(cells["threads"].unique())
    kernels = style.ordered(cells["kernel"])
    with style.paper():
        figure, axes = style.panels(len(datasets), len(threads), row_height=1.9)
        for line, dataset in zip(axes, datasets, strict=True):
            for at, count in zip(line, threads, strict=True):
                here = cells[(cells["dataset"] == dataset) & (cells["threads"] == count)]
                style.name_panel(at, f"{dataset}, {style.threads(count)}")
                _panel(at, here, kernels)
        figure.supylabel("rate (10⁹ multiply-adds per second)", fontsize=8)
        style.legend(figure, _handles(cells))
    return figure


def _panel(at: Axes, cells: pd.DataFrame, kernels: list[str]) -> None:
    groups = [(k, direction) for k in sorted(cells["k"].unique()) for direction in style.DIRECTIONS]
    width = WIDE / len(kernels)
    for kernel in kernels:
        for dtype, fill in (("f8", True), ("f4", False)):
            of = cells[(cells["kernel"] == kernel) & (cells["dtype"] == dtype)]
            centre = [groups.index(g) for g in zip(of["k"], of["direction"], strict=True)]
            x = np.array(centre, dtype=float) + width * (kernels.index(kernel) - (len(kernels) - 1) / 2)
            colour = style.look(kernel).colour
            bars = at.bar(
                x, of["rate"] / 1e9, width * 0.9, color=colour if fill else "none", edgecolor=colour,
                lw=0 if fill else 0.8, yerr=style.yerr(of, "rate") / 1e9, error_kw={"lw": 0.6, "ecolor": style.GREY},
            )  # fmt: skip
            for bar, reason in zip(bars, of["contaminated"], strict=True):
                if not pd.isna(reason):
                    bar.set(hatch=style.HATCH, edgecolor=colour, facecolor=(colour, 0.3 if fill else 0.0))
    at.set_xticks(range(len(groups)), [f"k = {k}\n{style.DIRECTIONS[direction]}" for k, direction in groups])
    at.tick_params(axis="x", length=0)
    at.set_xlim(-0.6, len(groups) - 0.4)
    top = max(float(cells["rate_high"].fillna(cells["rate"]).max()) / 1e9, 1e-9) * 1.08
    notes = []
    for dtype, ls in (("f8", "-"), ("f4", "--")):
        peak = cells.loc[cells["dtype"] == dtype, "fma_best"].max() / 1e9
        if peak <= 1.6 * top:
            at.axhline(peak, color=style.GREY, lw=0.8, ls=ls, zorder=0)
            top = max(top, peak * 1.05)
        elif np.isfinite(peak):
            notes.append(f"FMA peak {style.DTYPES[dtype]}: {peak:.0f}")
    at.set_ylim(0, top)
    if notes:
        at.text(1, 1, ", ".join(notes), transform=at.transAxes, ha="right", va="bottom", fontsize=7, color=style.GREY)


def _handles(cells: pd.DataFrame) -> list[Patch | Line2D]:
    bars = [Patch(facecolor=line.get_color(), label=line.get_label()) for line in style.kernel_handles(cells)]
    kinds: list[Patch | Line2D] = []
    if (cells["dtype"] == "f4").any():
        kinds = [Patch(facecolor="none", edgecolor=style.GREY, label="float32 (outline)")]
    if cells["fma_best"].notna().any():
        kinds += [
            Line2D([], [], color=style.GREY, lw=0.8, ls=ls, label=f"FMA peak, {style.DTYPES[dtype]}")
            for dtype, ls in (("f8", "-"), ("f4", "--"))
            if (cells["dtype"] == dtype).any()
        ]
    return [*bars, *kinds, *style.hatch_handles(cells)]
