"""The start and the end of a rank: its cores, and what happens to all ranks if one of them fails.

Nothing here imports numpy: cores are taken before a library makes its threads.
"""

from __future__ import annotations

import math
import os
import socket
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError
from bench.measure import pause

if TYPE_CHECKING:
    from bench.ranks.communicator import Ranks

# Seconds that rank 1 waits before it speaks, later ones longer: where all find the same fault, rank 0 ends them all.
COURTESY = 1.0
BAD_INPUT, FAULT, INTERRUPTED = 2, 70, 130  # exit statuses, as of `bench`


def begin() -> Ranks:
    """The ranks that mpirun has started. BenchError: no mpi4py, no MPI library."""
    world = _world()
    from mpi4py import MPI

    node = world.Split_type(MPI.COMM_TYPE_SHARED, key=world.rank)
    os.sched_setaffinity(0, own_cores(node.allgather(sorted(os.sched_getaffinity(0))), node.rank))
    from bench.ranks.communicator import Ranks

    return Ranks(world, node)


def _world() -> Any:
    try:
        from mpi4py import MPI
    except ImportError as error:
        raise BenchError(
            f"--ranks: mpi4py cannot be imported ({error}); install the extra `mpi` of this package, and Open MPI or "
            "MPICH (on Debian: apt-get install openmpi-bin)"
        ) from None
    except RuntimeError as error:
        raise BenchError(
            f"--ranks: mpi4py finds no MPI library ({str(error).splitlines()[0]}); install Open MPI or MPICH (on "
            "Debian: apt-get install openmpi-bin)"
        ) from None
    return MPI.COMM_WORLD


def own_cores(allowed: list[list[int]], rank: int) -> list[int]:
    """The cores of one rank of a node, where rank i may use the cores allowed[i].

    Ranks that mpirun has bound apart keep what they have. Those that share cores divide them: each would bind its
    threads to the same ones otherwise. More ranks than cores: a core has several.
    """
    mine = allowed[rank]
    sharers = [other for other, cores in enumerate(allowed) if cores == mine]
    place, count = sharers.index(rank), len(sharers)
    first = place * len(mine) // count
    return mine[first : max(first + 1, (place + 1) * len(mine) // count)]


def together(work: Callable[[Ranks], int]) -> int:
    """work(ranks) on every rank. One that fails says why and ends them all: the others may wait for it in a sum.

    BenchError: there is no MPI, which each rank says for itself.
    """
    ranks = begin()
    try:
        status = work(ranks)
        ranks.gather(None)
    except BaseException as error:
        if ranks.size > 1:
            _end_all(ranks, error)
        raise  # one rank alone is a command like others
    return status


def _end_all(ranks: Ranks, error: BaseException) -> None:
    pause(COURTESY * math.log2(1 + ranks.rank))
    where = f"rank {ranks.rank} on {socket.gethostname()}"
    status, said = BAD_INPUT, f"{where}: {str(error) or type(error).__name__}"
    if isinstance(error, KeyboardInterrupt):
        status, said = INTERRUPTED, f"{where}: interrupted"
    elif not isinstance(error, BenchError | MemoryError):
        traceback.print_exc()
        status, said = FAULT, f"{where} failed"
    print(f"bench: {said}", file=sys.stderr, flush=True)
    _world().Abort(status)
