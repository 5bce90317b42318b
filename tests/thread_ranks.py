"""Ranks as threads of one process: the communicator that `bench.ranks.communicator.Ranks` needs, without MPI."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from bench.ranks.communicator import Ranks


class ThreadComm:
    def __init__(self, rank: int, size: int, board: list[Any], barrier: threading.Barrier):
        self.rank, self.size, self._board, self._barrier = rank, size, board, barrier

    def allgather(self, sendobj: Any) -> list[Any]:
        self._board[self.rank] = sendobj
        self._barrier.wait(20)
        found = list(self._board)
        self._barrier.wait(20)
        return found

    def bcast(self, obj: Any, root: int = 0) -> Any:
        return self.allgather(obj)[root]

    def Bcast(self, buf: np.ndarray, root: int = 0) -> None:
        buf[...] = self.bcast(buf.copy(), root)

    def Alltoallv(self, sendbuf: Any, recvbuf: Any) -> None:
        values, (counts, starts) = sendbuf
        flat = values.ravel()
        mine = [flat[start : start + count].copy() for count, start in zip(counts, starts, strict=True)]
        pieces = [parts[self.rank] for parts in self.allgather(mine)]
        assert [len(piece) for piece in pieces] == list(recvbuf[1][0])
        recvbuf[0].ravel()[...] = np.concatenate(pieces)

    def Allgatherv(self, sendbuf: np.ndarray, recvbuf: Any) -> None:
        parts = self.allgather(sendbuf.ravel().copy())
        out, (counts, starts) = recvbuf
        assert [len(part) for part in parts] == list(counts)
        for part, start in zip(parts, starts, strict=True):
            out.reshape(-1)[start : start + len(part)] = part


def on_ranks(size: int, call: Callable[[Ranks], Any]) -> list[Any]:
    """What call(ranks) returns on each of `size` ranks; the first error of one is raised."""
    board, barrier = [None] * size, threading.Barrier(size)

    def one(rank: int) -> Any:
        try:
            return call(Ranks(ThreadComm(rank, size, board, barrier)))
        except BaseException:
            barrier.abort()
            raise

    with ThreadPoolExecutor(size) as pool:
        futures = [pool.submit(one, rank) for rank in range(size)]
    errors = [future.exception() for future in futures]
    for error in sorted((e for e in errors if e), key=lambda e: isinstance(e, threading.BrokenBarrierError)):
        raise error
    return [future.result() for future in futures]
