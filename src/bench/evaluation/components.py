"""Estimated covariance matrices as tables: with standard errors, correlations, and shares of the phenotypic variance.

Errors of ratios are by the delta method, from the covariances of the estimates' errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from bench.models.variances import Variances
from bench.record import write_text

Parameter = tuple[str, int, int]  # matrix, row, column


@dataclass(frozen=True)
class Components:
    """parameters: (p,) of the lower triangles; covariance: (p, p) of their errors, NaN where they have none.

    traits: (t,); components: (q,) the genetic ones: the traits, then their maternal effects.
    """

    variances: Variances
    parameters: tuple[Parameter, ...]
    covariance: np.ndarray
    traits: tuple[str, ...]
    components: tuple[str, ...]

    @property
    def matrices(self) -> dict[str, np.ndarray]:
        found = self.variances
        return {"genetic": found.genetic, **found.others, "residual": found.residual}

    def table(self) -> pd.DataFrame:
        """effect, trait, with, estimate, error, correlation, correlation_error; lower triangles."""
        rows = []
        for effect, matrix in self.matrices.items():
            labels = self.components if effect == "genetic" else self.traits
            for j, i in combinations_with_replacement(range(len(matrix)), 2):
                error = self._error(self._gradient({(effect, i, j): 1.0}))
                rows.append((effect, labels[i], labels[j], matrix[i, j], error, *self._correlation(effect, i, j)))
        names = ["effect", "trait", "with", "estimate", "error", "correlation", "correlation_error"]
        return pd.DataFrame(rows, columns=names)

    def shares(self) -> pd.DataFrame:
        """trait, effect, share of the phenotypic variance, error: the share of `genetic` is h².

        The phenotypic variance is that of a record with the weight 1 of an animal that is not inbred; with maternal
        effects it holds their variance and the covariance with the direct ones (Willham 1972).
        """
        rows, t = [], len(self.traits)
        for j, trait in enumerate(self.traits):
            parts = {effect: (effect, j, j) for effect in self.matrices}
            if len(self.components) > t:
                parts = {"genetic": parts.pop("genetic"), "maternal": ("genetic", t + j, t + j), **parts}
            total = dict.fromkeys(parts.values(), 1.0)
            if len(self.components) > t:
                total["genetic", t + j, j] = 1.0
            whole = self._gradient(total)
            values = np.array([self.matrices[effect][i, k] for effect, i, k in self.parameters])
            for effect, parameter in parts.items():
                own = self._gradient({parameter: 1.0})
                share = float(own @ values / (whole @ values))
                rows.append((trait, effect, share, self._error((own - share * whole) / (whole @ values))))
        return pd.DataFrame(rows, columns=["trait", "effect", "share", "error"])

    def _gradient(self, of: dict[Parameter, float]) -> np.ndarray:
        return np.array([of.get(parameter, 0.0) for parameter in self.parameters])

    def _error(self, gradient: np.ndarray) -> float:
        used = gradient != 0  # what has no error must not spoil what it has no part in
        return float(np.sqrt(gradient[used] @ self.covariance[np.ix_(used, used)] @ gradient[used]))

    def _correlation(self, effect: str, i: int, j: int) -> tuple[float, float]:
        if i == j:
            return np.nan, np.nan
        matrix = self.matrices[effect]
        scale = np.sqrt(matrix[i, i] * matrix[j, j])
        r = matrix[i, j] / scale
        slopes = {(effect, i, j): 1 / scale}
        slopes |= {(effect, k, k): -r / (2 * matrix[k, k]) for k in (i, j)}
        return float(r), self._error(self._gradient(slopes))

    def write_yaml(self, path: Path) -> None:
        """As the key `variances` of a model file."""

        def plain(matrix: np.ndarray) -> float | list[list[float]]:
            rounded = [[float(f"{value:.8g}") for value in row] for row in matrix]
            return rounded[0][0] if len(matrix) == 1 else rounded

        found = {"variances": {effect: plain(matrix) for effect, matrix in self.matrices.items()}}
        write_text(path, yaml.safe_dump(found, sort_keys=False, default_flow_style=None))
