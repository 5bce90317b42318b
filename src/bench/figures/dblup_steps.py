"""Time and memory of one gradient step as the number of individuals grows."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.figures import style
from bench.figures.style import Look
from bench.tables import dblup_steps as table

TITLE = "Cost of one gradient step"
CAPTION = (
    "One evaluation of the gradients of the REML objective along λ and the weights of all SNPs, on the first n "
    "individuals; open: along λ alone, with a dense G made beforehand, the least that a dense step can cost. Left: "
    "CPU time of all threads, the median of the repeats, which other jobs on the machine hardly change; right: "
    "growth of memory. Dotted: one n × n matrix in float64 (8n² bytes); dashed: the packed genotypes (nm/4 bytes). "
    "All axes are logarithmic."
)
LOOKS = {
    ("dense", "none"): Look("#000000", "o"),
    ("dense_fixed", "none"): Look("#777777", "o"),
    ("matrix_free", "none"): Look("#D55E00", "^"),
}
OTHERS = (Look("#0072B2", "s"), Look("#009E73", "D"), Look("#E69F00", "v"))


def draw(frame: pd.DataFrame) -> Figure:
    """A row per data set and number of threads: time, memory."""
    found = table.timed(frame)
    if found.empty:
        return style.nothing(frame, "dblup", "no gradient step was timed")
    ways = found[["method", "preconditioner"]].drop_duplicates().sort_values(["method", "preconditioner"])
    named = [(str(method), str(name)) for method, name in ways.to_numpy()]
    looks = dict(LOOKS) | dict(zip([way for way in named if way not in LOOKS], OTHERS, strict=False))
    places = found[["dataset", "m", "threads"]].drop_duplicates().to_dict("records")
    with style.paper():
        figure, axes = style.panels(len(places), 2, row_height=2.4)
        for line, place in zip(axes, places, strict=True):
            of = found[(found[list(place)] == list(place.values())).all(axis=1)].sort_values("n")
            style.name_panel(
                line[0], f"{place['dataset']} (m = {place['m']:,}), {style.threads(int(place['threads']))}"
            )
            for method, name in named:
                mine = of[(of["method"] == method) & (of["preconditioner"] == name)]
                _curves(line, mine, looks[method, name], hollow=method == "dense_fixed")
            _finish(line, of, int(place["m"]))
        handles = [_line(looks[way], _name(*way), hollow=way[0] == "dense_fixed") for way in named]
        handles += [Line2D([], [], color=style.GREY, ls=":", label="8n² bytes"),
                    Line2D([], [], color=style.GREY, ls="--", label="packed genotypes")]  # fmt: skip
        style.legend(figure, handles)
    return figure


def _line(look: Look, label: str, *, hollow: bool) -> Line2D:
    face = "white" if hollow else look.colour
    return Line2D([], [], color=look.colour, marker=look.marker, mfc=face, label=label)


def _name(method: str, preconditioner: str) -> str:
    said = {"dense_fixed": "dense, λ alone"}.get(method, method.replace("_", "-"))
    return said if preconditioner == "none" else f"{said}, {preconditioner}"


def _curves(line: list[Axes], mine: pd.DataFrame, look: Look, *, hollow: bool) -> None:
    n = mine["n"].to_numpy(float)
    for at, values in zip(line, (mine["step_cpu"], mine["step_rss"] / 1e6), strict=True):
        at.plot(n, values, color=look.colour, marker=look.marker, mfc="white" if hollow else look.colour)


def _finish(line: list[Axes], of: pd.DataFrame, m: int) -> None:
    n = np.unique(of["n"].to_numpy(float))
    square, packed = 8 * n**2 / 1e6, n * m / 4e6
    line[1].plot(n, square, color=style.GREY, ls=":", lw=1, zorder=1)
    line[1].plot(n, packed, color=style.GREY, ls="--", lw=1, zorder=1)
    memory = np.concatenate([of["step_rss"].to_numpy(float) / 1e6, square, packed])
    for at, values, label in (
        (line[0], of["step_cpu"].to_numpy(float), "CPU time of a step (s)"),
        (line[1], memory, "memory of a step (MB)"),
    ):
        style.log_axis(at, "y", values)
        style.log_axis(at, "x", n, pad=1.2)
        at.set_xticks(n, [f"{size / 1000:g}k" if size >= 1000 else f"{size:g}" for size in n])
        at.set(xlabel="individuals n", ylabel=label)
