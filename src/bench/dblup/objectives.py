"""What D-BLUP minimises: five functions of λ and the weights, through V = G_w + λI and P.

The gradient along a parameter θ is a closed form of V_θ = ∂V/∂θ in each case (dP = −P V_θ P), which the tests hold
autodiff against; here it is left to autodiff.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bench.dblup.data import Data


class Ask(NamedTuple):
    """What a system is made for, which a matrix-free one is spared the rest of.

    traces: log|V|, tr V⁻¹, diag V⁻¹. value: of log|V|, which is NaN without; its gradient is right all the same.
    final: solves as exact as a result has to be, not only a step towards one.
    """

    traces: bool = True
    value: bool = True
    final: bool = False


class System(abc.ABC):
    """V⁻¹[X y] among the records, X the orthonormal basis of the fixed effects, and what follows from it.

    state: what a system of other parameters may start from; None where that is nothing.
    """

    lam: jax.Array
    data: Data
    state: Any = None

    @abc.abstractmethod
    def solve_records(self) -> jax.Array:
        """V⁻¹[X y], (r, p + 1), with derivatives."""

    @cached_property
    def solved(self) -> jax.Array:
        return self.solve_records()

    @property
    def ViX(self) -> jax.Array:
        return self.solved[:, :-1]

    @property
    def Viy(self) -> jax.Array:
        return self.solved[:, -1]

    @cached_property
    def information(self) -> jax.Array:
        """X'V⁻¹X, (p, p)."""
        return self.data.basis.T @ self.ViX

    @cached_property
    def b(self) -> jax.Array:
        """(p,) generalised least squares estimates for the basis, less the data's offset."""
        return jnp.linalg.solve(self.information, self.data.basis.T @ self.Viy)

    @cached_property
    def Py(self) -> jax.Array:
        """(r,); û_t = G_tt Py, and y − Xb − û_t = λPy."""
        return self.Viy - self.ViX @ self.b

    @property
    def quadratic(self) -> jax.Array:
        """y'Py."""
        return self.data.y @ self.Py

    def trace(self) -> jax.Array:
        """tr P = tr V⁻¹ − tr[(X'V⁻¹X)⁻¹ X'V⁻²X]."""
        return self.inverse_trace() - jnp.trace(jnp.linalg.solve(self.information, self.ViX.T @ self.ViX))

    def diagonal(self) -> jax.Array:
        """P_ii, (r,)."""
        return self.inverse_diagonal() - jnp.sum(self.ViX.T * jnp.linalg.solve(self.information, self.ViX.T), 0)

    @abc.abstractmethod
    def solve(self, B: jax.Array) -> jax.Array:
        """V⁻¹B, (r, k); no derivatives are asked of it."""

    def project(self, B: jax.Array) -> jax.Array:
        """P B, (r, k)."""
        return self.solve(B) - self.ViX @ jnp.linalg.solve(self.information, self.ViX.T @ B)

    @abc.abstractmethod
    def log_determinant(self) -> jax.Array:
        """log|V|."""

    @abc.abstractmethod
    def inverse_trace(self) -> jax.Array:
        """tr V⁻¹."""

    @abc.abstractmethod
    def inverse_diagonal(self) -> jax.Array:
        """diag V⁻¹, (r,)."""

    @abc.abstractmethod
    def held_out(self) -> jax.Array:
        """(K, s) errors of prediction of the folds' held-out records, fixed effects refitted; 0 where padded."""


def train(system: System) -> jax.Array:
    """‖y − Xb − û‖²/r = ‖λPy‖²/r, the paper's own form. ∂_λ = (2λ/r)(Py)'(I − λP)(Py) ≥ 0: it collapses to λ → 0."""
    return jnp.mean((system.lam * system.Py) ** 2)


def heldout(system: System) -> jax.Array:
    """The mean squared error of prediction of the held-out records of Data.members."""
    errors = system.held_out()
    assert system.data.members is not None
    return jnp.sum(errors**2) / jnp.sum(system.data.members < len(system.data.y))


def loo(system: System) -> jax.Array:
    """Leave-one-out, exactly, fixed effects refitted: r_i = [Py]_i/P_ii, mean r_i²."""
    return jnp.mean((system.Py / system.diagonal()) ** 2)


def gcv(system: System) -> jax.Array:
    """Generalised cross-validation, r·y'P²y/(tr P)² (Golub, Heath & Wahba 1979): `loo` with P_ii at their mean."""
    return system.Py.size * (system.Py @ system.Py) / system.trace() ** 2


def reml(system: System) -> jax.Array:
    """−2 × the restricted log-likelihood at its best σu² = y'Py/(r − p), constants as in models.reml.

    (r − p)[log(2π y'Py/(r − p)) + 1] + log|V| + log|X'V⁻¹X|, with X'X = I.
    """
    df = system.data.freedom
    likelihood = df * (jnp.log(2 * jnp.pi * system.quadratic / df) + 1)
    return likelihood + system.log_determinant() + jnp.linalg.slogdet(system.information)[1]


OBJECTIVES: dict[str, Callable[[System], jax.Array]] = {
    "train": train,
    "heldout": heldout,
    "loo": loo,
    "gcv": gcv,
    "reml": reml,
}
TRACES = {"loo", "gcv", "reml"}  # the objectives that need traces or a diagonal
