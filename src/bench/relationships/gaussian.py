"""The Gaussian kernel of genotypes, K_ij = exp(−D²_ij/(θ·h)), h the median of D² over pairs (Crossa et al. 2010).

D² is the squared Euclidean distance of coded genotypes, for which only differences count: centring does not change
it, the scale goes into h. K is dense: there is no product of genotypes that is K.
"""

from __future__ import annotations

import numpy as np

from bench.errors import BenchError
from bench.genotypes.packed import PackedGenotypes
from bench.relationships.genomic import BLOCK_BYTES, Coding


def gaussian_bytes(n: int) -> int:
    """Memory that K takes with its distances and its root."""
    return 4 * 8 * n * n


def squared_distances(gram: np.ndarray) -> np.ndarray:
    """(n, n) D²_ij = g_ii + g_jj − 2 g_ij of a Gram matrix of genotypes, which is overwritten; 0 on the diagonal."""
    own = gram.diagonal().copy()
    gram *= -2
    gram += own[:, None]
    gram += own
    np.maximum(gram, 0, out=gram)  # rounding of equal genotypes
    np.fill_diagonal(gram, 0)
    return gram


def median_distance(D2: np.ndarray) -> float:
    """The median of D² over pairs of animals; BenchError where half of the pairs have the same genotypes."""
    median = float(np.median(D2[np.triu_indices(len(D2), 1)])) if len(D2) > 1 else 0.0
    if not median > 0:
        raise BenchError(
            f"the median distance between the genotypes of {len(D2)} animals is {median:g}; the Gaussian kernel "
            "needs two or more animals, most of them different"
        )
    return median


def kernel(D2: np.ndarray, width: float) -> np.ndarray:
    """exp(−D²/width), which overwrites D². width: θ times the median distance."""
    D2 /= -width
    return np.exp(D2, out=D2)


def distances_between(packed: PackedGenotypes, coding: Coding, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(rows, others) D² of two sets of individuals, a missing call counting as the centre."""
    out, own, of_others = np.zeros((rows.size, others.size)), np.zeros(rows.size), np.zeros(others.size)
    for snps in packed.blocks(max(1, BLOCK_BYTES // (8 * (packed.n_samples + rows.size + others.size)))):
        W, V = coding.block(packed, snps, rows), coding.block(packed, snps, others)
        own += np.einsum("ij,ij->i", W, W)
        of_others += np.einsum("ij,ij->i", V, V)
        out -= 2 * (W @ V.T)
    out += own[:, None]
    out += of_others
    return np.maximum(out, 0, out=out)
