"""How well phenotypes of animals that were held out are predicted: correlation, slope, bias and squared error.

Intervals are percentiles of a bootstrap over animals, the same draws in all folds and repeats.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from bench.statistics import Interval

CHUNK = 50  # draws at a time
FEWEST = 3  # animals that have a correlation


@dataclass(frozen=True)
class PredictiveAbility:
    """ability: correlation of û and y − Xb. ability_phenotype: of Xb + û and y. slope: of y − Xb on û, 1 is right,
    below 1 the û spread too far. bias: mean(Xb + û − y). mse: mean (Xb + û − y)²."""

    ability: Interval
    ability_phenotype: Interval
    slope: Interval
    bias: Interval
    mse: Interval


NAMES = tuple(field.name for field in fields(PredictiveAbility))


@dataclass(frozen=True)
class Measured:
    """by_fold: (folds,) in the order of their codes. pooled: over the folds of a repeat, the mean over repeats.
    within: the mean of the folds, in which differences between folds take no part."""

    by_fold: list[PredictiveAbility]
    pooled: PredictiveAbility
    within: PredictiveAbility


def measure(
    animal: np.ndarray,
    fold: np.ndarray,
    repeat: np.ndarray,
    y: np.ndarray,
    fixed: np.ndarray,
    u: np.ndarray,
    *,
    draws: int = 1000,
    seed: int = 1,
    level: float = 0.95,
) -> Measured:
    """Measures of held-out animals, a row each and repeat. animal: (r,) codes, the same in all repeats. fold: (r,)
    codes 0 …, another one for each fold of each repeat; repeat: (r,). y, fixed, u: (r,) y, Xb and û, finite."""
    animals, whose = np.unique(animal, return_inverse=True)
    features = _features(y, fixed, u)
    folds = int(fold.max()) + 1
    rows = [np.flatnonzero(fold == k) for k in range(folds)]
    _, of_repeat = np.unique([repeat[of[0]] for of in rows], return_inverse=True)
    value = _levels(_sums(features, rows, whose, np.ones((1, animals.size))), of_repeat)
    rng = np.random.default_rng([seed, animals.size])
    drawn = []
    for first in range(0, draws, CHUNK):
        counts = np.array([_counts(rng, animals.size) for _ in range(min(CHUNK, draws - first))])
        drawn.append(_levels(_sums(features, rows, whose, counts), of_repeat))
    tails = [(1 - level) / 2, (1 + level) / 2]
    made = []
    for place, values in enumerate(value):
        many = np.concatenate([chunk[place] for chunk in drawn])
        made.append(_ability(values[0], many, tails))
    return Measured(made[:folds], made[folds], made[folds + 1])


def _counts(rng: np.random.Generator, size: int) -> np.ndarray:
    """(size,) how often each animal is in a sample drawn with replacement."""
    return np.bincount(rng.integers(size, size=size), minlength=size).astype(float)


def _features(y: np.ndarray, fixed: np.ndarray, u: np.ndarray) -> np.ndarray:
    """(r, 13) whose weighted sums hold all measures: of pairs (û, y − Xb) and (Xb + û, y), and of y − Xb − û."""
    adjusted, predicted, error = y - fixed, fixed + u, fixed + u - y
    columns = [np.ones(y.size)]
    for a, b in ((u, adjusted), (predicted, y)):
        a, b = a - a.mean(), b - b.mean()  # sums of squares lose fewer digits
        columns += [a, b, a * a, b * b, a * b]
    return np.column_stack([*columns, error, error**2])


def _sums(features: np.ndarray, rows: list[np.ndarray], whose: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(folds, draws, features). counts: (draws, animals)."""
    return np.array([counts[:, whose[of]] @ features[of] for of in rows])


def _levels(sums: np.ndarray, of_repeat: np.ndarray) -> list[np.ndarray]:
    """(draws, measures) of each fold, pooled, and of the mean of the folds."""
    of_fold = _measures(sums)
    pooled = _measures(np.array([sums[of_repeat == r].sum(axis=0) for r in range(of_repeat.max() + 1)]))
    return [*of_fold, _mean(pooled), _mean(of_fold)]


def _mean(values: np.ndarray) -> np.ndarray:
    """Over the first axis, what is no number left out."""
    known = np.isfinite(values)
    count = known.sum(axis=0)
    total = np.where(known, values, 0).sum(axis=0)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def _measures(sums: np.ndarray) -> np.ndarray:
    """(…, 5) in the order of NAMES, NaN where there is none."""
    n = sums[..., :1]
    with np.errstate(invalid="ignore", divide="ignore"):
        means = sums / n
        (var_u, var_a, both), (var_p, var_y, joint) = (_moments(means[..., at : at + 5]) for at in (1, 6))
        few = n[..., 0] < FEWEST
        found = np.stack(
            [
                np.where(few, np.nan, both / np.sqrt(var_u * var_a)),
                np.where(few, np.nan, joint / np.sqrt(var_p * var_y)),
                np.where(few, np.nan, both / var_u),
                means[..., 11],
                means[..., 12],
            ],
            axis=-1,
        )
    found[~np.isfinite(found)] = np.nan
    return found


def _moments(means: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Variances and covariance of a pair; rounding of what does not vary is 0."""
    a, b, aa, bb, ab = np.moveaxis(means, -1, 0)
    var_a, var_b = aa - a * a, bb - b * b
    return np.where(var_a > 1e-14 * aa, var_a, 0), np.where(var_b > 1e-14 * bb, var_b, 0), ab - a * b


def _ability(value: np.ndarray, drawn: np.ndarray, tails: list[float]) -> PredictiveAbility:
    """value: (measures,); drawn: (draws, measures)."""
    bounds = np.full((2, value.size), np.nan)
    known = np.isfinite(drawn).any(axis=0) & np.isfinite(value)
    if known.any():
        bounds[:, known] = np.nanquantile(drawn[:, known], tails, axis=0)
    return PredictiveAbility(
        *(Interval(float(v), float(low), float(high)) for v, low, high in zip(value, *bounds, strict=True))
    )
