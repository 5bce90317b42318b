"""What a solver needs to know of a matrix: its products."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Operator(Protocol):
    """A real (r, c) matrix that is only ever multiplied; all vectors are columns of a 2-D array."""

    @property
    def shape(self) -> tuple[int, int]: ...

    def matmul(self, V: np.ndarray) -> np.ndarray:
        """A V, (c, k) → (r, k)."""
        ...

    def rmatmul(self, U: np.ndarray) -> np.ndarray:
        """A'U, (r, k) → (c, k)."""
        ...


class SymmetricOperator(Protocol):
    """A symmetric (n, n) matrix that is only ever multiplied."""

    @property
    def shape(self) -> tuple[int, int]: ...

    def matmul(self, V: np.ndarray) -> np.ndarray:
        """A V, (n, k) → (n, k), a new array."""
        ...


class Dense:
    """An array as an operator."""

    def __init__(self, array: np.ndarray):
        self.array = array
        self.shape: tuple[int, int] = array.shape

    def matmul(self, V: np.ndarray) -> np.ndarray:
        return self.array @ V

    def rmatmul(self, U: np.ndarray) -> np.ndarray:
        return self.array.T @ U


class Swapped:
    """Another operator's transpose."""

    def __init__(self, of: Operator):
        self._of = of
        self.shape: tuple[int, int] = (of.shape[1], of.shape[0])

    def matmul(self, V: np.ndarray) -> np.ndarray:
        return self._of.rmatmul(V)

    def rmatmul(self, U: np.ndarray) -> np.ndarray:
        return self._of.matmul(U)
