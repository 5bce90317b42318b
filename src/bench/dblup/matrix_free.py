"""The matrix-free backend: V only ever multiplied. Memory: the packed genotypes and a few (n, k) and (m, k) arrays.

One run of conjugate gradients solves for [X y Z], Z the probes of the traces, which stay the same from step to step:
with fresh ones a fit would never come to rest. Gradients of what hangs on V⁻¹[X y] go through `custom_linear_solve`;
those of log|V| and tr V⁻¹ are closed forms of V⁻¹Z, where a SNP's weight has V_w = w_j w_j'/d:
∂log|V| = E[(V⁻¹z)'V_θ z], ∂tr V⁻¹ = −E[(V⁻¹z)'V_θ(V⁻¹z)]: two products with W' for all SNPs at once.
"""

from __future__ import annotations

from functools import cached_property, partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from bench.dblup.data import Data
from bench.dblup.krylov import Map, log_quadratic, pcg
from bench.dblup.link import Link
from bench.dblup.objectives import TRACES, Ask, System
from bench.dblup.operator import Products
from bench.errors import BenchError
from bench.genotypes.packed import PackedGenotypes
from bench.relationships.genomic import Coding, snp_sums


class Deflation(eqx.Module):
    """Ritz pairs of G among the records: values (c,) descending, vectors (r, c) orthonormal, of BlockLanczos.ritz.

    M⁻¹ = U diag(1/(θ + λ))U' + (I − UU')/(θ_c + λ), which serves other λ and other weights as well.
    """

    values: jax.Array
    vectors: jax.Array

    def __call__(self, lam: jax.Array, R: jax.Array) -> jax.Array:
        floor = 1 / (self.values[-1] + lam)
        return floor * R + self.vectors @ ((1 / (self.values + lam) - floor)[:, None] * (self.vectors.T @ R))


class State(NamedTuple):
    """What a step leaves to the next: the solutions as its start, products made (with W and with W'), converged."""

    solution: jax.Array
    products: jax.Array
    converged: jax.Array


class MatrixFree(eqx.Module):
    """probes: (n, s); None for √r·I, whatever the r records are.

    squares: (m,) Σ_i W_ij² over the records, by which traces of the blocks are exact and serve as control variates;
    None for none. rtol: of the solves while learning; final: of those of predictions. quadrature: products of
    log|V|'s value, which gradients do not need.
    """

    probes: jax.Array | None
    squares: jax.Array | None
    deflation: Deflation | None
    rtol: float = eqx.field(static=True)
    final: float = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)
    quadrature: int = eqx.field(static=True)

    @classmethod
    def of(
        cls,
        n: int,
        *,
        probes: int = 8,
        seed: int = 0,
        squares: np.ndarray | None = None,
        deflation: Deflation | None = None,
        rtol: float = 1e-3,
        final: float = 1e-8,
        max_steps: int = 1000,
        quadrature: int = 40,
    ) -> MatrixFree:
        """Rademacher probes, drawn from `seed`."""
        if probes < 1 or not 0 < rtol < 1 or not 0 < final < 1 or max_steps < 1 or quadrature < 1:
            raise BenchError("matrix-free: probes, steps and products from 1 on and tolerances below 1 were needed")
        signs = np.random.default_rng(seed).choice([-1.0, 1.0], (n, probes))
        known = None if squares is None else jnp.asarray(squares)
        return cls(jnp.asarray(signs), known, deflation, rtol, final, max_steps, quadrature)

    @classmethod
    def exactly(cls, data: Data, *, rtol: float = 1e-12, quadrature: int = 60) -> MatrixFree:
        """Probes √r·I: traces and diagonals without noise, for r solves. For tests, and where r is small."""
        return cls(None, None, None, rtol, rtol, 20 * len(data.y), quadrature)

    @property
    def exact(self) -> bool:
        return self.probes is None

    def check(self, shape: tuple[int, int], _: Link) -> None:
        """BenchError if it was made for other genotypes than (n, m)."""
        n, m = shape
        # JAX takes the last row for one that is not there.
        if self.probes is not None and len(self.probes) != n:
            raise BenchError(f"matrix-free: probes of {len(self.probes)} individuals for genotypes of {n}")
        if self.squares is not None and self.squares.shape != (m,):
            raise BenchError(f"matrix-free: squares {self.squares.shape} for genotypes of {m} SNPs")

    def probes_of(self, data: Data) -> jax.Array:
        """Z, (r, s), of the records."""
        r = len(data.y)
        return jnp.sqrt(r) * jnp.eye(r) if self.probes is None else self.probes[data.index]

    def begin(self, data: Data, objective: str) -> State:
        """Zeros, of the shape that the objective's solves leave behind."""
        r, columns = len(data.y), data.basis.shape[1] + 1
        probes = r if self.probes is None else self.probes.shape[1]
        if objective == "heldout" and data.members is not None:
            shape = (r, len(data.members), columns)
        else:
            shape = (r, 1, columns + (probes if objective in TRACES else 0))
        return State(jnp.zeros(shape), jnp.zeros((), int), jnp.ones((), bool))

    def system(
        self,
        operator: Products,
        link: Link,
        divisor: jax.Array,
        data: Data,
        start: State | None,
        ask: Ask,
    ) -> MatrixFreeSystem:
        return MatrixFreeSystem(self, operator, link, divisor, data, start, ask)


