"""One look for all figures: sizes of a paper, one colour and marker per kernel, and what an empty figure says."""

from __future__ import annotations

import math
import textwrap
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

WIDTH = 7.0  # inches: two columns of a paper
SETTINGS: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.1,
    "lines.markersize": 4.5,
    "pdf.fonttype": 42,  # TrueType: text in the PDF stays text
    "svg.hashsalt": "blupbench",
}
GREY = "#777777"
LIGHT = "#dddddd"


class Look(NamedTuple):
    colour: str
    marker: str


# Okabe & Ito's colours, which the colour-blind tell apart (Wong 2011, doi:10.1038/nmeth.1618).
LOOKS = {
    "dense_blas": Look("#000000", "o"),
    "decompress": Look("#0072B2", "s"),
    "five_codes": Look("#D55E00", "^"),
    "numba_unpack": Look("#009E73", "D"),
    "gpu_2bit": Look("#CC79A7", "P"),
    "auto": Look("#E69F00", "v"),
    "lut5": Look("#56B4E9", "X"),
    "slices": Look("#7A3E9D", "*"),
    "gpu_fma": Look("#A3195B", "x"),
    "gpu_dense": Look("#3B3B98", "+"),
}
FREE_COLOURS = ("#8C6D1F", "#5B5B5B", "#A6CE39", "#6B2D0B", "#00C2A8")
FREE_MARKERS = ("<", ">", "p", "h", "d", "H", "8")
DIRECTIONS = {"matmul": "Z V", "rmatmul": "Z′U"}
DTYPES = {"f8": "float64", "f4": "float32"}


