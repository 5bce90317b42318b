"""The covariance matrices of a model's random effects, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

PERMANENT, MATERNAL_PERMANENT = "permanent", "maternal_permanent"  # names of the environments among `others`
SINGULAR = 1e-10  # smallest eigenvalue of the correlations, relative to the largest: the inverse keeps six digits


@dataclass(frozen=True)
class Variances:
    """genetic: G₀, (q, q): the traits, then their maternal parts. residual: R₀, (t, t). others: (t, t) of each
    further random effect by its name, `permanent` and `maternal_permanent` among them.
    """

    genetic: np.ndarray
    residual: np.ndarray
    others: dict[str, np.ndarray] = field(default_factory=dict)


def covariance(name: str, given: Any, labels: Sequence[str]) -> np.ndarray:
    """`given`, a number or rows of numbers, as the covariance matrix of `labels`, (k, k).

    ValueError if it has another size, is not symmetric (to 1e-8 of its largest number) or not positive definite.
    """
    k = len(labels)
    try:
        matrix = np.array(given, dtype=float)
    except (TypeError, ValueError):
        raise ValueError(f"variances.{name}: a number or a list of rows of numbers was needed") from None
    if matrix.ndim == 0:
        matrix = matrix.reshape(1, 1)
    if matrix.shape != (k, k):
        found = " × ".join(map(str, matrix.shape))
        raise ValueError(f"variances.{name}: it is {found}, needed {k} × {k} ({', '.join(labels)})")
    if not np.isfinite(matrix).all():
        raise ValueError(f"variances.{name}: it holds NaN or infinity")
    if (at := np.argwhere(np.abs(matrix - matrix.T) > 1e-8 * np.abs(matrix).max())).size:
        i, j = map(int, at[0])
        raise ValueError(
            f"variances.{name}: not symmetric: {matrix[i, j]:g} of {labels[i]} with {labels[j]}, {matrix[j, i]:g} of "
            f"{labels[j]} with {labels[i]}"
        )
    matrix = (matrix + matrix.T) / 2
    if (none := np.flatnonzero(~(matrix.diagonal() > 0))).size:
        value = matrix[none[0], none[0]]
        raise ValueError(f"variances.{name}: not positive definite: {labels[none[0]]} has the variance {value:g}")
    values = np.linalg.eigvalsh(matrix * _units(matrix))
    if values[0] <= SINGULAR * values[-1]:
        raise ValueError(
            f"variances.{name}: not positive definite, the smallest eigenvalue of its correlations is {values[0]:.3g}"
        )
    return matrix


def inverted(matrix: np.ndarray) -> np.ndarray:
    """The inverse of a covariance matrix by the eigenvectors of its correlations, whatever the traits' units.

    Near a singular matrix LU would spoil the other directions: by .3 where the condition is 5e7, this by 1e-8.
    """
    units = _units(matrix)
    values, vectors = np.linalg.eigh(matrix * units)
    return (vectors / values) @ vectors.T * units


def _units(matrix: np.ndarray) -> np.ndarray:
    """1/(s_i s_j) of the standard deviations s."""
    scale = 1 / np.sqrt(matrix.diagonal())
    return np.outer(scale, scale)
