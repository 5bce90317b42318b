"""A, its inverse and its genotyped block against the tabular method and dense algebra."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.build import installed
from bench.errors import BenchError
from bench.relationships import numerator
from bench.relationships.numerator import METHODS, GenotypedNumerator, Numerator
from bench.relationships.pedigree import Pedigree, from_table
from bench.solvers.incomplete import IncompletePCG


@pytest.fixture(autouse=True, params=[1, 2], ids=["walks", "columns"])
def method_of_inbreeding(request):
    """Small pedigrees would take one of the two ways only."""
    numerator._METHOD_OF_INBREEDING = request.param
    yield
    numerator._METHOD_OF_INBREEDING = 0


pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ on this machine")


def library() -> Path:
    made = installed("pedigree").library
    assert made is not None
    return made


def tabular(pedigree: Pedigree) -> np.ndarray:
    """A by the tabular method (Emik & Terrill 1949): an oracle that shares nothing with the recursions."""
    n = len(pedigree)
    A = np.zeros((n, n))
    for i, (s, d) in enumerate(zip(pedigree.sire, pedigree.dam, strict=True)):
        for p in (s, d):
            if p >= 0:
                A[i, :i] += A[p, :i] / 2
        A[:i, i] = A[i, :i]
        A[i, i] = 1 + (A[s, d] / 2 if s >= 0 and d >= 0 else 0)
    return A


def drawn(seed: int, n: int, founders: int = 4, unknown: float = 0.1) -> Pedigree:
    """Random mating among all that were born before, close relatives and selfing included."""
    rng = np.random.default_rng(seed)
    sire, dam = (np.array([rng.integers(max(0, i - 12), i) if i >= founders else -1 for i in range(n)]) for _ in "sd")
    sire[rng.random(n) < unknown] = -1
    dam[rng.random(n) < unknown] = -1
    return Pedigree(np.arange(n).astype(str).astype(object), sire.astype(np.int32), dam.astype(np.int32))


@given(st.integers(0, 10**6), st.integers(1, 70), st.sampled_from([1, 3]))
@settings(max_examples=60, deadline=None)
def test_products_inverse_and_inbreeding_are_those_of_the_tabular_method(seed, n, threads):
    pedigree = drawn(seed, n)
    A, found = tabular(pedigree), Numerator(pedigree, library=library(), threads=threads)
    np.testing.assert_allclose(1 + found.inbreeding, np.diag(A), rtol=1e-13)
    X = np.random.default_rng(seed).standard_normal((n, 3))
    np.testing.assert_allclose(found.matmul(X), A @ X, rtol=1e-11, atol=1e-12)
    inverse = found.inverse()
    np.testing.assert_allclose(inverse @ A, np.eye(n), atol=1e-9 * np.abs(A).max())


def test_full_sibs_have_the_same_inbreeding_whatever_the_thread():
    parents = drawn(3, 40, unknown=0)
    many = 1500  # several chunks of the parallel loop
    sire, dam = np.full(many, 38, np.int32), np.full(many, 39, np.int32)
    both = Pedigree(
        np.arange(40 + many).astype(str).astype(object), np.r_[parents.sire, sire], np.r_[parents.dam, dam]
    )
    one, four = (Numerator(both, library=library(), threads=t).inbreeding for t in (1, 4))
    np.testing.assert_array_equal(one, four)
    assert np.unique(one[40:]).size == 1
    assert one[40] == pytest.approx(tabular(parents)[38, 39] / 2, rel=1e-13)


def test_a_long_line_of_descent():
    n = 30_000  # as deep as it is long
    sire = np.arange(-1, n - 1, dtype=np.int32)
    found = Numerator(
        Pedigree(np.arange(n).astype(str).astype(object), sire, np.full(n, -1, np.int32)), library=library()
    )
    x = np.zeros((n, 1))
    x[-1] = 1
    np.testing.assert_allclose(found.matmul(x)[-40:, 0], 0.5 ** np.arange(39, -1, -1), rtol=1e-14)
    assert not found.inbreeding.any()


def related(pedigree: Pedigree, gamma: np.ndarray) -> np.ndarray:
    """A^Γ by the tabular method with the metafounders first (Legarra et al. 2015), then put after the animals."""
    n, groups = len(pedigree), len(gamma)
    A = np.zeros((n + groups, n + groups))
    A[:groups, :groups] = gamma
    parents = [np.where(p < 0, g, p + groups) for p, g in zip(*both_parents(pedigree), strict=True)]
    for i, (s, d) in enumerate(zip(*parents, strict=True), start=groups):
        A[i, :i] = A[:i, i] = (A[s, :i] + A[d, :i]) / 2
        A[i, i] = 1 + A[s, d] / 2
    animals_first = np.r_[groups : n + groups, :groups]
    return A[np.ix_(animals_first, animals_first)]


def both_parents(pedigree: Pedigree):
    return (pedigree.sire, pedigree.dam), (pedigree.sire_group, pedigree.dam_group)


def grouped(seed: int, n: int, groups: int) -> tuple[Pedigree, np.ndarray]:
    """A drawn pedigree with a group for each unknown parent, and a Γ."""
    rng, pedigree = np.random.default_rng(seed + 1), drawn(seed, n, unknown=0.3)
    names = tuple(f"g{k}" for k in range(groups))
    of = [np.where(p < 0, rng.integers(0, groups, n), -1).astype(np.int32) for p in both_parents(pedigree)[0]]
    B = rng.uniform(0.1, 1, (groups, groups + 2))
    return replace(pedigree, groups=names, sire_group=of[0], dam_group=of[1]), 1.5 * B @ B.T / (groups + 2)


cases = given(st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 4))


@cases
@settings(max_examples=60, deadline=None)
def test_metafounders_are_those_of_the_tabular_method(seed, n, groups):
    pedigree, gamma = grouped(seed, n, groups)
    A, found = related(pedigree, gamma), Numerator(pedigree, library=library(), gamma=gamma, threads=2)
    assert found.shape == A.shape
    np.testing.assert_allclose(1 + found.inbreeding, np.diag(A)[:n], rtol=1e-12)
    X = np.random.default_rng(seed).standard_normal((n + groups, 3))
    np.testing.assert_allclose(found.matmul(X), A @ X, rtol=1e-11, atol=1e-11)
    expected = np.linalg.inv(A)
    np.testing.assert_allclose(found.inverse().toarray(), expected, atol=1e-8 * np.abs(expected).max())


@given(st.integers(0, 10**6), st.integers(1, 60), st.floats(0.05, 1.5))
@settings(max_examples=30, deadline=None)
def test_one_metafounder_shrinks_and_shifts(seed, n, gamma):
    """A^γ = A (1 − γ/2) + γ 11' (Legarra et al. 2015)."""
    pedigree, _ = grouped(seed, n, 1)
    found = Numerator(pedigree, library=library(), gamma=np.array([[gamma]]))
    A = tabular(pedigree) * (1 - gamma / 2) + gamma
    np.testing.assert_allclose(found.matmul(np.eye(n + 1))[:n, :n], A, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(1 + found.inbreeding, np.diag(A), rtol=1e-12)


@cases
@settings(max_examples=60, deadline=None)
def test_groups_without_gamma_are_those_of_quaas_and_pollak(seed, n, groups):
    pedigree, _ = grouped(seed, n, groups)
    found, alone = (Numerator(p, library=library()) for p in (pedigree, pedigree.without_groups()))
    np.testing.assert_array_equal(found.inbreeding, alone.inbreeding)
    X = np.random.default_rng(seed).standard_normal((n, 2))
    np.testing.assert_array_equal(found.matmul(X), alone.matmul(X))
    W = np.hstack([np.eye(n), -pedigree.group_shares()])
    expected = W.T @ np.linalg.inv(tabular(pedigree)) @ W
    np.testing.assert_allclose(found.inverse().toarray(), expected, atol=1e-9 * np.abs(expected).max())


@cases
@settings(max_examples=25, deadline=None)
def test_the_genotyped_block_with_metafounders(seed, n, groups):
    rng = np.random.default_rng(seed)
    pedigree, gamma = grouped(seed, n, groups)
    genotyped = rng.permutation(n)[: rng.integers(1, n + 1)]
    A = related(pedigree, gamma)[np.ix_(genotyped, genotyped)]
    X = rng.standard_normal((genotyped.size, 3))
    expected = np.linalg.solve(A, X)
    for method in METHODS:
        found = GenotypedNumerator(pedigree, genotyped, library=library(), gamma=gamma, method=method)
        np.testing.assert_allclose(found.matmul(X), A @ X, rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(found.solve(X), expected, atol=1e-8 * np.abs(expected).max())
    unrelated = GenotypedNumerator(pedigree, genotyped, library=library())
    np.testing.assert_allclose(unrelated.matmul(X), tabular(pedigree)[np.ix_(genotyped, genotyped)] @ X, atol=1e-11)


def test_the_method_follows_the_count_and_says_why():
    pedigree = drawn(7, 300)
    found = GenotypedNumerator(pedigree, np.arange(250, 300), library=library())
    assert found.method == "cholesky"
    assert "the sparse Cholesky factor has" in found.reason
    small = GenotypedNumerator(pedigree, np.arange(250, 300), library=library(), memory=100)
    assert small.method == "ic0"
    assert "GB allowed" in small.reason
    everyone = GenotypedNumerator(pedigree, np.arange(300), library=library())
    assert everyone.reason == "there is nothing to factor"
    X = np.ones((300, 1))
    np.testing.assert_allclose(everyone.matmul(everyone.solve(X)), X, atol=1e-9)


def test_the_inverse_is_symmetric_to_the_last_bit_and_in_order():
    pedigree, gamma = grouped(5, 500, 3)
    for g in (None, gamma):
        inverse = Numerator(pedigree, library=library(), gamma=g, threads=2).inverse()
        assert (inverse != inverse.T).nnz == 0
        assert inverse.has_canonical_format
        assert Numerator(pedigree, library=library(), gamma=g).inverse().nnz == inverse.nnz


@pytest.mark.parametrize(
    ("gamma", "said"),
    [
        (np.eye(2), r"found an array of \(2, 2\), the pedigree's 3 groups need"),
        (np.array([[1, 0.5, 0], [0.4, 1, 0], [0, 0, 1]]), "must be finite and symmetric"),
        (np.full((3, 3), np.nan), "must be finite and symmetric"),
        (np.ones((3, 3)), "not positive definite: its smallest eigenvalue"),
        (np.diag([0.5, 2, 0.5]), "group 'g1' has 2 with itself, less than 2 is needed"),
    ],
)
def test_a_gamma_that_cannot_be_is_told(gamma, said):
    pedigree, _ = grouped(1, 20, 3)
    with pytest.raises(BenchError, match=f"gamma.*{said}"):
        Numerator(pedigree, library=library(), gamma=gamma)
    with pytest.raises(BenchError, match="the pedigree has no groups"):
        Numerator(drawn(1, 5), library=library(), gamma=gamma)


@given(st.integers(0, 10**6), st.integers(2, 70), st.sampled_from([1, 2, 3, 7, 13]), st.sampled_from([1, 2]))
@settings(max_examples=30, deadline=None)
def test_the_genotyped_block_and_its_inverse(seed, n, columns, threads):
    rng = np.random.default_rng(seed)
    pedigree = drawn(seed, n)
    genotyped = rng.permutation(n)[: rng.integers(1, n + 1)]  # in any order
    A = tabular(pedigree)[np.ix_(genotyped, genotyped)]
    X = rng.standard_normal((genotyped.size, columns))
    X[:, 0] = 0  # solved at once, beside others
    expected = np.linalg.solve(A, X)
    for method in METHODS:
        found = GenotypedNumerator(pedigree, genotyped, library=library(), method=method, threads=threads)
        assert found.reason == "the caller has chosen it"
        np.testing.assert_allclose(found.matmul(X), A @ X, rtol=1e-11, atol=1e-12)
        np.testing.assert_allclose(1 + found.inbreeding, np.diag(A), rtol=1e-13)
        np.testing.assert_allclose(found.solve(X), expected, atol=1e-10 * np.abs(expected).max())


def test_of_many_animals_the_incomplete_factor_needs_few_steps():
    rng = np.random.default_rng(8)
    per, generations = 400, 12
    sire, dam = np.full(per * generations, -1), np.full(per * generations, -1)
    for g in range(1, generations):
        born = slice(g * per, (g + 1) * per)
        sire[born] = (g - 1) * per + rng.choice(12, per)
        dam[born] = (g - 1) * per + 12 + rng.choice(per - 12, per)
    ids = np.arange(sire.size).astype(str).astype(object)
    pedigree = Pedigree(ids, sire.astype(np.int32), dam.astype(np.int32))
    found = GenotypedNumerator(pedigree, np.arange(9 * per, 12 * per), library=library(), method="ic0")
    assert isinstance(found._others, IncompletePCG)
    assert found._others.shrunk == 0
    X = rng.standard_normal((found.shape[0], 1))
    np.testing.assert_allclose(found.matmul(found.solve(X)), X, atol=1e-9)
    assert 0 < found._others.steps < 40  # a condition of about 6; the diagonal as preconditioner takes hundreds


def test_mrode_s_pedigree_has_the_published_inbreeding():
    """Mrode (2014), example 2.1: animals 5 and 6 have F = 0.125 (Table 2.2's diagonal 1.125)."""
    parents = {"1": "00", "2": "00", "3": "12", "4": "10", "5": "43", "6": "52"}
    frame = pd.DataFrame({"id": list(parents), "sire": [p[0] for p in parents.values()]})
    frame["dam"] = [p[1] for p in parents.values()]
    found = Numerator(from_table(frame), library=library())
    np.testing.assert_array_equal(found.inbreeding, [0, 0, 0, 0, 0.125, 0.125])


def test_bad_input_is_told(tmp_path):
    (tmp_path / "no.so").write_text("no library")
    with pytest.raises(BenchError, match=r"no\.so: not a pedigree library"):
        Numerator(drawn(1, 5), library=tmp_path / "no.so")
    pedigree = drawn(1, 20)
    with pytest.raises(BenchError, match="genotyped twice"):
        GenotypedNumerator(pedigree, np.array([3, 4, 3]), library=library())
    with pytest.raises(BenchError, match="no way 'lu' to solve"):
        GenotypedNumerator(pedigree, np.array([3]), library=library(), method="lu")
    with pytest.raises(ValueError, match=r"expected a \(20, k\) array"):
        Numerator(pedigree, library=library()).matmul(np.ones(20))
