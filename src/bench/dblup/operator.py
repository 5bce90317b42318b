"""The genotypes as D-BLUP sees them: products with W, which JAX can trace and differentiate."""

from __future__ import annotations

from typing import Protocol

import equinox as eqx
import jax


class Products(Protocol):
    """W (n, m), a pytree that is passed to compiled functions; bridges.jax makes one of any kernel."""

    @property
    def shape(self) -> tuple[int, int]: ...

    def matmul(self, V: jax.Array) -> jax.Array:
        """W V, (m, k) → (n, k)."""
        ...

    def rmatmul(self, U: jax.Array) -> jax.Array:
        """W'U, (n, k) → (m, k)."""
        ...


class DenseOperator(eqx.Module):
    """An (n, m) array as W: for small data, and for tests."""

    array: jax.Array

    @property
    def shape(self) -> tuple[int, int]:
        return self.array.shape

    def matmul(self, V: jax.Array) -> jax.Array:
        return self.array @ V

    def rmatmul(self, U: jax.Array) -> jax.Array:
        return self.array.T @ U
