"""Time and memory of one gradient step as the number of individuals grows."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.figures import style
from bench.figures.style import Look
from bench.tables import dblup_steps as table

TITLE = "Cost of one gradient step"
CAPTION = (
    "One evaluation of the REML objective with the gradients of λ and of the weights of all SNPs, on the first n "
    "individuals: left, the median time with 95 % bootstrap intervals over repeats; right, what memory grows by "
    "during it; dotted, one n × n matrix in float64 (8n² bytes), and the packed genotypes (nm/4 bytes). All axes are "
    "logarithmic. Ringed points: something else disturbed the machine in that session."
)
LOOKS = {
    ("dense", "none"): Look("#000000", "o"),
    ("matrix_free", "none"): Look("#D55E00", "^"),
}
OTHERS = (Look("#0072B2", "s"), Look("#009E73", "D"), Look("#E69F00", "v"))


def draw(frame: pd.DataFrame) -> Figure:
    """A row per data set and number of threads: time, memory."""
    found = table.timed(frame)
    if found.empty:
        return style.nothing(frame, "dblup", "no gradient step was timed")
    ways = list(found.groupby(["method", "preconditioner"]).groups)
    looks = dict(LOOKS) | dict(zip([w for w in ways if w not in LOOKS], OTHERS, strict=False))
    places = list(found.groupby(["dataset", "m", "threads"]))
    with style.paper():
        figure, axes = style.panels(len(places), 2, row_height=2.4)
        for line, ((dataset, m, threads), of) in zip(axes, places, strict=True):
            style.name_panel(line[0], f"{dataset} (m = {m:,}), {style.threads(threads)}")
            for way, mine in of.sort_values("n").groupby(["method", "preconditioner"]):
                _curves(line, mine, looks[way])
            style.ring(line[0], of["n"], of["time_s"], of["contaminated"])
            _finish(line, of, m)
        handles = [Line2D([], [], color=looks[w].colour, marker=looks[w].marker, label=_name(*w)) for w in ways]
        handles += [Line2D([], [], color=style.GREY, ls=":", label="8n² bytes"),
                    Line2D([], [], color=style.GREY, ls="--", label="packed genotypes")]  # fmt: skip
        style.legend(figure, [*handles, *style.ring_handles(found)])
    return figure


def _name(method: str, preconditioner: str) -> str:
    said = method.replace("_", "-")
    return said if preconditioner == "none" else f"{said}, {preconditioner}"


def _curves(line: list[Axes], mine: pd.DataFrame, look: Look) -> None:
    n = mine["n"].astype(float)
    line[0].errorbar(n, mine["time_s"], yerr=style.yerr(mine, "time_s"), color=look.colour, marker=look.marker)
    line[1].plot(n, mine["step_rss"] / 1e6, color=look.colour, marker=look.marker)


def _finish(line: list[Axes], of: pd.DataFrame, m: int) -> None:
    n = pd.Series(sorted(of["n"].unique()), dtype=float)
    line[1].plot(n, 8 * n**2 / 1e6, color=style.GREY, ls=":", lw=1, zorder=1)
    line[1].plot(n, n * m / 4e6, color=style.GREY, ls="--", lw=1, zorder=1)
    for at, values, label in (
        (line[0], of["time_s"], "time of a step (s)"),
        (line[1], pd.concat([of["step_rss"], 8 * n**2, n * m / 4]) / 1e6, "memory of a step (MB)"),
    ):
        style.log_axis(at, "y", values)
        style.log_axis(at, "x", n, pad=1.2)
        at.set_xticks(n, [f"{size / 1000:g}k" if size >= 1000 else f"{size:g}" for size in n])
        at.set(xlabel="individuals n", ylabel=label)
