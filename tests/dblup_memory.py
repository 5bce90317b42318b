"""Prints the bytes that a matrix-free gradient takes, genotypes included: n, m and "block" or "snp" as arguments.

VmHWM over what the process had before the genotypes, after a small gradient had brought in what all programs need.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from bench.bridges import jax as bridge
from bench.build import installed
from bench.dblup import GBLUP, BlockWeights, Data, Link, MatrixFree, SnpWeights, squared_lengths
from bench.dblup.optimise import Evaluation
from bench.genotypes.packed import PackedGenotypes, write_bed
from bench.matrix import GenotypeMatrix
from bench.measure import current_rss, forget_peak_rss


def evaluation(n: int, m: int, kind: str, folder: Path) -> Evaluation:
    rng = np.random.default_rng(0)
    bed = folder / f"{n}.bed"
    # Any byte without the low bit of a pair: dosages 0 and 1, no missing call.
    write_bed(bed, (rng.integers(0, 256, (min(1000, m - j), n // 4), np.uint8) & 0xAA for j in range(0, m, 1000)))
    packed = PackedGenotypes.open(bed, n_samples=n, n_snps=m)
    W = GenotypeMatrix(packed, threads=1).centred().products
    weights = BlockWeights.of(np.arange(m) * 20 // m) if kind == "block" else SnpWeights.of(m)
    backend = MatrixFree.of(n, squares=squared_lengths(packed, W.coding))
    packed.forget()  # the pages of the file
    operator = bridge.operator(W, installed("jax").library)
    model = GBLUP.of(operator, Link.of(2.0, weights), "reml", divisor=W.coding.divisor, backend=backend)
    return Evaluation(model, Data.of(rng.normal(size=n)), None, valued=False)


def high_water() -> int:
    """VmHWM in bytes. getrusage would begin with what the parent held as it started this process."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


if __name__ == "__main__":
    n, m, kind = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    with TemporaryDirectory() as name:
        small = evaluation(64, 200, kind, Path(name))
        small(small.first)
        before = current_rss()
        large = evaluation(n, m, kind, Path(name))
        forget_peak_rss()
        large(large.first)
        print(high_water() - before)
