"""The products of a run under the roofline of its GPU."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.figures import style
from bench.gpu import cells

CEILINGS = {7: "-.", 4: (0, (5, 2)), 6: ":"}  # digits → dashes
FREE = ("#CC79A7", "#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#7A3E9D", "#000000", "#8C6D1F", "#5B5B5B")
MARKERS = "PosD^vX*hp"


def draw(frame: pd.DataFrame) -> Figure:
    """A panel per number of individuals: multiply-adds per second over multiply-adds per byte of packed genotypes,
    with the copy bandwidth as the slope and what the tensor cores and float64 allow as ceilings."""
    timed = pd.concat([cells.times(frame), _others(frame)], ignore_index=True)
    copy = cells.best(frame, "copy_peak")
    if timed.empty or np.isnan(copy):
        return style.nothing(frame, "gpu", "no product was timed, or the copy bandwidth was not measured")
    timed["intensity"] = 4.0 * timed["k"].astype(float)
    timed["series"] = timed["kernel"] + " " + timed["target"]
    names, sizes = sorted(timed["series"].unique()), sorted(timed["n"].unique())
    looks = {name: (FREE[i % len(FREE)], MARKERS[i % len(MARKERS)]) for i, name in enumerate(names)}
    ceilings = _ceilings(frame, timed)
    with style.paper():
        figure, axes = style.panels(1, len(sizes), row_height=2.9, extra=1.1, sharey=True)
        xs = np.geomspace(timed["intensity"].min() / 2, timed["intensity"].max() * 2, 50)
        for at, n in zip(axes[0], sizes, strict=True):
            here = timed[timed["n"] == n]
            style.name_panel(at, f"{int(n):,} × {int(here['m'].iloc[0]):,}")
            at.plot(xs, copy * xs / 1e12, color=style.GREY, lw=0.9)
            for height, dashes, _ in ceilings:
                at.axhline(height / 1e12, color=style.GREY, lw=0.8, ls=dashes)
            _points(at, here, looks)
            style.log_axis(at, "x", timed["intensity"], pad=2)
            style.log_axis(at, "y", [*(timed["rate"] / 1e12), *(h / 1e12 for h, _, _ in ceilings)], pad=1.8)
            at.set_xlabel("multiply-adds per byte")
        axes[0, 0].set_ylabel("rate (10¹² multiply-adds per second)")
        handles = [Line2D([], [], color=c, marker=m, ls="", label=name) for name, (c, m) in looks.items()]
        lines = [Line2D([], [], color=style.GREY, label="copy bandwidth")]
        lines += [Line2D([], [], color=style.GREY, ls=dashes, label=label) for _, dashes, label in ceilings]
        style.legend(figure, [*handles, *style.direction_handles(), *lines])
    return figure


def _others(frame: pd.DataFrame) -> pd.DataFrame:
    """The kernels that gpu_2bit was paired with."""
    pairs = cells.times(frame, "pair")
    return pairs[pairs["kernel"] != "gpu_2bit"]


def _ceilings(frame: pd.DataFrame, timed: pd.DataFrame) -> list[tuple[float, object, str]]:
    """(multiply-adds a second, dashes, label): the tensor cores' rate over the digits, and float64's."""
    found: list[tuple[float, object, str]] = []
    archs = {cells.architecture(target) for target in timed["target"]}
    int8 = max((rate for arch in archs if (rate := cells.best(frame, "int8_peak", arch)) > 0), default=np.nan)
    for digits, dashes in CEILINGS.items():
        if digits in set(timed["target"].map(cells.slices)) and int8 > 0:
            found.append((int8 / digits, dashes, f"8-bit tensor cores, S = {digits}"))
    if (fma := cells.best(frame, "fma_peak")) > 0:
        found.append((fma, (0, (1, 1)), "float64 multiply-adds"))
    return found


def _points(at: Axes, cells_: pd.DataFrame, looks: dict[str, tuple[str, str]]) -> None:
    for series, direction in cells_[["series", "direction"]].drop_duplicates().itertuples(index=False):
        of = cells_[(cells_["series"] == series) & (cells_["direction"] == direction)]
        colour, marker = looks[str(series)]
        filled, of = direction == "matmul", of.sort_values("k")
        at.plot(
            of["intensity"],
            of["rate"] / 1e12,
            color=colour,
            marker=marker,
            ls="-" if filled else "--",
            mfc=colour if filled else "white",
            ms=4,
            lw=0.7,
        )
