"""Cost of a single-step evaluation against the size of its pedigree."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.figures import _single_step as shared
from bench.figures import style
from bench.tables import _single_step as solving

TITLE = "Cost against the size of the pedigree"
CAPTION = (
    "One trait; of each variant the preconditioner with the least time. Set-up and rounds until ‖r‖/‖b‖ ≤ 1e-9, "
    "rounds, median time of a round with its 95 % bootstrap interval, and the largest resident memory of the "
    "process until the variant was set up, data and equations included. Populations of equal size stand above each "
    "other. The number of genotyped animals grows with the pedigree. Ringed points: something else disturbed the "
    "machine in that session."
)
SHOWN = {"total": "set-up and rounds (s)", "rounds_1e9": "rounds", "round_ms": "round (ms)", "memory": "memory (MB)"}


def draw(frame: pd.DataFrame) -> Figure:
    """A panel per quantity."""
    found = solving.one_kernel(solving.solves(frame))
    found = found[~found["trait"].str.contains("+", regex=False)] if len(found) else found
    if found.empty:
        return style.nothing(frame, "single_step", "no solve of one trait finished")
    found = found[found["n"] == found.groupby("dataset")["n"].transform("max")]
    first = found.groupby("dataset")["trait"].transform("first")  # of several single traits
    found = found[found["trait"] == first].copy()
    found["total"] = found["setup_time"] + found["seconds_1e9"]
    found["memory"] = found["peak_rss"] / 1e6
    for end in ("", "_low", "_high"):
        found[f"round_ms{end}"] = 1e3 * found[f"round_s{end}"]
    found = solving.best(found, ["dataset", "variant"], "total")
    if found.empty:
        return style.nothing(frame, "single_step", "no solve of one trait converged")
    with style.paper():
        figure, axes = style.panels(1, 4, row_height=2.3, extra=0.8)
        for at, (column, label) in zip(axes[0], SHOWN.items(), strict=True):
            _panel(at, found, column)
            at.set_ylabel(label)
        style.legend(figure, [*shared.handles(found["variant"]), *style.ring_handles(found)])
    return figure


def _panel(at: Axes, found: pd.DataFrame, column: str) -> None:
    for variant, of in found.groupby("variant"):
        of = of.dropna(subset=[column]).sort_values(["animals", column])
        colour, marker = shared.look(str(variant))
        errors = style.yerr(of, column) if f"{column}_low" in of else None
        at.errorbar(of["animals"].astype(float), of[column], yerr=errors, color=colour, marker=marker, elinewidth=0.8)
        style.ring(at, of["animals"], of[column], of["contaminated"])
    shared.size_axis(at, found["animals"].astype(float))
    style.log_axis(at, "y", found[column].dropna(), pad=1.7)
    at.set_xlabel("animals")
