"""REML against a likelihood written from its definition, and against rrBLUP on wheat."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from bench.errors import BenchError
from bench.genotypes.packed import PackedGenotypes
from bench.models.gblup import Records, breeding_values, fit_cholesky, marker_effects, prediction_error_variance
from bench.models.reml import Spectrum, estimate
from bench.models.validation import cross_validate_reml
from bench.relationships.genomic import RELATIONSHIPS, BlockCentred, dense_grm

KERNELS = {"Amat": "vanraden1", "WWt": "standardised"}  # rrBLUP's kernel → ours
ENVIRONMENTS = (1, 2, 4, 5)


def simulate(n=80, h2=0.5, p=2, seed=1):
    rng = np.random.default_rng(seed)
    W = rng.standard_normal((n, 3 * n))
    G = W @ W.T / (3 * n)
    X = np.column_stack([np.ones(n), rng.standard_normal((n, p - 1))])
    u = np.linalg.cholesky(G) @ rng.standard_normal(n) * np.sqrt(h2)
    return G, X, X @ np.arange(1, p + 1) + u + np.sqrt(1 - h2) * rng.standard_normal(n)


def log_likelihood(G, X, y, Vu, Ve, method):
    """From its definition with explicit inverses and determinants: no profiling, no eigenvalues."""
    n, p = X.shape
    V = Vu * G + Ve * np.eye(n)
    inverse = np.linalg.inv(V)
    XVX = X.T @ inverse @ X
    e = y - X @ np.linalg.solve(XVX, X.T @ inverse @ y)
    twice = np.linalg.slogdet(V)[1] + e @ inverse @ e
    if method == "ML":
        return -0.5 * (twice + n * np.log(2 * np.pi))
    twice += np.linalg.slogdet(XVX)[1] - np.linalg.slogdet(X.T @ X)[1]
    return -0.5 * (twice + (n - p) * np.log(2 * np.pi))


@pytest.mark.parametrize("method", ["REML", "ML"])
def test_estimate_is_the_maximum_of_the_likelihood_by_definition(method):
    G, X, y = simulate()
    found = estimate(Spectrum.of(G), y, X, method=method)
    at = log_likelihood(G, X, y, found.Vu, found.Ve, method)
    assert found.log_likelihood == pytest.approx(at, abs=1e-9)
    assert found.bound is None
    for which in range(2):  # both partial derivatives vanish
        step = np.zeros(2)
        step[which] = 1e-4
        up, down = (
            log_likelihood(G, X, y, *(np.array([found.Vu, found.Ve]) * np.exp(s * step)), method) for s in (1, -1)
        )
        assert abs(up - down) / 2e-4 < 1e-5
        assert up + down - 2 * at < 0
    best = minimize(
        lambda t: -log_likelihood(G, X, y, *np.exp(t), method), np.zeros(2), method="Nelder-Mead", tol=1e-10
    )
    assert found.lam == pytest.approx(np.exp(best.x[1] - best.x[0]), rel=1e-4)


def test_estimate_scales_with_the_relationship_and_the_phenotypes():
    G, X, y = simulate()
    once, scaled = estimate(Spectrum.of(G), y, X), estimate(Spectrum.of(G / 4), 10 * y, X)
    assert scaled.lam == pytest.approx(once.lam / 4, rel=1e-6)
    assert scaled.Ve == pytest.approx(once.Ve * 100, rel=1e-6)
    assert scaled.Vu == pytest.approx(once.Vu * 400, rel=1e-6)


def test_phenotypes_without_genetic_variance_put_lambda_at_the_upper_bound():
    G, X, _ = simulate(p=1)
    values, vectors = np.linalg.eigh(G)
    y = vectors @ (np.sqrt(np.maximum(values, 1e-3)) ** -1)  # less variance where G has more
    found = estimate(Spectrum.of(G), y, X)
    assert found.bound == "upper"
    assert found.h2 < 1e-6


def test_phenotypes_without_residual_put_lambda_at_the_lower_bound():
    G, X, _ = simulate(p=1)
    y = np.linalg.cholesky(G @ G @ G) @ np.random.default_rng(4).standard_normal(len(G))
    assert estimate(Spectrum.of(G), y, X).bound == "lower"


def test_a_singular_relationship_is_no_obstacle():
    rng = np.random.default_rng(3)
    W = rng.standard_normal((60, 10))
    y = W @ rng.standard_normal(10) + rng.standard_normal(60) * 3
    found = estimate(Spectrum.of(W @ W.T / 10), y, np.ones((60, 1)))
    at = log_likelihood(W @ W.T / 10, np.ones((60, 1)), y, found.Vu, found.Ve, "REML")
    assert found.log_likelihood == pytest.approx(at, abs=1e-8)


def test_bad_input_is_told_in_a_sentence():
    G, X, y = simulate(n=10, p=1)
    with pytest.raises(BenchError, match="2 records and 1 fixed effects; at least 3"):
        estimate(Spectrum.of(G[:2, :2]), y[:2], X[:2])
    with pytest.raises(BenchError, match="do not vary around their fixed effects"):
        estimate(Spectrum.of(G), np.full(10, 3.0), X)
    with pytest.raises(BenchError, match="not positive semidefinite"):
        Spectrum.of(-G)
    with pytest.raises(BenchError, match="NaN"):
        Spectrum.of(G * np.nan)


@pytest.fixture(scope="module")
def wheat():
    """Dosages 0/2 of 599 inbred lines, yields, fold labels; rrBLUP's results."""
    folder = Path(os.environ.get("BENCH_DATA", ""))
    file = folder / "wheat" / "wheat.RData"
    if "BENCH_DATA" not in os.environ or not file.exists():
        pytest.skip("BENCH_DATA does not name a folder with wheat/wheat.RData")
    rdata = pytest.importorskip("rdata")
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content = rdata.read_rda(str(file))
    reference = folder.parent / "reference"
    tables = {name: pd.read_csv(reference / f"wheat_rrblup_{name}.csv") for name in ("vc", "ebv", "cv10_sets")}
    packed = PackedGenotypes.from_dosages((2 * np.asarray(content["wheat.X"])).astype(np.int8))
    return packed, np.asarray(content["wheat.Y"]), np.asarray(content["wheat.sets"]).astype(int), tables


