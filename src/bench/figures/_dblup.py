"""What the figures of D-BLUP share: a look for each objective and method."""

from __future__ import annotations

from collections.abc import Iterable

from matplotlib.lines import Line2D

from bench.figures.style import GREY, Look

LOOKS = {
    "reml": Look("#000000", "o"),
    "loo": Look("#0072B2", "s"),
    "gcv": Look("#009E73", "D"),
    "heldout": Look("#E69F00", "v"),
    "train": Look("#D55E00", "^"),
    "linear": Look("#56B4E9", "D"),
    "network": Look("#0072B2", "s"),
    "truth": Look("#CC79A7", "P"),
}
NAMES = {
    "reml": "REML",
    "loo": "LOO",
    "gcv": "GCV",
    "heldout": "held-out folds",
    "train": "train MSE",
    "linear": "linear function",
    "network": "network",
    "truth": "true weights",
}


def look(method: str) -> Look:
    """Of the objective that a method learns by."""
    return LOOKS.get(method.partition("+")[0], Look(GREY, "o"))


def name(method: str) -> str:
    objective, *more = method.split("+")
    said = {"w": "weights", "ridge": "ridge"}
    return " + ".join([NAMES.get(objective, objective), *(said.get(part, part) for part in more)])


def handles(methods: Iterable[str]) -> list[Line2D]:
    """A legend entry per objective, its marker hollow: points that coincide are all seen."""
    shown = [m for m in LOOKS if m in {method.partition("+")[0] for method in methods}]
    return [
        Line2D([], [], color=look(m).colour, marker=look(m).marker, ls="", mfc="none", label=NAMES[m]) for m in shown
    ]
