"""The genotypes that both revisions multiply, and the exact products: made once, by code that is neither side's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.genotypes.packed import MISSING, PackedGenotypes, write_bed
from bench.oracle import Oracle

# No powers of two. A product of one column takes some milliseconds, the dense matrix 80 MB.
N_SAMPLES, N_SNPS = 2003, 4999
FOUNDERS, SEGMENT, MISSING_RATE = 60, 100, 0.005  # haplotypes; SNPs that are inherited together
SEED = 4


@dataclass(frozen=True)
class Data:
    """A .bed file of n × m genotypes and the .npz of its oracle."""

    bed: Path
    oracle: Path
    n: int = N_SAMPLES
    m: int = N_SNPS


def simulate(n: int, m: int, seed: int = SEED) -> np.ndarray:
    """(n, m) int8 dosages, −1 missing: every haplotype is a mosaic of founders' segments, so that individuals are
    related and a solve takes some tens of iterations."""
    rng = np.random.default_rng([seed, n, m])
    founders = rng.random((FOUNDERS, m)) < rng.beta(1, 1, m)
    dosages = np.zeros((n, m), np.int8)
    for start in range(0, m, SEGMENT):
        for _ in range(2):
            dosages[:, start : start + SEGMENT] += founders[rng.integers(FOUNDERS, size=n), start : start + SEGMENT]
    dosages[rng.random((n, m)) < MISSING_RATE] = MISSING
    return dosages


def make_data(folder: Path, columns: int) -> Data:
    """Write the genotypes and the exact products of `columns` columns into `folder`."""
    packed = PackedGenotypes.from_dosages(simulate(N_SAMPLES, N_SNPS))
    data = Data(folder / "genotypes.bed", folder / "oracle.npz")
    write_bed(data.bed, [packed.codes])
    Oracle.compute(packed, columns).write(data.oracle)
    return data
