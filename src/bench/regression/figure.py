"""The forest plot of a comparison: every ratio with its interval, and the bars beyond which it fails."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from bench.figures import style
from bench.regression.gate import Comparison
from bench.regression.verdict import BARS, TIME_BAR, Finding

# Okabe & Ito's colours, and a marker each: the colour alone is not to decide.
LOOKS = {
    "same": ("#000000", "o"),
    "faster": ("#009E73", "<"),
    "slower": ("#D55E00", ">"),
    "inconclusive": ("#777777", "d"),
    "wrong": ("#CC79A7", "X"),
}
ROW = 0.14  # inches


def draw(made: Comparison) -> Figure:
    """A panel of instructions and one of CPU times; a row per kernel, product and k."""
    shown = [f for f in made.findings if f.metric in ("instructions", "time")]
    rows = list(dict.fromkeys((f.kernel, f.direction, f.k) for f in shown if f.ratio is not None))
    if not rows:
        return _nothing(made)
    with style.paper():
        figure, axes = style.panels(1, 2, row_height=ROW * len(rows) + 0.5, extra=0.4, sharey=True)
        for at, metric, bar in zip(axes[0], ("instructions", "time"), (BARS["instructions"], TIME_BAR), strict=True):
            _panel(at, [f for f in shown if f.metric == metric], rows, bar)
        style.name_panel(axes[0][0], "instructions, HEAD / BASE")
        style.name_panel(axes[0][1], "CPU time, HEAD / BASE")
        labels = [f"{kernel}, {style.DIRECTIONS.get(d or '', '')}, k = {k}" for kernel, d, k in rows]
        axes[0][0].set_yticks(range(len(rows)), labels)
        axes[0][0].set_ylim(len(rows) - 0.4, -0.6)
        used = [v for v in LOOKS if any(f.verdict == v for f in shown)]
        handles = [Line2D([], [], color=LOOKS[v][0], marker=LOOKS[v][1], ls="", label=v) for v in used]
        style.legend(figure, [*handles, Line2D([], [], color=style.GREY, ls="--", lw=0.8, label="bar of a failure")])
    return figure


def _panel(at: Axes, found: list[Finding], rows: list[tuple[str, str | None, int | None]], bar: float) -> None:
    values = [1 / bar, bar]
    for finding in found:
        if finding.ratio is None or not math.isfinite(finding.ratio):
            continue
        y = rows.index((finding.kernel, finding.direction, finding.k))
        colour, marker = LOOKS[finding.verdict]
        if finding.low is not None and finding.high is not None:
            at.plot([finding.low, finding.high], [y, y], color=colour, lw=0.9)
            values += [finding.low, finding.high]
        at.plot([finding.ratio], [y], color=colour, marker=marker, ls="", ms=3.5)
        values.append(finding.ratio)
    at.axvline(1, color=style.GREY, lw=0.6)
    for edge in (1 / bar, bar):
        at.axvline(edge, color=style.GREY, lw=0.8, ls="--")
    finite = [v for v in values if np.isfinite(v)]
    space = 0.05 * (max(finite) - min(finite))
    at.set_xlim(min(finite) - space, max(finite) + space)
    at.xaxis.set_major_locator(MaxNLocator(5))
    at.set_axisbelow(True)
    at.grid(axis="y", color=style.LIGHT, lw=0.4)


def _nothing(made: Comparison) -> Figure:
    """What there was instead of ratios."""
    reasons = list(dict.fromkeys(f.reason for f in made.findings if f.reason)) or ["nothing was compared"]
    with style.paper():
        figure = Figure(figsize=(style.WIDTH, 0.6 + 0.2 * len(reasons[:8])))
        figure.text(0.03, 0.9, "\n".join(["Nothing to draw:", *reasons[:8]]), va="top", fontsize=8, wrap=True)
    return figure
