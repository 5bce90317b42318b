"""IC(0), PCG with it, and the sparse Cholesky factor, against dense algebra."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from bench.build import installed
from bench.errors import BenchError
from bench.solvers import sparse_cholesky
from bench.solvers.incomplete import IncompleteCholesky, IncompletePCG
from bench.solvers.sparse_cholesky import Cost, SparseCholesky, choose, symbolic

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ on this machine")


def library() -> Path:
    made = installed("pedigree").library
    assert made is not None
    return made


def drawn(seed: int, n: int, density: float = 0.2, dense_rows: int = 0) -> tuple[sparse.csr_array, np.ndarray]:
    """A positive definite matrix, its columns in no order, and an order of its rows; dense rows come last."""
    rng = np.random.default_rng(seed)
    W = np.where(rng.random((n, n)) < density / 2, rng.standard_normal((n, n)), 0) + np.diag(rng.uniform(1, 3, n))
    W[: min(n, 3) * n // 4, :dense_rows] = rng.standard_normal((min(n, 3) * n // 4, dense_rows))
    matrix = sparse.csr_array(W.T @ W + 0.1 * np.eye(n))
    for row in range(n):
        here = slice(matrix.indptr[row], matrix.indptr[row + 1])
        mixed = rng.permutation(here.stop - here.start)
        matrix.indices[here], matrix.data[here] = matrix.indices[here][mixed], matrix.data[here][mixed]
    matrix.has_sorted_indices = False
    return matrix, np.r_[dense_rows + rng.permutation(n - dense_rows), :dense_rows]


def incomplete(A: np.ndarray) -> np.ndarray:
    """IC(0) by the textbook's right-looking loop, dense; pivots have to be positive."""
    pattern, L = A != 0, np.tril(A)
    for k in range(len(A)):
        L[k, k] = np.sqrt(L[k, k])
        L[k + 1 :, k] /= L[k, k]
        for j in range(k + 1, len(A)):
            L[j:, j] -= np.where(pattern[j:, j], L[j:, k] * L[j, k], 0)
    return L


@given(st.integers(0, 10**6), st.integers(2, 60), st.integers(0, 2))
@settings(max_examples=60, deadline=None)
def test_the_factor_is_that_of_the_textbook(seed, n, dense_rows):
    matrix, order = drawn(seed, n, dense_rows=min(dense_rows, n - 1))
    A = matrix.toarray()[np.ix_(order, order)]
    A += np.diag(np.abs(A).sum(axis=1))  # diagonally dominant: its pivots stay positive
    dominant = np.zeros_like(A)
    dominant[np.ix_(order, order)] = A
    found = IncompleteCholesky(sparse.csr_array(dominant), order, library=library())
    assert found.shrunk == 0
    R, L = np.random.default_rng(seed).standard_normal((n, 3)), incomplete(A)
    expected = np.zeros_like(R)
    expected[order] = np.linalg.solve(L @ L.T, R[order])
    np.testing.assert_allclose(found.solve_factor(R), expected, rtol=1e-10, atol=1e-12)


@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 5), st.sampled_from([1, 2]))
@settings(max_examples=60, deadline=None)
def test_pcg_and_cholesky_solve(seed, n, columns, threads):
    matrix, order = drawn(seed, n)
    B = np.random.default_rng(seed).standard_normal((n, columns))
    expected = np.linalg.solve(matrix.toarray(), B)
    pcg = IncompletePCG(matrix, order, library=library(), threads=threads, rtol=1e-13)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(pcg.solve(B), expected, atol=1e-9 * scale)
    assert pcg.residual <= 1e-13
    np.testing.assert_allclose(SparseCholesky(matrix).solve(B), expected, atol=1e-10 * scale)


def test_a_full_pattern_gives_the_cholesky_factor_and_one_step():
    rng = np.random.default_rng(0)
    B = rng.standard_normal((6, 6))
    A, X = B @ B.T + 6 * np.eye(6), rng.standard_normal((6, 2))
    found = IncompletePCG(sparse.csr_array(A), np.arange(6), library=library())
    np.testing.assert_allclose(found.solve_factor(X), np.linalg.solve(A, X))
    np.testing.assert_allclose(found.solve(X), np.linalg.solve(A, X))
    assert found.steps == 1
    np.testing.assert_array_equal(found.solve(np.zeros((6, 3))), 0)
    assert found.steps == 0
    assert found.solve(np.zeros((6, 0))).shape == (6, 0)


def test_rows_of_two_factors_of_the_same_pattern_share_what_is_held():
    matrix, order = drawn(1, 40)
    alone, both = (kind(matrix, order, library=library()) for kind in (IncompleteCholesky, IncompletePCG))
    entries = (matrix.nnz + 40) // 2
    assert both.bytes - alone.bytes == 8 * entries
    assert alone.bytes == 12 * entries + 8 * 41 + 4 * 40


