"""Preconditioned conjugate gradients for several right-hand sides at once.

Unlike scipy.sparse.linalg.cg:
1. Every step multiplies all columns in one product, which is what the kernels are fast at; each column has
   its own step lengths, and a column that has converged is frozen and leaves the product.
2. Convergence is relative to each right-hand side, and is believed only after the true residual b − Ax has
   been computed: where rounding has let the recurrence drift from it, the column is restarted.
3. A matrix that is not positive definite, or a NaN, is an error that says so, not a wrong answer.
4. The preconditioner is a function R → M⁻¹R, and `observe` sees every step.
5. The matrix may be wider than high: what it multiplies then carries, below the unknowns, rows that are linear
   functions of them and that the preconditioner knows while the matrix would have to compute them. Steps and
   directions update them like the unknowns, so that a product that costs much is never made (for single-step
   systems the inverse of the genomic prior).
6. The vectors lie where the matrix multiplies them, on a GPU for instance: an iteration brings a few numbers a column
   to the host, and no vector.
7. Several processes can solve one system together (docs/mpi.md): all that they have to agree upon are these numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bench.errors import BenchError
from bench.solvers.operator import Beside, OverRanks, on_host, placement

Preconditioner = Callable[[np.ndarray], np.ndarray]
Observer = Callable[[int, np.ndarray, np.ndarray], None]


@dataclass(frozen=True)
class Solution:
    """What pcg found.

    value: (n, k), and below it what was carried. steps: products with the matrix inside the iteration (the checks
    of the true residual, `checks` of them, come on top). residual_norms: (steps + 1, k), ‖r‖/‖b‖ by the recurrence,
    a frozen column repeating its last. preconditioned_norms: (steps + 1, k), √(r'M⁻¹r / b'M⁻¹b); NaN for the last
    step of a column, whose M⁻¹r was not needed. true_residual_norms, converged: (k,), of the returned value.
    """

    value: np.ndarray
    steps: int
    checks: int
    residual_norms: np.ndarray
    preconditioned_norms: np.ndarray
    true_residual_norms: np.ndarray
    converged: np.ndarray


def jacobi(diagonal: np.ndarray) -> Preconditioner:
    """R → diag(A)⁻¹R. diagonal: (n,), all positive."""
    if not np.all(diagonal > 0):
        raise BenchError(
            f"Jacobi preconditioner: {int((~(diagonal > 0)).sum())} of {diagonal.size} diagonal elements are "
            "not positive; the matrix is not positive definite"
        )
    inverse = Beside(1 / diagonal[:, None])
    return lambda R: inverse(R) * R


class RectangularOperator(Protocol):
    """A symmetric (n, n) matrix whose operand has the shape (n + carried, k); SymmetricOperator carries nothing."""

    @property
    def shape(self) -> tuple[int, int]: ...

    def matmul(self, V: np.ndarray) -> np.ndarray:
        """A V, (n + carried, k) → (n, k), a new array."""
        ...


@dataclass
class _Run:
    """One call of pcg: the system, how far it has come, and its history."""

    matrix: RectangularOperator
    preconditioner: Preconditioner
    rtol: float
    max_steps: int
    observe: Observer | None
    X: np.ndarray
    R: np.ndarray
    size: np.ndarray  # of the right-hand sides
    preconditioned_size: np.ndarray | None  # √(b'M⁻¹b); None until the first M⁻¹b, where the start is zero
    over_ranks: OverRanks | None
    norms: list[np.ndarray]
    preconditioned: list[np.ndarray]

    @property
    def steps(self) -> int:
        return len(self.norms) - 1

    def record(self, norms: np.ndarray) -> None:
        self.norms.append(norms)
        self.preconditioned.append(np.full(norms.size, np.nan))
        if self.observe:
            self.observe(self.steps, self.X, norms)


def pcg(
    matrix: RectangularOperator,
    rhs: np.ndarray,
    *,
    preconditioner: Preconditioner = np.copy,
    start: np.ndarray | None = None,
    rtol: float = 1e-10,
    max_steps: int = 1000,
    observe: Observer | None = None,
    over_ranks: OverRanks | None = None,
) -> Solution:
    """Solve A X = B for a symmetric positive definite A; stops on ‖b − Ax‖ ≤ rtol·‖b‖ in every column.

    rhs: (n, k), on the host, or already where the matrix multiplies: the value is returned where it came from.
    start: (n + carried, k). observe(step, x, residual_norm): x the current solution, where the matrix multiplies (do
    not keep or change it), residual_norm (k,) relative to ‖b‖; step 0 is the start. over_ranks: see solvers.operator.
    Not converging is not an error:
    see `Solution.converged`. Hestenes & Stiefel (1952).
    """
    place, given = placement(matrix), isinstance(rhs, np.ndarray)
    rhs = np.asarray(rhs, float) if given else rhs
    if rhs.ndim != 2 or rhs.shape[0] != matrix.shape[0]:
        raise ValueError(f"expected a ({matrix.shape[0]}, k) right-hand side, got {rhs.shape}")
    if not np.isfinite(rhs).all():
        raise BenchError("PCG: the right-hand side holds NaN or infinity; drop the records that are missing")
    if place and given:
        rhs = place(rhs)
    size = _norms(rhs, over_ranks)
    size[size == 0] = 1.0  # x = 0 is then exact at once
    shape = matrix.shape[1], rhs.shape[1]
    X = np.zeros(shape, like=rhs) if start is None else np.array(start, float, like=rhs)
    started = bool(_products(X, X, over_ranks).any())
    R = rhs - matrix.matmul(X) if started else rhs.copy()
    run = _Run(matrix, preconditioner, rtol, max_steps, observe, X, R, size, None, over_ranks, [], [])
    true_norms = _norms(R, over_ranks) / size
    todo = np.flatnonzero(true_norms > rtol)
    if todo.size and started:
        run.preconditioned_size = _preconditioned_size(run, rhs)
    run.record(true_norms.copy())
    checks = int(started)
    while todo.size and run.steps < max_steps:
        before = true_norms[todo]
        _descend(run, todo)
        R[:, todo] = rhs[:, todo] - matrix.matmul(X[:, todo])
        checks += 1
        true_norms[todo] = _norms(R[:, todo], over_ranks) / size[todo]
        # A restart that does not halve the residual has reached what float64 can attain.
        todo = todo[(true_norms[todo] > rtol) & (true_norms[todo] < before / 2)]
    history = np.array(run.norms), np.array(run.preconditioned)
    value = on_host(X) if given else X
    return Solution(value, run.steps, checks, *history, true_norms, true_norms <= rtol)


def _preconditioned_size(run: _Run, rhs: np.ndarray) -> np.ndarray:
    """√(b'M⁻¹b) of each column, 1 for a column of zeros."""
    size = np.sqrt(np.maximum(_products(rhs, run.preconditioner(rhs)[: len(rhs)], run.over_ranks), 0))
    size[~(size > 0)] = 1.0
    return size


def _descend(run: _Run, todo: np.ndarray) -> None:
    """Conjugate gradients on the columns `todo` from their residuals in run.R until the recurrence has them all
    converged; updates run.X in place."""
    active, R, n = todo, run.R[:, todo], run.matrix.shape[0]
    P = Z = run.preconditioner(R)
    rz = _positive("the preconditioner", R, Z[:n], run.steps, run.over_ranks)
    if run.preconditioned_size is None:  # b is the first residual
        run.preconditioned_size = np.ones_like(run.size)
        run.preconditioned_size[active] = np.sqrt(rz)
    while active.size and run.steps < run.max_steps:
        run.preconditioned[-1][active] = np.sqrt(rz) / run.preconditioned_size[active]
        Q = run.matrix.matmul(P)
        length = rz / _positive("the matrix", P[:n], Q, run.steps + 1, run.over_ranks)
        if active.size == run.size.size:
            run.X += _scaled(P, length)
        else:
            run.X[:, active] += _scaled(P, length)
        R = R - _scaled(Q, length)
        norms = run.norms[-1].copy()
        norms[active] = _norms(R, run.over_ranks) / run.size[active]
        run.record(norms)
        keep = norms[active] > run.rtol
        if not keep.all():
            left = np.flatnonzero(keep)
            active, R, P, rz = active[left], R[:, left], P[:, left], rz[left]
        if active.size:
            Z = run.preconditioner(R)
            rz_next = _positive("the preconditioner", R, Z[:n], run.steps + 1, run.over_ranks)
            P = Z + _scaled(P, rz_next / rz)
            rz = rz_next


def _norms(A: np.ndarray, over_ranks: OverRanks | None) -> np.ndarray:
    """(k,) lengths of the columns."""
    lengths = on_host(np.linalg.norm(A, axis=0))
    return lengths if over_ranks is None else np.sqrt(over_ranks(lengths**2))


def _products(A: np.ndarray, B: np.ndarray, over_ranks: OverRanks | None) -> np.ndarray:
    """(k,) a'b of the columns."""
    products = on_host(np.einsum("ij,ij->j", A, B))
    return products if over_ranks is None else over_ranks(products)


def _scaled(A: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """A's columns times `factors`, which are the host's."""
    return np.asarray(factors, like=A) * A


def _positive(what: str, A: np.ndarray, B: np.ndarray, step: int, over_ranks: OverRanks | None) -> np.ndarray:
    """Column products a'b, which must be positive."""
    products = _products(A, B, over_ranks)
    if not np.all(products > 0):
        bad = products[~(products > 0)][0]
        cause = "is not positive definite" if np.isfinite(bad) else "or its product holds NaN"
        raise BenchError(f"PCG broke down at step {step}: {what} {cause} (a quadratic form of {bad:.3g})")
    return products
