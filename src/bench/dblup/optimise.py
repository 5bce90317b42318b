"""Minimising a model's loss over λ and the weights: L-BFGS, an optimiser of optax, or the root of the gradient."""

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
from bench.dblup.matrix_free import MatrixFree
from bench.dblup.model import GBLUP
from bench.dblup.objectives import TRACES
from bench.dblup.root import find_root
from bench.errors import BenchError

Optimiser = Literal["lbfgs", "root"] | optax.GradientTransformation
Status = Literal[
    "converged",
    "iteration cap",
    "λ at its lower bound",
    "λ at its upper bound",
    "no descent",
    "solver cap",
    "not finite",
]
CLOSE = 10  # times a bound of λ: objectives are flat there, and a descent may end before the bound itself
TOLERANCE = {"lbfgs": 1e-7, "root": 0.02}


@dataclass(frozen=True)
class Step:
    """One evaluation. loss: NaN where only the gradient was computed. gradient: its largest absolute element.
    products: with W and with W', of the solver (0 in the dense backend), those of the gradient not counted."""

    number: int
    loss: float
    lam: float
    gradient: float
    products: int


@dataclass(frozen=True)
class Fitted:
    """model: with the best parameters that were seen, the last ones where no loss was computed. history: every
    evaluation."""

    model: GBLUP
    status: Status
    history: tuple[Step, ...]


@eqx.filter_jit
def value_and_gradient(
    learned: Any, rest: Any, data: Data, start: Any, value: bool
) -> tuple[tuple[jax.Array, Any], Any]:
    """((loss, what the next step starts from), gradient). value: whether REML's is needed, see GBLUP.loss."""

    def loss(learned: Any) -> tuple[jax.Array, Any]:
        return eqx.combine(learned, rest).loss(data, start, value=value)

    return eqx.filter_value_and_grad(loss, has_aux=True)(learned)


class Evaluation:
    """The loss and its gradient as functions of the flat parameters, λ's first; keeps history and the best.

    valued: False where the loss is not computed, and the best are the last: a gradient is small far away as well,
    where λ is large and the loss flat.
    """

    def __init__(self, model: GBLUP, data: Data, progress: Callable[[Step], None] | None, *, valued: bool = True):
        spec = eqx.tree_at(lambda m: m.link, jax.tree.map(lambda _: False, model), model.link.learned())
        self.learned, self.rest = eqx.partition(model, spec)
        flat, self.unravel = ravel_pytree(self.learned)
        self.data, self.progress, self.valued = data, progress, valued
        self.start: Any = model.begin(data)
        self.history: list[Step] = []
        self.first = np.asarray(flat)
        self.best, self.best_loss, self.best_solved = self.first, np.inf, True
        self.bounds = tuple(inverse(model.link.ratio, lam) for lam in BOUNDS)
        # −2 log-likelihoods differ by about 1 where it matters, squared errors by a share of themselves.
        self.scale = float(data.freedom) if model.objective == "reml" else float(jnp.var(data.y))

    def __call__(self, flat: np.ndarray) -> tuple[float, np.ndarray]:
        """The scaled loss and gradient. ArithmeticError where one is not finite."""
        learned = self.unravel(jnp.asarray(flat))
        (value, self.start), tree = value_and_gradient(learned, self.rest, self.data, self.start, self.valued)
        loss, gradient = float(value), np.asarray(ravel_pytree(tree)[0])
        lam = float(eqx.combine(learned, self.rest).link.lam)
        products, solved = (0, True) if self.start is None else (int(self.start.products), bool(self.start.converged))
        step = Step(len(self.history), loss, lam, float(np.abs(gradient).max()), products)
        self.history.append(step)
        if self.progress:
            self.progress(step)
        if not np.isfinite(gradient).all() or (self.valued and not np.isfinite(loss)):
            raise ArithmeticError
        if not self.valued or loss < self.best_loss:
            self.best, self.best_loss, self.best_solved = np.array(flat), loss, solved
        return loss / self.scale, gradient / self.scale

    def fitted(self, status: Status) -> Fitted:
        model = eqx.combine(self.unravel(jnp.asarray(self.best)), self.rest)
        if status != "not finite":
            lam = float(model.link.lam)
            status = status if self.best_solved else "solver cap"
            status = "λ at its lower bound" if lam < BOUNDS[0] * CLOSE else status
            status = "λ at its upper bound" if lam > BOUNDS[1] / CLOSE else status
        return Fitted(model, status, tuple(self.history))


def fit(
    model: GBLUP,
    data: Data,
    *,
    optimiser: Optimiser | None = None,
    steps: int = 200,
    tolerance: float | None = None,
    progress: Callable[[Step], None] | None = None,
) -> Fitted:
    """Minimise model.loss over λ and the weights, from where the model stands.

    optimiser: "lbfgs" (L-BFGS-B of scipy, λ inside link.BOUNDS); one of optax, of whose parameters λ's is clipped;
    "root" (root.py) for matrix-free traces from probes, whose value and gradient are different functions, which no
    line search survives. By default what fits the backend. steps: the most iterations. tolerance: of the gradient's
    largest element, 1e-7, where the loss counts in units of r − p (REML) or of the phenotypes' variance; for "root"
    in standard errors of the parameters, 0.02. The status says how it ended; the best parameters seen are kept
    whatever it says, the last ones where there is no loss. BenchError: what model.loss refuses; no such optimiser;
    steps below 1.
    """
    if steps < 1:
        raise BenchError(f"fit: {steps} steps; at least 1 was needed")
    if not isinstance(optimiser, optax.GradientTransformation) and optimiser not in (None, "lbfgs", "root"):
        raise BenchError(f"fit: there is no optimiser {optimiser!r}; there are 'lbfgs', 'root' and those of optax")
    noisy = isinstance(model.backend, MatrixFree) and not model.backend.exact and model.objective in TRACES
    chosen = optimiser or ("root" if noisy else "lbfgs")
    evaluation = Evaluation(model, data, progress, valued=not noisy or chosen == "lbfgs")
    tolerance = TOLERANCE.get(str(chosen), 1e-7) if tolerance is None else tolerance
    run = {"lbfgs": _lbfgs, "root": find_root}.get(str(chosen), _optax)
    try:
        return evaluation.fitted(run(evaluation, chosen, steps, tolerance))
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
