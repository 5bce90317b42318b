"""Cost as the number of individuals grows."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.figures import style
from bench.tables import _cells

TITLE = "Time of a product as n grows"
CAPTION = (
    "Median time of one product on the first n individuals of a data set, all its SNPs kept; whiskers are "
    "95 % bootstrap intervals over repeats, mostly smaller than the marker. Both axes are logarithmic; the "
    "dotted line is time proportional to n, from just below the fastest kernel at the smallest n. Filled "
    "and solid is float64, hollow and dashed float32. Of each kernel the target with the least total time "
    "in the panel is drawn. Ringed points: something else disturbed the machine in that session."
)
USUAL_K = 10
GUIDE_BELOW = 1.6  # times faster than the fastest kernel: where the guide does not hide it


def draw(frame: pd.DataFrame) -> Figure:
    """A row per direction, a column per data set and threads; k = 10, or the largest below."""
    cells = _cells.cells(frame, "scaling")
    if cells.empty:
        return style.nothing(frame, "scaling", "no product was timed at several sizes")
    cells = cells[cells["k"] == max((k for k in cells["k"] if k <= USUAL_K), default=cells["k"].min())]
    cells = _cells.best_target(cells)
    columns = cells[["dataset", "m", "threads", "k"]].drop_duplicates().sort_values(["dataset", "threads"])
    with style.paper():
        figure, axes = style.panels(len(style.DIRECTIONS), len(columns), row_height=2.3, sharex="col", sharey=True)
        for line, direction in zip(axes, style.DIRECTIONS, strict=True):
            for at, column in zip(line, columns.itertuples(index=False), strict=True):
                same = (cells["dataset"] == column.dataset) & (cells["threads"] == column.threads)
                here = cells[same & (cells["direction"] == direction)]
                product, threads = style.DIRECTIONS[direction], style.threads(column.threads)
                style.name_panel(at, f"{product}, {column.dataset} (m = {column.m:,}), k = {column.k}, {threads}")
                _panel(at, here)
        for at in axes.flat:
            style.log_axis(
                at, "y", 1e3 * np.append(cells[["time", "time_high"]], cells["time"].min() / GUIDE_BELOW), pad=1.3
            )
        for at in axes[-1]:
            at.set_xlabel("individuals n")
        figure.supylabel("time of one product (ms)", fontsize=8)
        style.legend(figure, _handles(cells))
    return figure


def _panel(at: Axes, cells: pd.DataFrame) -> None:
    if cells.empty:
        return
    for (kernel, dtype), of in cells.groupby(["kernel", "dtype"]):
        of = of.sort_values("n")
        colour, marker = style.look(str(kernel))
        filled = dtype == "f8"
        at.errorbar(
            of["n"].astype(float), 1e3 * of["time"], yerr=1e3 * style.yerr(of, "time"), color=colour, marker=marker,
            ls="-" if filled else "--", mfc=colour if filled else "white", elinewidth=0.8,
        )  # fmt: skip
    style.ring(at, cells["n"], 1e3 * cells["time"], cells["contaminated"])
    n = np.array([cells["n"].min(), cells["n"].max()], dtype=float)
    guide = 1e3 * cells.loc[cells["n"] == n[0], "time"].min() / GUIDE_BELOW * n / n[0]
    at.plot(n, guide, color=style.GREY, ls=":", lw=1, zorder=1)
    style.log_axis(at, "x", n, pad=1.2)
    sizes = sorted(cells["n"].unique())
    at.set_xticks(sizes, [f"{size:,}" for size in sizes])


def _handles(cells: pd.DataFrame) -> list[Line2D]:
    handles = [*style.kernel_handles(cells), Line2D([], [], color=style.GREY, ls=":", label="proportional to n")]
    if cells["dtype"].nunique() > 1:
        handles += style.dtype_handles()
    return handles + style.ring_handles(cells)
