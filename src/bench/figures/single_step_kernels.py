"""What a round of a single-step solve spends its time on, through each kernel."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from bench.figures import _single_step as shared
from bench.figures import style
from bench.tables import _single_step as solving

TITLE = "A round of single-step solves through each kernel"
CAPTION = (
    "Mean time of a round of PCG, by part: the genotypes times a vector, their transpose times a vector, sparse "
    "products and triangular solves (A_gg, its inverse, the equations, the preconditioner), and the rest: dense "
    "matrices of the variant and vectors. Of each kernel the fastest target is drawn, at the largest number of "
    "threads of the run. Hatched: something else disturbed the machine in that session."
)
PARTS = {"Z v": ["Zv"], "Z′u": ["Ztu"], "sparse": solving.SPARSE, "rest": ["matrix", "rest"]}
COLOURS = {"Z v": "#0072B2", "Z′u": "#56B4E9", "sparse": "#E69F00", "rest": "#BBBBBB"}


def draw(frame: pd.DataFrame) -> Figure:
    """A panel per population and variant that was solved through several kernels; all variants where none was."""
    found = solving.multiplying(solving.solves(frame))
    if found.empty:
        return style.nothing(frame, "single_step", "no solve that multiplies genotypes finished")
    system = ["dataset", "trait", "n", "variant", "preconditioner"]
    found = found[found["threads"] == found.groupby(system)["threads"].transform("max")]
    several = found.groupby(system)["kernel"].transform("nunique") > 1
    found = found[several] if several.any() else found
    best = found.sort_values(["solve_time", "case"]).drop_duplicates([*system, "kernel"])
    groups = list(best.groupby(system))[:12]
    columns = min(3, len(groups))
    lines = -(-len(groups) // columns)
    most = max(len(of) for _, of in groups)
    with style.paper():
        height = min(0.75 + 0.2 * most, 8.2 / lines)
        figure, axes = style.panels(lines, columns, row_height=height, extra=0.5)
        for at, (_, of) in zip(axes.flat, groups, strict=False):
            _panel(at, of.sort_values("solve_time", ascending=False))
            style.name_panel(at, _name(of.iloc[0]))
        for at in axes.flat[len(groups) :]:
            at.set_axis_off()
        patches = [Patch(color=colour, label=name) for name, colour in COLOURS.items()]
        style.legend(figure, [*patches, *style.hatch_handles(best)])
    return figure


def _name(solve: pd.Series) -> str:
    """Such as "SS-T, dairy, 3 traits"."""
    traits = solve["trait"].count("+") + 1
    title = shared.TITLES.get(solve["variant"], solve["variant"])
    return f"{title}, {solve['dataset']}" + (f", {traits} traits" if traits > 1 else "")


def _panel(at: Axes, found: pd.DataFrame) -> None:
    begin = pd.Series(0.0, index=found.index)
    for name, parts in PARTS.items():
        width = 1e3 * solving.per_round(found, *parts).fillna(0)
        bars = at.barh(found["kernel"], width, left=begin, color=COLOURS[name], height=0.7)
        for bar, reason in zip(bars, found["contaminated"], strict=True):
            if isinstance(reason, str):
                bar.set_hatch(style.HATCH)
                bar.set_edgecolor(style.GREY)
                bar.set_linewidth(0)
        begin += width
    at.set_xlim(0, 1.05 * float(begin.max()))
    at.tick_params(axis="y", length=0)
    at.set_xlabel("round (ms)")
