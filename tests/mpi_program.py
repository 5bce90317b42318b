"""What test_mpi.py starts under mpirun: `python mpi_program.py WHAT FOLDER …`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from bench.errors import BenchError
from bench.ranks import start
from bench.ranks.communicator import Ranks


def sums(ranks: Ranks) -> None:
    """Sums and joins that mpi4py makes, of many sizes, in both types."""
    import numpy as np

    for size in (0, 1, 3, 10_001):
        terms = (
            np.random.default_rng(size).standard_normal((ranks.size, size))
            * 10.0 ** np.arange(0, 2 * ranks.size, 2)[:, None]
        )
        wanted = terms[0].copy()
        for term in terms[1:]:
            wanted += term
        np.testing.assert_array_equal(ranks.sum(terms[ranks.rank]), wanted)
        np.testing.assert_array_equal(ranks.sum(np.full(size, ranks.rank)), ranks.size * (ranks.size - 1) // 2)
        cuts = ranks.cuts(size)
        whole = np.arange(3.0 * size).reshape(size, 3)
        np.testing.assert_array_equal(ranks.join(whole[slice(*cuts[ranks.rank :][:2])], cuts), whole)
    assert ranks.same(np.array([ranks.rank])) == 0


def solves(folder: Path, ranks: Ranks) -> int:
    """Every model file in the folder, both ways to share; ssSNPBLUP to where float64 ends, which is not converged."""
    from bench.evaluation.solve import Settings, evaluate
    from bench.ranks.genotypes import Spread

    sums(ranks)
    for model in sorted(folder.glob("*.yaml")):
        for by in ("individuals", "snps"):
            out = folder / f"{model.stem}-{by}-{ranks.size}"
            evaluate(model, out, Settings(threads=1, spread=Spread(ranks, by)))
    return 0


def stopped(folder: Path, ranks: Ranks, model: str, who: str, step: str, sent: str, every: str) -> int:
    """Solve a model file, and send rank `who` a signal once it has gone on from a step."""
    from bench.evaluation import checkpoint
    from bench.evaluation.solve import Settings, evaluate
    from bench.ranks.genotypes import Spread

    checkpoint.EVERY, checkpoint.SHARE, checkpoint.SLOWEST = float(every), float("inf"), float("inf")
    keep = checkpoint.Checkpoint.keep

    def kept(self: checkpoint.Checkpoint, state: checkpoint.State) -> None:
        keep(self, state)
        if state.steps == int(step) and ranks.rank == int(who):
            os.kill(os.getpid(), signal.Signals[sent])

    checkpoint.Checkpoint.keep = kept
    evaluate(
        folder / f"{model}.yaml", folder / f"{model}-{sent}", Settings(threads=1, spread=Spread(ranks, "individuals"))
    )
    return 0


def one_fails(folder: Path, ranks: Ranks) -> int:
    """Rank 1 meets bad input while the others wait for it in a sum."""
    import numpy as np

    if ranks.rank == 1:
        raise BenchError("herd.bed: this disk is broken")
    ranks.sum(np.ones(5))
    return 0


def all_fail(folder: Path, ranks: Ranks) -> int:
    raise BenchError("herd.bed: all of us see that it is broken")


if __name__ == "__main__":
    program = {"solves": solves, "stopped": stopped, "one_fails": one_fails, "all_fail": all_fail}[sys.argv[1]]
    raise SystemExit(start.together(lambda ranks: program(Path(sys.argv[2]), ranks, *sys.argv[3:])))
