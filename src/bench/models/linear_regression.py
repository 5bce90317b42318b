"""Validation by linear regression of EBVs on EBVs: the method LR of Legarra & Reverter (2018).

The same individuals are predicted twice: with part of the data (p), without their own records, and with all (w).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.errors import BenchError
from bench.statistics import Interval


@dataclass(frozen=True)
class LinearRegression:
    """Estimates with percentile bootstrap intervals over individuals; what is right stands behind the colon.

    bias: mean(p) − mean(w): 0. dispersion: cov(w, p)/var(p): 1, below it p spreads too far. consistency: the
    correlation of w and p: the ratio of their accuracies, acc_p/acc_w. reliability_ratio: cov(w, p)/var(w):
    acc_p²/acc_w². reliability: cov(w, p)/((1 + F̄ − 2f̄)σ²u): acc_p²; None without σ²u.
    """

    individuals: int
    bias: Interval
    dispersion: Interval
    consistency: Interval
    reliability_ratio: Interval
    reliability: Interval | None


def linear_regression(
    partial: np.ndarray,
    whole: np.ndarray,
    *,
    genetic_variance: float | None = None,
    inbreeding: float = 0.0,
    relationship: float = 0.0,
    draws: int = 1000,
    seed: int = 1,
    level: float = 0.95,
) -> LinearRegression:
    """Compare two sets of EBVs of the same individuals in the same order, (n,) each.

    genetic_variance: σ²u. inbreeding: F̄, the mean of the individuals; relationship: 2f̄, the mean relationship
    between two of them, so that (1 + F̄ − 2f̄)σ²u is the expected variance of their breeding values.
    BenchError: fewer than three individuals, EBVs that are no numbers or do not vary, no positive variance.
    """
    p, w = np.asarray(partial, float), np.asarray(whole, float)
    _check(p, w)
    variance = None if genetic_variance is None else genetic_variance * (1 + inbreeding - relationship)
    if variance is not None and not variance > 0:
        raise BenchError(
            f"the variance of the individuals' breeding values is {variance:.3g} (genetic variance times 1 + "
            f"{inbreeding:.3g} − {relationship:.3g}); a positive number was needed"
        )
    if variance is not None:
        variance *= 1 - 1 / p.size  # the moments below have the divisor n
    found = _estimates(_moments(p, w, np.ones(p.size)), variance)
    rng = np.random.default_rng([seed, p.size])
    sums = np.array([_moments(p, w, _resample(p.size, rng)) for _ in range(draws)])
    drawn = _estimates(sums.T, variance)
    tails = [(1 - level) / 2, (1 + level) / 2]
    made = {
        name: Interval(float(value), *map(float, np.nanquantile(drawn[name], tails))) for name, value in found.items()
    }
    return LinearRegression(p.size, **{"reliability": None, **made})


def _check(p: np.ndarray, w: np.ndarray) -> None:
    if p.shape != w.shape or p.ndim != 1:
        raise BenchError(f"two EBVs per individual were needed; found arrays of shape {p.shape} and {w.shape}")
    if p.size < 3:
        raise BenchError(f"{p.size} individuals to validate; three or more were needed")
    for values, which in ((p, "partial"), (w, "whole")):
        if not np.isfinite(values).all():
            raise BenchError(f"{int((~np.isfinite(values)).sum())} EBVs from the {which} data are no numbers")
        if (values == values[0]).all():
            raise BenchError(f"the EBVs from the {which} data do not vary")


def _resample(size: int, rng: np.random.Generator) -> np.ndarray:
    """(size,) how often each individual is in a sample drawn with replacement."""
    return np.bincount(rng.integers(size, size=size), minlength=size).astype(float)


def _moments(p: np.ndarray, w: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Means of p and w, their variances and covariance where individual i counts times[i]."""
    share = times / times.sum()
    mean_p, mean_w = share @ p, share @ w
    dp, dw = p - mean_p, w - mean_w
    return np.array([mean_p, mean_w, share @ dp**2, share @ dw**2, share @ (dp * dw)])


def _estimates(moments: np.ndarray, variance: float | None) -> dict[str, np.ndarray | float]:
    mean_p, mean_w, var_p, var_w, covariance = moments
    with np.errstate(invalid="ignore", divide="ignore"):
        found: dict[str, np.ndarray | float] = {
            "bias": mean_p - mean_w,
            "dispersion": covariance / var_p,
            "consistency": covariance / np.sqrt(var_p * var_w),
            "reliability_ratio": covariance / var_w,
        }
    if variance is not None:
        found["reliability"] = covariance / variance
    return found
