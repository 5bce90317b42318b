"""Block Lanczos against dense decompositions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import BenchError
from bench.solvers.lanczos import PANEL, BlockLanczos, _orthonormal, bytes_needed
from bench.solvers.operator import Dense


def semidefinite(n, rank, seed=0):
    W = np.random.default_rng([n, rank, seed]).standard_normal((n, rank))
    return W @ W.T / rank


def run(A, start, steps):
    made = BlockLanczos(Dense(A), start, max_steps=steps)
    while made.step():
        pass
    return made


def functions(values, vectors, lam):
    """f(A) of the functions that are read off a quadrature."""
    for f in (np.log, np.reciprocal, lambda x: x**-2.0):
        yield f, (vectors * f(values + lam)) @ vectors.T


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 40),
    rank=st.integers(1, 50),
    columns=st.integers(1, 6),
    spanned=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_exhausted_runs_are_exact_for_every_ratio(n, rank, columns, spanned, seed):
    rng = np.random.default_rng(seed)
    A, start = semidefinite(n, rank, seed), rng.standard_normal((n, columns))
    start = np.column_stack([start, start @ rng.standard_normal((columns, spanned))]) * 1e3
    made = run(A, start, n + 1)
    assert made.exhausted
    quadrature = made.quadrature()
    values, vectors = np.linalg.eigh(A)
    for lam in (0.01, 1.0, 100.0):
        for f, of_A in functions(np.maximum(values, 0), vectors, lam):
            wanted = start.T @ of_A @ start
            found = quadrature.of(f(quadrature.nodes + lam))
            np.testing.assert_allclose(found, wanted, atol=1e-8 * max(np.abs(wanted).max(), 1e-9 * np.sum(start**2)))
        solved, residual = made.solve(lam), made.residuals(lam)
        wanted = np.linalg.solve(A + lam * np.eye(n), start)
        np.testing.assert_allclose(solved, wanted, atol=1e-8 * np.abs(wanted).max())
        assert residual.max() <= 1e-8 * np.linalg.norm(start)


def test_a_run_is_exact_for_polynomials_up_to_twice_its_steps():
    A = semidefinite(60, 90)
    start = np.random.default_rng(2).standard_normal((60, 3))
    quadrature = run(A, start, 4).quadrature()
    power = start
    for degree in range(9):
        found = quadrature.of(quadrature.nodes**degree)
        if degree < 8:
            np.testing.assert_allclose(found, start.T @ power, rtol=1e-10, atol=1e-10)
        else:
            assert np.abs(found - start.T @ power).max() > 1e-4
        power = A @ power


def test_the_residual_of_an_unfinished_solution_is_the_true_one():
    A = semidefinite(80, 200)
    start = np.random.default_rng(3).standard_normal((80, 4))
    made = run(A, start, 5)
    assert not made.exhausted
    for columns in (slice(None), slice(1, 3)):
        solved, residual = made.solve(0.2, columns), made.residuals(0.2, columns)
        wanted = np.linalg.norm(start[:, columns] - A @ solved - 0.2 * solved, axis=0)
        np.testing.assert_allclose(residual, wanted, rtol=1e-9)


def test_ritz_pairs_are_eigenpairs_as_far_as_their_residual_says():
    W = np.random.default_rng(4).standard_normal((120, 120)) / np.sqrt(120)
    A = W @ np.diag(np.geomspace(1, 100, 120)) @ W.T
    made = run(A, np.random.default_rng(5).standard_normal((120, 4)), 12)
    values, vectors, residual = made.ritz(6)
    assert np.all(np.diff(values) <= 0)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(6), atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(A @ vectors - vectors * values, axis=0), residual, atol=1e-10)
    np.testing.assert_allclose(values[:3], np.linalg.eigvalsh(A)[::-1][:3], rtol=1e-6)
    exact = run(A, np.random.default_rng(5).standard_normal((120, 4)), 200)
    np.testing.assert_allclose(exact.ritz(500)[0], np.linalg.eigvalsh(A)[::-1], atol=1e-10)


def test_the_basis_stays_orthonormal_where_eigenvalues_span_many_orders():
    Q = np.linalg.qr(np.random.default_rng(6).standard_normal((200, 200)))[0]
    A = (Q * np.geomspace(1e-8, 1e4, 200)) @ Q.T
    made = run(A, np.random.default_rng(7).standard_normal((200, 3)), 40)
    basis = made.ritz(10_000)[1]
    np.testing.assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-12)


def test_steps_and_products_are_counted():
    made = BlockLanczos(Dense(semidefinite(50, 60)), np.ones((50, 1)), max_steps=3)
    assert [made.step() for _ in range(4)] == [True, True, True, False]
    assert (made.products, made.dimension, made.exhausted) == (3, 3, False)
    of_identity = run(np.eye(20), np.random.default_rng(8).standard_normal((20, 2)), 9)
    assert (of_identity.products, of_identity.dimension, of_identity.exhausted) == (1, 2, True)


def test_bad_input_is_told_in_a_sentence():
    A = semidefinite(10, 10)
    with pytest.raises(BenchError, match="nothing but zeros"):
        BlockLanczos(Dense(A), np.zeros((10, 2)))
    with pytest.raises(BenchError, match="NaN"):
        BlockLanczos(Dense(A), np.full((10, 2), np.nan))
    with pytest.raises(BenchError, match="product 1 of the matrix holds NaN"):
        BlockLanczos(Dense(np.full((10, 10), np.nan)), np.ones((10, 2))).step()
    with pytest.raises(BenchError, match=r"100 steps of 2 vectors of 10 need .* allow fewer steps or columns"):
        BlockLanczos(Dense(A), np.ones((10, 2)), memory=1000)
    with pytest.raises(ValueError, match=r"expected a \(10, b\) start"):
        BlockLanczos(Dense(A), np.ones((9, 2)))
    with pytest.raises(ValueError, match="no step"):
        BlockLanczos(Dense(A), np.ones((10, 2))).quadrature()


def test_memory_is_declared():
    assert bytes_needed(50_000, 8, 60) < 250e6
    assert bytes_needed(10, 8, 100) < 2e5  # a basis has no more vectors than dimensions


@pytest.mark.parametrize("n", [4 * PANEL, 4 * PANEL + 1, 5 * PANEL - 1])
def test_tall_blocks_are_factored_by_panels(n):
    rng = np.random.default_rng(n)
    block = rng.standard_normal((n, 4))
    block[: 2 * PANEL, 1] = 0  # panels that lack a rank
    block = np.column_stack([block, block @ rng.standard_normal((4, 2))])
    Q, R = _orthonormal(block)
    assert Q.shape == (n, 4)
    np.testing.assert_allclose(Q.T @ Q, np.eye(4), atol=1e-14)
    np.testing.assert_allclose(Q @ R, block, atol=1e-12)
