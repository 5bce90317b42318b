"""`bench variances` where there is one ratio: both ways against AI-REML, and what they refuse."""

import json

import numpy as np
import pandas as pd
import pytest

from bench import __main__ as cli
from bench.evaluation import variance_ratio, variances
from bench.models.criteria import average_information, restricted_log_likelihood
from bench.models.reml import Rotated, Spectrum, estimate
from gblup_case import ONE, make_population, model_of

MODELS = {"weights": {"weights": "w"}, "an intercept": {"fixed": {}}}


@pytest.fixture(scope="module")
def herd(tmp_path_factory):
    return make_population(tmp_path_factory.mktemp("herd"), seed=8)


def run(model, out, *more):
    return cli.main(["variances", str(model), "--out", str(out), "--threads", "1", *map(str, more)])


def facts(out):
    return json.loads((out / "variances.json").read_text())


def table(out):
    return pd.read_parquet(out / "variances.parquet").set_index("effect")


@pytest.mark.parametrize("name", MODELS)
def test_all_ways_find_the_same(name, herd, tmp_path):
    model = model_of(herd, tmp_path / "model.yaml", **MODELS[name])
    for method in ("exact", "eigen", "lanczos"):
        assert run(model, tmp_path / method, "--method", method) == 0
    exact, eigen, lanczos = (tmp_path / method for method in ("exact", "eigen", "lanczos"))
    np.testing.assert_allclose(table(eigen)["estimate"], table(exact)["estimate"], rtol=1e-3)
    np.testing.assert_allclose(table(eigen)["error"], table(exact)["error"], rtol=1e-2)
    share = [
        pd.read_parquet(out / "shares.parquet").set_index("effect")["share"]["genetic"] for out in (eigen, lanczos)
    ]
    assert abs(share[0] - share[1]) < 4 * facts(lanczos)["simulation_error_of_h2"] + 1e-3
    trace = pd.read_parquet(lanczos / "trace.parquet")
    assert len(trace) == facts(lanczos)["steps"]
    assert trace["h2"].iloc[-1] == pytest.approx(share[1])
    assert facts(lanczos)["status"] == "converged"
    log = (lanczos / "log.txt").read_text()
    assert "statistical error" in log
    assert "Monte Carlo error" in log


def test_auto_takes_lanczos_where_the_decomposition_is_too_large(herd, tmp_path, monkeypatch):
    model = model_of(herd, tmp_path / "model.yaml")
    monkeypatch.setattr(variance_ratio, "MOST_EIGEN", 10)
    assert run(model, tmp_path / "out") == 0
    assert facts(tmp_path / "out")["method"] == "lanczos"


def test_a_run_that_is_cut_short_says_so_and_keeps_the_last_step(herd, tmp_path):
    model = model_of(herd, tmp_path / "model.yaml")
    assert run(model, tmp_path / "out", "--method", "lanczos", "--max-steps", 2) == 1
    assert facts(tmp_path / "out")["status"] == "not converged"
    assert (tmp_path / "out" / "variances.yaml").exists()


def test_models_with_more_ratios_are_refused(herd, tmp_path, capsys):
    keys = {"random": {"litter": "class"}, "variances": ONE | {"litter": 0.1}}
    model = model_of(herd, tmp_path / "model.yaml", **keys)
    assert run(model, tmp_path / "out", "--method", "lanczos") != 0
    assert "one trait without further random effects" in capsys.readouterr().err


def test_too_little_memory_is_said_before_it_is_taken(herd, tmp_path, capsys, monkeypatch):
    model = model_of(herd, tmp_path / "model.yaml")
    read = variances.read_inputs  # the genotypes of so small a herd take what they take
    monkeypatch.setattr(variances, "read_inputs", lambda *given, memory: read(*given))
    assert run(model, tmp_path / "out", "--method", "eigen", "--memory", 1000) != 0
    assert "--method lanczos needs less" in capsys.readouterr().err
    assert run(model, tmp_path / "out", "--method", "lanczos", "--memory", 1000) != 0
    assert "steps of 8 vectors" in capsys.readouterr().err


def test_average_information_and_likelihood_are_those_of_dense_matrices():
    rng = np.random.default_rng(3)
    n = 40
    W = rng.standard_normal((n, 60))
    K, X = W @ W.T / 60, np.column_stack([np.ones(n), rng.standard_normal(n)])
    y = np.linalg.cholesky(K) @ rng.standard_normal(n) + rng.standard_normal(n)
    found = estimate(Spectrum.of(K), y, X)
    at = Rotated.of(Spectrum.of(K), y, X).moments(found.lam)
    V = found.Vu * K + found.Ve * np.eye(n)
    Vi = np.linalg.inv(V)
    P = Vi - Vi @ X @ np.linalg.solve(X.T @ Vi @ X, X.T @ Vi)
    wanted = [[0.5 * y @ P @ A @ P @ B @ P @ y for A in (K, np.eye(n))] for B in (K, np.eye(n))]
    np.testing.assert_allclose(average_information(at), wanted, rtol=1e-8)
    assert restricted_log_likelihood(at, found.Vu) == pytest.approx(found.log_likelihood)
    dets = np.linalg.slogdet(V)[1] + np.linalg.slogdet(X.T @ Vi @ X)[1] - np.linalg.slogdet(X.T @ X)[1]
    assert found.log_likelihood == pytest.approx(-0.5 * ((n - 2) * np.log(2 * np.pi) + dets + y @ P @ y))
