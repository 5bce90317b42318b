"""Xb of records that took no part in the fit, where the records that did determine it."""

from __future__ import annotations

from collections.abc import Sequence

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
    t = design.records.y.shape[1]
    b, start = [], 0
    for kept in design.estimable.kept:
        of_term, size = np.zeros(kept.shape), int(kept.sum())
        of_term[kept] = effects[start : start + size]
        b.append(of_term)
        start += size
    found = np.zeros((int(rows.sum()), t))
    for j in range(t):
        having = [k for k, term in enumerate(terms) if j in term.traits]
        place = [terms[k].traits.index(j) for k in having]
        x = _columns([terms[k] for k in having], j, rows)
        found[:, j] = x @ np.concatenate([b[k][:, at] for k, at in zip(having, place, strict=True)])
        kept = np.concatenate([design.estimable.kept[k][:, at] for k, at in zip(having, place, strict=True)])
        X = _columns([design.fixed_terms[k] for k in having], j, design.records.observed[:, j])
        without = np.any([terms[k].codes[rows] < 0 for k in having], axis=0)
        found[without | _open(X, kept, x, _covariates([terms[k] for k in having])), j] = np.nan
    return found


def _columns(terms: Sequence[Term], trait: int, rows: np.ndarray) -> sparse.csr_array:
    return sparse.csr_array(sparse.hstack([term.columns(trait, rows) for term in terms]))


def _covariates(terms: Sequence[Term]) -> np.ndarray:
    """Which columns are those of a covariate that is not nested."""
    return np.concatenate([np.full(len(term.levels), term.kind == "covariate") for term in terms])


def _open(X: sparse.csr_array, kept: np.ndarray, x: sparse.csr_array, covariates: np.ndarray) -> np.ndarray:
    """Whether x'b of each row of x, (rows, p), depends on which solution b is: x'z is not 0 for a z with Xz = 0.

    z is a random one, whose values for the columns that are not `kept` are drawn: x'z is then 0 by chance only.
    """
    if kept.all():
        return np.zeros(x.shape[0], bool)
    mean = np.where(covariates, X.mean(axis=0), 0)
    X, x = _shifted(X, mean), _shifted(x, mean)  # the class effects hold the mean; dates would lose their digits
    largest = abs(X).max(axis=0).toarray().ravel()
    scale = sparse.diags_array(1 / np.where(largest > 0, largest, 1))
    X, x = sparse.csc_array(X @ scale), x @ scale
    z = np.random.default_rng(1).uniform(1, 2, kept.size)
    K, dropped = X[:, kept], X[:, ~kept] @ z[~kept]
    z[kept] = -splu(sparse.csc_array(K.T @ K), permc_spec="MMD_AT_PLUS_A").solve(K.T @ dropped) if kept.any() else 0
    return abs(x @ z) > ROUNDING * max(1, abs(z).max())


def _shifted(X: sparse.csr_array, mean: np.ndarray) -> sparse.csr_array:
    """X − 1 mean'; mean is 0 but for a few columns."""
    at = np.flatnonzero(mean)
    if not at.size:
        return X
    take = sparse.csr_array((mean[at], (np.zeros(at.size, int), at)), shape=(1, mean.size))
    return sparse.csr_array(X - sparse.csr_array(np.ones((X.shape[0], 1))) @ take)
