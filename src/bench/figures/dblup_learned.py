"""λ and error under each objective, and the collapse of the training MSE along its path."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.figures import _dblup, style
from bench.tables import _dblup as rows
from bench.tables import dblup_learned as table

TITLE = "λ under each objective"
CAPTION = (
    "Left: λ learned under each objective but the training MSE, over that of REML; a line per data set and trait. "
    "Middle: the 5-fold MSE at that λ over that at REML's. Right: the path of the optimiser that minimises the MSE "
    "of the training records, from the λ at its start towards 0, a curve per data set and trait: the training MSE "
    "(solid) falls all the way, the MSE of held-out folds (dashed) rises; both over the variance of the records. "
    "Its λ is logarithmic and falls from left to right, as the optimiser goes."
)
MOST = 16


def draw(frame: pd.DataFrame) -> Figure:
    """Three panels: λ, error, path."""
    found = table.draw(frame)
    if found.empty:
        return style.nothing(frame, "dblup", "no variance ratio was learned")
    places = found[rows.PLACE].drop_duplicates().head(MOST)
    with style.paper():
        figure, axes = style.panels(1, 3, row_height=1.3 + 0.3 * len(places), extra=0.9)
        ratio, error, path = axes[0]
        others = found[found["method"] != "train"]
        _ratios(ratio, others, places, "lambda", "λ over λ of REML")
        _ratios(error, others, places, "cv_mse", "5-fold MSE over REML's")
        error.set_yticklabels([])
        methods = _paths(path, rows.rows_of(frame, "learned"))
        for at, text in zip(axes[0], ("variance ratio", "prediction error", "path of the train MSE"), strict=True):
            style.name_panel(at, text)
        style.legend(figure, [*_dblup.handles(others["method"]), *methods])
    return figure


def _ratios(at: Axes, found: pd.DataFrame, places: pd.DataFrame, column: str, label: str) -> None:
    for line, place in enumerate(places.itertuples(index=False)):
        here = found[(found[rows.PLACE] == list(place)).all(axis=1)].set_index("method")[column]
        for method, value in (here / here.get("reml", np.nan)).items():
            look = _dblup.look(str(method))
            at.plot(value, line, color=look.colour, marker=look.marker, ls="", mfc="none", clip_on=False)
    at.set_yticks(range(len(places)), [f"{p.dataset} · {p.trait}" for p in places.itertuples(index=False)])
    at.set_ylim(len(places) - 0.5, -0.5)
    at.axvline(1, color=style.GREY, lw=0.8, ls=":")
    at.margins(x=0.1)
    at.tick_params(axis="y", length=0)
    at.set_xlabel(label)


def _paths(at: Axes, learned: pd.DataFrame) -> list[Line2D]:
    """Training and held-out MSE against λ; the legend entries."""
    path = learned[(learned["phase"] == "path") & (learned["method"] == "train")]
    at.set_xlabel("λ, falling from left to right")
    at.set_ylabel("MSE / variance of records")
    if path.empty:
        return []
    for _, of in path.groupby(rows.PLACE, dropna=False):
        steps = of.pivot_table(index="step", columns="metric", values="value").sort_index()
        for metric, dashes in (("objective", "-"), ("heldout_mse", "--")):
            at.plot(steps["variance_ratio"], steps[metric], color=_dblup.look("train").colour, ls=dashes, lw=0.9)
    style.log_axis(at, "x", path.loc[path["metric"] == "variance_ratio", "value"])
    at.invert_xaxis()
    at.set_ylim(bottom=0)
    colour = _dblup.look("train").colour
    said = (("-", "on the training records"), ("--", "on held-out folds"))
    return [Line2D([], [], color=colour, ls=dashes, label=label) for dashes, label in said]
