"""The relationships of animals of whose parents nothing is known: A = I."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class Unrelated:
    """I, (n, n), as the pedigree's products are (`Numerator`, `GenotypedNumerator`)."""

    def __init__(self, n: int):
        self.shape = (n, n)

    @property
    def inbreeding(self) -> np.ndarray:
        """(n,) zeros."""
        return np.zeros(self.shape[0])

    def matmul(self, X: np.ndarray) -> np.ndarray:
        return X.copy()

    def solve(self, X: np.ndarray) -> np.ndarray:
        return X.copy()

    def draw(self, rngs: Sequence[np.random.Generator]) -> np.ndarray:
        """Draws from N(0, I), (n, k): a column from each of k generators."""
        return np.column_stack([rng.standard_normal(self.shape[0]) for rng in rngs])
