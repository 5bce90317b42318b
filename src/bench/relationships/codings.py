"""Codings with choices: SNPs left out, SNP weights, given allele frequencies, and the coding of metafounders.

Without a choice they are those of genomic.py, to the last bit. A SNP that is left out has scale 0: the kernel still
multiplies it, by 0, and nothing is copied.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bench.errors import BenchError
from bench.genotypes.packed import PackedGenotypes
from bench.relationships.genomic import Coding, dosage_moments

ROUNDING = 1e-12  # a frequency of 1/100 is not below a limit of 0.01

# Of mean and sd of the calls, weights and given frequencies: centre, scale, and what each SNP adds to the divisor.
Parts = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None], tuple[np.ndarray, np.ndarray, np.ndarray]]


def snp_coding(
    packed: PackedGenotypes,
    relationship: str = "vanraden1",
    *,
    min_maf: float = 0.0,
    keep: np.ndarray | None = None,
    weights: np.ndarray | None = None,
    frequencies: np.ndarray | None = None,
) -> Coding:
    """W and the divisor c of G = WW'/c, with d_j = 1 unless weights are given and sums over the SNPs that are kept.

    "vanraden1": W = (Z − 2p)√d, c = Σ d 2p(1−p) (VanRaden 2008, method 1; weights: Wang et al. 2012).
    "vanraden2": W = (Z − 2p)√d/√(2p(1−p)), c = Σ d over the SNPs that vary (VanRaden 2008, method 2).
    "standardised": W = (Z − 2p)√d/sd, c = Σ d; sd is that of the calls, √(2p(1−p)) where p is given.
    "metafounder": W = (Z − 1)√d, c = Σ d/2, the relationships G05 that fit A of metafounders (Christensen 2012;
    Legarra et al. 2015). A missing call counts as the centre, here as a dosage of 1.

    min_maf: the lowest frequency, among the calls, of the rarer allele. keep: (m,) of bool. weights: (m,), not
    negative; 0 leaves a SNP out.
    frequencies: (m,) of the counted allele, in [0, 1]; by default those of the calls.
    BenchError: an array of another length or with such values; no SNP that varies, or none left.
    """
    if relationship not in CODINGS:
        raise BenchError(f"there is no relationship {relationship!r}; there are {', '.join(CODINGS)}")
    mean, sd = dosage_moments(packed)
    kept = _kept(packed, mean, min_maf, keep)
    d = _weights(packed, weights)
    kept &= d > 0
    if not kept.any():
        raise BenchError(f"{packed.path or 'genotypes'}: all SNPs that are kept have the weight 0")
    p = _frequencies(packed, frequencies)
    centre, scale, terms = CODINGS[relationship](mean, sd, d, p)
    divisor = float(np.sum(terms if kept.all() else terms[kept]))
    if divisor <= 0:
        raise BenchError(
            f"{packed.path or 'genotypes'}: the {int(kept.sum())} SNPs kept do not vary at the frequencies given; "
            "relationships need at least one SNP that does"
        )
    return Coding(relationship, centre, np.where(kept, scale, 0.0), divisor)


def _vanraden1(
    mean: np.ndarray, sd: np.ndarray, d: np.ndarray, p: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    centre = mean if p is None else 2 * p
    return centre, np.sqrt(d), d * (centre * (1 - centre / 2))


def _standardised(
    mean: np.ndarray, sd: np.ndarray, d: np.ndarray, p: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    centre, sd = (mean, sd) if p is None else (2 * p, np.sqrt(2 * p * (1 - p)))
    return centre, np.divide(np.sqrt(d), sd, out=np.zeros_like(sd), where=sd > 0), d


def _vanraden2(
    mean: np.ndarray, sd: np.ndarray, d: np.ndarray, p: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    centre = mean if p is None else 2 * p
    spread = np.sqrt(centre * (1 - centre / 2))
    return centre, np.divide(np.sqrt(d), spread, out=np.zeros_like(spread), where=spread > 0), d * (spread > 0)


def _metafounder(
    mean: np.ndarray, sd: np.ndarray, d: np.ndarray, p: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if p is not None:
        raise BenchError("the coding of metafounders has the frequency 0.5 at every SNP; leave the frequencies out")
    return np.ones_like(mean), np.sqrt(d), d / 2


CODINGS: dict[str, Parts] = {
    "vanraden1": _vanraden1,
    "vanraden2": _vanraden2,
    "standardised": _standardised,
    "metafounder": _metafounder,
}


def _kept(packed: PackedGenotypes, mean: np.ndarray, min_maf: float, keep: np.ndarray | None) -> np.ndarray:
    """(m,) whether a SNP enters the relationships."""
    if not 0 <= min_maf < 0.5:
        raise BenchError(f"min_maf is {min_maf:g}; a frequency from 0 to below 0.5 was needed")
    kept = np.ones(packed.n_snps, bool)
    if keep is not None:
        kept = np.asarray(keep)
        if kept.dtype != bool or kept.shape != (packed.n_snps,):
            raise BenchError(
                f"{packed.path or 'genotypes'}: the mask of SNPs is {kept.dtype} of shape {kept.shape}; "
                f"{packed.n_snps} of bool were needed"
            )
    rarer = np.minimum(mean, 2 - mean) / 2
    kept = kept & (rarer >= min_maf * (1 - ROUNDING))
    if not kept.any():
        raise BenchError(
            f"{packed.path or 'genotypes'}: none of {packed.n_snps} SNPs is left (min_maf {min_maf:g}, "
            f"the largest frequency of a rarer allele is {rarer.max():.3g})"
        )
    return kept


def _weights(packed: PackedGenotypes, weights: np.ndarray | None) -> np.ndarray:
    if weights is None:
        return np.ones(packed.n_snps)
    d = _per_snp(packed, weights, "weight")
    if (wrong := np.flatnonzero(~(np.isfinite(d) & (d >= 0)))).size:
        raise BenchError(
            f"{packed.path or 'genotypes'}: {wrong.size} SNP weights are negative or no numbers, such as "
            f"{d[wrong[0]]:g} of SNP {wrong[0] + 1}; 0 leaves a SNP out"
        )
    if not d.any():
        raise BenchError(
            f"{packed.path or 'genotypes'}: all {d.size} SNP weights are 0: there is no relationship to speak of"
        )
    return d


def _frequencies(packed: PackedGenotypes, frequencies: np.ndarray | None) -> np.ndarray | None:
    if frequencies is None:
        return None
    p = _per_snp(packed, frequencies, "allele frequency")
    if (wrong := np.flatnonzero(~((p >= 0) & (p <= 1)))).size:
        raise BenchError(
            f"{packed.path or 'genotypes'}: {wrong.size} allele frequencies are not between 0 and 1, such as "
            f"{p[wrong[0]]:g} of SNP {wrong[0] + 1}"
        )
    return p


def _per_snp(packed: PackedGenotypes, values: np.ndarray, what: str) -> np.ndarray:
    values = np.asarray(values, float)
    if values.shape != (packed.n_snps,):
        raise BenchError(
            f"{packed.path or 'genotypes'}: one {what} per SNP is needed, {packed.n_snps} in all; found an array of "
            f"shape {values.shape}"
        )
    return values
