"""How single-step solves converge: residual and EBV error against rounds and passes over the genotypes."""

from __future__ import annotations

import textwrap

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.figures import _single_step as shared
from bench.figures import style
from bench.tables import _single_step as solving

TITLE = "Convergence of single-step solves"
CAPTION = (
    "Left: norm of the residual relative to that of the right-hand side. Middle and right: the largest difference "
    "of an EBV from the reference, in genetic standard deviations, against rounds and against passes over the "
    "genotypes (a product of a vector a trait with Z or Z′, those of the set-up not counted; SS-H, SS-H~, SS-T, "
    "ssGTBLUP and APY need none). Lines of one colour are a variant's preconditioners, prior and jacobi as full "
    "lines; thick: prior-PCG. What makes no passes is named above the right panel. Curves of APY and ssGTBLUP "
    "level off at what their approximation costs; an equal residual means different EBV errors in different "
    "systems. A row per population and set of traits, solved through one kernel."
)
MOST_ROWS = 6
PANELS = (
    ("step", "residual_norm", "round", "relative residual"),
    ("step", "ebv_error", "round", "EBV error (sd)"),
    ("passes", "ebv_error", "passes over the genotypes", "EBV error (sd)"),
)


def draw(frame: pd.DataFrame) -> Figure:
    """A row per population and traits, the six with the most solves."""
    rows = solving.one_kernel(solving.rows_of(frame, "pcg"))
    curves = rows[rows["metric"].isin(["residual_norm", "ebv_error", "passes"]) & rows["step"].notna()]
    if curves.empty:
        return style.nothing(frame, "single_step", "no single-step solve got to its first round")
    largest = curves.groupby("dataset")["n"].transform("max")
    curves = curves[curves["n"] == largest]
    sizes = curves.groupby(["dataset", "trait"])["case"].nunique().sort_values(ascending=False, kind="stable")
    studied = sorted(sizes.index[:MOST_ROWS])
    with style.paper():
        figure, axes = style.panels(len(studied), 3, row_height=min(2.2, 8.0 / len(studied)), extra=0.9)
        for line, (dataset, trait) in zip(axes, studied, strict=True):
            of = curves[(curves["dataset"] == dataset) & (curves["trait"] == trait)]
            wide = _wide(of)
            for at, (x, y, x_label, y_label) in zip(line, PANELS, strict=True):
                _panel(at, wide, x, y)
                if x == "passes":
                    _say_absent(at, wide)
                at.set_xlabel(x_label)
                at.set_ylabel(y_label)
            style.name_panel(line[0], f"{dataset}: {trait.replace('+', ', ')}")
        drawn = shared.handles(curves["variant"], lines=True) + shared.dash_handles(curves["preconditioner"])
        style.legend(figure, drawn)
    return figure


def _wide(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per case and round, a column per metric."""
    keys = ["case", "variant", "preconditioner", "step"]
    return rows.pivot_table(index=keys, columns="metric", values="value", aggfunc="median").reset_index()


def _say_absent(at: Axes, wide: pd.DataFrame) -> None:
    """Which variants have no curve against passes, since they make none."""
    most = wide.groupby("variant")["passes"].max().fillna(0)
    if names := [shared.TITLES.get(v, v) for v in shared.ordered(most[most == 0].index.astype(str))]:
        said = textwrap.fill(f"no passes: {', '.join(names)}", 30)
        at.set_title(said, fontsize=7, color=style.GREY, loc="right")


def _panel(at: Axes, wide: pd.DataFrame, x: str, y: str) -> None:
    for (variant, preconditioner, _), of in wide.groupby(["variant", "preconditioner", "case"]):
        of = of[of[y] > 0].sort_values("step")  # 0 has no logarithm
        if x == "passes" and not of["passes"].max() > 0:
            continue
        dash = shared.DASHES.get(str(preconditioner), "-")
        width = shared.width(str(variant))
        at.plot(of[x].astype(float), of[y], color=shared.look(str(variant)).colour, ls=dash, lw=width)
    style.log_axis(at, "y", wide[y].clip(lower=1e-12 if y == "residual_norm" else 1e-9), pad=2)
    at.set_xlim(left=0)
