"""A matrix of which each rank holds a share of the rows (individuals) or of the columns (SNPs).

| shares of | the vectors are | A V | A'U |
|---|---|---|---|
| rows | whole on every rank | join, n·k numbers | sum, m·k |
| rows | cut like the rows | no message | sum, m·k |
| columns | whole on every rank | sum, n·k | join, m·k |

With whole vectors a solver runs on every rank as if it were alone. With vectors cut like the rows it needs its sums
over the ranks (`over_ranks`), and a rank has 1/size of the vectors' work and memory.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from bench.ranks.communicator import Ranks
from bench.solvers.operator import Operator

By = Literal["individuals", "snps"]


def row_cuts(ranks: Ranks, n: int) -> np.ndarray:
    """(size + 1,) where n individuals are cut into shares: whole bytes of a .bed, of four calls each."""
    return np.minimum(4 * ranks.cuts(-(-n // 4)), n)


class RowShares:
    """(n, m): this rank multiplies the rows cuts[rank] to cuts[rank + 1]; vectors are whole on every rank."""

    def __init__(self, own: Operator, ranks: Ranks, cuts: np.ndarray):
        self._own, self._ranks, self._cuts = own, ranks, cuts
        self._mine = slice(*cuts[ranks.rank : ranks.rank + 2])
        self.shape: tuple[int, int] = (int(cuts[-1]), own.shape[1])
        self.over_ranks = ranks.same

    def matmul(self, V: np.ndarray) -> np.ndarray:
        """A V, (m, k) → (n, k)."""
        return self._ranks.join(self._own.matmul(V), self._cuts)

    def rmatmul(self, U: np.ndarray) -> np.ndarray:
        """A'U, (n, k) → (m, k)."""
        return self._ranks.sum(self._own.rmatmul(U[self._mine]))


class OwnRows:
    """(own rows, m): the same, but what has a number a row is cut like the rows."""

    def __init__(self, own: Operator, ranks: Ranks):
        self._own, self._ranks = own, ranks
        self.shape: tuple[int, int] = own.shape
        self.over_ranks = ranks.sum

    def matmul(self, V: np.ndarray) -> np.ndarray:
        """This rank's rows of A V, (m, k) → (own rows, k)."""
        return self._own.matmul(V)

    def rmatmul(self, U: np.ndarray) -> np.ndarray:
        """A'U, (own rows, k) → (m, k), on every rank."""
        return self._ranks.sum(self._own.rmatmul(U))


class ColumnShares:
    """(n, m): this rank multiplies the columns cuts[rank] to cuts[rank + 1]; vectors are whole on every rank."""

    def __init__(self, own: Operator, ranks: Ranks, cuts: np.ndarray):
        self._own, self._ranks, self._cuts = own, ranks, cuts
        self._mine = slice(*cuts[ranks.rank : ranks.rank + 2])
        self.shape: tuple[int, int] = (own.shape[0], int(cuts[-1]))
        self.over_ranks = ranks.same

    def matmul(self, V: np.ndarray) -> np.ndarray:
        """A V, (m, k) → (n, k)."""
        return self._ranks.sum(self._own.matmul(V[self._mine]))

    def rmatmul(self, U: np.ndarray) -> np.ndarray:
        """A'U, (n, k) → (m, k)."""
        return self._ranks.join(self._own.rmatmul(U), self._cuts)
