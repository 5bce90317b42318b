"""In which order the mixed model equations are eliminated by an incomplete factor without fill."""

from __future__ import annotations

import numpy as np

from bench.models.equations import Equations


def elimination_order(equations: Equations) -> np.ndarray:
    """(size,) the order: effects that are not genetic, animals from the youngest to the oldest, and groups.

    A herd-year that is eliminated first leaves the right diagonal to its animals; what is dropped is that they are
    compared with each other, little each. Eliminated last, it would be tied to the ancestors of its animals and to
    other herd-years, which is more. Steps of prior_pcg in a dairy population of 30,000, first and last: 52 and 94
    with one trait, 62 and 162 with three; 70 and 120 if herd-years are last and their first fill is kept.
    """
    q, levels = len(equations.components), equations.animals + equations.groups
    filled = np.diff(equations.matrix.indptr)[: equations.others]
    animals = np.concatenate([np.arange(equations.animals)[::-1], np.arange(equations.animals, levels)])
    genetic = (equations.others + animals[:, None] * q + np.arange(q)).ravel()
    return np.concatenate([np.argsort(filled, kind="stable"), genetic])
