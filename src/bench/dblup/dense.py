"""The dense backend: G_w as an (n, n) array, V by Cholesky, autodiff through it. O(n³), 8n² bytes a copy."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import cho_solve, solve_triangular

from bench.dblup.data import Data
from bench.dblup.link import Link
from bench.dblup.objectives import Ask, System
from bench.dblup.operator import Products
from bench.errors import BenchError

BASIS_BYTES = 1 << 30  # what the blocks' own relationship matrices may take
PANEL = 512  # columns of G_w that are made at a time


class Dense(eqx.Module):
    """basis: (B, n, n) with G_w = Σ_b w_b·basis_b, where the weights are of few blocks; else G_w is made of W."""

    basis: jax.Array | None

    @classmethod
    def of(cls, operator: Products, link: Link, divisor: float) -> Dense:
        n, m = operator.shape
        block = np.asarray(link.weights.block)
        units = int(block.max()) + 1
        if 8 * n * (m + units * n) > BASIS_BYTES:
            return cls(None)
        W = np.asarray(operator.rmatmul(jnp.eye(n)))
        parts = (W[block == unit] for unit in range(units))
        return cls(jnp.asarray(np.stack([part.T @ part / divisor for part in parts])))

    def check(self, shape: tuple[int, int], link: Link) -> None:
        """BenchError if it was made of other genotypes (n, m) or blocks."""
        wanted = link.unit_weights.size, shape[0], shape[0]
        if self.basis is not None and self.basis.shape != wanted:
            raise BenchError(f"dense: relationships {wanted} of the blocks were needed, found {self.basis.shape}")

    def relationship(self, operator: Products, link: Link, divisor: jax.Array) -> jax.Array:
        """G_w, (n, n)."""
        if self.basis is not None:
            return jnp.tensordot(link.unit_weights, self.basis, 1)
        return weighted_gram(link.snp_weights, operator) / divisor

    def begin(self, data: Data, objective: str) -> None:
        """A Cholesky factor starts from nothing."""

    def system(
        self, operator: Products, link: Link, divisor: jax.Array, data: Data, start: None, ask: Ask
    ) -> DenseSystem:
        G = self.relationship(operator, link, divisor)
        return DenseSystem(link.lam, data, G[data.index][:, data.index])


class DenseSystem(System):
    """G: (r, r) among the records."""

    def __init__(self, lam: jax.Array, data: Data, G: jax.Array):
        self.lam, self.data = lam, data
        self.factor = jnp.linalg.cholesky(G + lam * jnp.eye(len(G)), symmetrize_input=False)

    def solve_records(self) -> jax.Array:
        return self.solve(jnp.column_stack([self.data.basis, self.data.y]))

    def solve(self, B: jax.Array) -> jax.Array:
        return cho_solve((self.factor, True), B)

    def half_inverse(self) -> jax.Array:
        """L⁻¹, V = LL'."""
        return solve_triangular(self.factor, jnp.eye(len(self.factor)), lower=True)

    def log_determinant(self) -> jax.Array:
        return 2 * jnp.sum(jnp.log(jnp.diagonal(self.factor)))

    def inverse_trace(self) -> jax.Array:
        return jnp.sum(self.half_inverse() ** 2)

    def inverse_diagonal(self) -> jax.Array:
        return jnp.sum(self.half_inverse() ** 2, 0)

    def held_out(self) -> jax.Array:
        """A fold S's errors are (P_SS)⁻¹(Py)_S: leave-one-out with more than one."""
        half, members = self.half_inverse(), self.data.members
        assert members is not None
        P = half.T @ half - self.ViX @ jnp.linalg.solve(self.information, self.ViX.T)
        there = members < len(P)
        Py = jnp.where(there, self.Py.at[members].get(mode="fill", fill_value=0.0), 0.0)

        def errors(rows: jax.Array, there: jax.Array, Py: jax.Array) -> jax.Array:
            among = P.at[rows].get(mode="fill", fill_value=0.0).at[:, rows].get(mode="fill", fill_value=0.0)
            return jnp.linalg.solve(among + jnp.diag(jnp.where(there, 0.0, 1.0)), Py)

        return jax.vmap(errors)(members, there, Py)


def weighted_gram(w: jax.Array, operator: Products) -> jax.Array:
    """W diag(w) W', (n, n), by products with columns of the identity: W is never held, backwards neither."""
    n = operator.shape[0]

    @jax.checkpoint
    def panel(start: jax.Array) -> jax.Array:
        columns = jnp.arange(n)[:, None] == start + jnp.arange(min(PANEL, n))
        return operator.matmul(w[:, None] * operator.rmatmul(columns.astype(w.dtype)))

    panels = jax.lax.map(panel, jnp.arange(0, n, min(PANEL, n)))
    return jnp.moveaxis(panels, 0, 1).reshape(n, -1)[:, :n]
