"""PLINK .bed genotypes: two bits a call, SNP-major, memory-mapped.

A dosage counts the second allele of the .bim file (column 6, what `bed_reader` counts with
count_A1=False): code 0 → dosage 0, 2 → 1, 3 → 2, and 1 is a missing call.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.errors import BenchError

MAGIC = b"\x6c\x1b"
SNP_MAJOR = 1
MISSING = -1
DOSAGE_OF_CODE = np.array([0, MISSING, 1, 2], np.int8)
CODE_OF_DOSAGE = np.array([0, 2, 3, 1], np.uint8)  # indexed by dosage; −1 (missing) is the last entry

# Row b: the dosages of the four calls of byte b, the first in its lowest bits.
DOSAGES_OF_BYTE = DOSAGE_OF_CODE[(np.arange(256)[:, None] >> np.array([0, 2, 4, 6])) & 3]
# Row b: how many of the four calls of byte b have code 0, 1, 2, 3.
CODE_COUNTS_OF_BYTE = np.stack(
    [((np.arange(256)[:, None] >> np.array([0, 2, 4, 6])) & 3 == c).sum(1) for c in range(4)], axis=1
)


@dataclass(frozen=True)
class PackedGenotypes:
    """Genotypes of n individuals at m SNPs as 2-bit codes.

    codes: (m, ≥ ⌈n/4⌉) uint8, C-contiguous rows; codes past individual n−1 may hold anything.
    """

    codes: np.ndarray
    n_samples: int
    path: Path | None = None

    @classmethod
    def open(cls, bed: Path, *, n_samples: int, n_snps: int) -> PackedGenotypes:
        """Memory-map `bed`, whose .fam has `n_samples` lines and whose .bim has `n_snps`."""
        raise NotImplementedError

    @classmethod
    def from_dosages(cls, dosages: np.ndarray) -> PackedGenotypes:
        """Pack (n, m) dosages 0, 1, 2 and −1 for a missing call."""
        return cls(pack_dosages(dosages), dosages.shape[0])

    @property
    def shape(self) -> tuple[int, int]:
        return self.n_samples, self.codes.shape[0]

    @property
    def n_snps(self) -> int:
        return self.codes.shape[0]

    def head(self, n_samples: int) -> PackedGenotypes:
        """The first `n_samples` individuals, as a view."""
        if not 1 <= n_samples <= self.n_samples:
            raise BenchError(f"{self.path}: asked for {n_samples} individuals, there are {self.n_samples}")
        return PackedGenotypes(self.codes, n_samples, self.path)

    def dosages(self, snps: slice | np.ndarray = slice(None)) -> np.ndarray:
        """(n, number of snps) int8 dosages, −1 where the call is missing; Fortran order (a SNP is contiguous)."""
        codes = self.codes[snps, : -(-self.n_samples // 4)]
        return DOSAGES_OF_BYTE[codes].reshape(codes.shape[0], -1)[:, : self.n_samples].T

    def blocks(self, size: int = 1024) -> Iterable[slice]:
        """Slices of at most `size` SNPs that cover the matrix."""
        return (slice(j, min(j + size, self.n_snps)) for j in range(0, self.n_snps, size))


def pack_dosages(dosages: np.ndarray) -> np.ndarray:
    """(n, m) dosages 0, 1, 2 or −1 → (m, ⌈n/4⌉) bytes as in a .bed file; padding codes are 0."""
    n, m = dosages.shape
    codes = np.zeros((m, -(-n // 4) * 4), np.uint8)
    codes[:, :n] = CODE_OF_DOSAGE[dosages.T]
    c = codes.reshape(m, -1, 4)
    return c[..., 0] | c[..., 1] << 2 | c[..., 2] << 4 | c[..., 3] << 6
