"""Conjugate gradients and Lanczos quadrature for several columns at once, inside compiled JAX functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

Map = Callable[[jax.Array], jax.Array]
NORMAL = 1e-12  # of a start: a Lanczos vector below it is rounding, the Krylov space is exhausted


class Solution(NamedTuple):
    """value: (r, k). products: with the matrix. converged: of all columns, ‖r‖ ≤ rtol·‖b‖ by the recurrence."""

    value: jax.Array
    products: jax.Array
    converged: jax.Array


def pcg(matrix: Map, rhs: jax.Array, start: jax.Array, precondition: Map, *, rtol: float, max_steps: int) -> Solution:
    """AX = B, symmetric positive definite. rhs, start: (r, k); a start of zeros costs no product.

    A column that has converged keeps its value. Hestenes & Stiefel (1952); solvers.pcg is its elder sister in NumPy.
    """
    goal = rtol * jnp.linalg.norm(rhs, axis=0)
    warm = jnp.any(start != 0)
    R = jax.lax.cond(warm, lambda: rhs - matrix(start), lambda: rhs)
    Z = precondition(R)

    def going(state):
        _, R, _, _, step = state
        return jnp.any(jnp.linalg.norm(R, axis=0) > goal) & (step < max_steps)

    def step(state):
        X, R, P, rz, step = state
        Q = matrix(P)
        active = jnp.linalg.norm(R, axis=0) > goal
        length = jnp.where(active, rz / jnp.where(active, jnp.sum(P * Q, 0), 1.0), 0.0)
        X, R = X + length * P, R - length * Q
        Z = precondition(R)
        after = jnp.sum(R * Z, 0)
        P = Z + jnp.where(active, after / jnp.where(active, rz, 1.0), 0.0) * P
        return X, R, P, jnp.where(active, after, rz), step + 1

    state = (start, R, Z, jnp.sum(R * Z, 0), jnp.zeros((), int))
    X, R, _, _, steps = jax.lax.while_loop(going, step, state)
    return Solution(X, steps + warm, jnp.all(jnp.linalg.norm(R, axis=0) <= goal))


def log_quadratic(matrix: Map, start: jax.Array, steps: int) -> jax.Array:
    """z' log(A) z of each column of the start, (k,), by Gauss quadrature of `steps` products (Ubaru et al. 2017).

    Vectors are not orthogonalised again: copies of Ritz values share the weight of the one.
    """
    size = jnp.linalg.norm(start, axis=0)

    def step(state, _):
        before, q, beta = state
        p = matrix(q) - beta * before
        alpha = jnp.sum(q * p, 0)
        p = p - alpha * q
        norm = jnp.linalg.norm(p, axis=0)
        there = norm > NORMAL * jnp.maximum(jnp.abs(alpha), 1.0)
        after = jnp.where(there, norm, 0.0)
        # Past the end of the space q is 0; there T is 1, whose logarithm counts nothing.
        alpha = jnp.where(jnp.any(q != 0, 0), alpha, 1.0)
        return (q, jnp.where(there, p / jnp.where(there, norm, 1.0), 0.0), after), (alpha, after)

    begin = (jnp.zeros_like(start), start / size, jnp.zeros_like(size))
    _, (alpha, beta) = jax.lax.scan(step, begin, None, length=steps)

    def quadrature(alpha: jax.Array, beta: jax.Array) -> jax.Array:
        T = jnp.diag(alpha) + jnp.diag(beta[:-1], 1) + jnp.diag(beta[:-1], -1)
        nodes, vectors = jnp.linalg.eigh(T)
        return jnp.sum(vectors[0] ** 2 * jnp.log(nodes))

    return size**2 * jax.vmap(quadrature, in_axes=1)(alpha, beta)
