"""Preconditioned conjugate gradients for several right-hand sides at once.

Unlike scipy.sparse.linalg.cg:
1. Every step multiplies all columns in one product, which is what the kernels are fast at; each column has
   its own step lengths, and a column that has converged is frozen and leaves the product.
2. Convergence is relative to each right-hand side, and is believed only after the true residual b − Ax has
   been computed: where rounding has let the recurrence drift from it, the column is restarted.
3. A matrix that is not positive definite, or a NaN, is an error that says so, not a wrong answer.
4. The preconditioner is a function R → M⁻¹R, and `observe` sees every step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bench.errors import BenchError
from bench.solvers.operator import SymmetricOperator

Preconditioner = Callable[[np.ndarray], np.ndarray]
Observer = Callable[[int, np.ndarray, np.ndarray], None]


@dataclass(frozen=True)
class Solution:
    """What pcg found.

    value: (n, k). steps: products with the matrix inside the iteration (the checks of the true residual,
    `checks` of them, come on top). residual_norms: (steps + 1, k), ‖r‖/‖b‖ by the recurrence, a frozen column
    repeating its last. true_residual_norms, converged: (k,), of the returned value.
    """

    value: np.ndarray
    steps: int
    checks: int
    residual_norms: np.ndarray
    true_residual_norms: np.ndarray
    converged: np.ndarray


def jacobi(diagonal: np.ndarray) -> Preconditioner:
    """R → diag(A)⁻¹R. diagonal: (n,), all positive."""
    if not np.all(diagonal > 0):
        raise BenchError(
            f"Jacobi preconditioner: {int((~(diagonal > 0)).sum())} of {diagonal.size} diagonal elements are "
            "not positive; the matrix is not positive definite"
        )
    inverse = 1 / diagonal[:, None]
    return lambda R: inverse * R


def pcg(
    matrix: SymmetricOperator,
    rhs: np.ndarray,
    *,
    preconditioner: Preconditioner = np.copy,
    start: np.ndarray | None = None,
    rtol: float = 1e-10,
    max_steps: int = 1000,
    observe: Observer | None = None,
) -> Solution:
    """Solve A X = B for a symmetric positive definite A; stops on ‖b − Ax‖ ≤ rtol·‖b‖ in every column.

    rhs: (n, k). observe(step, x, residual_norm): x (n, k) the current solution (do not keep or change it),
    residual_norm (k,) relative to ‖b‖; step 0 is the start. Not converging is not an error: see
    `Solution.converged`. Hestenes & Stiefel (1952).
    """
    rhs = np.asarray(rhs, float)
    if rhs.ndim != 2 or rhs.shape[0] != matrix.shape[0]:
        raise ValueError(f"expected a ({matrix.shape[0]}, k) right-hand side, got {rhs.shape}")
    if not np.isfinite(rhs).all():
        raise BenchError("PCG: the right-hand side holds NaN or infinity; drop the records that are missing")
    size = np.linalg.norm(rhs, axis=0)
    size[size == 0] = 1.0  # x = 0 is then exact at once
    X = np.zeros_like(rhs) if start is None else np.array(start, float)
    R = rhs - matrix.matmul(X) if X.any() else rhs.copy()
    true_norms = np.linalg.norm(R, axis=0) / size
    history = [true_norms.copy()]
    checks = int(X.any())
    if observe:
        observe(0, X, history[-1])
    todo = np.flatnonzero(true_norms > rtol)
    while todo.size and len(history) <= max_steps:
        before = true_norms[todo]
        _descend(matrix, X, R, todo, size, preconditioner, rtol, max_steps, observe, history)
        R[:, todo] = rhs[:, todo] - matrix.matmul(X[:, todo])
        checks += 1
        true_norms[todo] = np.linalg.norm(R[:, todo], axis=0) / size[todo]
        # A restart that does not halve the residual has reached what float64 can attain.
        todo = todo[(true_norms[todo] > rtol) & (true_norms[todo] < before / 2)]
    return Solution(X, len(history) - 1, checks, np.array(history), true_norms, true_norms <= rtol)


def _descend(
    matrix: SymmetricOperator,
    X: np.ndarray,
    R_all: np.ndarray,
    todo: np.ndarray,
    size: np.ndarray,
    preconditioner: Preconditioner,
    rtol: float,
    max_steps: int,
    observe: Observer | None,
    history: list[np.ndarray],
) -> None:
    """Conjugate gradients on the columns `todo` until the recurrence has them all converged.

    Updates X in place and appends to `history`; R_all holds the residuals to start from.
    """
    active, R = todo, R_all[:, todo]
    P = Z = preconditioner(R)
    rz = _positive("the preconditioner", R, Z, len(history))
    while active.size and len(history) <= max_steps:
        Q = matrix.matmul(P)
        length = rz / _positive("the matrix", P, Q, len(history))
        X[:, active] += length * P
        R = R - length * Q
        norms = history[-1].copy()
        norms[active] = np.linalg.norm(R, axis=0) / size[active]
        history.append(norms)
        if observe:
            observe(len(history) - 1, X, norms)
        keep = norms[active] > rtol
        active, R, P, rz = active[keep], R[:, keep], P[:, keep], rz[keep]
        if active.size:
            Z = preconditioner(R)
            rz_next = _positive("the preconditioner", R, Z, len(history))
            P = Z + (rz_next / rz) * P
            rz = rz_next


def _positive(what: str, A: np.ndarray, B: np.ndarray, step: int) -> np.ndarray:
    """Column products a'b, which must be positive."""
    products = np.einsum("ij,ij->j", A, B)
    if not np.all(products > 0):
        bad = products[~(products > 0)][0]
        cause = "is not positive definite" if np.isfinite(bad) else "or its product holds NaN"
        raise BenchError(f"PCG broke down at step {step}: {what} {cause} (a quadratic form of {bad:.3g})")
    return products
