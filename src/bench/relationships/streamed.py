"""W = (Z − 1c')·diag(s) of a matrix that passes by in chunks of SNPs: each chunk is centred by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bench.genotypes.packed import PackedGenotypes
from bench.relationships.genomic import Centred, Coding
from bench.relationships.missing import MISSING_CODE, MissingInRows, missing_calls
from bench.solvers.operator import Operator


class Chunked(Operator, Protocol):
    """Raw dosages, chunk by chunk."""

    def chunks(self) -> Iterator[tuple[slice, Any, PackedGenotypes]]: ...


class StreamedCentred:
    """W of a chunked Z, one pass over the genotypes a product. Results are float64.

    Missing calls are found in each chunk's bytes as it passes: lists of them all might not fit the memory.
    """

    def __init__(
        self, dosages: Chunked, coding: Coding, packed: PackedGenotypes, *, library: Path | None, threads: int
    ):
        """packed: the same genotypes. library: the compiled missing; without it a chunk's calls are listed."""
        self.dosages, self.coding = dosages, coding
        self.shape: tuple[int, int] = dosages.shape
        self._missing = packed.code_counts()[:, MISSING_CODE] > 0
        self._library, self._threads = library, threads

    def _chunks(self) -> Iterator[tuple[slice, Centred]]:
        for snps, dosages, packed in self.dosages.chunks():
            coding = replace(self.coding, centre=self.coding.centre[snps], scale=self.coding.scale[snps])
            missing = None
            if self._missing[snps].any() and self._library is not None:
                missing = MissingInRows(packed, self._library, self._threads)
            elif self._missing[snps].any():
                missing = missing_calls(packed)
            yield snps, Centred(dosages, coding, missing)

    def matmul(self, V: np.ndarray) -> np.ndarray:
        """W V, (m, k) → (n, k)."""
        out = np.zeros((self.shape[0], V.shape[1]))
        for snps, chunk in self._chunks():
            out += chunk.matmul(V[snps])
        return out

    def rmatmul(self, U: np.ndarray) -> np.ndarray:
        """W'U, (n, k) → (m, k)."""
        U, out = np.ascontiguousarray(U, "f8"), np.empty((self.shape[1], U.shape[1]))
        for snps, chunk in self._chunks():
            out[snps] = chunk.rmatmul(U)
        return out

    def through(self, U: np.ndarray, between: Callable[[slice, np.ndarray], np.ndarray]) -> np.ndarray:
        """W between(W'U), (n, k) → (n, k), in one pass. between(snps, T): what becomes of T = W'U of these SNPs."""
        U, out = np.ascontiguousarray(U, "f8"), np.zeros((self.shape[0], U.shape[1]))
        for snps, chunk in self._chunks():
            out += chunk.matmul(between(snps, chunk.rmatmul(U)))
        return out
