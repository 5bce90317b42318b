"""What a solver needs to know of a matrix: its products, and where their vectors should lie.

A matrix on a GPU has a method `place` that brings an array of the host there. Vectors there are of another library
than numpy, whose functions they obey (`like=` makes new ones beside them); sums of their columns come back to the
host.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

Place = Callable[[np.ndarray], Any]
OverRanks = Callable[[np.ndarray], np.ndarray]
PIECE = 2048  # rows


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


def placement(operator: object) -> Place | None:
    """What brings vectors to where `operator` multiplies them; None where that is the host's memory."""
    return getattr(operator, "place", None)


def over_ranks(operator: object) -> OverRanks | None:
    """What makes a rank's sums those of all ranks, where the matrix is spread over several; None where it is not.

    They are added up where vectors are cut into the ranks' shares. Where every rank has whole vectors they are
    rank 0's, so that all ranks take the same steps, and stop at the same one, although another processor rounds
    differently.
    """
    return getattr(operator, "over_ranks", None)


def on_host(array: Any) -> np.ndarray:
    """`array`, fetched from a GPU if it lies there."""
    return array if isinstance(array, np.ndarray) else array.get()


def column_sums(A: Any) -> Any:
    """(k,) sums of the columns of A (n, k), where A lies.

    On a GPU in two stages: however many rows there are, CuPy sums few columns in one or two blocks of threads, which
    keep as many of an H100's 132 multiprocessors busy. First every PIECE-th row is added up, then PIECE sums of each
    column.
    """
    if isinstance(A, np.ndarray):
        return A.sum(axis=0)
    n, k = A.shape
    pieces = n // PIECE
    total = A[pieces * PIECE :].sum(axis=0)
    if pieces:
        sums = A[: pieces * PIECE].reshape(pieces, PIECE * k).sum(axis=0)
        total = total + sums.reshape(PIECE, k).sum(axis=0)
    return total


def column_products(A: Any, B: Any) -> Any:
    """(k,) a'b of the columns of A and B (n, k), where they lie."""
    return np.einsum("ij,ij->j", A, B) if isinstance(A, np.ndarray) else column_sums(A * B)


class Beside:
    """An array of the host, and its copy where the vectors lie that it is combined with, made once."""

    def __init__(self, array: np.ndarray):
        self._array, self._copy = array, None

    def __call__(self, vectors: Any) -> Any:
        if isinstance(vectors, np.ndarray):
            return self._array
        if self._copy is None:
            self._copy = np.asarray(self._array, like=vectors)
        return self._copy


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
