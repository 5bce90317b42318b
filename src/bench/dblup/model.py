"""The module: genotypes, a link, an objective and a backend; the loss, and the predictions."""

from __future__ import annotations

from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp

from bench.dblup.data import Data
from bench.dblup.dense import Dense
from bench.dblup.link import Link
from bench.dblup.matrix_free import MatrixFree
from bench.dblup.objectives import OBJECTIVES, TRACES, Ask, System
from bench.dblup.operator import Products
from bench.errors import BenchError

RESULT = Ask(traces=False, value=False, final=True)


class GBLUP(eqx.Module):
    """y = Xb + g + e, g ~ N(0, G_w σu²), e ~ N(0, λσu² I), G_w = W diag(w) W'/divisor; λ and w by `link`.

    The breeding values are ĝ = G_w P y, for everybody genotyped. V⁻¹y alone, which the paper calls û, is the dual
    vector: G_w times it is a breeding value, if the mean was taken off before.
    ridge: the loss is the objective + ridge × the variance of the log weights over blocks or SNPs.
    """

    operator: Products
    link: Link
    divisor: jax.Array
    ridge: jax.Array
    backend: Dense | MatrixFree
    objective: str = eqx.field(static=True)

    @classmethod
    def of(
        cls,
        operator: Products,
        link: Link,
        objective: str,
        *,
        divisor: float,
        ridge: float = 0.0,
        backend: Literal["dense"] | Dense | MatrixFree = "dense",
    ) -> GBLUP:
        """objective: of OBJECTIVES. divisor: of the coding of W. backend: a Dense can serve several models of the
        same genotypes and blocks. BenchError: no such objective or backend, no operator, a link or a backend for
        other genotypes, a divisor or ridge that is none."""
        if not (hasattr(operator, "matmul") and hasattr(operator, "rmatmul")):
            raise BenchError(
                f"genotypes: an operator with matmul and rmatmul was needed, found {type(operator).__name__}; "
                "bridges.jax.operator makes one"
            )
        if objective not in OBJECTIVES:
            raise BenchError(f"there is no objective {objective!r}; there are {', '.join(OBJECTIVES)}")
        if link.weights.block.size != operator.shape[1]:
            raise BenchError(f"weights of {link.weights.block.size} SNPs for genotypes of {operator.shape[1]} SNPs")
        if not divisor > 0 or not ridge >= 0:
            raise BenchError(f"divisor {divisor:g} must be positive, and ridge {ridge:g} must not be negative")
        if backend == "dense":
            backend = Dense.of(operator, link, divisor)
        if not isinstance(backend, Dense | MatrixFree):
            raise BenchError(f"there is no backend {backend!r}; there are 'dense', a Dense and a MatrixFree")
        backend.check(operator.shape, link)
        return cls(operator, link, jnp.asarray(float(divisor)), jnp.asarray(float(ridge)), backend, objective)

    def system(self, data: Data, start: Any = None, ask: Ask = Ask()) -> System:  # noqa: B008
        """V⁻¹[X y] and what follows from it. start: what a matrix-free system of other parameters left."""
        if data.n != self.operator.shape[0]:
            raise BenchError(f"phenotypes of {data.n} individuals for genotypes of {self.operator.shape[0]}")
        return self.backend.system(self.operator, self.link, self.divisor, data, start, ask)

    def loss(self, data: Data, start: Any = None, *, value: bool = True) -> tuple[jax.Array, Any]:
        """The objective and the ridge, (), and what the next step of a matrix-free fit starts from.

        value: without, a matrix-free REML is spared log|V|'s value, and is NaN; its gradient is there.
        """
        if self.objective == "heldout" and data.members is None:
            raise BenchError("held-out error: the data have no folds; Data.of(..., folds=...) was needed")
        system = self.system(data, start, Ask(traces=self.objective in TRACES, value=value))
        objective = OBJECTIVES[self.objective](system)  # which solves, and leaves system.state
        return objective + self.ridge * self.link.spread(), system.state

    def begin(self, data: Data) -> Any:
        """What a first step starts from."""
        return self.backend.begin(data, self.objective)

    def snp_effects(self, data: Data) -> jax.Array:
        """β̂ = (w/divisor)∘W'Py, (m,), per unit of W."""
        return _snp_effects(self, data)

    def breeding_values(self, data: Data) -> jax.Array:
        """ĝ = Wβ̂ = G_w Py, (n,), for everybody genotyped."""
        return self.predict(data, self.operator)

    def predict(self, data: Data, others: Products) -> jax.Array:
        """ĝ of other individuals, (k,). others: their W (k, m), centred and scaled as the operator's."""
        if others.shape[1] != self.operator.shape[1]:
            raise BenchError(f"new genotypes of {others.shape[1]} SNPs, the model has {self.operator.shape[1]}")
        return _product(others, _snp_effects(self, data))

    def fixed_effects(self, data: Data) -> jax.Array:
        """b̂, (p,), of the fixed effects as they were given."""
        return jnp.linalg.solve(data.triangle, data.offset + _solved(self, data)[0])

    def variances(self, data: Data) -> tuple[float, float]:
        """σu² = y'Py/(r − p) and σe² = λσu²: REML's, if λ is."""
        Vu = float(_solved(self, data)[1]) / data.freedom
        return Vu, Vu * float(self.link.lam)


@eqx.filter_jit
def _snp_effects(model: GBLUP, data: Data) -> jax.Array:
    alpha = data.scatter(model.system(data, ask=RESULT).Py[:, None])
    return model.link.snp_weights / model.divisor * model.operator.rmatmul(alpha)[:, 0]


@eqx.filter_jit
def _solved(model: GBLUP, data: Data) -> tuple[jax.Array, jax.Array]:
    """b̂ of the basis, and y'Py."""
    system = model.system(data, ask=RESULT)
    return system.b, system.quadratic


@eqx.filter_jit
def _product(operator: Products, effects: jax.Array) -> jax.Array:
    return operator.matmul(effects[:, None])[:, 0]
