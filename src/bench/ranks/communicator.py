"""What the processes of a solve, its ranks, tell each other. Sums have one order, whatever MPI library adds them.

`MPI_Allreduce` may add in another order on another number of nodes, and need not give every rank the same bits. Here
each rank adds up its piece of a sum, in the order of the ranks, and all get the finished pieces: as many bytes as the
best Allreduce sends, and the same bits everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import numpy as np

T = TypeVar("T")


class Communicator(Protocol):
    """What is used of mpi4py's `Comm`."""

    rank: int
    size: int

    def allgather(self, sendobj: Any) -> list[Any]: ...

    def bcast(self, obj: Any, root: int = 0) -> Any: ...

    def Bcast(self, buf: Any, root: int = 0) -> None: ...

    def Alltoallv(self, sendbuf: Any, recvbuf: Any) -> None: ...

    def Allgatherv(self, sendbuf: Any, recvbuf: Any) -> None: ...


class Ranks:
    """The ranks of a solve. Every method but the properties is called by all of them, in the same order.

    node: the ranks of this node among themselves; without one, all are on it.
    """

    def __init__(self, comm: Communicator, node: Communicator | None = None):
        self._comm, self._node = comm, node or comm
        self.rank, self.size = comm.rank, comm.size

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which writes the files and says what is to be said."""
        return self.rank == 0

    def cuts(self, length: int) -> np.ndarray:
        """(size + 1,) where rows 0 … length are cut into the ranks' shares."""
        return np.arange(self.size + 1) * length // self.size

    def sum(self, A: np.ndarray) -> np.ndarray:
        """The sum of all ranks' arrays, float64 or int64 and of one shape: A₀ + A₁ + …, in this order."""
        A = np.ascontiguousarray(A)
        if self.size == 1:
            return A
        cuts = self.cuts(A.size)
        lengths, mine = np.diff(cuts), int(np.diff(cuts)[self.rank])
        pieces = np.empty((self.size, mine), A.dtype)
        self._comm.Alltoallv([A, (lengths, cuts[:-1])], [pieces, (np.full(self.size, mine), None)])
        total = pieces[0]
        for piece in pieces[1:]:
            total += piece
        out = np.empty_like(A)
        self._comm.Allgatherv(total, [out, (lengths, cuts[:-1])])
        return out

    def join(self, rows: np.ndarray, cuts: np.ndarray) -> np.ndarray:
        """All ranks' rows below each other; rank i has rows cuts[i] to cuts[i + 1]."""
        if self.size == 1:
            return rows
        rows = np.ascontiguousarray(rows)
        out = np.empty((int(cuts[-1]), *rows.shape[1:]), rows.dtype)
        width = int(np.prod(rows.shape[1:]))
        self._comm.Allgatherv(rows, [out, (np.diff(cuts) * width, cuts[:-1] * width)])
        return out

    def same(self, values: np.ndarray) -> np.ndarray:
        """Rank 0's values, which the others have up to rounding: their bits may differ between processors."""
        values = np.array(values, float)
        self._comm.Bcast(values)
        return values

    def gather(self, value: T) -> list[T]:
        """Every rank's value, on every rank."""
        return self._comm.allgather(value)

    def on_node(self, value: T) -> list[T]:
        """The values of the ranks of this node, on each of them."""
        return self._node.allgather(value)

    def once(self, call: Callable[[], T]) -> T:
        """What `call` returns on rank 0, which alone makes it."""
        return self._comm.bcast(call() if self.first else None)
