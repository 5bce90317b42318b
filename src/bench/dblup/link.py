"""From unconstrained parameters to the variance ratio λ and the weights of the SNPs.

Only λ/mean(w) is identified if all weights may grow together. So weights are a softmax times the number of units
(blocks or SNPs): their mean over the units is 1, and the scale of G is λ's.
"""

from __future__ import annotations

from typing import Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from bench.errors import BenchError

Ratio = Literal["softplus", "exp"]
BOUNDS = (1e-4, 1e4)  # of λ: beyond them one of the two variances is nothing


class EqualWeights(eqx.Module):
    """w = 1: VanRaden's G. block: (m,) zeros."""

    raw: None
    block: jax.Array

    @classmethod
    def of(cls, n_snps: int) -> EqualWeights:
        return cls(None, jnp.zeros(n_snps, jnp.int32))

    def logits(self) -> jax.Array:
        return jnp.zeros(1)


class BlockWeights(eqx.Module):
    """w_j = B·softmax(raw)_block(j). raw: (B,). block: (m,) the block of each SNP, 0 … B − 1."""

    raw: jax.Array
    block: jax.Array

    @classmethod
    def of(cls, block: np.ndarray, weights: np.ndarray | None = None) -> BlockWeights:
        """weights: (B,) where to start, in any unit; equal by default. BenchError: not positive; an empty block."""
        block = np.asarray(block)
        if block.ndim != 1 or not block.size or block.min() < 0 or np.unique(block).size != block.max() + 1:
            raise BenchError("block weights: each SNP needs a block 0, 1, …, B − 1, and each block a SNP")
        return cls(_logarithms(weights, int(block.max()) + 1, "block"), jnp.asarray(block, jnp.int32))

    def logits(self) -> jax.Array:
        return self.raw


class SnpWeights(eqx.Module):
    """w_j = m·softmax(raw)_j. raw: (m,). block: (m,) 0 … m − 1."""

    raw: jax.Array
    block: jax.Array

    @classmethod
    def of(cls, n_snps: int, weights: np.ndarray | None = None) -> SnpWeights:
        """weights: (m,) where to start, in any unit; equal by default. BenchError: not positive."""
        return cls(_logarithms(weights, n_snps, "SNP"), jnp.arange(n_snps, dtype=jnp.int32))

    def logits(self) -> jax.Array:
        return self.raw


class AnnotationWeights(eqx.Module):
    """w_j = m·softmax(f(c))_j, f a network. raw: maps (q,) → (). annotations: (m, q), not learned."""

    raw: eqx.Module
    annotations: jax.Array
    block: jax.Array

    @classmethod
    def of(
        cls, annotations: np.ndarray, *, width: int = 16, depth: int = 2, key: jax.Array | None = None
    ) -> AnnotationWeights:
        """A perceptron of `depth` hidden layers, whose output starts at 0: at equal weights."""
        c = np.asarray(annotations, float)
        if c.ndim != 2 or not np.isfinite(c).all():
            raise BenchError(f"annotations: an (m, q) array of finite numbers was needed, found {c.shape} or NaN")
        key = jax.random.key(0) if key is None else key
        net = eqx.nn.MLP(c.shape[1], "scalar", width, depth, jax.nn.gelu, key=key, dtype=jnp.float64)
        last = net.layers[-1]
        net = eqx.tree_at(lambda n: n.layers[-1].weight, net, jnp.zeros_like(last.weight))
        return cls(net, jnp.asarray(c), jnp.arange(len(c), dtype=jnp.int32))

    def logits(self) -> jax.Array:
        return jax.vmap(self.raw)(self.annotations)  # type: ignore[arg-type]


Weights = EqualWeights | BlockWeights | SnpWeights | AnnotationWeights


class Link(eqx.Module):
    """λ = softplus(raw) or exp(raw), and the weights. What is learned: raw and weights.raw."""

    raw: jax.Array
    weights: Weights
    ratio: Ratio = eqx.field(static=True)

    @classmethod
    def of(cls, lam: float, weights: Weights, ratio: Ratio = "softplus") -> Link:
        """A link that starts at λ = lam. BenchError: lam outside BOUNDS, no such ratio."""
        if ratio not in get_args(Ratio):
            raise BenchError(f"there is no link {ratio!r} of λ; there are {', '.join(get_args(Ratio))}")
        if not BOUNDS[0] <= lam <= BOUNDS[1]:
            raise BenchError(f"λ = {lam:g}: a variance ratio from {BOUNDS[0]:g} to {BOUNDS[1]:g} was needed")
        return cls(jnp.asarray(inverse(ratio, lam)), weights, ratio)

    @property
    def lam(self) -> jax.Array:
        return jnp.exp(self.raw) if self.ratio == "exp" else jax.nn.softplus(self.raw)

    @property
    def unit_weights(self) -> jax.Array:
        """(B,) or (m,), with mean 1."""
        logits = self.weights.logits()
        return logits.size * jax.nn.softmax(logits)

    @property
    def snp_weights(self) -> jax.Array:
        """w, (m,)."""
        return self.unit_weights[self.weights.block]

    def spread(self) -> jax.Array:
        """The variance of the log weights over the units: what a ridge multiplies."""
        return jnp.var(self.weights.logits())

    def learned(self) -> Link:
        """True at what is learned, False elsewhere."""
        nothing = jax.tree.map(lambda _: False, self)
        arrays = jax.tree.map(eqx.is_inexact_array, self.weights.raw)
        return eqx.tree_at(lambda link: (link.raw, link.weights.raw), nothing, (True, arrays), is_leaf=_none)


def inverse(ratio: Ratio, lam: float) -> float:
    """The raw parameter of λ."""
    return float(np.log(lam) if ratio == "exp" else lam + np.log(-np.expm1(-lam)))


def _none(x: object) -> bool:
    return x is None


def _logarithms(weights: np.ndarray | None, units: int, kind: str) -> jax.Array:
    if weights is None:
        return jnp.zeros(units)
    weights = np.asarray(weights, float)
    bad = int((~(np.isfinite(weights) & (weights > 0))).sum())
    if weights.shape != (units,) or bad:
        raise BenchError(
            f"{kind} weights: {units} positive numbers were needed, found {weights.shape} with {bad} that are zero, "
            "negative or not finite; leave SNPs without weight out of the genotypes"
        )
    return jnp.asarray(np.log(weights) - np.log(weights.mean()))