def test_a_row_without_positive_pivot_is_shrunk():
    broken = sparse.csr_array(np.array([[1.0, 2.0], [2.0, 1.0]]))
    found = IncompletePCG(broken, np.arange(2), library=library())
    assert found.shrunk == 1
    beside = np.sqrt(0.7)  # LL' has the diagonal of the matrix, of which the pivot has 0.3
    expected = np.linalg.inv([[1, beside], [beside, 1]])
    np.testing.assert_allclose(found.solve_factor(np.eye(2)), expected, rtol=1e-9)
    assert np.isfinite(found.solve_factor(np.ones((2, 1)))).all()
    with pytest.raises(BenchError, match="not positive definite"):
        found.solve(np.array([[1.0], [-1.0]]))
    with pytest.raises(BenchError, match="sparse Cholesky: no positive pivot"):
        SparseCholesky(broken)


def test_what_cannot_be_solved_is_told():
    matrix, order = drawn(2, 30)
    with pytest.raises(ValueError, match="an order of its rows"):
        IncompleteCholesky(matrix, order[:-1], library=library())
    with pytest.raises(BenchError, match="not symmetric or lacks a diagonal element"):
        IncompleteCholesky(sparse.csr_array(np.triu(np.ones((3, 3)))), np.arange(3), library=library())
    with pytest.raises(BenchError, match="not symmetric or lacks a diagonal element"):
        IncompleteCholesky(sparse.csr_array(np.array([[0.0, 1], [1, 1]])), np.arange(2), library=library())
    for bad in (0.0, -1.0, np.nan):
        with pytest.raises(BenchError, match="diagonal holds zero, a negative number or NaN"):
            IncompleteCholesky(sparse.csr_array(([1, bad], ([0, 1], [0, 1]))), np.arange(2), library=library())
    few = IncompletePCG(matrix, order, library=library(), max_steps=1)
    with pytest.raises(BenchError, match=r"PCG stopped at a relative residual of .* after 1 steps, 1e-12 was needed"):
        few.solve(np.ones((30, 1)))
    with pytest.raises(BenchError, match="NaN or infinity"):
        few.solve(np.full((30, 1), np.nan))
    for solver in (few.solve, few.solve_factor, SparseCholesky(matrix).solve):
        with pytest.raises(ValueError, match=r"expected a \(30, k\) array"):
            solver(np.ones(30))


@given(st.integers(0, 10**6), st.integers(1, 60))
@settings(max_examples=40, deadline=None)
def test_counted_entries_are_those_of_the_factor(seed, n):
    from cvxopt import amd

    matrix, _ = drawn(seed, n, density=0.05)
    order = np.array(amd.order(sparse_cholesky._lower(matrix))).ravel()
    pattern = (matrix.toarray() != 0)[np.ix_(order, order)]
    L = np.tril(np.linalg.cholesky(pattern * 1e-3 + n * np.eye(n)) != 0)  # positive and small: nothing cancels
    cost = symbolic(matrix, library=library())
    assert cost == Cost(L.sum(), (L.sum(axis=0) ** 2).sum(), 18 * L.sum(), True)
    assert not symbolic(matrix, library=library(), limit=n - 1).complete


def test_the_choice_follows_the_count(monkeypatch):
    matrix, _ = drawn(3, 60, density=0.05)
    bytes_needed = symbolic(matrix, library=library()).bytes
    assert choose(matrix, library=library())[0] == "cholesky"
    assert choose(matrix, bytes_needed + 1, library=library())[0] == "cholesky"
    method, reason = choose(matrix, bytes_needed - 1, library=library())
    assert method == "ic0"
    assert "GB allowed" in reason
    monkeypatch.setattr(sparse_cholesky, "FLOPS", 10)
    method, reason = choose(matrix, library=library())
    assert method == "ic0"
    assert "operations" in reason


def test_without_cvxopt_there_is_a_sentence(monkeypatch):
    matrix, _ = drawn(4, 10)
    monkeypatch.setattr(sparse_cholesky, "available", lambda: False)
    assert choose(matrix, library=library()) == (
        "ic0",
        "cvxopt, which has the sparse Cholesky factor, is not installed",
    )
    for module in ("cvxopt", "cvxopt.base", "cvxopt.cholmod", "cvxopt.amd"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(BenchError, match=r"needs the package cvxopt: pip install 'blupbench\[cholesky\]'"):
        SparseCholesky(matrix)
    with pytest.raises(BenchError, match="needs the package cvxopt"):
        symbolic(matrix, library=library())
