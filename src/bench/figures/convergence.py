"""How conjugate gradients converge."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.figures import style
from bench.tables import _cells

TITLE = "Convergence of the GBLUP solves"
CAPTION = (
    "Norm of the residual relative to that of the right-hand side, the larger of the phenotypes' and the "
    "intercept's, at every step of the preconditioned conjugate gradients. Every kernel and target is "
    "drawn, the markers of the kernels in turn along the curve: they multiply the same matrix, so their "
    "curves should coincide up to rounding. A curve per trait and relationship; the numbers of steps to the"
    " end are written above."
)
COLUMNS = 3
APART = 0.24  # between two markers of a kernel, of the panel's diagonal


def draw(frame: pd.DataFrame) -> Figure:
    """A panel per data set."""
    rows = _cells.ok(frame, "gblup")
    rows = rows[(rows["metric"] == "residual_norm") & (rows["value"] > 0)]  # 0 has no logarithm
    if rows.empty:
        return style.nothing(frame, "gblup", "no GBLUP solve through a kernel got to its first step")
    datasets = list(rows["dataset"].unique())
    columns = min(2 if len(datasets) == 4 else COLUMNS, len(datasets))
    lines = -(-len(datasets) // columns)
    kernels = style.ordered(rows["kernel"])
    with style.paper():
        figure, axes = style.panels(lines, columns, row_height=2.3, sharey=True)
        for at, dataset in zip(axes.flat, datasets, strict=False):
            style.name_panel(at, dataset)
            at.set_xlabel("step")
            _panel(at, rows[rows["dataset"] == dataset], kernels)
            style.log_axis(at, "y", rows["value"], pad=3)
        for at in axes.flat[len(datasets) :]:
            at.set_axis_off()
        figure.supylabel("relative residual norm", fontsize=8)
        looks = {kernel: style.look(kernel) for kernel in kernels}
        style.legend(figure, [Line2D([], [], color=c, marker=m, lw=0.8, label=k) for k, (c, m) in looks.items()])
    return figure


def _panel(at: Axes, rows: pd.DataFrame, kernels: list[str]) -> None:
    for i, kernel in enumerate(kernels):
        colour, marker = style.look(kernel)
        for _, curve in rows[rows["kernel"] == kernel].groupby("case"):
            curve = curve.sort_values("step")
            at.plot(
                curve["step"].astype(float), curve["value"], color=colour, lw=0.8, marker=marker, ms=4,
                markevery=(APART * i / len(kernels), APART),
            )  # fmt: skip
    at.set_xlim(0, float(rows["step"].max()) * 1.15)
    ends = ", ".join(map(str, sorted(rows.groupby("case")["step"].max().unique())))
    at.annotate(f"{ends} steps", (1, 1), xycoords="axes fraction", ha="right", va="top", fontsize=7)
