"""Xb of records that took no part in the fit, where the records that did determine it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

from bench.models.design import Design
from bench.models.terms import Term

ROUNDING = 1e-6  # of x'z below, whose terms are about 1


def fixed_part(design: Design, effects: np.ndarray, terms: Sequence[Term], rows: np.ndarray) -> np.ndarray:
    """Xb, (rows, t) of records `rows` (R,) bool; NaN where X'X b = X'y of the design leaves it open.

    effects: (fixed or more,) b of the design. terms: its fixed ones, for all R records. Open are levels without a
    record in the design, and combinations of levels that confounding kept it from telling apart: herd A in its second
    year, where all records of herd A are of the first and all of herd B of the second.
    """
    t, start, b = design.records.y.shape[1], 0, []
    for kept in design.estimable.kept:
        b.append(np.zeros(kept.shape))
        b[-1][kept] = effects[start : start + int(kept.sum())]
        start += int(kept.sum())
    found = np.zeros((int(rows.sum()), t))
    for j in range(t):
        place = {k: term.traits.index(j) for k, term in enumerate(terms) if j in term.traits}
        whole, own = [terms[k] for k in place], [design.fixed_terms[k] for k in place]
        found[:, j] = _columns(whole, j, rows) @ _of_trait(b, place)
        kept = _of_trait(design.estimable.kept, place)
        without = np.any([term.codes[rows] < 0 for term in whole], axis=0)
        if not kept.all():
            without |= _open(own, whole, j, kept, design.records.observed[:, j], rows)
        found[without, j] = np.nan
    return found


def _columns(terms: Sequence[Term], trait: int, rows: np.ndarray) -> sparse.csc_array:
    return sparse.csc_array(sparse.hstack([term.columns(trait, rows) for term in terms]))


def _of_trait(arrays: Sequence[np.ndarray], place: dict[int, int]) -> np.ndarray:
    """The columns `place` of the terms' arrays (levels, traits), one below the other."""
    return np.concatenate([arrays[k][:, at] for k, at in place.items()])


def _open(
    own: Sequence[Term], whole: Sequence[Term], trait: int, kept: np.ndarray, observed: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """Whether x'b of each of the `rows` depends on which solution b is: x'z is not 0 for a z with Xz = 0.

    z is a random one, whose values for the columns that are not `kept` are drawn: x'z is then 0 by chance only.
    own: terms of the design, whose records `observed` are those of X; whole: the same of all records.
    """
    both = [_less_mean(*terms, observed) for terms in zip(own, whole, strict=True)]
    X, x = _columns([one for one, _ in both], trait, observed), _columns([one for _, one in both], trait, rows)
    largest = abs(X).max(axis=0).toarray().ravel()  # pyright: ignore[reportOptionalSubscript]
    scale = sparse.diags_array(1 / np.where(largest > 0, largest, 1))
    X, x = sparse.csc_array(X @ scale), sparse.csc_array(x @ scale)
    z = np.random.default_rng(1).uniform(1, 2, kept.size)
    if kept.any():
        K = X[:, kept]
        normal = splu(sparse.csc_array(K.T @ K), permc_spec="MMD_AT_PLUS_A")
        z[kept] = -normal.solve(K.T @ (X[:, ~kept] @ z[~kept]))
    return abs(x @ z) > ROUNDING * max(1.0, float(abs(z).max()))


def _less_mean(own: Term, whole: Term, observed: np.ndarray) -> tuple[Term, Term]:
    """A covariate less its mean in the design, which a class effect holds anyway: dates would lose their digits."""
    if own.values is None or whole.values is None or own.kind == "nested":
        return own, whole
    mean = own.values[observed].mean()
    return replace(own, values=own.values - mean), replace(whole, values=whole.values - mean)
