"""adelie's matrix of unphased genotypes: the rows of the ones and of the twos of each SNP, as bytes.

The Python package adelie (Yang and Hastie 2024, doi:10.48550/arXiv.2405.08631) fits the group elastic net. Its
`adelie.matrix.snp_unphased` multiplies with genotypes from a file of its own, .snpdat, about a byte for each dosage
that is not 0. This module writes that file into the temporary folder, has it read, and deletes it. A product of
adelie's is one with a vector, so k columns are k passes. It is looked for, and neither installed nor built here;
docs/other-kernels.md says how to have it.

A missing call is handed over as dosage 0. Zeros are not stored: 0 · NaN and 0 · ∞ count as 0 here. A sum depends,
in its last bits, on the number of threads.
"""

from __future__ import annotations

import importlib
import importlib.util
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from bench.errors import BenchError
from bench.genotypes.packed import PackedGenotypes
from bench.kernels import Kernel, Problem
from bench.kernels._operands import Resident

BLOCK = 256  # SNPs unpacked at a time
ABSENT = "the Python package adelie is not installed; docs/other-kernels.md says how to add it"


def requires(target: str) -> str | None:
    return None if importlib.util.find_spec("adelie") else ABSENT


def compiled() -> Path | None:
    """adelie's compiled part, which is what is measured."""
    spec = importlib.util.find_spec("adelie")
    folders = [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []
    return next((file for folder in folders for file in sorted(folder.glob("adelie_core*.so"))), None)


def parts() -> tuple[Any, Any]:
    """The modules adelie.io and adelie.matrix; BenchError where they cannot be had."""
    if reason := requires("snp_unphased"):
        raise BenchError(reason)
    try:
        return importlib.import_module("adelie.io"), importlib.import_module("adelie.matrix")
    except ImportError as error:
        raise BenchError(f"the Python package adelie cannot be imported ({error})") from None


class Adelie(Resident[Any]):
    """Z (n, m) as adelie.matrix.snp_unphased, a missing call counting as 0."""

    def __init__(self, packed: PackedGenotypes, *, dtype: str = "f8", threads: int = 1, target: str = "snp_unphased"):
        io, matrix = parts()
        self.shape = packed.shape
        self.dtype = np.dtype(dtype)
        with tempfile.TemporaryDirectory(prefix="bench-adelie-") as folder:
            genotypes = io.snp_unphased(str(Path(folder) / "z.snpdat"), read_mode="file")
            genotypes.write(dosages(packed), impute_method=np.zeros(packed.n_snps), n_threads=threads)
            self.bytes_held = int(genotypes.read())
        super().__init__(matrix.snp_unphased(genotypes, n_threads=threads, dtype=self.dtype.type))

    def matmul(self, V: np.ndarray) -> np.ndarray:
        """Z V, (m, k) → (n, k)."""
        Z, V = self._open(), self._checked(V, self.shape[1])
        columns = np.zeros((V.shape[1], self.shape[0]), self.dtype)
        for column, v in zip(columns, np.ascontiguousarray(V.T), strict=True):
            Z.btmul(0, self.shape[1], v, column)  # adds to `column`
        return np.ascontiguousarray(columns.T)

    def rmatmul(self, U: np.ndarray) -> np.ndarray:
        """Z'U, (n, k) → (m, k)."""
        Z, U = self._open(), self._checked(U, self.shape[0])
        weights = np.ones(self.shape[0], self.dtype)
        columns = np.empty((U.shape[1], self.shape[1]), self.dtype)
        for column, u in zip(columns, np.ascontiguousarray(U.T), strict=True):
            Z.mul(u, weights, column)
        return np.ascontiguousarray(columns.T)


def dosages(packed: PackedGenotypes) -> np.ndarray:
    """(n, m) int8 in Fortran order, missing calls 0, as adelie's writer wants them."""
    found = np.empty((packed.n_snps, packed.n_samples), np.int8)
    for snps in packed.blocks(BLOCK):
        np.maximum(packed.dosages(snps).T, 0, out=found[snps])
    return found.T


def bytes_needed(problem: Problem) -> int:
    """The .bed pages, the dosages in bytes while the file is written, and adelie's copy of it at its largest.

    That is a byte for each dosage, as if none were 0, and 5 bytes for each 256 individuals, 36 and 24 bytes a SNP.
    Columns are turned into rows and back.
    """
    n, m, k = problem.n, problem.m, problem.k
    stored = m * (n + 10 * -(-n // 256) + 60)
    return problem.packed_bytes + n * m + stored + min(BLOCK, m) * (n + 4) + (n + m) * k * problem.itemsize


KERNEL = Kernel(
    name="adelie",
    open="bench.kernels.adelie:Adelie",
    targets=("snp_unphased",),
    dtypes=("f4", "f8"),
    bytes_needed=bytes_needed,
    bytes_read=None,
    requires=requires,
    foreign=compiled,
    cite="doi:10.48550/arXiv.2405.08631",
    summary="the Python package adelie's matrix of genotypes, if it is installed",
)
