"""`bench variances`: against the likelihood by dense matrices, and what it writes."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml
from test_evaluation import MODELS, RANDOM, write_model

from bench import __main__ as cli
from bench.evaluation.components import Components
from bench.evaluation.variances import Settings, estimate_variances
from bench.models.variances import Variances
from evaluation_case import GROUPS, ONE, TWO, Oracle

CASES = {
    "one trait": {},
    "repeated records": {"permanent": True, "variances": {"genetic": 0.3, "residual": 0.5, "permanent": 0.2}},
    "weights, two traits": {"traits": ["milk", "fat"], "variances": TWO, "weights": "weight"},
    "random groups": {"pedigree": RANDOM},
    "metafounders": {"pedigree": {"metafounders": "gamma.txt"}},
    "pedigree": {"genotypes": None},
}


def variances(model, out, *more):
    return cli.main(["variances", str(model), "--out", str(out), "--threads", "1", *map(str, more)])


def at(model, folder, found):
    """The model with other variances."""
    path = folder / "at.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(model.read_text()) | found))
    return path


@pytest.mark.parametrize("name", CASES)
def test_no_variances_near_the_estimates_are_more_likely(name, farm, tmp_path):
    model, out = write_model(farm, tmp_path / "model.yaml", **CASES[name]), tmp_path / "out"
    assert variances(model, out) == 0
    assert json.loads((out / "variances.json").read_text())["method"] == "exact"
    found = yaml.safe_load((out / "variances.yaml").read_text())
    oracle, table = Oracle(model), pd.read_parquet(out / "variances.parquet")
    start, best = oracle.log_likelihood, oracle.likelihood_at(found["variances"])
    assert best > start
    for effect, value in found["variances"].items():
        for i, j in zip(*np.tril_indices(len(np.atleast_2d(value))), strict=True):
            error = table[table["effect"] == effect]["error"].max()
            fits = []
            for step in (-0.02 * error, 0.02 * error):
                other = np.atleast_2d(value).copy()
                other[i, j] += step
                other[j, i] = other[i, j]
                moved = {
                    "variances": found["variances"] | {effect: other.tolist() if len(other) > 1 else other.item()}
                }
                fits.append(Oracle(at(model, tmp_path, moved)).log_likelihood)
            low, high = fits
            if min(np.atleast_2d(value).diagonal()) > 1e-3:  # inside the parameter space
                assert abs(high - low) < 0.1 * (2 * best - low - high) + 1e-6
                assert max(low, high) < best


def test_what_is_written(farm, tmp_path):
    model, out = write_model(farm, tmp_path / "model.yaml", **MODELS["two traits"]), tmp_path / "out"
    assert variances(model, out) == 0
    files = {f"{name}.{kind}" for name in ("variances", "shares", "trace") for kind in ("parquet", "tsv")}
    assert {p.name for p in out.iterdir()} == files | {"variances.yaml", "variances.json", "log.txt"}
    table, shares = (pd.read_parquet(out / f"{name}.parquet") for name in ("variances", "shares"))
    assert list(table) == ["effect", "trait", "with", "estimate", "error", "correlation", "correlation_error"]
    found = yaml.safe_load((out / "variances.yaml").read_text())["variances"]
    G, R = np.array(found["genetic"]), np.array(found["residual"])
    np.testing.assert_allclose(table["estimate"][:3], [G[0, 0], G[1, 0], G[1, 1]], rtol=1e-6)
    np.testing.assert_allclose(table["correlation"][1], G[1, 0] / np.sqrt(G[0, 0] * G[1, 1]), rtol=1e-6)
    h2 = shares[shares["effect"] == "genetic"].set_index("trait")["share"]
    np.testing.assert_allclose(h2, np.diag(G) / np.diag(G + R), rtol=1e-6)
    trace = pd.read_parquet(out / "trace.parquet")
    assert (trace["log_likelihood"].diff().dropna() > -1e-6).all()
    log = (out / "log.txt").read_text()
    assert "step 1: log-likelihood" in log
    assert "h² of fat: " in log
    # The estimates go into the model file as they are, and are found again from there.
    assert variances(at(model, tmp_path, {"variances": found}), tmp_path / "again") == 0
    again = yaml.safe_load((tmp_path / "again" / "variances.yaml").read_text())["variances"]
    np.testing.assert_allclose(again["genetic"], G, rtol=1e-3)
    assert len(pd.read_parquet(tmp_path / "again" / "trace.parquet")) <= len(trace)


@pytest.mark.parametrize("name", ["one trait", "random groups", "fixed groups"])
def test_simulated_scores_are_near_the_exact_estimates(name, farm, tmp_path):
    keys = {"pedigree": {"groups": list(GROUPS)}} if name == "fixed groups" else CASES[name]
    model = write_model(farm, tmp_path / "model.yaml", **keys)
    more = () if name == "fixed groups" else ("--method", "simulated")  # fixed groups are no model for AI-REML
    assert variances(model, tmp_path / "out", "--simulations", 60, *more) == 0
    facts = json.loads((tmp_path / "out" / "variances.json").read_text())
    assert facts["method"] == "simulated"
    other = CASES["random groups"] if name == "fixed groups" else keys
    assert variances(write_model(farm, tmp_path / "exact.yaml", **other), tmp_path / "exact") == 0
    one, two = (
        pd.read_parquet(tmp_path / folder / "shares.parquet").set_index("effect") for folder in ("out", "exact")
    )
    error = facts["simulation_error_of_h2"] + (0.05 if name == "fixed groups" else 0)
    assert abs(one.loc["genetic", "share"] - two.loc["genetic", "share"]) < 4 * error
    assert 0.4 < one.loc["genetic", "error"] / two.loc["genetic", "error"] < 2.5
    if name == "fixed groups":
        assert (
            "by simulated scores: AI-REML takes unknown-parent groups as random effects"
            in (tmp_path / "out" / "log.txt").read_text()
        )


def test_errors_of_shares_and_correlations_are_those_of_draws():
    rng = np.random.default_rng(1)
    G, R = np.array([[0.4, 0.1], [0.1, 0.3]]), np.array([[0.6, 0.2], [0.2, 0.9]])
    parameters = tuple((name, i, j) for name in ("genetic", "residual") for i, j in ((0, 0), (1, 0), (1, 1)))
    F = rng.standard_normal((6, 6)) * 0.003
    spread = F @ F.T
    made = Components(Variances(G, R), parameters, spread, ("a", "b"), ("a", "b"))
    at = np.array([0.4, 0.1, 0.3, 0.6, 0.2, 0.9])
    draws = rng.multivariate_normal(at, spread, 200_000)
    h2 = draws[:, [0, 2]] / (draws[:, [0, 2]] + draws[:, [3, 5]])
    found = made.shares().set_index(["trait", "effect"])
    np.testing.assert_allclose(found.loc[[("a", "genetic"), ("b", "genetic")], "error"], h2.std(axis=0), rtol=0.02)
    r = draws[:, 1] / np.sqrt(draws[:, 0] * draws[:, 2])
    np.testing.assert_allclose(made.table()["correlation_error"][1], r.std(), rtol=0.02)
    np.testing.assert_allclose(made.table()["error"], np.sqrt(spread.diagonal()))


def test_maternal_effects_are_a_part_of_the_phenotypic_variance():
    G = np.array([[0.4, -0.1], [-0.1, 0.2]])
    parameters = (("genetic", 0, 0), ("genetic", 1, 0), ("genetic", 1, 1), ("residual", 0, 0))
    variances = Variances(G, np.array([[0.5]]))
    made = Components(variances, parameters, np.eye(4) * 1e-4, ("a",), ("a", "a (maternal)"))
    found = made.shares().set_index("effect")["share"]
    assert found.to_dict() == pytest.approx({"genetic": 0.4, "maternal": 0.2, "residual": 0.5})


REFUSED = [
    ({"traits": ["milk", "fat"], "variances": TWO}, ["--method", "simulated"],
     "simulated scores estimate the variances of one trait without maternal effects, this model has milk, fat"),
    ({"genotypes": None}, ["--method", "simulated"], "simulated scores are of single-step models"),
    ({"single_step": {"polygenic": 0}}, ["--method", "exact"], "AI-REML needs H⁻¹, for which single_step.polygenic"),
    ({}, ["--method", "exact", "--memory", "1000000"], "AI-REML needs 0.00"),
    ({}, ["--method", "guess"], "there is no method 'guess'; there are auto, exact, simulated"),
    ({}, ["--method", "simulated", "--simulations", "3"], "3 simulated data sets cannot tell a spread"),
    ({"genotypes": None, "pedigree": {"groups": list(GROUPS)}}, [],
     "AI-REML takes unknown-parent groups as random effects or as metafounders, here they are fixed; simulated"),
]  # fmt: skip


@pytest.mark.parametrize(("keys", "more", "said"), REFUSED)
def test_what_cannot_be_estimated_is_said(keys, more, said, farm, tmp_path, capsys):
    assert variances(write_model(farm, tmp_path / "model.yaml", **keys), tmp_path / "out", *more) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out" / "variances.yaml").exists()


def test_without_convergence_the_status_is_1_and_the_trace_stays(farm, tmp_path, capsys):
    start = {"variances": {"genetic": 5.0, "residual": 0.1}}
    model = write_model(farm, tmp_path / "model.yaml", **start)
    assert variances(model, tmp_path / "exact", "--max-steps", 1) == 1
    assert json.loads((tmp_path / "exact" / "variances.json").read_text())["status"] == "not converged"
    assert variances(model, tmp_path / "simulated", "--method", "simulated", "--max-steps", 2) == 2
    assert "after 2 evaluations" in capsys.readouterr().err.splitlines()[-1]
    assert len(pd.read_parquet(tmp_path / "simulated" / "trace.parquet")) == 2
    assert not (tmp_path / "simulated" / "variances.json").exists()


def test_a_larger_model_than_AI_REML_takes_is_simulated(farm, tmp_path, monkeypatch):
    from bench.models import ai_reml

    monkeypatch.setattr(ai_reml, "MOST_EQUATIONS", 100)
    model = write_model(farm, tmp_path / "model.yaml", variances=ONE)
    assert estimate_variances(model, tmp_path / "out", Settings(threads=1, simulations=5))
    assert "by simulated scores: AI-REML takes up to 100 equations" in (tmp_path / "out" / "log.txt").read_text()
