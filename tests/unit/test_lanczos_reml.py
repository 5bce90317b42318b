"""One-run REML against the eigendecomposition: exact where the probes are, unbiased where they are drawn."""

import numpy as np
import pytest

from bench.errors import BenchError
from bench.models.criteria import OF_MOMENTS
from bench.models.gblup import Records, fit_cholesky
from bench.models.lanczos_reml import LanczosRun, calibrated, estimate
from bench.models.reml import Rotated, Spectrum
from bench.models.reml import estimate as by_eigen
from bench.models.whitened import WhitenedRecords
from bench.solvers.operator import Dense


def case(n=60, p=2, records=None, h2=0.5, seed=1):
    """G, and whitened records of it; with `records` more or fewer than one of each individual, and weights."""
    rng = np.random.default_rng([seed, n, p])
    W = rng.standard_normal((n, 3 * n)) + rng.standard_normal((n, 5)) @ rng.standard_normal((5, 3 * n))
    G = W @ W.T
    G *= n / np.trace(G)
    r = records or n
    whose = np.arange(n) if records is None else rng.integers(0, n, r)
    weights = np.ones(r) if records is None else rng.uniform(0.5, 3, r)
    X = np.column_stack([np.ones(r), rng.standard_normal((r, p - 1))])
    u = np.sqrt(h2) * (np.linalg.cholesky(G + 1e-10 * np.eye(n)) @ rng.standard_normal(n))
    y = X.sum(axis=1) + u[whose] + np.sqrt((1 - h2) / weights) * rng.standard_normal(r)
    return G, WhitenedRecords.of(y, X, individual=whose, weights=weights, n_individuals=n)


@pytest.mark.parametrize("records", [None, 70])
@pytest.mark.parametrize("trace", [False, True])
def test_exact_probes_make_a_finished_run_exact(records, trace):
    G, whitened = case(50, 3, records)
    K = whitened.dense(G)
    known = {"trace": whitened.trace(np.diag(G)), "trace_of_square": trace_of_square(whitened, K)} if trace else {}
    run = LanczosRun(Dense(G), whitened, probes=np.eye(len(K)), ml=True, **known)
    while run.extend():
        pass
    rotated = Rotated.of(Spectrum.of(K), whitened.y, whitened.X)
    density = run.density()
    for lam in (0.05, 1.0, 30.0):
        found, wanted = density.moments(lam), rotated.moments(lam)
        assert found.quadratics == pytest.approx(wanted.quadratics, rel=1e-9)
        assert found.traces == pytest.approx(wanted.traces, rel=1e-9)
        for method in ("REML", "ML", "GCV"):
            assert OF_MOMENTS[method](found) == pytest.approx(OF_MOMENTS[method](wanted), rel=1e-8, abs=1e-8)
    for method in ("REML", "ML", "GCV"):
        wanted = by_eigen(Spectrum.of(K), whitened.y, whitened.X, method=method, bounds=(1e-4, 1e6))
        best, _ = run.estimate(method)
        assert best.log_lam == pytest.approx(np.log(wanted.lam), abs=1e-7)
        if method != "GCV":
            assert best.standard_error == pytest.approx(wanted.standard_error, rel=1e-5)


def trace_of_square(whitened, K):
    S = whitened.project(whitened.project(K).T)
    return float(np.sum(S**2))


@pytest.mark.parametrize("records", [None, 90])
def test_solutions_are_those_of_henderson(records):
    G, whitened = case(60, 2, records)
    run = LanczosRun(Dense(G), whitened)
    while run.extend():
        pass
    alpha, b, u = run.solution(0.8)
    # Mixed model equations of the whitened records, G as it is.
    Z = whitened.collect(np.eye(60))
    X, y = whitened.X, whitened.y
    left = np.block([[X.T @ X, X.T @ Z], [Z.T @ X, Z.T @ Z + 0.8 * np.linalg.inv(G)]])
    wanted = np.linalg.solve(left, np.concatenate([X.T @ y, Z.T @ y]))
    np.testing.assert_allclose(b, wanted[:2], atol=1e-7)
    np.testing.assert_allclose(u, wanted[2:], atol=1e-7)
    np.testing.assert_allclose(X @ b + whitened.collect(u[:, None])[:, 0] + 0.8 * alpha, y, atol=1e-9)


def test_ebvs_are_those_of_the_dense_solve():
    G, whitened = case(80, 1)
    records = Records.of(whitened.y)
    run = LanczosRun(Dense(G), whitened)
    found = estimate(run)
    fit = fit_cholesky(G.copy(), records, found.lam)
    _, b, u = run.solution(found.lam)
    np.testing.assert_allclose(u, G @ fit.alpha, atol=1e-4 * np.abs(u).max())
    np.testing.assert_allclose(b, fit.b, atol=1e-4)


def test_it_stops_where_the_estimate_stands_and_no_sooner():
    G, whitened = case(400, 1, h2=0.3)
    run = LanczosRun(Dense(G), whitened)
    seen = []
    found = estimate(run, observe=lambda step, best: seen.append((step, best.log_lam)))
    assert found.status == "converged"
    assert [step for step, _ in seen] == list(range(1, found.products + 1))
    assert found.path == tuple(t for _, t in seen)
    assert abs(found.path[-1] - found.path[-3]) <= 1e-3
    while run.extend():  # to the end
        pass
    assert np.log(found.lam) == pytest.approx(run.estimate()[0].log_lam, abs=1e-3)


def test_a_cap_on_the_steps_is_a_status():
    G, whitened = case(400, 1)
    found = estimate(LanczosRun(Dense(G), whitened, max_steps=2))
    assert (found.status, found.products) == ("steps", 2)


def test_a_run_goes_on_where_another_search_has_left_it():
    G, whitened = case(60, 2)
    run = LanczosRun(Dense(G), whitened, ml=True)
    first = estimate(run)
    of_ml = estimate(run, method="ML")
    assert of_ml.products >= first.products
    while run.extend():
        pass
    again = estimate(run)
    assert again.status == "converged"
    assert again.path == (run.estimate()[0].log_lam,)
    capped = LanczosRun(Dense(case(400, 1)[0]), case(400, 1)[1], max_steps=2)
    assert estimate(capped).lam == estimate(capped).lam
    assert estimate(capped).status == "steps"


@pytest.mark.parametrize("r", [3, 5, 7])
def test_few_records_have_exact_traces(r):
    G, whitened = case(r, 1, seed=r)
    run = LanczosRun(Dense(G), whitened)
    while run.extend():
        pass
    found = run.density().moments(0.3)
    wanted = Rotated.of(Spectrum.of(G), whitened.y, whitened.X).moments(0.3)
    assert found.log_det == pytest.approx(wanted.log_det, abs=1e-9)
    assert found.traces == pytest.approx(wanted.traces)


@pytest.mark.parametrize("bound", ["lower", "upper"])
def test_bounds_are_told(bound):
    G, _ = case(200, 1)
    values, vectors = np.linalg.eigh(G)
    power = 1.5 if bound == "lower" else -0.5
    y = vectors @ (np.maximum(values, 1e-3) ** power * np.random.default_rng(4).choice([-1, 1], 200))
    found = estimate(LanczosRun(Dense(G), WhitenedRecords.of(y)))
    assert found.bound == bound
    assert found.status == "bound"
    assert np.isnan(found.standard_error)
    assert np.isnan(found.monte_carlo_error)


def test_two_records_and_an_identity_are_no_trouble():
    assert estimate(LanczosRun(Dense(np.eye(5)), WhitenedRecords.of(np.arange(5.0)), trace=5.0)).products == 1
    G, _ = case(3, 1)
    assert estimate(LanczosRun(Dense(G), WhitenedRecords.of(np.array([1.0, 2.0, 4.0])))).status in (
        "bound",
        "converged",
    )


def test_bad_input_is_told_in_a_sentence():
    G, whitened = case(20, 1)
    with pytest.raises(BenchError, match="0 probes; at least 1"):
        LanczosRun(Dense(G), whitened, probes=0)
    with pytest.raises(BenchError, match="no criterion 'LOO' by Lanczos; there are REML, ML, GCV"):
        estimate(LanczosRun(Dense(G), whitened), method="LOO")
    with pytest.raises(BenchError, match="no step was allowed"):
        estimate(LanczosRun(Dense(G), whitened, max_steps=0))
    with pytest.raises(BenchError, match="steps of 8 vectors of 20 need"):
        LanczosRun(Dense(G), whitened, memory=100)
    with pytest.raises(BenchError, match="G relates 20 individuals, the records are of 15; n_individuals"):
        LanczosRun(Dense(G), WhitenedRecords.of(whitened.y[:15]))
    with pytest.raises(BenchError, match="a trace of nan"):
        LanczosRun(Dense(G), whitened, trace=float("nan"))
    signs = np.random.default_rng(1).choice([-1.0, 1.0], 20)
    with pytest.raises(BenchError, match="explain all 1 probes of 20 records"):
        LanczosRun(Dense(G), WhitenedRecords.of(whitened.y, signs[:, None]), probes=1)
    with pytest.raises(ValueError, match="without ML"):
        estimate(LanczosRun(Dense(G), whitened), method="ML")


def test_calibrated_weights_have_the_moments_and_change_least():
    rng = np.random.default_rng(1)
    weights, nodes = rng.uniform(1, 2, 12), rng.uniform(0, 3, 12)
    powers = np.vander(nodes, 3, increasing=True)
    wanted = powers.T @ weights * [1.0, 1.02, 0.99]
    found = calibrated(weights, powers, wanted)
    np.testing.assert_allclose(powers.T @ found, wanted, rtol=1e-12)
    other = found + np.linalg.svd(powers.T)[2][-1] * 1e-3  # another solution
    np.testing.assert_allclose(powers.T @ other, wanted, rtol=1e-12)
    assert np.sum((found - weights) ** 2 / weights) < np.sum((other - weights) ** 2 / weights)
    np.testing.assert_array_equal(calibrated(weights, np.ones((12, 2)), np.array([1.0, 1.0])), weights)
