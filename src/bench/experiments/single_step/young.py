"""How well young animals without records are predicted, against what a simulation knows of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

DRAWS = 200  # bootstrap samples
SEED = 20_262
EQUAL = 1e-12  # of a sum of squares, what rounding leaves of the variance of equal numbers


@dataclass(frozen=True)
class Prediction:
    """accuracy: correlation of EBV and true breeding value; slope: regression of the true one on the EBV, 1 where
    EBVs are neither inflated nor deflated. *_draws: (DRAWS,) of bootstrap samples."""

    accuracy: float
    slope: float
    accuracy_draws: np.ndarray
    slope_draws: np.ndarray


def prediction(ebv: np.ndarray, truth: np.ndarray, family: np.ndarray) -> Prediction:
    """ebv, truth: (r,). family: (r,) whose animals are alike, and are drawn together: the same draws in every call
    with the same families, so that differences of two predictions are paired."""
    _, at = np.unique(family, return_inverse=True)
    ebv, truth = ebv - ebv.mean(), truth - truth.mean()  # sums of squares then lose no digits
    columns = (np.ones_like(ebv), ebv, truth, ebv * ebv, truth * truth, ebv * truth)
    sums = np.column_stack([np.bincount(at, weights=column) for column in columns])
    times = np.random.default_rng(SEED).multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=DRAWS)
    accuracy, slope = _moments(sums.sum(axis=0, keepdims=True))
    return Prediction(float(accuracy[0]), float(slope[0]), *_moments(times @ sums))


def _moments(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Correlations and slopes of rows (n, Σx, Σy, Σx², Σy², Σxy); NaN where a sample does not vary."""
    n, x, y, xx, yy, xy = sums.T
    of_x, of_y, both = xx - x * x / n, yy - y * y / n, xy - x * y / n
    of_x[of_x <= EQUAL * xx], of_y[of_y <= EQUAL * yy] = np.nan, np.nan
    return both / np.sqrt(of_x * of_y), both / of_x
