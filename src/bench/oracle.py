"""Reference products of a data set, by a path that shares nothing with the kernels.

The .bed is unpacked by table lookup in numpy, and multiplied by BLAS in float64. With integer values
below 2^53 in every partial sum that product is exact, in whatever order BLAS adds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from bench.errors import BenchError
from bench.genotypes.packed import PackedGenotypes
from bench.record import atomic_path

VERSION = 1  # raised when the oracle changes: it is computed again, and all that it verified
BLOCK_BYTES = 1 << 24  # of one byte per genotype, unpacked at a time; nine times that as float64
LARGEST = 8  # integer inputs in [−8, 8]: exact in float32 up to 2^24 / 16, one million SNPs or individuals
SEED = 20_231


@dataclass(frozen=True)
class Oracle:
    """Inputs V (m, k), U (n, k) and the products ZV (n, k), ZtU (m, k), of integers and of normals, float64."""

    integers: dict[str, np.ndarray]
    normals: dict[str, np.ndarray]

    @classmethod
    def compute(cls, packed: PackedGenotypes, k: int) -> Oracle:
        n, m = packed.shape
        rng = np.random.default_rng([SEED, n, m])
        draws = (
            {"V": rng.integers(-LARGEST, LARGEST + 1, (m, k)).astype("f8"),
             "U": rng.integers(-LARGEST, LARGEST + 1, (n, k)).astype("f8")},
            {"V": rng.standard_normal((m, k)), "U": rng.standard_normal((n, k))},
        )  # fmt: skip
        both = [d | {"ZV": np.zeros((n, k)), "ZtU": np.zeros((m, k))} for d in draws]
        for block in packed.blocks(max(1, BLOCK_BYTES // n)):
            dosages = np.maximum(packed.dosages(block), 0).astype("f8")
            for values in both:
                values["ZV"] += dosages @ values["V"][block]
                values["ZtU"][block] = dosages.T @ values["U"]
        return cls(*both)

    def write(self, path: Path) -> None:
        arrays = {f"{kind}_{name}": a for kind in ("integers", "normals") for name, a in vars(self)[kind].items()}
        with atomic_path(path) as tmp, tmp.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    @classmethod
    def read(cls, path: Path) -> Oracle:
        """BenchError for a file that is missing or damaged."""
        try:
            with np.load(path) as file:
                names = ("V", "U", "ZV", "ZtU")
                integers, normals = ({n: file[f"{kind}_{n}"] for n in names} for kind in ("integers", "normals"))
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise BenchError(f"{path}: not an oracle ({error}); delete it and make it with `bench oracle`") from None
        return cls(integers, normals)
