"""One-run REML as n grows: the estimate with both its errors, the time, the share of the kernel's rate."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.figures import style
from bench.tables import lanczos_reml as table

TITLE = "Variance ratio from one block-Lanczos run"
CAPTION = (
    "Left: the variance ratio λ with its 95 % interval by the restricted likelihood (thin) and the part of it that "
    "the choice of the probes leaves (thick, ± 1.96 Monte Carlo standard errors); crosses are the "
    "eigendecomposition's, where n allows. Middle: time from centred genotypes to λ and its errors, and what the "
    "products alone would take at the kernel's own rate. Right: the share of that rate that was reached. A row per "
    "data set and heritability of the records. Ringed points: something else disturbed the machine in that session."
)
RUN, KERNEL, EIGEN = "#0072B2", "#E69F00", "#000000"


def draw(frame: pd.DataFrame) -> Figure:
    """A row per data set and trait; the most threads."""
    found = table.runs(frame)
    if found.empty:
        return style.nothing(frame, "lanczos_reml", "no variance ratio was estimated")
    found = found[found["threads"] == found["threads"].max()].sort_values("n")
    groups = list(found.groupby(["dataset", "trait"]))
    with style.paper():
        figure, axes = style.panels(len(groups), 3, row_height=2.2, extra=0.6)
        for line, ((dataset, trait), of) in zip(axes, groups, strict=True):
            _estimate(line[0], of)
            _time(line[1], of)
            _share(line[2], of)
            style.name_panel(line[0], f"{dataset}, {trait}")
            for at in line:
                style.log_axis(at, "x", of["n"].astype(float), pad=1.3)
                at.set_xlabel("individuals n")
        handles = [
            Line2D([], [], color=RUN, marker="o", label="block Lanczos"),
            Line2D([], [], color=KERNEL, ls="--", label="its products at the kernel's rate"),
        ]
        if found["eigen_difference"].notna().any():
            handles.append(Line2D([], [], color=EIGEN, marker="x", ls="", label="eigendecomposition"))
        style.legend(figure, [*handles, *style.ring_handles(found)])
    return figure


def _estimate(at: Axes, of: pd.DataFrame) -> None:
    n, lam = of["n"].astype(float), of["variance_ratio"]
    for error, width in (("standard_error", 0.8), ("monte_carlo_error", 3.0)):
        factor = np.exp(1.96 * of[error].fillna(0.0))
        at.errorbar(n, lam, yerr=[lam - lam / factor, lam * factor - lam], color=RUN, ls="", elinewidth=width)
    at.plot(n, lam, color=RUN, marker="o", ls="")
    at.plot(n, lam * np.exp(of["eigen_difference"]), color=EIGEN, marker="x", ls="")
    at.set_ylabel("variance ratio λ")


def _time(at: Axes, of: pd.DataFrame) -> None:
    n = of["n"].astype(float)
    at.plot(n, of["reml_time"], color=RUN, marker="o")
    at.plot(n, of["products"] * of["product_s"], color=KERNEL, ls="--")
    style.ring(at, of["n"], of["reml_time"], of["contaminated"])
    style.log_axis(at, "y", np.append(of["reml_time"], of["products"] * of["product_s"]), pad=1.4)
    at.set_ylabel("time (s)")


def _share(at: Axes, of: pd.DataFrame) -> None:
    at.plot(of["n"].astype(float), 100 * of["kernel_share"], color=RUN, marker="o")
    at.set_ylim(0, max(100, 105 * of["kernel_share"].max()))
    at.set_ylabel("share of the kernel's rate (%)")
