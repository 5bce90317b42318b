"""Cost of each single-step variant as genotyped animals grow past the number of SNPs."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.figures import _single_step as shared
from bench.figures import style
from bench.tables import _single_step as solving
from bench.tables import single_step_crossover as crossover

TITLE = "Genotyped animals past the number of SNPs"
CAPTION = (
    "After Fig. 1 of Boerner & Johnston (2019): the same population and SNPs with more and more genotyped animals. "
    "Time to set a variant up, median time of a round with its 95 % bootstrap interval, both together until ‖r‖/‖b‖ "
    "≤ 2.68e-9, and growth of memory at the peak of the set-up. Dotted: as many genotyped animals as SNPs. Ringed "
    "points: something else disturbed the machine in that session."
)
SHOWN = {
    "setup_time": "set-up (s)",
    "round_ms": "round (ms)",
    "total": "until converged (s)",
    "memory": "set-up memory (MB)",
}


def draw(frame: pd.DataFrame) -> Figure:
    """A row per data set, a panel per quantity."""
    found = solving.one_kernel(solving.solves(frame))
    counts = found.groupby(["dataset", "trait"])["n"].transform("nunique") if len(found) else found["n"]
    found = found[counts > 1].copy()
    if found.empty:
        return style.nothing(frame, "single_step", "no population has several numbers of genotyped animals")
    found["total"], found["memory"] = crossover.total(found), (found["setup_rss"] / 1e6).clip(lower=1)
    for end in ("", "_low", "_high"):
        found[f"round_ms{end}"] = 1e3 * found[f"round_s{end}"]
    rows = [of for _, of in found.groupby(["dataset", "trait"])]
    with style.paper():
        figure, axes = style.panels(len(rows), 4, row_height=min(2.1, 8.0 / len(rows)), extra=0.8)
        for line, of in zip(axes, rows, strict=True):
            for at, (column, label) in zip(line, SHOWN.items(), strict=True):
                _panel(at, of, column)
                at.set_ylabel(label)
            style.name_panel(line[0], f"{of.iloc[0]['dataset']}, m = {of.iloc[0]['m']:,}")
        marks = [Line2D([], [], color=style.GREY, ls=":", label="n = m"), *style.ring_handles(found)]
        style.legend(figure, [*shared.handles(found["variant"]), *marks])
    return figure


def _panel(at: Axes, found: pd.DataFrame, column: str) -> None:
    for variant, of in found.groupby("variant"):
        of = of.dropna(subset=[column]).sort_values("n")
        colour, marker = shared.look(str(variant))
        errors = style.yerr(of, column) if f"{column}_low" in of else None
        at.errorbar(of["n"].astype(float), of[column], yerr=errors, color=colour, marker=marker, elinewidth=0.8)
        style.ring(at, of["n"], of[column], of["contaminated"])
    at.axvline(float(found["m"].iloc[0]), color=style.GREY, ls=":", lw=0.9)
    shared.size_axis(at, found["n"].astype(float))
    style.log_axis(at, "y", found[column].dropna(), pad=1.7)
    at.set_xlabel("genotyped animals")
