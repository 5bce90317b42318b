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
    "Norm of the residual relative to that of the right-hand side, the larger of the phenotypes' and the intercept's, "
    "at every step of the preconditioned conjugate gradients. Every kernel and target is drawn, on top of the others, "
    "the first widest: they multiply the same matrix, so their curves should coincide. A bundle per trait and "
    "relationship; the number of steps is written at its end."
)
COLUMNS = 3
GROUP = ["trait", "relationship"]


def draw(frame: pd.DataFrame) -> Figure:
    """A panel per data set."""
    rows = _cells.ok(frame, "gblup")
    rows = rows[(rows["metric"] == "residual_norm") & (rows["value"] > 0)]
    if rows.empty:
        return style.nothing(frame, "gblup", "no GBLUP solve through a kernel got to its first step")
    datasets = list(rows["dataset"].unique())
    columns = min(COLUMNS, len(datasets))
    lines = -(-len(datasets) // columns)
    kernels = style.ordered(rows["kernel"])
    widths = {kernel: 4.5 * 0.55**i for i, kernel in enumerate(kernels)}
    with style.paper():
        figure, axes = style.panels(lines, columns, row_height=2.3, sharey=True)
        for at, dataset in zip(axes.flat, datasets, strict=False):
            style.name_panel(at, dataset)
            at.set_xlabel("step")
            _panel(at, rows[rows["dataset"] == dataset], widths)
        for at in axes.flat[len(datasets) :]:
            at.set_axis_off()
        figure.supylabel("relative residual norm", fontsize=8)
        style.legend(
            figure, [Line2D([], [], color=style.look(k).colour, lw=width, label=k) for k, width in widths.items()]
        )
    return figure


def _panel(at: Axes, rows: pd.DataFrame, widths: dict[str, float]) -> None:
    for kernel, width in widths.items():
        for _, curve in rows[rows["kernel"] == kernel].groupby("case"):
            curve = curve.sort_values("step")
            at.plot(curve["step"].astype(float), curve["value"], color=style.look(kernel).colour, lw=width)
    style.log_axis(at, "y", rows["value"], pad=3)
    at.set_xlim(0, float(rows["step"].max()) * 1.15)
    ends = rows.groupby(GROUP, dropna=False)["step"].max()
    lowest = float(rows["value"].min())
    at.text(float(ends.max()), lowest, "  " + ", ".join(str(s) for s in sorted(set(ends))), va="center", fontsize=7)
