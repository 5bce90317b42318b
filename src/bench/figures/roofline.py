"""Rates against what the machine allows."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from bench.figures import style
from bench.tables import _bounds, _cells

TITLE = "Rate against the roofline"
CAPTION = (
    "Multiply-adds per second, n·m·k over the median time, against multiply-adds per byte of genotypes as a kernel "
    "stores and streams them: 4k for 2 bits a genotype, 5k for five codes, k/8 and k/4 for dense float64 and "
    "float32. Along a line k rises from left to right, and its markers grow; filled and solid is Z V, hollow and "
    "dashed Z′U. The roof is the lesser of the FMA peak and of the read bandwidth times the intensity, the best "
    "that any session of the run, or the job limits, measured at no more threads. The other ceilings are those of "
    "experiment limits: the highest rate that table lookups, or 8-bit products, allow a kernel of the panel at any "
    "of its k, by what the kernel declares, and the slope of reading from a cache that could hold the smallest of "
    "the matrices. A kernel that looks sums up may so lie above the FMA peak, and a matrix that a cache holds "
    "above the bandwidth of the memory. Thin lines at the left, with names: the FMA peak of narrower instruction "
    "sets at this number of threads, where it is lower. Of each kernel the target with the least total time in the "
    "panel is drawn. Ringed points: something else disturbed the machine in that session. A column per dtype and "
    "number of threads, a row per data set."
)
CEILINGS = {"lookup": ("table lookups", (0, (6, 2))), "int8": ("8-bit products", (0, (5, 2, 1, 2)))}
FROM_CACHE = ("bandwidth of a cache", (0, (1, 1.5)))
HALO = [withStroke(linewidth=2, foreground="white")]  # of a name that a line may cross
MARKERS = (3.0, 6.0)  # points: of the least and the most columns
MOST_SIZES = 4  # in the legend
UNFILLED = ("x", "+")


def draw(frame: pd.DataFrame) -> Figure:
    """A panel per data set × (dtype, threads)."""
    cells = _cells.best_target(_cells.cells(frame, "products"))
    if cells.empty:
        return style.nothing(frame, "products", "no product was timed")
    best = {f"{name}_best": _cells.best_peak(frame, cells, f"{name}_peak") for name in ("fma", "read")}
    cells = cells.assign(intensity=_intensity(cells), **best).join(_bounds.bounds(frame, cells))
    peaks = _bounds.limits(frame).query("metric == 'fma_peak'")
    datasets, sizes = cells["dataset"].unique(), _sizes(cells)
    columns = cells[["dtype", "threads"]].drop_duplicates().sort_values(["dtype", "threads"], ascending=[False, True])
    with style.paper():
        figure, axes = style.panels(len(datasets), len(columns), row_height=2.0, sharex=True, sharey=True)
        for line, dataset in zip(axes, datasets, strict=True):
            for at, (dtype, threads) in zip(line, columns.itertuples(index=False), strict=True):
                here = cells[
                    (cells["dataset"] == dataset) & (cells["dtype"] == dtype) & (cells["threads"] == threads)
                ]
                style.name_panel(at, f"{dataset}\n{style.DTYPES.get(dtype, dtype)}, {style.threads(threads)}")
                xs = cells["intensity"].min(), cells["intensity"].max()
                _panel(at, here, xs, sizes)
                _narrower(at, here, peaks[(peaks["dtype"] == dtype) & (peaks["threads"] == threads)], xs[0])
        ceilings = cells[["fma_best", "rate", *CEILINGS]].max(axis=1) / 1e9
        for at in axes.flat:
            style.log_axis(at, "x", cells["intensity"], pad=2)
            style.log_axis(at, "y", [*(cells["rate"] / 1e9), *ceilings], pad=1.8)
        for at in axes[-1]:
            at.set_xlabel("multiply-adds per byte")
        figure.supylabel("rate (10⁹ multiply-adds per second)", fontsize=8)
        style.legend(figure, [*style.kernel_handles(cells), *style.direction_handles(), *_size_handles(sizes),
                              *_ceiling_handles(cells),
                              *style.ring_handles(cells)])  # fmt: skip
    return figure


def _intensity(cells: pd.DataFrame) -> pd.Series:
    """Multiply-adds per byte that a product streams of the stored matrix."""
    work = (cells["n"] * cells["m"] * cells["k"]).astype(float)
    return work / cells["bytes_read"]


def _ceiling_handles(cells: pd.DataFrame) -> list[Line2D]:
    """A legend entry for each ceiling that a panel has."""
    drawn = [CEILINGS[name] for name in CEILINGS if cells[name].notna().any()]
    drawn += [FROM_CACHE] if (_from_cache(cells) > cells["read_best"]).any() else []
    lines = [("roof: bandwidth, FMA peak", "-"), *drawn]
    return [Line2D([], [], color=style.GREY, lw=0.9, ls=dashes, label=label) for label, dashes in lines]


def _from_cache(cells: pd.DataFrame) -> pd.Series:
    """Bytes per second that the limit of reading a matrix of this size amounts to."""
    return cells["read"] / cells["intensity"]


def _panel(at: Axes, cells: pd.DataFrame, xs: tuple[float, float], sizes: dict[int, float]) -> None:
    if cells.empty:
        return
    peak, bandwidth = cells["fma_best"].max(), cells["read_best"].max()
    if np.isfinite(peak):
        x = np.geomspace(xs[0] / 4, xs[1] * 4, 200)
        at.plot(x, np.fmin(peak, bandwidth * x) / 1e9, color=style.GREY, lw=0.9, zorder=1)
        cache = _from_cache(cells).max()
        if cache > 1.2 * bandwidth:
            x = np.geomspace(xs[0] / 4, peak / cache, 50)
            at.plot(x, cache * x / 1e9, color=style.GREY, lw=0.9, ls=FROM_CACHE[1], zorder=1)
    for name, (_, dashes) in CEILINGS.items():
        for height in _heights(cells, name):
            at.axhline(height / 1e9, color=style.GREY, lw=0.9, ls=dashes, zorder=1)
    for kernel in style.ordered(cells["kernel"]):
        colour, marker = style.look(kernel)
        for direction in style.DIRECTIONS:
            of = cells[(cells["kernel"] == kernel) & (cells["direction"] == direction)].sort_values("k")
            filled = direction == "matmul"
            x, y = of["intensity"].astype(float), of["rate"] / 1e9
            at.plot(x, y, color=colour, ls="-" if filled else "--", lw=0.8, zorder=3)
            look = {"color": colour} if marker in UNFILLED else {"fc": colour if filled else "white", "ec": colour}
            area = of["k"].map(sizes).astype(float) ** 2
            at.scatter(x, y, area, marker=marker, linewidths=1.0, zorder=3.5, **look)  # type: ignore[arg-type]
    style.ring(at, cells["intensity"], cells["rate"] / 1e9, cells["contaminated"])


def _narrower(at: Axes, cells: pd.DataFrame, peaks: pd.DataFrame, left: float) -> None:
    """The FMA peak of each instruction set that is a tenth or more below the next wider one drawn."""
    last = float(cells["fma_best"].max())
    for peak in peaks.sort_values("value", ascending=False).to_dict("records"):
        if peak["value"] < 0.9 * last:
            last = peak["value"]
            at.plot([left / 2, left * 1.5], [last / 1e9, last / 1e9], color=style.GREY, lw=0.5, zorder=1)
            at.annotate(
                peak["target"], (left / 2, last / 1e9), (2, 1), textcoords="offset points", ha="left", va="bottom",
                fontsize=7, color=style.GREY, path_effects=HALO, zorder=5,
            )  # fmt: skip


def _heights(cells: pd.DataFrame, resource: str) -> list[float]:
    """The highest rate that a resource allows, per target; of targets within a tenth of each other the first."""
    found: list[float] = []
    for height in cells.groupby("target")[resource].max().dropna().sort_values(ascending=False):
        if all(height < 0.9 * higher for higher in found):
            found.append(height)
    return found


def _sizes(cells: pd.DataFrame) -> dict[int, float]:
    """k → size of its markers in points."""
    ks = sorted(int(k) for k in cells["k"].unique())
    return dict(zip(ks, np.linspace(*MARKERS, len(ks)) if len(ks) > 1 else [4.0], strict=True))


def _size_handles(sizes: dict[int, float]) -> list[Line2D]:
    """A legend entry per k; of many the smallest and the largest."""
    shown = list(sizes) if len(sizes) <= MOST_SIZES else [min(sizes), max(sizes)]
    return [Line2D([], [], color=style.GREY, marker="o", ls="", ms=sizes[k], label=f"k = {k}") for k in shown]
