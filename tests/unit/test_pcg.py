"""Solvers against numpy's dense solve."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import BenchError
from bench.solvers.direct import Cholesky
from bench.solvers.operator import Dense
from bench.solvers.pcg import State, jacobi, pcg, state_bytes


class Counting(Dense):
    """Remembers how many columns each product had."""

    def __init__(self, array):
        super().__init__(array)
        self.widths = []

    def matmul(self, V):
        self.widths.append(V.shape[1])
        return super().matmul(V)


def spd(n=60, condition=1e3, seed=1):
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    return (Q * np.geomspace(1, condition, n)) @ Q.T


@pytest.fixture
def system():
    return spd(), np.random.default_rng(2).standard_normal((60, 3))


def test_pcg_solves_to_the_tolerance_asked(system):
    A, B = system
    found = pcg(Dense(A), B, rtol=1e-11)
    assert found.converged.all()
    assert np.all(np.linalg.norm(B - A @ found.value, axis=0) <= 1e-11 * np.linalg.norm(B, axis=0))
    np.testing.assert_allclose(found.value, np.linalg.solve(A, B), rtol=1e-7, atol=1e-9)


def test_pcg_of_several_right_hand_sides_equals_one_at_a_time(system):
    A, B = system
    together = pcg(Dense(A), B, preconditioner=jacobi(A.diagonal()), rtol=1e-10)
    for j in range(3):
        alone = pcg(Dense(A), B[:, [j]], preconditioner=jacobi(A.diagonal()), rtol=1e-10)
        np.testing.assert_allclose(together.value[:, j], alone.value[:, 0], rtol=1e-7, atol=1e-10)
        steps = int(np.argmax(together.residual_norms[:, j] <= 1e-10))
        assert abs(steps - alone.steps) <= 1


def test_converged_columns_are_frozen_and_leave_the_product():
    A = spd(condition=1e4)
    _, vectors = np.linalg.eigh(A)
    B = np.column_stack([vectors[:, 5], np.random.default_rng(3).standard_normal(60)])
    matrix = Counting(A)
    found = pcg(matrix, B, rtol=1e-9)
    assert matrix.widths[:2] == [2, 1]  # an eigenvector is solved in one step
    assert found.residual_norms[1, 0] <= 1e-9
    assert np.all(found.residual_norms[1:, 0] == found.residual_norms[1, 0])
    assert found.converged.all()


def test_an_exact_preconditioner_needs_one_step(system):
    A, B = system
    inverse = np.linalg.inv(A)
    assert pcg(Dense(A), B, preconditioner=lambda R: inverse @ R, rtol=1e-8).steps == 1


def test_a_diagonal_preconditioner_undoes_bad_scaling():
    d = np.geomspace(1, 1e4, 60)
    A = spd(condition=10) * np.sqrt(np.outer(d, d))
    B = np.ones((60, 1))
    scaled = pcg(Dense(A), B, preconditioner=jacobi(A.diagonal()), rtol=1e-10)
    assert scaled.steps * 3 < pcg(Dense(A), B, rtol=1e-10).steps


def test_observer_sees_every_step_and_its_residual(system):
    A, B = system
    seen = []
    found = pcg(Dense(A), B, observe=lambda step, x, norm: seen.append((step, x.copy(), norm.copy())))
    assert [step for step, _, _ in seen] == list(range(found.steps + 1))
    for _, x, norm in seen[:: max(1, len(seen) // 7)]:
        true = np.linalg.norm(B - A @ x, axis=0) / np.linalg.norm(B, axis=0)
        np.testing.assert_allclose(norm, true, rtol=1e-4, atol=1e-12)
    np.testing.assert_array_equal(np.array([norm for _, _, norm in seen]), found.residual_norms)


def test_zero_right_hand_side_costs_no_step():
    matrix = Counting(spd())
    found = pcg(matrix, np.zeros((60, 2)))
    assert found.steps == 0
    assert matrix.widths == []
    assert not found.value.any()
    assert found.converged.all()


def test_max_steps_is_reported_as_not_converged(system):
    A, B = system
    found = pcg(Dense(A), B, rtol=1e-12, max_steps=4)
    assert found.steps == 4
    assert not found.converged.any()


def test_a_tolerance_below_rounding_ends_and_says_not_converged(system):
    A, B = system
    found = pcg(Dense(A), B, rtol=1e-18, max_steps=500)
    assert found.steps < 500
    assert not found.converged.any()
    assert np.all(found.true_residual_norms < 1e-12)


def test_a_start_at_the_solution_needs_no_step(system):
    A, B = system
    assert pcg(Dense(A), B, start=np.linalg.solve(A, B), rtol=1e-9).steps == 0


def test_an_indefinite_matrix_is_an_error_in_words():
    with pytest.raises(BenchError, match="step 1: the matrix is not positive definite"):
        pcg(Dense(-np.eye(4)), np.ones((4, 1)))


def test_a_matrix_that_gives_nan_is_an_error_in_words():
    with pytest.raises(BenchError, match="NaN"):
        pcg(Dense(np.full((4, 4), np.nan)), np.ones((4, 1)))


def test_nan_in_the_right_hand_side_is_an_error_in_words():
    with pytest.raises(BenchError, match="right-hand side holds NaN"):
        pcg(Dense(np.eye(2)), np.array([[1.0], [np.nan]]))


def test_a_preconditioner_that_is_not_positive_is_an_error_in_words():
    with pytest.raises(BenchError, match="2 of 3 diagonal elements are not positive"):
        jacobi(np.array([1.0, 0.0, -1.0]))
    with pytest.raises(BenchError, match="the preconditioner is not positive definite"):
        pcg(Dense(np.eye(3)), np.ones((3, 1)), preconditioner=np.negative)


@pytest.mark.parametrize("order", ["C", "F"])
def test_cholesky_solves_inverts_and_keeps_the_other_triangle(order):
    A = spd(30)
    inverse = np.linalg.inv(A)
    B = np.random.default_rng(5).standard_normal((30, 2))
    work = np.array(A, order=order)
    cholesky = Cholesky(work)
    assert np.shares_memory(cholesky.factor, work)
    np.testing.assert_allclose(cholesky.solve(B), inverse @ B, atol=1e-12)
    half = cholesky.half_solve(B)
    np.testing.assert_allclose(half.T @ half, B.T @ inverse @ B, atol=1e-12)
    assert cholesky.log_determinant() == pytest.approx(np.linalg.slogdet(A)[1])
    np.testing.assert_allclose(cholesky.inverse_diagonal(), inverse.diagonal(), atol=1e-13)


@pytest.mark.parametrize("bad", [np.ones((3, 3)) * -1, np.diag([1.0, 0.0, 1.0]), np.full((3, 3), np.nan)])
def test_a_singular_matrix_is_an_error_in_words(bad):
    with pytest.raises(BenchError, match="singular or indefinite"):
        Cholesky(bad.copy())


# Going on


def kept(state):
    """A copy of the state, as a file would have it: arrays, by name."""
    return State(**{name: np.array(value) if name != "checks" else value for name, value in vars(state).items()})


def same(found, wanted):
    for name, value in vars(wanted).items():
        np.testing.assert_array_equal(getattr(found, name), value, err_msg=name)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000), columns=st.integers(1, 4), share=st.floats(0, 1),
    log_rtol=st.integers(2, 17), started=st.booleans(), most=st.sampled_from([7, 120]),
)  # fmt: skip
def test_a_run_that_was_stopped_anywhere_ends_with_the_same_bits(seed, columns, share, log_rtol, started, most):
    # The tolerances beyond 1e-15 have the true residual computed and columns restarted several times.
    rng = np.random.default_rng(seed)
    A, B = spd(30, 1e4, seed), rng.standard_normal((30, columns))
    B[:, 0] = A[:, 3] if columns > 1 else B[:, 0]
    given = {"preconditioner": jacobi(A.diagonal()), "rtol": 10.0**-log_rtol, "max_steps": most}
    states = []
    start = rng.standard_normal(B.shape) if started else None
    whole = pcg(Dense(A), B, start=start, keep=lambda state: states.append(kept(state)), **given)
    assert [state.steps for state in states[: whole.steps]] == list(range(1, whole.steps + 1))
    state = states[min(int(share * len(states)), len(states) - 1)]
    seen = []
    same(pcg(Dense(A), B, resume=state, observe=lambda step, x, norms: seen.append(step), **given), whole)
    assert seen == list(range(state.steps + 1, whole.steps + 1))


def test_what_max_steps_ended_goes_on_where_it_was(system):
    A, B = system
    whole, last = pcg(Dense(A), B), []
    assert pcg(Dense(A), B, max_steps=9, keep=lambda state: last.append(kept(state))).steps == 9
    same(pcg(Dense(A), B, resume=last[-1]), whole)


def test_what_was_solved_takes_no_product(system):
    A, B = system
    states, matrix = [], Counting(A)
    whole = pcg(Dense(A), B, keep=lambda state: states.append(kept(state)))
    same(pcg(matrix, B, resume=states[-1]), whole)
    assert matrix.widths == []


def test_a_state_says_its_bytes_and_its_shape(system):
    A, B = system
    states = []
    pcg(Dense(A), B, max_steps=1, keep=lambda state: states.append(kept(state)))
    state = states[0]
    assert state.value.nbytes + state.residual.nbytes + state.direction.nbytes == state_bytes(60, 3)
    with pytest.raises(ValueError, match=r"expected a state of \(60, 2\), got one of \(60, 3\)"):
        pcg(Dense(A), B[:, :2], resume=state)
