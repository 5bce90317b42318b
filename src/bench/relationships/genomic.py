"""Genomic relationships: centred and scaled genotypes W, and G = WW'/d as an operator or as a matrix.

Centring, scaling and mean imputation live here once; kernels multiply raw dosages.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from bench.errors import BenchError
from bench.genotypes.packed import MISSING, PackedGenotypes
from bench.relationships.gram import gram
from bench.relationships.missing import MISSING_CODE, MissingProducts
from bench.solvers.operator import Beside, Operator, column_sums, over_ranks, placement

BLOCK_BYTES = 128 << 20  # of decoded genotypes at a time
PANEL = 2048  # rows of a product's tile: 2048 × 15,000 float32 is 120 MB beside a G of 1.8 GB


@dataclass(frozen=True)
class Coding:
    """W_ij = (Z_ij − centre_j)·scale_j, 0 where the call is missing; G = WW'/divisor.

    centre, scale: (m,). scale is 0 for a SNP that says nothing (monomorphic or all missing, where it would
    divide by zero) and for one that is left out. relationships/codings.py has the codings with choices.
    """

    name: str
    centre: np.ndarray
    scale: np.ndarray
    divisor: float

    @property
    def unscaled(self) -> bool:
        return bool(np.all(self.scale == 1))

    def block(self, packed: PackedGenotypes, snps: slice, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """The columns `snps` of W for the individuals `rows`: (rows, snps) float64, Fortran order."""
        dosages = packed.dosages(snps)[rows].astype("f8", order="F")
        W = (dosages - self.centre[snps]) * self.scale[snps]
        W[dosages == MISSING] = 0.0
        return W


def vanraden1(packed: PackedGenotypes) -> Coding:
    """W = Z − 2p, d = Σ2p(1−p), p from the called genotypes. VanRaden (2008), method 1."""
    mean, _ = dosage_moments(packed)
    return Coding("vanraden1", mean, np.ones(packed.n_snps), float(np.sum(mean * (1 - mean / 2))))


def standardised(packed: PackedGenotypes) -> Coding:
    """W = (Z − mean)/sd over the called genotypes, d = m; sd has the divisor (called − 1), as R's scale()."""
    mean, sd = dosage_moments(packed)
    scale = np.divide(1.0, sd, out=np.zeros_like(sd), where=sd > 0)
    return Coding("standardised", mean, scale, float(packed.n_snps))


RELATIONSHIPS: dict[str, Callable[[PackedGenotypes], Coding]] = {
    "vanraden1": vanraden1,
    "standardised": standardised,
}


