"""Traits of a known architecture on the genotypes of a data set, and SNP annotations that tell of their QTL."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.errors import BenchError

SEED = 20_264
CONCENTRATED = 3  # of BLOCKS blocks of neighbouring SNPs hold all QTL of a concentrated trait
BLOCKS = 20
ANNOTATIONS = 6  # of which the first three tell of the effects
HELD_OUT = 5  # a replicate holds out one individual in so many


@dataclass(frozen=True)
class Trait:
    """A simulated trait. u, y: (n,) breeding values of variance h2, and records. effects: (m,) of a dosage."""

    u: np.ndarray
    y: np.ndarray
    effects: np.ndarray


@dataclass(frozen=True)
class Annotated:
    """annotations: (m, ANNOTATIONS) standard normal. log_weight: (m,) the logarithm of each SNP's expected variance,
    of mean 1 over the SNPs."""

    trait: Trait
    annotations: np.ndarray
    log_weight: np.ndarray


def generator(*key: int) -> np.random.Generator:
    return np.random.default_rng([SEED, *key])


def contiguous_blocks(m: int, blocks: int) -> np.ndarray:
    """(m,) number of the block of each SNP: runs of neighbours whose sizes differ by at most one."""
    if not 1 <= blocks <= m:
        raise BenchError(f"dblup: {blocks} blocks of {m} SNPs; between 1 and {m} can be had")
    return np.arange(m) * blocks // m


def simulated(dosages: np.ndarray, architecture: str, *, n_qtl: int, h2: float, rng: np.random.Generator) -> Trait:
    """A trait with n_qtl QTL of normal effects among the SNPs that vary. dosages: (n, m), −1 where a call is missing.

    concentrated: all QTL lie in 3 of 20 blocks of neighbouring SNPs; polygenic: anywhere.
    """
    W = centred(dosages)
    allowed = W.any(axis=0)
    if architecture == "concentrated":
        chosen = rng.choice(BLOCKS, CONCENTRATED, replace=False)
        allowed &= np.isin(contiguous_blocks(W.shape[1], BLOCKS), chosen)
    candidates = np.flatnonzero(allowed)
    if candidates.size == 0:
        raise BenchError("dblup: no SNP varies where the trait has its QTL")
    loci = rng.choice(candidates, min(n_qtl, candidates.size), replace=False)
    effects = np.zeros(W.shape[1])
    effects[loci] = rng.standard_normal(loci.size)
    return _trait(W, effects, h2, rng)


def annotated(dosages: np.ndarray, *, h2: float, rng: np.random.Generator) -> Annotated:
    """A trait whose SNP effects are normal with a variance that the annotations give, not linearly.

    The logarithm of the variance is an interaction of two annotations and a hinge of a third; three say nothing.
    """
    W = centred(dosages)
    C = rng.standard_normal((W.shape[1], ANNOTATIONS))
    log_weight = annotation_function(C)
    effects = np.where(W.any(axis=0), rng.standard_normal(len(C)) * np.exp(0.5 * log_weight), 0.0)
    return Annotated(_trait(W, effects, h2, rng), C, log_weight)


def annotation_function(C: np.ndarray) -> np.ndarray:
    """(m, ANNOTATIONS) → (m,): 3·tanh(c₀c₁) + 2·max(c₂, 0), shifted so that exp of it has mean 1."""
    value = 3 * np.tanh(C[:, 0] * C[:, 1]) + 2 * np.maximum(C[:, 2], 0)
    return value - np.log(np.mean(np.exp(value)))


def centred(dosages: np.ndarray) -> np.ndarray:
    """(n, m) float64 deviations from each SNP's mean; 0 where the call is missing."""
    called = dosages >= 0
    total = np.where(called, dosages, 0).sum(axis=0)
    mean = np.divide(total, called.sum(axis=0), out=np.zeros(dosages.shape[1]), where=called.any(axis=0))
    return np.where(called, dosages - mean, 0.0)


def _trait(W: np.ndarray, effects: np.ndarray, h2: float, rng: np.random.Generator) -> Trait:
    u = W @ effects
    spread = u.std()
    if spread == 0:
        raise BenchError("dblup: the simulated breeding values do not vary; the data set has too few SNPs that do")
    scale = np.sqrt(h2) / spread
    u = (u - u.mean()) * scale
    return Trait(u, u + np.sqrt(1 - h2) * rng.standard_normal(len(u)), effects * scale)


def split(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Training and held-out rows, sorted."""
    order = rng.permutation(n)
    return np.sort(order[n // HELD_OUT :]), np.sort(order[: n // HELD_OUT])
