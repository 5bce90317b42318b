"""Minimising a model's loss over λ and the weights: L-BFGS, or any optimiser of optax."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from scipy.optimize import minimize

from bench.dblup.data import Data
from bench.dblup.link import BOUNDS, inverse
from bench.dblup.model import GBLUP
from bench.errors import BenchError

Optimiser = Literal["lbfgs"] | optax.GradientTransformation
Status = Literal[
    "converged", "iteration cap", "λ at its lower bound", "λ at its upper bound", "no descent", "not finite"
]
CLOSE = 1e-3  # of λ's raw parameter to a bound: there λ is not estimated


@dataclass(frozen=True)
class Step:
    """One evaluation. gradient: the largest absolute element of the loss's gradient; products: of the solver, with
    W and with W', 0 in the dense backend."""

    number: int
    loss: float
    lam: float
    gradient: float
    products: int


@dataclass(frozen=True)
class Fitted:
    """model: with the best parameters that were seen. history: every evaluation."""

    model: GBLUP
    status: Status
    history: tuple[Step, ...]


@eqx.filter_jit
def _value_and_gradient(learned: Any, rest: Any, data: Data, start: Any) -> tuple[tuple[jax.Array, Any], Any]:
    def loss(learned: Any) -> tuple[jax.Array, Any]:
        return eqx.combine(learned, rest).loss(data, start)

    return eqx.filter_value_and_grad(loss, has_aux=True)(learned)


class Evaluation:
    """The loss and its gradient as functions of the flat parameters, λ's first; keeps history and the best."""

    def __init__(self, model: GBLUP, data: Data, progress: Callable[[Step], None] | None):
        spec = eqx.tree_at(lambda m: m.link, jax.tree.map(lambda _: False, model), model.link.learned())
        self.learned, self.rest = eqx.partition(model, spec)
        flat, self.unravel = ravel_pytree(self.learned)
        self.data, self.progress = data, progress
        self.start: Any = None
        self.history: list[Step] = []
        self.first = np.asarray(flat)
        self.best, self.best_merit = self.first, np.inf
        self.bounds = tuple(inverse(model.link.ratio, lam) for lam in BOUNDS)
        # −2 log-likelihoods differ by about 1 where it matters, squared errors by a share of themselves.
        self.scale = float(data.freedom) if model.objective == "reml" else float(jnp.var(data.y))

    def __call__(self, flat: np.ndarray) -> tuple[float, np.ndarray]:
        """The scaled loss and gradient. ArithmeticError where one is not finite."""
        learned = self.unravel(jnp.asarray(flat))
        (value, self.start), tree = _value_and_gradient(learned, self.rest, self.data, self.start)
        loss, gradient = float(value), np.asarray(ravel_pytree(tree)[0])
        lam = float(eqx.combine(learned, self.rest).link.lam)
        step = Step(len(self.history), loss, lam, float(np.abs(gradient).max()), 0)
        self.history.append(step)
        if self.progress:
            self.progress(step)
        if not np.isfinite(loss) or not np.isfinite(gradient).all():
            raise ArithmeticError
        if loss < self.best_merit:
            self.best, self.best_merit = np.array(flat), loss
        return loss / self.scale, gradient / self.scale

    def fitted(self, status: Status) -> Fitted:
        low, high = self.bounds
        if status in ("converged", "iteration cap", "no descent"):
            raw = self.best[0]
            status = "λ at its lower bound" if raw < low + CLOSE else status
            status = "λ at its upper bound" if raw > high - CLOSE * max(1.0, abs(high)) else status
        model = eqx.combine(self.unravel(jnp.asarray(self.best)), self.rest)
        return Fitted(model, status, tuple(self.history))


def fit(
    model: GBLUP,
    data: Data,
    *,
    optimiser: Optimiser = "lbfgs",
    steps: int = 200,
    tolerance: float = 1e-7,
    progress: Callable[[Step], None] | None = None,
) -> Fitted:
    """Minimise model.loss over λ and the weights, from where the model stands.

    optimiser: "lbfgs" (L-BFGS-B of scipy, λ inside link.BOUNDS), or one of optax, of whose parameters λ's is clipped.
    steps: the most iterations. tolerance: of the gradient's largest element; the loss counts in units of r − p
    (REML) or of the phenotypes' variance. The status says how it ended; the best parameters seen are kept whatever it
    says. BenchError: what model.loss refuses; steps below 1.
    """
    if steps < 1:
        raise BenchError(f"fit: {steps} steps; at least 1 was needed")
    evaluation = Evaluation(model, data, progress)
    try:
        run = _lbfgs if optimiser == "lbfgs" else _optax
        return evaluation.fitted(run(evaluation, optimiser, steps, tolerance))
    except ArithmeticError:
        return evaluation.fitted("not finite")


def _lbfgs(evaluation: Evaluation, _: Optimiser, steps: int, tolerance: float) -> Status:
    free = [(None, None)] * (evaluation.first.size - 1)
    found = minimize(
        evaluation,
        evaluation.first,
        jac=True,
        method="L-BFGS-B",
        bounds=[evaluation.bounds, *free],
        options={"maxiter": steps, "maxfun": 20 * steps, "gtol": tolerance, "ftol": 1e-15},
    )
    return ("converged", "iteration cap", "no descent")[found.status]


def _optax(evaluation: Evaluation, optimiser: Optimiser, steps: int, tolerance: float) -> Status:
    assert isinstance(optimiser, optax.GradientTransformation)
    flat = jnp.asarray(evaluation.first)
    state = optimiser.init(flat)
    for _ in range(steps):
        _, gradient = evaluation(np.asarray(flat))
        if np.abs(gradient).max() <= tolerance:
            return "converged"
        updates, state = optimiser.update(jnp.asarray(gradient), state, flat)
        flat = jnp.asarray(optax.apply_updates(flat, updates))
        flat = flat.at[0].set(jnp.clip(flat[0], *evaluation.bounds))
    return "iteration cap"
