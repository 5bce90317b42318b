"""G blended with and tuned to A_gg, as the three numbers that every single-step variant needs.

Gw = ν MM' + τ 11' + λ A_gg: M the coded genotypes, never multiplied by themselves here. Tuning replaces G = MM'/c
by a 11' + b G, with a and b from moments of G and A_gg that are sums over products.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np

from bench.errors import BenchError
from bench.genotypes.packed import PackedGenotypes
from bench.relationships.genomic import Coding, snp_sums
from bench.solvers.operator import SymmetricOperator

COLUMNS = 64  # of A_gg at a time: Colleau's product reads the pedigree once for all of them

Tuning = Literal["none", "vitezica", "chen", "vanraden", "blupf90"]
Order = Literal["tune-first", "blend-first"]


class PedigreeRelationships(SymmetricOperator, Protocol):
    """A_gg (g, g) as products; inbreeding is its diagonal less 1."""

    @property
    def inbreeding(self) -> np.ndarray: ...


@dataclass(frozen=True)
class Blend:
    """Gw = marker_variance·MM' + constant·11' + polygenic·A_gg, in units of the genetic variance.

    marker_variance: ν > 0, the prior variance of the effect of a SNP in the coding of M. constant: τ, which tuning
    may make negative. polygenic: λ ≥ 0, the share of A_gg.
    """

    marker_variance: float
    constant: float
    polygenic: float


@dataclass(frozen=True)
class Moments:
    """Of a relationship matrix: the mean of its diagonal and of all its g² elements."""

    diagonal: float
    all: float
    size: int

    @property
    def off_diagonal(self) -> float:
        """The mean of the others; BenchError where there are none."""
        if self.size < 2:
            raise BenchError("one genotyped animal has no relationships to match; tuning needs two or more")
        return (self.all * self.size - self.diagonal) / (self.size - 1)


def blend(
    genotypes: PackedGenotypes,
    coding: Coding,
    numerator: PedigreeRelationships,
    *,
    w: float,
    tuning: Tuning = "none",
    order: Order | None = None,
) -> Blend:
    """The prior of the genotyped animals, whose genotypes and rows of A_gg have the same order.

    w: residual polygenic share, 0 ≤ w < 1. order "tune-first": Gw = (1−w)(a 11' + b G) + w A_gg; "blend-first":
    Gw = a 11' + b((1−w) G + w A_gg), a and b from that sum. The default is to tune first.

    tuning:
    "none": a = 0, b = 1.
    "vitezica": a = mean(A_gg) − mean(G), b = 1 − a/2 (Vitezica et al. 2011).
    "chen": the means of the diagonal and of the other elements become those of A_gg (Chen et al. 2011; Christensen
    et al. 2012).
    "vanraden": G = g0 11' + g1 A_gg by least squares over all elements, a = −g0/g1, b = 1/g1 (VanRaden 2008).
    "blupf90": "chen" after blending, the default of BLUPF90 (tunedG 2), which has w = 0.05.

    Cost: one pass over the genotypes and one product of A_gg; "vanraden" m + g columns of A_gg more. BenchError: w,
    names or sizes that cannot be; b ≤ 0.
    """
    _check(genotypes, coding, numerator, w, tuning, order)
    blended = order == "blend-first" or tuning == "blupf90"
    a, b = TUNINGS[tuning](genotypes, coding, numerator, w if blended else 0.0)
    if not (np.isfinite(a) and np.isfinite(b) and b > 0):
        raise BenchError(
            f"tuning {tuning!r} would multiply G by {b:.3g}, a positive number was needed: these genotypes do not "
            "vary as the pedigree says; compare the ids of both, or use tuning 'none'"
        )
    kept = 1.0 if blended else 1.0 - w
    return Blend(b * (1 - w) / coding.divisor, a * kept, b * w if blended else w)


def _check(
    genotypes: PackedGenotypes,
    coding: Coding,
    numerator: PedigreeRelationships,
    w: float,
    tuning: str,
    order: str | None,
) -> None:
    if not 0 <= w < 1:
        raise BenchError(f"w is {w:g}; a residual polygenic share from 0 to below 1 was needed")
    if tuning not in get_args(Tuning):
        raise BenchError(f"there is no tuning {tuning!r}; there are {', '.join(get_args(Tuning))}")
    if order is not None and order not in get_args(Order):
        raise BenchError(f"there is no order {order!r}; there are {' and '.join(get_args(Order))}")
    if tuning == "blupf90" and order == "tune-first":
        raise BenchError("tuning 'blupf90' blends first; leave the order out, or use tuning 'chen'")
    if genotypes.n_samples != numerator.shape[0]:
        raise BenchError(
            f"{genotypes.path or 'genotypes'}: {genotypes.n_samples} individuals, but A_gg is of {numerator.shape[0]}"
        )
    if genotypes.n_snps != coding.centre.size:
        raise BenchError(
            f"{genotypes.path or 'genotypes'}: {genotypes.n_snps} SNPs, but their coding has {coding.centre.size}"
        )


def genomic_moments(genotypes: PackedGenotypes, coding: Coding) -> Moments:
    """Of G = MM'/c: ‖M'1‖²/(c g²) is the mean of all elements, Σ M_ij²/(c g) that of the diagonal."""
    sums, squares = snp_sums(genotypes, coding)
    g = genotypes.n_samples
    return Moments(float(squares.sum()) / (coding.divisor * g), float(sums @ sums) / (coding.divisor * g * g), g)


def pedigree_moments(numerator: PedigreeRelationships) -> Moments:
    """Of A_gg: one product, and the inbreeding."""
    g = numerator.shape[0]
    total = float(numerator.matmul(np.ones((g, 1))).sum())
    return Moments(float(1 + numerator.inbreeding.mean()), total / (g * g), g)


def genomic_times_pedigree(genotypes: PackedGenotypes, coding: Coding, numerator: PedigreeRelationships) -> float:
    """Σ_ij G_ij A_ij = tr(G A_gg) = Σ_j m_j'A_gg m_j/c: m columns of A_gg, exact."""
    total = 0.0
    for snps in genotypes.blocks(COLUMNS):
        if coding.scale[snps].any():
            M = coding.block(genotypes, snps)
            total += float(np.sum(M * numerator.matmul(M)))
    return total / coding.divisor


def pedigree_squares(numerator: PedigreeRelationships) -> float:
    """Σ_ij A_ij²: g columns of A_gg."""
    g, total = numerator.shape[0], 0.0
    for start in range(0, g, COLUMNS):
        columns = np.zeros((g, min(COLUMNS, g - start)))
        columns[start + np.arange(columns.shape[1]), np.arange(columns.shape[1])] = 1
        total += float(np.sum(numerator.matmul(columns) ** 2))
    return total


# Each: a and b of a 11' + b Gv, Gv = (1−v) G + v A_gg.


def _none(
    genotypes: PackedGenotypes, coding: Coding, numerator: PedigreeRelationships, v: float
) -> tuple[float, float]:
    return 0.0, 1.0


def _vitezica(
    genotypes: PackedGenotypes, coding: Coding, numerator: PedigreeRelationships, v: float
) -> tuple[float, float]:
    G, A = genomic_moments(genotypes, coding), pedigree_moments(numerator)
    a = (1 - v) * (A.all - G.all)
    return a, 1 - a / 2


def _chen(
    genotypes: PackedGenotypes, coding: Coding, numerator: PedigreeRelationships, v: float
) -> tuple[float, float]:
    G, A = genomic_moments(genotypes, coding), pedigree_moments(numerator)
    of_A = A.diagonal - A.off_diagonal
    of_G = (1 - v) * (G.diagonal - G.off_diagonal) + v * of_A
    if of_G == 0:
        raise BenchError("G has the same mean on and off its diagonal; there is nothing to tune to A_gg")
    b = of_A / of_G
    return A.diagonal - b * ((1 - v) * G.diagonal + v * A.diagonal), b


def _vanraden(
    genotypes: PackedGenotypes, coding: Coding, numerator: PedigreeRelationships, v: float
) -> tuple[float, float]:
    G, A = genomic_moments(genotypes, coding), pedigree_moments(numerator)
    squares = A.size**2
    variance = pedigree_squares(numerator) - squares * A.all**2
    covariance = genomic_times_pedigree(genotypes, coding, numerator) - squares * A.all * G.all
    if variance <= 1e-12 * squares * A.all**2:
        raise BenchError("all relationships in A_gg are equal; G cannot be regressed on them")
    slope = (1 - v) * covariance / variance + v
    if slope == 0:
        raise BenchError("G and A_gg do not vary together; G cannot be tuned by its regression on A_gg")
    intercept = (1 - v) * G.all + v * A.all - slope * A.all
    return -intercept / slope, 1 / slope


TUNINGS: dict[str, Callable[[PackedGenotypes, Coding, PedigreeRelationships, float], tuple[float, float]]] = {
    "none": _none,
    "vitezica": _vitezica,
    "chen": _chen,
    "vanraden": _vanraden,
    "blupf90": _chen,
}
