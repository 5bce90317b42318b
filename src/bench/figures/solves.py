"""Solving GBLUP through the kernels: how long, and how right."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.figures import style
from bench.tables import solves as solving

TITLE = "Solve time and agreement of EBVs"
CAPTION = (
    "Top: median time to EBVs and SNP effects by preconditioned conjugate gradients through each kernel, "
    "preparation not counted, with 95 % bootstrap intervals over repeats; a point per trait and "
    "relationship. The dashed line is the dense way: forming G and Cholesky (median over traits). Bottom: "
    "the largest difference of these EBVs from the Cholesky solution, relative to the largest EBV; right of"
    " the line, at 1e-8, a solve counts as wrong. Of each kernel the target with the least total time is "
    "drawn, at the largest number of threads of the run. Ringed points: something else disturbed the machine in "
    "that session."
)
ALLOWED = 1e-8
EXACT = 1e-17  # where an error of exactly 0 is drawn


def draw(frame: pd.DataFrame) -> Figure:
    """A column per data set; solve times above, errors of EBVs below."""
    found = solving.solves(frame)
    if found.empty:
        return style.nothing(frame, "gblup", "no GBLUP solve through a kernel finished")
    found = found[found["threads"] == found.groupby("dataset")["threads"].transform("max")]
    total = found.groupby(["dataset", "kernel", "target"])["solve_s"].sum().reset_index()
    best = total.sort_values(["solve_s", "target"]).drop_duplicates(["dataset", "kernel"])
    found = found.merge(best[["dataset", "kernel", "target"]], on=["dataset", "kernel", "target"])
    datasets = found["dataset"].unique()
    kernels = style.ordered(found["kernel"])[::-1]
    with style.paper():
        height = 0.45 + 0.19 * len(kernels)
        figure, axes = style.panels(2, len(datasets), row_height=height, extra=0.7, sharey=True)
        for i, dataset in enumerate(datasets):
            here = found[found["dataset"] == dataset]
            size = here.iloc[0]
            threads = style.threads(size["threads"])
            style.name_panel(axes[0, i], f"{dataset}, {threads}\nn = {size['n']:,}, m = {size['m']:,}")
            _times(axes[0, i], here, kernels)
            _errors(axes[1, i], here, kernels)
        lines = [Line2D([], [], color=style.GREY, ls="--", label="dense G and Cholesky"),
                 Line2D([], [], color=style.GREY, ls="-", lw=0.8, label="largest error allowed, 1e-8")]  # fmt: skip
        style.legend(figure, [*style.kernel_handles(found), *lines, *style.ring_handles(found)])
    return figure


def _rows(at: Axes, found: pd.DataFrame, kernels: list[str]) -> np.ndarray:
    """Heights at which solves are drawn: a kernel's traits spread a little around its line."""
    order = {key: i for i, key in enumerate(sorted(set(zip(found["trait"], found["relationship"], strict=True))))}
    turn = np.array([order[key] for key in zip(found["trait"], found["relationship"], strict=True)])
    at.set_yticks(range(len(kernels)), kernels)
    at.set_ylim(-0.6, len(kernels) - 0.4)
    at.grid(axis="y", color=style.LIGHT, lw=0.5)
    at.tick_params(axis="y", length=0)
    return np.array([kernels.index(k) for k in found["kernel"]]) + 0.4 * (turn - (len(order) - 1) / 2) / max(
        len(order), 2
    )


def _points(at: Axes, found: pd.DataFrame, x: np.ndarray, y: np.ndarray, bars: np.ndarray | None) -> None:
    for kernel in found["kernel"].unique():
        mine = (found["kernel"] == kernel).to_numpy()
        colour, marker = style.look(kernel)
        widths = None if bars is None else bars[:, mine]
        at.errorbar(x[mine], y[mine], xerr=widths, color=colour, marker=marker, ls="", elinewidth=0.8, ms=4)


def _times(at: Axes, found: pd.DataFrame, kernels: list[str]) -> None:
    y = _rows(at, found, kernels)
    _points(at, found, found["solve_s"].to_numpy(), y, style.yerr(found, "solve_s"))
    style.ring(at, found["solve_s"], pd.Series(y), found["contaminated"])
    dense = found.drop_duplicates(["trait", "relationship"])["cholesky_s"].median()
    if np.isfinite(dense):
        at.axvline(dense, color=style.GREY, ls="--", lw=1)
    style.log_axis(at, "x", [*found["solve_s"], dense], pad=1.7)
    at.set_xlabel("solve time (s)")


def _errors(at: Axes, found: pd.DataFrame, kernels: list[str]) -> None:
    y = _rows(at, found, kernels)
    errors = found["ebv_error"].clip(lower=EXACT).to_numpy()
    _points(at, found, errors, y, None)
    at.axvline(ALLOWED, color=style.GREY, lw=0.8)
    style.log_axis(at, "x", [*errors, ALLOWED], pad=3)
    at.set_xlabel("largest EBV error")