def dosage_moments(packed: PackedGenotypes) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sample standard deviation of each SNP's called dosages, (m,) each; 0 without calls.

    BenchError if no SNP varies: there is then no relationship to speak of.
    """
    zero, _, one, two = packed.code_counts().astype("f8").T
    called = np.maximum(zero + one + two, 1)
    mean = (one + 2 * two) / called
    # Σ(z − mean)², summed over the three classes: exactly 0 for a monomorphic SNP.
    squares = zero * mean**2 + one * (1 - mean) ** 2 + two * (2 - mean) ** 2
    if not squares.any():
        raise BenchError(
            f"{packed.path or 'genotypes'}: all {packed.n_snps} SNPs are monomorphic or missing among "
            f"{packed.n_samples} individuals; relationships need at least one SNP that varies"
        )
    return mean, np.sqrt(squares / np.maximum(called - 1, 1))


class Centred:
    """W = (Z − 1c')∘called·diag(s) from a raw operator Z in which a missing call counts 0.

    W V = Z(sV) − 1c'(sV) + Miss(c∘sV); W'U = s∘(Z'U − c(1'U) + c∘(Miss'U)). Results are float64.
    """

    def __init__(self, dosages: Operator, coding: Coding, missing: MissingProducts | None = None):
        """missing: `missing_calls` of the same genotypes."""
        self.dosages, self.coding, self.missing = dosages, coding, missing
        self.shape: tuple[int, int] = dosages.shape
        self.place = placement(dosages)
        self._centre, self._scale = Beside(coding.centre[:, None]), Beside(coding.scale[:, None])

    def matmul(self, V: np.ndarray) -> np.ndarray:
        """W V, (m, k) → (n, k)."""
        scaled = self._scale(V) * V
        centred = self._centre(V) * scaled
        out = self.dosages.matmul(scaled) - column_sums(centred)
        if self.missing is not None:
            out = np.ascontiguousarray(out, like=out)
            self.missing.add_matmul(centred, out)
        return out

    def rmatmul(self, U: np.ndarray) -> np.ndarray:
        """W'U, (n, k) → (m, k)."""
        taken = np.broadcast_to(column_sums(U), (self.shape[1], U.shape[1]))
        if self.missing is not None:
            taken = taken - self.missing.rmatmul(U)
        return self._scale(U) * (self.dosages.rmatmul(U) - self._centre(U) * taken)


class BlockCentred:
    """W as an operator that decodes the .bed anew for each product, in numpy: slow, and shares no kernel."""

    def __init__(self, packed: PackedGenotypes, coding: Coding):
        self.packed, self.coding = packed, coding
        self.shape: tuple[int, int] = packed.shape

    def _blocks(self):
        for snps in self.packed.blocks(_snps_per_block(self.shape[0], 8)):
            yield snps, self.coding.block(self.packed, snps)

    def matmul(self, V: np.ndarray) -> np.ndarray:
        """W V, (m, k) → (n, k)."""
        out = np.zeros((self.shape[0], V.shape[1]))
        for snps, W in self._blocks():
            out += W @ V[snps]
        return out

    def rmatmul(self, U: np.ndarray) -> np.ndarray:
        """W'U, (n, k) → (m, k)."""
        return np.concatenate([W.T @ U for _, W in self._blocks()])


class Gram:
    """G = WW'/d, (n, n), never formed."""

    def __init__(self, centred: Operator, divisor: float):
        self.centred, self.divisor = centred, divisor
        self.place, self.over_ranks = placement(centred), over_ranks(centred)
        self.shape: tuple[int, int] = (centred.shape[0], centred.shape[0])

    def matmul(self, V: np.ndarray) -> np.ndarray:
        """G V, (n, k) → (n, k)."""
        return gram_product(self.centred, V) / self.divisor


def gram_product(W: Operator, U: np.ndarray) -> np.ndarray:
    """WW'U, (n, k) → (n, k): in one passage of the genotypes where W has `through`."""
    if through := getattr(W, "through", None):
        return through(U, lambda snps, T: T)
    return W.matmul(W.rmatmul(U))


def _snps_per_block(n_samples: int, itemsize: int) -> int:
    # At most 2^22: the sum of as many products of dosages, 2^24, is still exact in float32.
    return min(max(1, BLOCK_BYTES // (n_samples * itemsize)), 1 << 22)


def grm_diagonal(packed: PackedGenotypes, coding: Coding) -> np.ndarray:
    """diag(WW'/d), (n,): one pass over the packed genotypes."""
    out = np.zeros(packed.n_samples)
    for snps in packed.blocks(_snps_per_block(packed.n_samples, 16)):
        W = coding.block(packed, snps)
        out += np.einsum("ij,ij->i", W, W)
    return out / coding.divisor


def snp_sums(packed: PackedGenotypes, coding: Coding) -> tuple[np.ndarray, np.ndarray]:
    """(m,) sums and (m,) sums of squares of W's columns, from how often each SNP has each dosage."""
    called = packed.code_counts()[:, [0, 2, 3]]
    W = coding.scale[:, None] * (np.arange(3) - coding.centre[:, None])  # what a SNP's dosages are coded as
    return (called * W).sum(axis=1), (called * W**2).sum(axis=1)


def grm_trace(packed: PackedGenotypes, coding: Coding) -> float:
    """tr(WW'/d), exactly, without decoding a genotype."""
    return float(snp_sums(packed, coding)[1].sum()) / coding.divisor


def dense_grm(
    packed: PackedGenotypes,
    coding: Coding,
    rows: np.ndarray | slice = slice(None),
    *,
    library: Path | None = None,
    threads: int = 1,
    products: Callable[[PackedGenotypes], np.ndarray] | None = None,
) -> np.ndarray:
    """G = WW'/d among the individuals `rows`, (r, r) float64, exactly symmetric.

    Unscaled codings of complete genotypes go through counts, Z Z' in integers, and are centred in float64:
    WW' = ZZ' − Zc1' − 1(Zc)' + c'c. library: the compiled `gram` (relationships/gram.py), which `threads`
    threads of its own run; without it Z Z' is multiplied in float32, exact as well (a block's sums stay below
    2^24). products: Z Z' of complete genotypes as float64 by other means, such as a GPU. Scaled codings, and
    genotypes with missing calls, multiply float64 blocks of W: docs/gram.md says why.
    Memory: `dense_grm_bytes`.
    """
    raw = coding.unscaled and not packed.code_counts()[:, MISSING_CODE].any()
    everybody = np.arange(packed.n_samples)
    chosen = everybody[rows]
    n = chosen.size
    if products is None and library is not None:
        products = partial(gram, library=library, threads=threads, dtype="f8")
    if raw and products is not None:
        G = products(packed if np.array_equal(chosen, everybody) else packed.take(chosen))
    else:
        G = np.zeros((n, n))
    weighted = np.zeros(n)  # Zc
    for snps in packed.blocks(_snps_per_block(packed.n_samples, 12)):
        if raw:
            Z = packed.dosages(snps)[rows].astype("f4", order="F")
            weighted += Z @ coding.centre[snps]
            if products is None:
                add_lower_product(G, Z)
        else:
            add_lower_product(G, coding.block(packed, snps, rows))
    total = float(coding.centre @ coding.centre)
    for start in range(0, n, PANEL):
        stop = min(start + PANEL, n)
        tile = G[start:stop, :stop]
        if raw:
            tile -= weighted[start:stop, None] + weighted[:stop] - total
        tile /= coding.divisor
        G[:start, start:stop] = tile[:, :start].T
        corner = tile[:, start:]
        corner[:] = np.tril(corner) + np.tril(corner, -1).T
    return G


def dense_grm_bytes(n_samples: int) -> int:
    """The most memory that `dense_grm` allocates: G, a decoded block and its copies, a panel of products."""
    return 8 * n_samples * n_samples + 3 * BLOCK_BYTES + 12 * PANEL * n_samples


def add_lower_product(G: np.ndarray, W: np.ndarray) -> None:
    """G += WW' in the panels on and below the diagonal."""
    for start in range(0, len(G), PANEL):
        stop = min(start + PANEL, len(G))
        G[start:stop, :stop] += W[start:stop] @ W[:stop].T
