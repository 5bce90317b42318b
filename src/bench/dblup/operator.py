"""The genotypes as D-BLUP sees them: products with W, which JAX can trace and differentiate."""

from __future__ import annotations

from typing import Protocol

import jax


class Products(Protocol):
    """W (n, m), centred and scaled, a pytree that is passed to compiled functions: bridges.jax makes one of an array
    or of any kernel."""

    @property
    def shape(self) -> tuple[int, int]: ...

    def matmul(self, V: jax.Array) -> jax.Array:
        """W V, (m, k) → (n, k)."""
        ...

    def rmatmul(self, U: jax.Array) -> jax.Array:
        """W'U, (n, k) → (m, k)."""
        ...
