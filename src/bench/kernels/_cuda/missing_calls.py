"""Products with the indicator of missing calls, by a matrix on a GPU that holds them."""

from __future__ import annotations

from typing import Any, Protocol


class Holder(Protocol):
    """A matrix (n, m) that multiplies its dosages, or the indicator of its missing calls."""

    shape: tuple[int, int]

    def _product(self, X: Any, *, transposed: bool, missing: bool = False) -> Any: ...


class MissingCalls:
    """Miss, the (n, m) indicator of missing calls, from the same copy of the genotypes."""

    def __init__(self, of: Holder):
        self._of, self.shape = of, of.shape

    def matmul(self, V: Any) -> Any:
        """Miss V, (m, k) → (n, k)."""
        return self._of._product(V, transposed=False, missing=True)

    def rmatmul(self, U: Any) -> Any:
        """Miss'U, (n, k) → (m, k)."""
        return self._of._product(U, transposed=True, missing=True)

    def add_matmul(self, X: Any, out: Any) -> None:
        """out (n, k) += Miss X."""
        out += self.matmul(X)
