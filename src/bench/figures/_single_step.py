"""What the figures of single-step solves share: a look for each variant, a dash for each preconditioner."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from bench.figures import style
from bench.figures.style import Look

# Okabe & Ito's colours and style.FREE_COLOURS; the variants of one form have neighbouring ones.
LOOKS = {
    "prior_pcg": Look("#D55E00", "o"),
    "prior_pcg_exact": Look("#E69F00", "h"),
    "ss_h": Look("#000000", "s"),
    "ss_h_tilde": Look("#5B5B5B", "D"),
    "ss_t": Look("#0072B2", "^"),
    "ssgtablup": Look("#56B4E9", "v"),
    "ssgtblup": Look("#00C2A8", "P"),
    "apy": Look("#8C6D1F", "X"),
    "sssnpblup": Look("#009E73", "<"),
    "taskinen": Look("#CC79A7", ">"),
    "fernando": Look("#7A3E9D", "*"),
}
DASHES: dict[str, Any] = {
    "prior": "-",
    "jacobi": "-",
    "block": (0, (4, 1.5)),
    "second_level": (0, (1, 1)),
    "deflation": (0, (5, 1, 1, 1)),
}
CLOSE = 1.7  # two sizes that differ by less have no room for two names
TITLES = {
    "prior_pcg": "prior-PCG",
    "prior_pcg_exact": "prior-PCG, exact",
    "ss_h": "SS-H",
    "ss_h_tilde": "SS-H~",
    "ss_t": "SS-T",
    "ssgtablup": "ssGTABLUP",
    "ssgtblup": "ssGTBLUP",
    "apy": "APY",
    "sssnpblup": "ssSNPBLUP",
    "taskinen": "Taskinen",
    "fernando": "Fernando",
}


def look(variant: str) -> Look:
    """The colour and marker of a variant; of one that is not in LOOKS, those that its name would give a kernel."""
    return LOOKS.get(variant) or style.look(variant)


def width(variant: str) -> float:
    """Of a variant's curve: that of prior-PCG is thick."""
    return 1.6 if variant.startswith("prior_pcg") else 0.8


def size_axis(at: Axes, sizes: Iterable[float]) -> None:
    """A logarithmic x axis with a tick at each size that has room for its name."""
    shown: list[float] = []
    for size in sorted(set(sizes)):
        if not shown or size >= CLOSE * shown[-1]:
            shown.append(size)
    at.set_xscale("log")
    at.set_xlim(shown[0] / 1.4, max(sizes) * 1.4)
    at.set_xticks(shown, [_short(size) for size in shown])
    at.xaxis.set_minor_locator(NullLocator())


def _short(size: float) -> str:
    for unit, letter in ((1e6, "M"), (1e3, "k")):
        if size >= unit:
            return f"{size / unit:g}{letter}"
    return f"{size:g}"


def ordered(variants: Iterable[str]) -> list[str]:
    known = list(LOOKS)
    return sorted(set(variants), key=lambda name: (known.index(name) if name in known else len(known), name))


def handles(variants: Iterable[str], *, lines: bool = False) -> list[Line2D]:
    """A legend entry per variant; lines: without markers."""
    return [
        Line2D(
            [],
            [],
            color=look(v).colour,
            marker="" if lines else look(v).marker,
            label=TITLES.get(v, v),
            lw=width(v) if lines else 1.1,
        )
        for v in ordered(variants)
    ]


def dash_handles(preconditioners: Iterable[str]) -> list[Line2D]:
    """A legend entry per preconditioner that is drawn differently from a full line."""
    found = set(preconditioners)
    full = [name for name in DASHES if name in found and DASHES[name] == "-"]
    dashed = [name for name in DASHES if name in found and DASHES[name] != "-"]
    made = [Line2D([], [], color=style.GREY, label=f"preconditioner {', '.join(full)}")] if full else []
    return made + [Line2D([], [], color=style.GREY, ls=DASHES[name], label=name.replace("_", " ")) for name in dashed]