def squared_lengths(packed: PackedGenotypes, coding: Coding) -> np.ndarray:
    """Σ_i W_ij² of each SNP, (m,), from the genotypes' counts; of records only, if `packed` holds them only."""
    return snp_sums(packed, coding)[1]


class MatrixFreeSystem(System):
    """Solved when asked for. Columns of solves are (r, K, c): c right-hand sides in each of K training sets."""

    def __init__(
        self,
        backend: MatrixFree,
        operator: Products,
        link: Link,
        divisor: jax.Array,
        data: Data,
        start: State | None,
        ask: Ask,
    ):
        self.backend, self.operator, self.link, self.divisor = backend, operator, link, divisor
        self.data, self.start, self.ask = data, start, ask
        self.lam, self.weights = link.lam, link.snp_weights
        self.probes = backend.probes_of(data)
        self.effects_and_y = jnp.column_stack([data.basis, data.y])

    def rmatmul(self, U: jax.Array) -> jax.Array:
        """W_r'U, (r, k) → (m, k)."""
        return self.operator.rmatmul(U if len(U) == self.data.n else self.data.scatter(U))

    def relate(self, U: jax.Array, weights: jax.Array) -> jax.Array:
        """G_w U among the records, (r, k)."""
        product = self.operator.matmul((weights / self.divisor)[:, None] * self.rmatmul(U))
        return product if len(product) == len(U) else product[self.data.index]

    @property
    def _options(self) -> dict[str, Any]:
        backend, lam = self.backend, jax.lax.stop_gradient(self.lam)
        return {
            "precondition": (lambda R: R) if backend.deflation is None else partial(backend.deflation, lam),
            "rtol": backend.final if self.ask.final else backend.rtol,
            "max_steps": backend.max_steps,
        }

    def solve(self, B: jax.Array) -> jax.Array:
        matrix = lambda U: self.relate(U, self.weights) + self.lam * U  # noqa: E731
        return pcg(matrix, B, jnp.zeros_like(B), **self._options).value

    def _solve(self, rhs: jax.Array, mask: jax.Array | None, columns: int) -> jax.Array:
        """V⁻¹ of the first `columns` of each training set's right-hand sides, with derivatives; leaves self.state.

        rhs: (r, K, c), 0 outside mask (r, K), where V is λI. All columns are solved for together first, without
        derivatives. From the space that they span every later solve starts: that for `columns` is then done, and so
        is the backward one of REML, whose right-hand sides are in that space.
        """
        shape = rhs.shape

        def variance(lam: jax.Array, weights: jax.Array, U: jax.Array) -> jax.Array:
            inside = U if mask is None else (U.reshape(*mask.shape, -1) * mask[..., None]).reshape(U.shape)
            G = self.relate(inside, weights)
            return lam * U + (G if mask is None else (G.reshape(*mask.shape, -1) * mask[..., None]).reshape(U.shape))

        lam, weights = jax.lax.stop_gradient((self.lam, self.weights))
        options = self._options
        if mask is not None:  # the Ritz vectors are of all records
            options["precondition"] = lambda R: R
        begin = jnp.zeros(shape) if self.start is None else self.start.solution
        flat = rhs.reshape(len(rhs), -1)
        found = pcg(partial(variance, lam, weights), flat, begin.reshape(flat.shape), **options)
        known = found.value.reshape(shape)
        self.state = State(known, found.products, found.converged)
        inverse = jnp.linalg.pinv(jnp.einsum("rka,rkb->kab", known, rhs), hermitian=True, rtol=1e-10)

        # The start is the best in the energy norm; its residual may be a little larger than what it is made of.
        loose = options | {"rtol": 2 * options["rtol"]}

        def solve(matrix: Map, b: jax.Array) -> jax.Array:
            b = b.reshape(len(b), shape[1], -1)
            along = jnp.einsum("kab,kbc->kac", inverse, jnp.einsum("rka,rkc->kac", known, b))
            start = jnp.einsum("rka,kac->rkc", known, along)
            return pcg(matrix, b.reshape(len(b), -1), start.reshape(len(b), -1), **loose).value

        out = jax.lax.custom_linear_solve(
            partial(variance, self.lam, self.weights),
            rhs[:, :, :columns].reshape(len(rhs), -1),
            solve,
            transpose_solve=solve,
            symmetric=True,
        )
        return out.reshape(*shape[:2], columns)

    @cached_property
    def _records(self) -> jax.Array:
        """V⁻¹[X y], and with exact probes V⁻¹Z as well: a diagonal needs its derivatives. (r, p + 1 (+ s))."""
        rhs = jnp.hstack([self.effects_and_y, self.probes]) if self.ask.traces else self.effects_and_y
        columns = rhs.shape[1] if self.backend.exact else self.effects_and_y.shape[1]
        return self._solve(rhs[:, None], None, columns)[:, 0]

    def solve_records(self) -> jax.Array:
        return self._records[:, : self.effects_and_y.shape[1]]

    @cached_property
    def _solved_probes(self) -> jax.Array:
        """V⁻¹Z, (r, s), without derivatives."""
        assert self._records is not None
        assert self.state is not None
        return jax.lax.stop_gradient(self.state.solution[:, 0, self.effects_and_y.shape[1] :])

    @cached_property
    def _projected(self) -> tuple[jax.Array, jax.Array]:
        """W'V⁻¹Z and W'Z, (m, s) each."""
        solved = self._solved_probes
        both = self.rmatmul(jnp.hstack([solved, self.probes]))
        return both[:, : solved.shape[1]], both[:, solved.shape[1] :]

    def _traces(self, ones: jax.Array, snps: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Estimates of tr(A) and of tr(A G_u) of each unit u, (U,), from z'Az, (s,), and its SNPs' parts, (m, s).

        z'G_u z, whose mean tr G_u is known, is the control variate, its coefficient regressed over the probes in each
        block; SNPs that are units of their own share one, since s numbers say little of each.
        """
        block, units = self.link.weights.block, self.link.unit_weights.size
        parts = jax.ops.segment_sum(snps / self.divisor, block, units)
        if self.backend.squares is None:
            return ones.mean(), parts.mean(1)
        controls = jax.ops.segment_sum(self._projected[1] ** 2 / self.divisor, block, units)
        known = jax.ops.segment_sum(self.backend.squares / self.divisor, block, units)
        w = jax.lax.stop_gradient(self.link.unit_weights)
        total = _controlled(ones[None], (w @ controls)[None], (w @ known)[None], pooled=False)[0]
        return total, _controlled(parts, controls, known, pooled=units == len(block))

    def _with_gradient(self, value: jax.Array, lam: jax.Array, units: jax.Array) -> jax.Array:
        """`value`, whose derivatives along λ and the unit weights are the given ones."""
        value, lam, units = jax.lax.stop_gradient((value, lam, units))
        w = self.link.unit_weights
        still, same = jax.lax.stop_gradient((self.lam, w))
        return value + lam * (self.lam - still) + units @ (w - same)

    def log_determinant(self) -> jax.Array:
        solved, (WS, WZ) = self._solved_probes, self._projected
        value = jnp.asarray(jnp.nan)
        if self.ask.value:
            weights, lam = jax.lax.stop_gradient((self.weights, self.lam))
            matrix = lambda U: self.relate(U, weights) + lam * U  # noqa: E731
            steps = min(self.backend.quadrature, len(self.probes))
            value = log_quadratic(matrix, self.probes, steps).mean()
        return self._with_gradient(value, *self._traces(jnp.sum(solved * self.probes, 0), WS * WZ))

    def inverse_trace(self) -> jax.Array:
        solved, (WS, WZ) = self._solved_probes, self._projected
        value, _ = self._traces(jnp.sum(solved * self.probes, 0), WS * WZ)
        lam, units = self._traces(jnp.sum(solved**2, 0), WS**2)
        return self._with_gradient(value, -lam, -units)

    def inverse_diagonal(self) -> jax.Array:
        if not self.backend.exact:
            raise BenchError(
                "leave-one-out: a diagonal of V⁻¹ from probes biases it (log λ by .2 to .6 with 8); take gcv, or "
                "MatrixFree.exactly for few records"
            )
        return jnp.mean(self.probes * self._records[:, self.effects_and_y.shape[1] :], 1)

    def held_out(self) -> jax.Array:
        members, y, basis = self.data.members, self.data.y, self.data.basis
        assert members is not None
        folds = jnp.arange(len(members))[:, None]
        mask = jnp.ones((len(y), len(members))).at[members, folds].set(0.0, mode="drop")
        solved = self._solve(self.effects_and_y[:, None] * mask[..., None], mask, self.effects_and_y.shape[1])
        ViX, Viy = solved[..., :-1], solved[..., -1]
        b = jnp.linalg.solve(jnp.einsum("rp,rkq->kpq", basis, ViX), jnp.einsum("rp,rk->kp", basis, Viy)[..., None])
        alpha = Viy - jnp.einsum("rkp,kp->rk", ViX, b[..., 0])
        errors = y[:, None] - basis @ b[..., 0].T - self.relate(alpha, self.weights)
        return errors.at[members, folds].get(mode="fill", fill_value=0.0)


def _controlled(parts: jax.Array, controls: jax.Array, known: jax.Array, *, pooled: bool) -> jax.Array:
    """Means of the rows of parts (U, s), less what the controls' means (U, s) differ from the known ones (U,)."""
    away = controls - controls.mean(1, keepdims=True)
    joint, own = jnp.sum(away * (parts - parts.mean(1, keepdims=True)), 1), jnp.sum(away**2, 1)
    joint, own = (joint.sum(), own.sum()) if pooled else (joint, own)
    slope = jnp.where(own > 0, joint / jnp.where(own > 0, own, 1.0), 0.0)
    return parts.mean(1) - slope * (controls.mean(1) - known)