def look(kernel: str) -> Look:
    """The colour and marker of a kernel, the same in every figure; one not in LOOKS gets its from its name."""
    if kernel in LOOKS:
        return LOOKS[kernel]
    number = zlib.crc32(kernel.encode())
    return Look(FREE_COLOURS[number % len(FREE_COLOURS)], FREE_MARKERS[number // 7 % len(FREE_MARKERS)])


def ordered(kernels: Iterable[str]) -> list[str]:
    """Known kernels in the order of LOOKS, then the others by name."""
    known = list(LOOKS)
    return sorted(set(kernels), key=lambda name: (known.index(name) if name in known else len(known), name))


@contextmanager
def paper() -> Iterator[None]:
    """matplotlib's settings for everything drawn or saved inside; nothing of the caller's stays changed."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(SETTINGS)
        yield


def panels(
    rows: int, columns: int, *, row_height: float, extra: float = 0.6, **more: Any
) -> tuple[Figure, np.ndarray]:
    """A figure of the paper's width with a (rows, columns) grid of axes; `extra` inches hold the legend."""
    figure = Figure(figsize=(WIDTH, rows * row_height + extra), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.05, h_pad=0.05)  # type: ignore[union-attr]
    axes = figure.subplots(rows, columns, squeeze=False, **more)
    return figure, axes


def kernel_handles(cells: pd.DataFrame) -> list[Line2D]:
    """A legend entry per kernel, with the targets that were drawn."""
    handles = []
    for kernel in ordered(cells["kernel"]):
        targets = ", ".join(sorted(cells.loc[cells["kernel"] == kernel, "target"].unique()))
        colour, marker = look(kernel)
        handles.append(Line2D([], [], color=colour, marker=marker, label=f"{kernel} ({targets})"))
    return handles


def direction_handles() -> list[Line2D]:
    return [
        Line2D([], [], color=GREY, marker="o", label=DIRECTIONS["matmul"]),
        Line2D([], [], color=GREY, marker="o", ls="--", mfc="white", label=DIRECTIONS["rmatmul"]),
    ]


def dtype_handles() -> list[Line2D]:
    return [
        Line2D([], [], color=GREY, marker="o", label=DTYPES["f8"]),
        Line2D([], [], color=GREY, marker="o", ls="--", mfc="white", label=DTYPES["f4"]),
    ]


# Of a contaminated session: a bar is hatched, a marker ringed.
HATCH = "////"
RING: dict[str, Any] = {"ls": "", "marker": "o", "mfc": "none", "mec": "#C00000", "mew": 0.8, "ms": 8, "zorder": 4}
DISTURBED = "contaminated session"


def ring(at: Axes, x: pd.Series, y: pd.Series, contaminated: pd.Series) -> None:
    """Ring the points of contaminated sessions."""
    hit = contaminated.notna().to_numpy()
    if hit.any():
        at.plot(np.asarray(x, dtype=float)[hit], np.asarray(y, dtype=float)[hit], **RING)


def ring_handles(cells: pd.DataFrame) -> list[Line2D]:
    """The legend entry of the rings, where there are any."""
    return [Line2D([], [], label=DISTURBED, **RING)] if cells["contaminated"].notna().any() else []


def hatch_handles(cells: pd.DataFrame) -> list[Patch]:
    """The legend entry of hatched bars, where there are any."""
    hit = cells["contaminated"].notna().any()
    return [Patch(facecolor="white", edgecolor=GREY, hatch=HATCH, label=DISTURBED)] if hit else []


def threads(count: int) -> str:
    return f"{count} thread" if count == 1 else f"{count} threads"


def legend(figure: Figure, handles: list[Any]) -> None:
    """One legend for all panels, below them."""
    longest = max(len(str(handle.get_label())) for handle in handles)
    columns = min(len(handles), 4 if longest <= 24 else 3)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, handlelength=2.2, columnspacing=1.4)


def yerr(cells: pd.DataFrame, name: str) -> np.ndarray:
    """(2, r) distances from `name` to its bounds; 0 where there are none."""
    low, high = cells[name] - cells[f"{name}_low"], cells[f"{name}_high"] - cells[name]
    return np.nan_to_num(np.array([low, high], dtype=float)).clip(min=0)


def log_axis(at: Axes, which: str, values: Iterable[float], *, pad: float = 1.4) -> None:
    """Make the "x" or "y" axis logarithmic, a factor `pad` wider than the positive values, with few, plain ticks."""
    positive = [v for v in values if np.isfinite(v) and v > 0]
    low, high = min(positive) / pad, max(positive) * pad
    at.set(**{f"{which}scale": "log", f"{which}lim": (low, high)})
    axis = at.xaxis if which == "x" else at.yaxis
    decades = math.log10(high / low)
    every = 10.0 ** max(1, math.ceil(decades / 6))
    axis.set_major_locator(LogLocator(base=every, subs=(1, 2, 5) if decades < 2.2 else (1,), numticks=12))
    axis.set_minor_locator(NullLocator())
    if low > 3e-4 and high < 3e4:
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))


def name_panel(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", fontweight="bold")


def nothing(frame: pd.DataFrame, experiment: str, what: str) -> Figure:
    """A figure that says that there was nothing to draw, and why: what was refused and the reasons."""
    gone = frame[(frame["experiment"] == experiment) & (frame["status"] != "ok")]
    reasons = gone.groupby(["status", "reason"])["case"].nunique().sort_values(ascending=False, kind="stable")
    lines = [f"Nothing to draw: {what}."]
    shown: list[tuple[Any, int]] = list(zip(reasons.head(6).index, reasons.head(6), strict=True))
    if reasons.empty:
        lines.append(f"The measurements hold no case of the experiment “{experiment}”, or none that got so far.")
    lines += [f"{count} × {status}: {reason}" for (status, reason), count in shown]
    if len(reasons) > 6:
        lines.append(f"… and {len(reasons) - 6} other reasons; the table “refused” has them all.")
    wrapped = [textwrap.fill(line, 100, subsequent_indent="    ") for line in lines]
    with paper():
        figure = Figure(figsize=(WIDTH, 0.6 + 0.17 * sum(text.count("\n") + 1.4 for text in wrapped)))
        figure.text(0.03, 0.93, "\n".join(wrapped), va="top", fontsize=8, linespacing=1.4)
    return figure
