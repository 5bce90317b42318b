"""The root of a stochastic gradient, by a quasi-Newton method from one average-information matrix.

Lanczos quadrature's value and the gradient from probes are estimates of a function and of its derivative, not a
function and its derivative. The gradient alone, with the same probes in every step, is a smooth function with a root.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from bench.dblup.data import Data
from bench.dblup.objectives import TRACES, Ask
from bench.errors import BenchError

if TYPE_CHECKING:
    from bench.dblup.optimise import Evaluation

MOST = 200  # parameters: the information takes a solve for each
FLATTEST = 1e-3  # eigenvalue of the information, of the largest
LONGEST = 1.0  # step of a raw parameter; softplus's λ > 1, which is its raw parameter, may double
HALVINGS = 5
TURNED = 0.9
CLOSE = 10  # tolerances from the root the solves' own tolerance turns gradients round


def find_root(evaluation: Evaluation, _: object, steps: int, tolerance: float) -> Any:
    """A quasi-Newton root of the gradient, `tolerance` standard errors from it at the most.

    The inverse Jacobian starts as that of the average information and takes the BFGS update of Broyden's class: it
    stays positive definite, so that a root is a minimum. A step is halved where it overshoots: where the gradient
    along it has turned round and is no smaller than it was.
    """
    if evaluation.first.size > MOST:
        raise BenchError(
            f"root: {evaluation.first.size} parameters, it takes {MOST} at the most; take an optimiser of optax"
        )
    flat, (_, gradient) = evaluation.first, evaluation(evaluation.first)
    (low, high), freedom = evaluation.bounds, evaluation.data.freedom
    inverse = _inverse_curvature(evaluation, flat)
    for _ in range(steps):
        # With the loss −2ℓ/(r − p) the squared distance in standard errors is ½(r − p)g'H⁻¹g.
        away = np.sqrt(freedom / 2 * max(gradient @ inverse @ gradient, 0.0))
        if away <= tolerance:
            return "converged"
        move = -inverse @ gradient
        longest = np.full(flat.size, LONGEST)
        longest[0] = max(LONGEST, flat[0]) if evaluation.rest.link.ratio == "softplus" else LONGEST
        move *= min(1.0, 1 / np.max(np.abs(move) / longest))
        there, after = flat, gradient
        for half in range(HALVINGS):
            there = flat + move / 2**half
            there[0] = min(max(there[0], low), high)
            after = evaluation(there)[1]
            if after @ move <= TURNED * abs(gradient @ move) or away < CLOSE * tolerance:
                break
        moved, turned = there - flat, after - gradient
        if not moved.any():
            return "converged"  # at a bound of λ
        flat, gradient = there, after
        if (bend := moved @ turned) > 0:
            mapped = inverse @ turned
            inverse += (1 + turned @ mapped / bend) * np.outer(moved, moved) / bend
            inverse -= (np.outer(mapped, moved) + np.outer(moved, mapped)) / bend
    return "iteration cap"


def _inverse_curvature(evaluation: Evaluation, flat: np.ndarray) -> np.ndarray:
    """Of an approximation of the scaled loss's Hessian at `flat`, where the gradient has just been computed.

    It is 0 along what changes no weight, as the sum of the logits, and elsewhere bounded by FLATTEST: the solves'
    tolerance may leave the information's small eigenvalues anything, also negative.
    """
    learned = evaluation.unravel(jnp.asarray(flat))
    H, ridge, moves = (
        np.asarray(x) for x in _information(learned, evaluation.rest, evaluation.data, evaluation.start)
    )
    # Per record the other criteria bend about as −2ℓ does, relative to their value.
    unit = 1.0 if evaluation.rest.objective == "reml" else evaluation.history[-1].loss / evaluation.scale
    values, vectors = np.linalg.eigh(moves)
    basis = vectors[:, values > 1e-10 * values[-1]]
    values, vectors = np.linalg.eigh(basis.T @ (unit * H + ridge / evaluation.scale) @ basis)
    vectors = basis @ vectors
    return vectors / np.maximum(values, FLATTEST * values[-1]) @ vectors.T


@eqx.filter_jit
def _information(learned: Any, rest: Any, data: Data, start: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The average information of −2ℓ/(r − p) with σu² profiled out, the Hessian of the ridge, and F'F; (q, q) each.

    F's columns are f_i = V_i Py, and H_ij = [f_i'Pf_j − (f_i'Py)(f_j'Py)/y'Py]/y'Py (Gilmour et al. 1995, per σu²).
    """
    flat, unravel = ravel_pytree(learned)
    model = eqx.combine(learned, rest)
    system = model.system(data, start, Ask(traces=model.objective in TRACES, value=False))
    Py, quadratic = system.Py, system.quadratic
    scores = model.operator.rmatmul(data.scatter(Py[:, None]))  # W'Py

    def variance_product(flat: jax.Array) -> jax.Array:
        link = eqx.combine(unravel(flat), rest).link
        product = model.operator.matmul((link.snp_weights / model.divisor)[:, None] * scores)
        return product[data.index, 0] + link.lam * Py

    F = jax.jacfwd(variance_product)(flat)
    along = F.T @ Py
    H = (F.T @ system.project(F) - jnp.outer(along, along) / quadratic) / quadratic
    ridge = jax.hessian(lambda flat: model.ridge * eqx.combine(unravel(flat), rest).link.spread())(flat)
    return (H + H.T) / 2, ridge, F.T @ F
