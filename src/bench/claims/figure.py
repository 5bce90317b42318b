"""Every claim on one axis: how far what was measured lies within what is wanted."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.claims.verdict import ABSENT, FAILS, HOLDS, UNSURE, Finding, margin
from bench.figures import style

# Okabe & Ito's colours; the marker says the same without them.
LOOKS = {HOLDS: ("#0072B2", "o"), UNSURE: ("#777777", "D"), FAILS: ("#D55E00", "X")}
NEAREST, FARTHEST = 0.1, 10.0  # an error of a thousandth of its bound is drawn at the edge


def draw(findings: list[Finding]) -> Figure:
    """A line per claim that was measured: the factor between the deciding cell and its bound, with its interval.

    Right of 1 is within what is wanted, whichever way the bound goes; a hollow marker is expected not to hold.
    """
    shown = [found for found in findings if found.verdict != ABSENT]
    with style.paper():
        figure, axes = style.panels(1, 1, row_height=0.3 + 0.17 * max(1, len(shown)), extra=0.5)
        at = axes[0, 0]
        reached = [0.5, 2.0]
        for height, found in zip(range(len(shown))[::-1], shown, strict=True):
            assert found.worst
            interval, wanted = found.worst.interval, found.claim.wanted
            ends = [end for end in (interval.low, interval.value, interval.high) if math.isfinite(end)]
            drawn = np.clip([margin(end, wanted) for end in ends], NEAREST, FARTHEST)
            colour, marker = LOOKS[found.verdict]
            at.plot([drawn.min(), drawn.max()], [height, height], color=colour, lw=1)
            middle = np.clip(margin(interval.value, wanted), NEAREST, FARTHEST)
            at.plot(middle, height, marker, color=colour, mfc="white" if found.claim.expected == FAILS else colour)
            reached += drawn.tolist()
        at.axvline(1, color=style.GREY, lw=0.8, zorder=0)
        at.set_yticks(range(len(shown))[::-1], [found.name for found in shown])
        at.tick_params(axis="y", length=0)
        at.set_ylim(-0.7, max(1, len(shown)) - 0.3)
        style.log_axis(at, "x", reached, pad=1.1)
        at.set_xlabel("measured against wanted, as a factor: right of the line is within what is wanted")
        handles = [Line2D([], [], ls="", color=c, marker=m, label=verdict) for verdict, (c, m) in LOOKS.items()]
        figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure
