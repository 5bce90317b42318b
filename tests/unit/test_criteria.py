"""Criteria of the variance ratio: values from their definitions, slopes by finite differences, minima."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import BenchError
from bench.models.criteria import minimise
from bench.models.reml import HeldOut, Rotated, Spectrum, estimate
from bench.models.whitened import WhitenedRecords

METHODS = ("REML", "ML", "GCV", "LOO")


def case(n=30, p=2, records=None, seed=0):
    """G among n individuals, and records of them: y, X, whose, weights."""
    rng = np.random.default_rng([seed, n, p])
    W = rng.standard_normal((n, n + 5))
    r = records or n
    whose = np.arange(n) if records is None else rng.integers(0, n, r)
    X = np.column_stack([np.ones(r), rng.standard_normal((r, p - 1))])
    G = W @ W.T / (n + 5)
    y = X.sum(axis=1) + (np.linalg.cholesky(G) @ rng.standard_normal(n))[whose] + rng.standard_normal(r)
    return G, X, y, whose, rng.uniform(0.5, 3, r)


def projection(K, X, lam):
    """V and P by explicit inverses."""
    V = K + lam * np.eye(len(K))
    inverse = np.linalg.inv(V)
    return V, inverse - inverse @ X @ np.linalg.solve(X.T @ inverse @ X, X.T @ inverse)


def by_definition(method, K, X, y, lam):
    """The criterion with explicit inverses and determinants; LOO by leaving records out one by one."""
    (r, p), (V, P) = X.shape, projection(K, X, lam)
    quadratic = y @ P @ y
    if method == "GCV":
        return r * (y @ P @ P @ y) / np.trace(P) ** 2
    if method == "ML":
        return r * (np.log(2 * np.pi * quadratic / r) + 1) + np.linalg.slogdet(V)[1]
    if method == "REML":
        dets = np.linalg.slogdet(X.T @ np.linalg.solve(V, X))[1] - np.linalg.slogdet(X.T @ X)[1]
        return (r - p) * (np.log(2 * np.pi * quadratic / (r - p)) + 1) + np.linalg.slogdet(V)[1] + dets
    errors = []
    for i in range(r):
        kept = np.arange(r) != i
        _, P = projection(K[np.ix_(kept, kept)], X[kept], lam)
        alpha = P @ y[kept]
        b = np.linalg.lstsq(X[kept], y[kept] - K[np.ix_(kept, kept)] @ alpha - lam * alpha, rcond=None)[0]
        errors.append(y[i] - X[i] @ b - K[i, kept] @ alpha)
    return np.mean(np.square(errors))


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=10, deadline=None)
@given(
    n=st.integers(6, 25),
    p=st.integers(1, 3),
    log_lam=st.floats(-4, 5),
    repeats=st.booleans(),
    seed=st.integers(0, 99),
)
def test_values_are_those_of_the_definitions_and_slopes_those_of_the_values(method, n, p, log_lam, repeats, seed):
    G, X, y, whose, weights = case(n, p, records=n + 9 if repeats else None, seed=seed)
    records = WhitenedRecords.of(y, X, individual=whose, weights=weights, n_individuals=n)
    K = np.diag(records.root) @ G[np.ix_(whose, whose)] @ np.diag(records.root)
    np.testing.assert_allclose(records.dense(G), K, rtol=1e-14)
    rotated = Rotated.of(Spectrum.of(records.dense(G)), records.y, records.X)
    value, slope = rotated.criterion(method, np.exp(log_lam))
    assert value == pytest.approx(by_definition(method, K, records.X, records.y, np.exp(log_lam)), rel=1e-9)
    h = 1e-5
    up, down = (rotated.criterion(method, np.exp(log_lam + s))[0] for s in (h, -h))
    assert slope == pytest.approx((up - down) / (2 * h), abs=1e-6 * max(1, abs(value)))


def test_moments_are_those_of_dense_matrices():
    G, X, y, _, _ = case(25, 3)
    at = Rotated.of(Spectrum.of(G), y, X).moments(0.7)
    V, P = projection(G, X, 0.7)
    assert at.quadratics == pytest.approx((y @ P @ y, y @ P @ P @ y, y @ P @ P @ P @ y))
    assert at.traces == pytest.approx((np.trace(P), np.trace(P @ P)))
    assert at.trace_V == pytest.approx(np.trace(np.linalg.inv(V)))


def test_held_out_error_is_that_of_a_fit_and_its_slope_that_of_the_error():
    G, X, y, _, _ = case(40, 2)
    kept, out = np.arange(30), np.arange(30, 40)
    inside = G[np.ix_(kept, kept)]
    held = HeldOut(Spectrum.of(inside), y[kept], X[kept], G[np.ix_(out, kept)], y[out], X[out])
    for t in (-3.0, 0.0, 2.0):
        _, P = projection(inside, X[kept], np.exp(t))
        alpha = P @ y[kept]
        b = np.linalg.lstsq(X[kept], y[kept] - inside @ alpha - np.exp(t) * alpha, rcond=None)[0]
        value, slope = held(t)
        assert value == pytest.approx(np.mean((y[out] - X[out] @ b - G[np.ix_(out, kept)] @ alpha) ** 2), rel=1e-10)
        assert slope == pytest.approx((held(t + 1e-5)[0] - held(t - 1e-5)[0]) / 2e-5, abs=1e-8)
    best = minimise(held, (1e-6, 1e6))
    assert all(held(t)[0] >= best.value - 1e-12 for t in np.linspace(*np.log([1e-6, 1e6]), 300))


@pytest.mark.parametrize("method", METHODS)
def test_estimates_are_the_global_minimum(method):
    G, X, y, _, _ = case(40)
    rotated = Rotated.of(Spectrum.of(G), y, X)
    found = estimate(Spectrum.of(G), y, X, method=method)
    values = [rotated.criterion(method, lam)[0] for lam in np.geomspace(1e-9, 1e9, 400)]
    assert found.value <= min(values) + 1e-10
    if found.bound is None:
        assert abs(rotated.criterion(method, found.lam)[1]) < 1e-8
    assert np.isfinite(found.standard_error) == (method in ("REML", "ML") and found.bound is None)


def test_the_standard_error_is_that_of_the_curvature():
    G, X, y, _, _ = case(60)
    spectrum = Spectrum.of(G)
    found, rotated = estimate(spectrum, y, X), Rotated.of(spectrum, y, X)
    t, h = np.log(found.lam), 1e-3
    up, at, down = (rotated.criterion("REML", np.exp(t + s))[0] for s in (h, 0, -h))
    assert found.standard_error == pytest.approx(np.sqrt(2 * h**2 / (up - 2 * at + down)), rel=1e-3)


def test_minimise_finds_the_lower_of_two_minima_and_says_where_a_bound_is_best():
    def double(t):
        return (t**2 - 4) ** 2 + t, 4 * t * (t**2 - 4) + 1

    best = minimise(double, (np.exp(-5), np.exp(5)))
    assert best.log_lam == pytest.approx(-2.0305, abs=1e-3)
    assert best.curvature == pytest.approx(12 * best.log_lam**2 - 16, rel=1e-5)
    assert minimise(lambda t: (t, 1.0), (0.1, 10)).bound == "lower"
    assert minimise(lambda t: (-t, -1.0), (0.1, 10)).bound == "upper"
    assert minimise(lambda t: (1.0, 0.0), (0.1, 10)).bound == "lower"  # nothing to tell them by


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (2.0, 1.0), (1.0, np.inf), (np.nan, 1.0)])
def test_minimise_refuses_what_are_no_bounds(bounds):
    with pytest.raises(BenchError, match="two positive numbers, the smaller one first"):
        minimise(lambda t: (t, 1.0), bounds)


def test_a_criterion_that_is_not_finite_is_no_minimum():
    with pytest.raises(BenchError, match=r"not finite at λ = 0\.1"):
        minimise(lambda t: (np.nan, np.nan), (0.1, 10))


def test_whitened_records_leave_out_what_is_missing():
    y = np.array([1.0, np.nan, 2.0, 4.0, np.nan])
    records = WhitenedRecords.of(
        y, individual=np.array([3, 1, 0, 3, 2]), weights=np.array([1.0, 1, 4, 9, 1]), n_individuals=5
    )
    assert records.y.tolist() == [1, 4, 12]
    assert records.X[:, 0].tolist() == [1, 2, 3]
    assert records.individual.tolist() == [3, 0, 3]
    assert not records.plain
    assert records.trace(np.arange(1.0, 6)) == 4 * 1 + 1 * 4 + 4 * 9
    U = np.arange(6.0).reshape(3, 2)
    Z = np.zeros((3, 5))
    Z[np.arange(3), records.individual] = records.root
    np.testing.assert_array_equal(records.expand(U), Z.T @ U)
    np.testing.assert_array_equal(records.collect(np.eye(5)), Z)
    assert WhitenedRecords.of(np.array([1.0, 2, 4])).plain


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"X": np.column_stack([np.ones(8), np.full(8, 2.0)])}, "the 2 fixed effects are linearly dependent"),
        ({"X": np.full((8, 1), np.nan)}, "linearly dependent or hold NaN"),
        ({"y": np.full(8, 3.0)}, "do not vary around their fixed effects"),
        ({"y": np.array([1.0, *[np.nan] * 7])}, "1 records and 1 fixed effects; at least 3"),
        ({"y": np.full(8, np.nan)}, "0 records and 1 fixed effects"),
        ({"X": np.eye(8)}, "8 records and 8 fixed effects; at least 10"),
        ({"y": np.array([np.inf, *range(7)])}, "infinite phenotypes"),
        ({"weights": np.zeros(8)}, "8 weights are not positive"),
        ({"individual": np.arange(8) + 1, "n_individuals": 8}, "records of individual 8, there are 8"),
    ],
)  # fmt: skip
def test_records_that_cannot_be_are_told_in_a_sentence(change, told):
    with pytest.raises(BenchError, match=told):
        WhitenedRecords.of(**({"y": np.arange(8.0)} | change))


def test_estimate_tells_what_it_cannot_take():
    G, X, y, _, _ = case(10, 1)
    spectrum = Spectrum.of(G)
    with pytest.raises(BenchError, match="LOO: the 2 fixed effects are linearly dependent"):
        estimate(spectrum, y, np.ones((10, 2)), method="LOO")
    with pytest.raises(BenchError, match="no criterion 'AIC'; there are REML, ML, GCV, LOO"):
        estimate(spectrum, y, X, method="AIC")  # type: ignore[arg-type]
    with pytest.raises(BenchError, match="REML: 7 records, and relationships of 10"):
        estimate(spectrum, y[:7], X[:7])
    with pytest.raises(BenchError, match="GCV: the records hold NaN"):
        estimate(spectrum, np.where(np.arange(10) == 3, np.nan, y), X, method="GCV")
