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
7. `keep` sees after every step all that the iteration goes on from, and `resume` takes it: a run that was stopped
   ends with the same numbers, histories and count of steps as one that was not. From the solution alone conjugate
   gradients would begin anew, with the steepest descent.
8. Several processes can solve one system together (docs/mpi.md): all that they must agree upon is these numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bench.errors import BenchError
from bench.solvers.operator import Beside, OverRanks, column_products, on_host, placement

Preconditioner = Callable[[np.ndarray], np.ndarray]
Observer = Callable[[int, np.ndarray, np.ndarray], None]


@dataclass(frozen=True)
class State:
    """What pcg goes on from after a step. The arrays are those that it works on, where the matrix multiplies.

    value: (n + carried, k). residual (n, a), direction (n + carried, a), rz (a,) = r'M⁻¹r: of the columns `active`
    (a,), which the recurrence goes on with. todo: the columns of this descent; active is empty between two, and both
    are once all is solved. residual_norms, preconditioned_norms: rows (k,), one for the start and one for each step.
    true_residual_norms: (k,), when last computed. preconditioned_size: (k,) √(b'M⁻¹b). checks: of the true residual.
    """

    value: np.ndarray
    residual: np.ndarray
    direction: np.ndarray
    rz: np.ndarray
    active: np.ndarray
    todo: np.ndarray
    residual_norms: Sequence[np.ndarray]
    preconditioned_norms: Sequence[np.ndarray]
    true_residual_norms: np.ndarray
    preconditioned_size: np.ndarray
    checks: int

    @property
    def steps(self) -> int:
        return len(self.residual_norms) - 1


Keeper = Callable[[State], None]


def state_bytes(rows: int, columns: int, carried: int = 0) -> int:
    """Of a State's vectors, of which histories are no part: solution, residual, direction."""
    return 8 * columns * (3 * rows + 2 * carried)


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


Descent = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # active, residual, direction, rz


