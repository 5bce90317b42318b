"""Each kernel's rate over the commits of a store.

Whiskers are 95 % bootstrap intervals over the processes of a commit and their repeats. A thick vertical mark is a
step from one level to the next, with the change of the rate in per cent. Hollow points are of checkouts with changes
that were not committed: no line joins them, and they take no part in the steps. A dotted line says where another
protocol, version or data set begins a new series: nothing joins what stands on its two sides.
"""

from __future__ import annotations

import itertools

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.figures import style

LINES = ("-", "--", ":", "-.")  # of the targets of a kernel, in the order of their names
MOST_LABELS = 10
BEHIND = {"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.5}  # of a text over lines


def draw(points: pd.DataFrame, steps: pd.DataFrame) -> dict[str, Figure]:
    """A figure per data set, dtype and number of threads, by its name; in it a panel per k and direction.

    points, steps: of `bench.tables._history`, of one machine class.
    """
    found = {}
    for (dataset, dtype, threads), cells in points.groupby(["dataset", "dtype", "threads"]):
        here = steps[(steps["dataset"] == dataset) & (steps["dtype"] == dtype) & (steps["threads"] == threads)]
        title = f"{dataset}, {style.DTYPES[str(dtype)]}, {style.threads(int(str(threads)))}"
        found[f"{dataset}-{dtype}-{threads}"] = _figure(cells, here, title)
    return found


def _figure(cells: pd.DataFrame, steps: pd.DataFrame, title: str) -> Figure:
    ks = sorted(cells["k"].unique())
    places = cells[["place", "label"]].drop_duplicates().sort_values("place")
    at_x = {place: x for x, place in enumerate(places["place"])}
    cells, steps = cells.assign(x=cells["place"].map(at_x)), steps.assign(x=steps["place"].map(at_x))
    with style.paper():
        figure, axes = style.panels(len(ks), 2, row_height=min(2.1, 8.2 / len(ks)), extra=0.9, sharex=True)
        for line, k in zip(axes, ks, strict=True):
            for at, direction in zip(line, style.DIRECTIONS, strict=True):
                of = [rows[(rows["k"] == k) & (rows["direction"] == direction)] for rows in (cells, steps)]
                style.name_panel(at, f"k = {k}, {style.DIRECTIONS[direction]}")
                if len(of[0]):
                    _panel(at, *of)
        every = -(-len(places) // MOST_LABELS)
        for at in axes[-1]:
            at.set_xticks(range(0, len(places), every), places["label"].iloc[::every], rotation=45, ha="right")
            at.set_xlim(-0.6, len(places) - 0.4)
        figure.supylabel("rate (10⁹ multiply-adds per second)", fontsize=8)
        figure.suptitle(title, fontsize=8, x=0.01, ha="left")
        style.legend(figure, _handles(cells))
    return figure


def _panel(at: Axes, cells: pd.DataFrame, steps: pd.DataFrame) -> None:
    styles = _line_styles(cells)
    for (kernel, target), ls in styles.items():
        of, look = cells[(cells["kernel"] == kernel) & (cells["target"] == target)], style.look(kernel)
        clean, dirty = of[of["clean"].eq(True)], of[~of["clean"].eq(True)]
        for _, part in clean.groupby(["n", "m", "dataset_hash", "protocol", "version"], dropna=False):
            part = part.sort_values("x")
            at.errorbar(part["x"], part["rate"] / 1e9, style.yerr(part, "rate") / 1e9, color=look.colour, ls=ls,
                        marker=look.marker, ms=3, lw=0.9, elinewidth=0.6)  # fmt: skip
        at.errorbar(dirty["x"], dirty["rate"] / 1e9, style.yerr(dirty, "rate") / 1e9, color=look.colour, ls="none",
                    marker=look.marker, mfc="white", ms=4, elinewidth=0.6)  # fmt: skip
        style.ring(at, of["x"], of["rate"] / 1e9, of["contaminated"])
    for step in steps.to_dict("records"):
        x, colour, levels = (
            step["x"] - 0.5,
            style.look(step["kernel"]).colour,
            [step["rate_before"], step["rate_after"]],
        )
        at.plot([x, x], levels, color=colour, lw=2.6, solid_capstyle="butt", zorder=3)
        size = f"{step['change']:+.0f} %".replace("-", "−")
        at.annotate(size, (x, max(levels)), (0, 3), textcoords="offset points", ha="center", va="bottom", fontsize=7,
                    color=colour, bbox=BEHIND)  # fmt: skip
    for x, what in _breaks(cells):
        at.axvline(x, color=style.GREY, lw=0.8, ls=":", zorder=0)
        at.annotate(what, (x, 1), (2, -1), xycoords=at.get_xaxis_transform(), textcoords="offset points", va="top",
                    fontsize=7, color=style.GREY, bbox=BEHIND)  # fmt: skip
    drawn = cells[["rate", "rate_low", "rate_high"]].to_numpy(dtype=float).ravel() / 1e9
    style.log_axis(at, "y", drawn, pad=1.3)


def _breaks(cells: pd.DataFrame) -> list[tuple[float, str]]:
    """Where a new series begins, and what is new."""
    firsts = cells.sort_values("x").drop_duplicates("x").to_dict("records")
    found = []
    for before, after in itertools.pairwise(firsts):
        numbers = [name for name in ("protocol", "version") if before[name] != after[name]]
        new = [f"{name.upper()} {after[name]}" for name in numbers]
        if (before["dataset_hash"], before["n"], before["m"]) != (after["dataset_hash"], after["n"], after["m"]):
            new.append("other data")
        if new:
            found.append((after["x"] - 0.5, "\n".join(new)))
    return found


def _line_styles(cells: pd.DataFrame) -> dict[tuple[str, str], str]:
    """(kernel, target) → line style: the targets of a kernel share its colour."""
    found = {}
    for kernel in style.ordered(cells["kernel"]):
        for i, target in enumerate(sorted(cells.loc[cells["kernel"] == kernel, "target"].unique())):
            found[kernel, target] = LINES[i % len(LINES)]
    return found


def _handles(cells: pd.DataFrame) -> list[Line2D]:
    handles = []
    for (kernel, target), ls in _line_styles(cells).items():
        colour, marker = style.look(kernel)
        handles.append(Line2D([], [], color=colour, marker=marker, ms=3, ls=ls, label=f"{kernel} ({target})"))
    if not cells["clean"].eq(True).all():
        handles.append(Line2D([], [], color=style.GREY, marker="o", mfc="white", ls="none", label="not committed"))
    return [*handles, *style.ring_handles(cells)]
