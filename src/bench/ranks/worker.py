"""One timed run of the comparison (compare.py): GBLUP by PCG in this process, or in all ranks that mpirun started.

Prints one line of JSON: seconds of each solve and of the pieces that the scaling model is made of.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import BenchError
from bench.ranks import start

if TYPE_CHECKING:
    from bench.ranks.communicator import Ranks
    from bench.solvers.operator import Operator

LAYOUTS = ("rows", "individuals", "snps")  # vectors cut like the individuals' shares, or whole on every rank
NUMBERS = 1, 50_000, 2_000_000  # that a sum over ranks is timed with
STEPS = 20


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.ranks.worker")
    parser.add_argument("bed", type=Path, help="PREFIX of the genotypes")
    parser.add_argument("--layout", choices=LAYOUTS, help="under mpirun; left out: one process")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--solves", type=int, default=3)
    options = parser.parse_args()
    try:
        return _run(options, None) if options.layout is None else start.together(lambda ranks: _run(options, ranks))
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return start.BAD_INPUT


def _run(options: argparse.Namespace, ranks: Ranks | None) -> int:
    from bench.provenance import set_threads

    set_threads(options.threads)
    report = _one_process(options) if ranks is None else _over_ranks(options, ranks)
    if ranks is None or ranks.first:
        print(json.dumps(report), flush=True)
    return 0


def _one_process(options: argparse.Namespace) -> dict[str, object]:
    from bench import measure
    from bench.matrix import GenotypeMatrix
    from bench.relationships.genomic import vanraden1

    Z = GenotypeMatrix.from_bed(options.bed, threads=options.threads)
    coding = vanraden1(Z.packed)
    W, n = Z.coded(coding), Z.shape[0]
    solve = _solve(W, coding.divisor, slice(0, n), n)
    solve()
    seconds = [measure.once(solve).wall for _ in range(options.solves)]
    return {"solves": seconds}


def _over_ranks(options: argparse.Namespace, ranks: Ranks) -> dict[str, object]:
    import numpy as np

    from bench import measure
    from bench.ranks.genotypes import SharedMatrix, Spread
    from bench.relationships.genomic import vanraden1

    spread = Spread(ranks, "snps" if options.layout == "snps" else "individuals")
    Z = SharedMatrix.from_bed(str(options.bed), spread, threads=options.threads)
    coding = vanraden1(Z.packed)
    n, m = Z.shape
    cut = options.layout == "rows"
    W = Z.own_rows(coding) if cut else Z.coded(coding)
    solve = _solve(W, coding.divisor, Z.rows if cut else slice(0, n), n)

    def timed(call: Callable[[], object], count: int) -> list[float]:
        """Seconds until the last rank is done; the first call is not counted."""
        call()
        found = []
        for _ in range(count):
            ranks.gather(None)
            found.append(measure.once(lambda: (call(), ranks.gather(None))).wall)
        return found

    solves = timed(solve, options.solves)
    own = Z.own.coded(Z.own_coding(coding))
    V = np.ones((own.shape[1], 2))
    products = timed(lambda: own.rmatmul(own.matmul(V)), options.solves)
    sums = {str(count): min(timed(partial(ranks.sum, np.ones(count)), 10)) for count in NUMBERS}
    return {
        "solves": solves,
        "product_pairs": products,
        "share": list(own.shape),
        "sums": sums,
        "bytes_held": Z.own.bytes_held,
        "shape": [n, m],
    }


def _solve(W: Operator, divisor: float, rows: slice, n: int) -> Callable[[], object]:
    """STEPS steps of PCG for [1 y] with h² = 0.3, on the individuals `rows` of n."""
    import numpy as np

    from bench.models.gblup import Records, fit_pcg
    from bench.relationships.genomic import Gram

    records = Records.of(np.random.default_rng(1).standard_normal(n)).share(rows)
    gram = Gram(W, divisor)
    diagonal = np.ones(rows.stop - rows.start)
    return lambda: fit_pcg(gram, records, 7 / 3, diagonal=diagonal, rtol=1e-300, max_steps=STEPS)


if __name__ == "__main__":
    raise SystemExit(main())