@dataclass
class _Run:
    """One call of pcg: the system, how far it has come, and its history."""

    matrix: RectangularOperator
    preconditioner: Preconditioner
    rtol: float
    max_steps: int
    observe: Observer | None
    X: np.ndarray  # this and R are set by _begin or _go_on
    R: np.ndarray
    size: np.ndarray  # of the right-hand sides
    preconditioned_size: np.ndarray | None  # √(b'M⁻¹b); None until the first M⁻¹b, where the start is zero
    over_ranks: OverRanks | None
    norms: list[np.ndarray]
    preconditioned: list[np.ndarray]
    keep: Keeper | None = None
    checks: int = 0

    @property
    def steps(self) -> int:
        return len(self.norms) - 1

    def record(self, norms: np.ndarray) -> None:
        self.norms.append(norms)
        self.preconditioned.append(np.full(norms.size, np.nan))
        if self.observe:
            self.observe(self.steps, self.X, norms)

    def offer(self, todo: np.ndarray, true_norms: np.ndarray, descent: Descent) -> None:
        """Have the state kept."""
        if self.keep is None:
            return
        active, R, P, rz = descent
        size = self.preconditioned_size
        self.keep(
            State(
                self.X, R, P, rz, active, todo, self.norms, self.preconditioned, true_norms,
                np.zeros(0) if size is None else size, self.checks,
            )
        )  # fmt: skip


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
    keep: Keeper | None = None,
    resume: State | None = None,
) -> Solution:
    """Solve A X = B for a symmetric positive definite A; stops on ‖b − Ax‖ ≤ rtol·‖b‖ in every column.

    rhs: (n, k), on the host, or already where the matrix multiplies: the value is returned where it came from.
    start: (n + carried, k). observe(step, x, residual_norm): x the current solution, where the matrix multiplies (do
    not keep or change it), residual_norm (k,) relative to ‖b‖; step 0 is the start. keep(state): after each step;
    it is valid until pcg goes on, and not to be changed. resume: a state of the same system and tolerance; `start`
    has no meaning then, and max_steps counts the steps before it too. over_ranks: see solvers.operator. Not
    converging is not an error: see `Solution.converged`. Hestenes & Stiefel (1952).
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
    run = _Run(matrix, preconditioner, rtol, max_steps, observe, rhs, rhs, size, None, over_ranks, [], [], keep)
    todo, true_norms, descent = _begin(run, rhs, start) if resume is None else _go_on(run, rhs, resume)
    X, R = run.X, run.R
    while todo.size and (run.steps < max_steps or descent):
        before = true_norms[todo]
        _descend(run, todo, true_norms, descent)
        descent = None
        R[:, todo] = rhs[:, todo] - matrix.matmul(X[:, todo])
        run.checks += 1
        true_norms = true_norms.copy()  # of the state that was kept
        true_norms[todo] = _norms(R[:, todo], over_ranks) / size[todo]
        # A restart that does not halve the residual has reached what float64 can attain.
        todo = todo[(true_norms[todo] > rtol) & (true_norms[todo] < before / 2)]
    if run.steps < max_steps or (true_norms <= rtol).all():  # otherwise the last state goes on
        run.offer(todo, true_norms, (todo, rhs[:, :0], X[:, :0], np.zeros(0)))
    history = np.array(run.norms), np.array(run.preconditioned)
    value = on_host(X) if given else X
    return Solution(value, run.steps, run.checks, *history, true_norms, true_norms <= rtol)


def _begin(run: _Run, rhs: np.ndarray, start: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, None]:
    """The columns to solve and their true residuals, from `start`."""
    shape = run.matrix.shape[1], rhs.shape[1]
    run.X = np.zeros(shape, like=rhs) if start is None else np.array(start, float, like=rhs)
    started = bool(_products(run.X, run.X, run.over_ranks).any())
    run.R = rhs - run.matrix.matmul(run.X) if started else rhs.copy()
    true_norms = _norms(run.R, run.over_ranks) / run.size
    todo = np.flatnonzero(true_norms > run.rtol)
    if todo.size and started:
        run.preconditioned_size = _preconditioned_size(run, rhs)
    run.record(true_norms.copy())
    run.checks = int(started)
    return todo, true_norms, None


def _go_on(run: _Run, rhs: np.ndarray, state: State) -> tuple[np.ndarray, np.ndarray, Descent | None]:
    """The same from a state, and the descent that it is in."""
    shape = run.matrix.shape[1], rhs.shape[1]
    if state.value.shape != shape:
        raise ValueError(f"expected a state of {shape}, got one of {state.value.shape}")
    run.X, run.R = np.array(state.value, float, like=rhs), np.empty_like(rhs)
    run.norms, run.preconditioned = (
        [*map(np.array, state.residual_norms)],
        [*map(np.array, state.preconditioned_norms)],
    )
    run.preconditioned_size = state.preconditioned_size.copy() if state.preconditioned_size.size else None
    run.checks = state.checks
    active, todo = state.active.copy(), state.todo.copy()
    vectors = np.array(state.residual, float, like=rhs), np.array(state.direction, float, like=rhs)
    return todo, state.true_residual_norms.copy(), (active, *vectors, state.rz.copy())


def _preconditioned_size(run: _Run, rhs: np.ndarray) -> np.ndarray:
    """√(b'M⁻¹b) of each column, 1 for a column of zeros."""
    size = np.sqrt(np.maximum(_products(rhs, run.preconditioner(rhs)[: len(rhs)], run.over_ranks), 0))
    size[~(size > 0)] = 1.0
    return size


def _descend(run: _Run, todo: np.ndarray, true_norms: np.ndarray, descent: Descent | None) -> None:
    """Conjugate gradients on the columns `todo` from their residuals in run.R, or on in the descent that they are in,
    until the recurrence has them all converged; updates run.X in place."""
    active, R, P, rz = descent or _first_direction(run, todo)
    n = run.matrix.shape[0]
    while active.size and run.steps < run.max_steps:
        assert run.preconditioned_size is not None
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
        run.offer(todo, true_norms, (active, R, P, rz))


def _first_direction(run: _Run, todo: np.ndarray) -> Descent:
    R = run.R[:, todo]
    P = run.preconditioner(R)
    rz = _positive("the preconditioner", R, P[: run.matrix.shape[0]], run.steps, run.over_ranks)
    if run.preconditioned_size is None:  # b is the first residual
        run.preconditioned_size = np.ones_like(run.size)
        run.preconditioned_size[todo] = np.sqrt(rz)
    return todo, R, P, rz


def _norms(A: np.ndarray, over_ranks: OverRanks | None) -> np.ndarray:
    """(k,) lengths of the columns."""
    lengths = np.linalg.norm(A, axis=0) if isinstance(A, np.ndarray) else np.sqrt(on_host(column_products(A, A)))
    return lengths if over_ranks is None else np.sqrt(over_ranks(lengths**2))


def _products(A: np.ndarray, B: np.ndarray, over_ranks: OverRanks | None) -> np.ndarray:
    """(k,) a'b of the columns."""
    products = on_host(column_products(A, B))
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