@pytest.fixture(scope="module", params=KERNELS)
def wheat_kernel(request, wheat):
    packed, yields, folds, tables = wheat
    coding = RELATIONSHIPS[KERNELS[request.param]](packed)
    G = dense_grm(packed, coding)
    return request.param, packed, coding, G, Spectrum.of(G), yields, folds, tables


@pytest.mark.parametrize("column", range(4))
@pytest.mark.parametrize("method", ["REML", "ML"])
def test_wheat_variance_components_are_those_of_rrblup(wheat_kernel, column, method):
    kernel, _, _, _, spectrum, yields, _, tables = wheat_kernel
    records = Records.of(yields[:, column])
    found = estimate(spectrum, records.y, records.X, method=method)
    table = tables["vc"]
    rows = (table.trait == f"env{ENVIRONMENTS[column]}") & (table.kernel == kernel) & (table.method == method)
    want = table[rows].iloc[0]
    # rrBLUP's optimize() stops at a relative 1e-4 or so of λ; 2e-5 is what the two differ by at the most.
    assert found.lam == pytest.approx(want["lambda"], rel=5e-5)
    assert found.Vu == pytest.approx(want.Vu, rel=5e-5)
    assert found.Ve == pytest.approx(want.Ve, rel=5e-5)
    # rrBLUP writes π as 3.14159, which moves its log-likelihood by a constant.
    freedom = len(yields) - (method == "REML")
    constant = 0.5 * freedom * np.log(np.pi / 3.14159)
    assert found.log_likelihood + constant == pytest.approx(want.LL, abs=1e-6)
    assert found.log_likelihood + constant >= want.LL - 1e-9  # ours is not the worse maximum


@pytest.mark.parametrize("column", range(4))
def test_wheat_ebvs_and_their_standard_errors_are_those_of_rrblup(wheat_kernel, column):
    kernel, packed, coding, G, spectrum, yields, _, tables = wheat_kernel
    records = Records.of(yields[:, column])
    found = estimate(spectrum, records.y, records.X)
    fit = fit_cholesky(G.copy(), records, found.lam)
    centred = BlockCentred(packed, coding)
    ebv = breeding_values(centred, marker_effects(centred, coding.divisor, records, fit))
    name = f"env{ENVIRONMENTS[column]}_{kernel}"
    want = tables["ebv"][name].to_numpy()
    np.testing.assert_allclose(ebv, want, atol=1e-5 * np.abs(want).max())
    errors = np.sqrt(found.Vu * prediction_error_variance(G, records, found.lam))
    np.testing.assert_allclose(errors, tables["ebv"][f"{name}_PEVse"], rtol=1e-5)


@pytest.mark.parametrize("column", range(4))
def test_wheat_cross_validation_is_that_of_rrblup(wheat_kernel, column):
    kernel, _, _, G, _, yields, folds, tables = wheat_kernel
    found = cross_validate_reml(G, Records.of(yields[:, column]), folds)
    table = tables["cv10_sets"]
    want = table[(table.env == ENVIRONMENTS[column]) & (table.kernel == kernel)].iloc[0]
    assert found.pooled == pytest.approx(want.r_pooled, abs=1e-6)
    assert found.pooled_u == pytest.approx(want.r_u_pooled, abs=1e-6)
    assert found.per_fold.mean() == pytest.approx(want.r_fold_mean, abs=1e-6)
    assert found.per_fold.std(ddof=1) == pytest.approx(want.r_fold_sd, abs=1e-6)
    assert found.slope == pytest.approx(want.slope, abs=1e-5)
    assert found.mean_squared_error == pytest.approx(want.mse, abs=1e-6)
    assert found.lams.mean() == pytest.approx(want.lambda_mean, rel=5e-5)
