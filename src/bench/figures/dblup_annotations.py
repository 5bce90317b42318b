"""Weights that a network learned from annotations, against those of the simulation."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.figures import _dblup, style
from bench.tables import _dblup as rows
from bench.tables import dblup_annotations as table

TITLE = "Weights learned from SNP annotations"
CAPTION = (
    "Left: the weight that the network learned for each SNP against the one that the trait was simulated with, both"
    " of mean 1, of the first replicate; dotted: equal. Middle: the objective on four fifths of the training "
    "records and the MSE of the last fifth, as shares of their first values; where the latter is least the training"
    " stops. Right: accuracy of the held-out individuals in each replicate (light), and the median with its 95 % "
    "bootstrap interval. A row per data set."
)


def draw(frame: pd.DataFrame) -> Figure:
    """A row per data set: weights, training, accuracy."""
    study, found = rows.rows_of(frame, "annotations"), table.draw(frame)
    if found.empty:
        return style.nothing(frame, "dblup", "no network was trained")
    datasets = found["dataset"].unique()
    with style.paper():
        figure, axes = style.panels(len(datasets), 3, row_height=2.2, extra=0.4)
        for line, dataset in zip(axes, datasets, strict=True):
            here = study[study["dataset"] == dataset]
            _weights(line[0], here[here["metric"] == "log_weight"])
            _training(line[1], here[here["phase"] == "training"])
            _accuracy(line[2], here[here["metric"] == "accuracy"], found[found["dataset"] == dataset])
            style.name_panel(line[0], str(dataset))
        if drawn := axes[0, 1].get_legend_handles_labels()[0]:
            style.legend(figure, drawn)
    return figure


def _weights(at: Axes, logs: pd.DataFrame) -> None:
    at.set(xlabel="true weight", ylabel="learned weight")
    pairs = logs.pivot_table(index="step", columns="method", values="value")
    if not {"truth", "network"} <= set(pairs):
        return
    true, learned = np.exp(pairs["truth"]), np.exp(pairs["network"])
    at.plot(true, learned, ls="", marker=".", ms=2, alpha=0.5, color=_dblup.look("network").colour, rasterized=True)
    ends = [float(true.min()), float(true.max())]
    at.plot(ends, ends, color=style.GREY, ls=":", lw=1)
    for which in ("x", "y"):  # one scale for both, with room for the markers at the ends
        style.log_axis(at, which, [*true, *learned], pad=1.8)


def _training(at: Axes, path: pd.DataFrame) -> None:
    at.set(xlabel="step", ylabel="change from the first step")
    for metric, dashes, label in (
        ("objective", "-", "objective on the training records"),
        ("heldout_mse", "--", "MSE of the records held out of it"),
    ):
        of = path[path["metric"] == metric].groupby("step")["value"].median().sort_index()
        if len(of):
            scale = abs(of.iloc[0]) or 1.0
            at.plot(of.index.astype(float), (of - of.iloc[0]) / scale, ls=dashes, label=label,
                    color=_dblup.look("network").colour)  # fmt: skip


def _accuracy(at: Axes, each: pd.DataFrame, summary: pd.DataFrame) -> None:
    methods = summary["method"].tolist()
    for line, (method, row) in enumerate(summary.set_index("method").iterrows()):
        look = _dblup.look(str(method))
        own = each.loc[each["method"] == method, "value"]
        at.plot(own, np.full(len(own), line + 0.2), ls="", marker=look.marker, color=look.colour, alpha=0.35, ms=3)
        error = np.nan_to_num([[row["accuracy"] - row["accuracy_low"]], [row["accuracy_high"] - row["accuracy"]]])
        at.errorbar(row["accuracy"], line, xerr=error.clip(min=0), color=look.colour, marker=look.marker, ls="",
                    elinewidth=0.9)  # fmt: skip
    at.set_yticks(range(len(methods)), [_dblup.name(m) for m in methods])
    at.set_ylim(len(methods) - 0.5, -0.5)
    at.tick_params(axis="y", length=0)
    at.set_xlabel("accuracy, held out")
