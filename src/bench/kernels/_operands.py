"""What every kernel's matrix asks of what it multiplies, and of itself."""

from __future__ import annotations

from typing import Generic, TypeVar

import numpy as np

Held = TypeVar("Held")
CLOSED = "this genotype matrix is closed"


def check_rows(X: np.ndarray, rows: int) -> None:
    """ValueError unless X is (rows, k)."""
    if X.ndim != 2 or X.shape[0] != rows:
        raise ValueError(f"expected a ({rows}, k) matrix, got {X.shape}")


class Resident(Generic[Held]):
    """A genotype matrix that one Python object holds until it is closed."""

    dtype: np.dtype

    def __init__(self, held: Held):
        self._held: Held | None = held

    def _open(self) -> Held:
        if self._held is None:
            raise ValueError(CLOSED)
        return self._held

    def _checked(self, X: np.ndarray, rows: int) -> np.ndarray:
        check_rows(X, rows)
        return np.ascontiguousarray(X, self.dtype)

    def close(self) -> None:
        self._held = None
