"""Model files without a pedigree: `bench solve`, `predict` and `variances` against dense GBLUP."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml

from bench import __main__ as cli
from gblup_case import ONE, TWO, Oracle, make_population, model_of, read_dosages, write_genotypes

LITTER = {"random": {"litter": "class"}}
MODELS = {
    "one trait": {},
    "two traits, weights": {"traits": ["milk", "fat"], "variances": TWO, "weights": "w"},
    "repeated records": {"permanent": True, "variances": ONE | {"permanent": 0.2}},
    "random, two traits": LITTER | {
        "traits": ["milk", "fat"], "variances": TWO | {"litter": [[0.2, 0.05], [0.05, 0.1]]}
    },
    "vanraden2": {"relationship": {"kind": "vanraden2"}},
    "standardised": {"relationship": {"kind": "standardised"}},
    "an intercept": {"fixed": {}},
}  # fmt: skip


@pytest.fixture(scope="module")
def herd(tmp_path_factory):
    return make_population(tmp_path_factory.mktemp("herd"))


def run(verb, model, out, *more):
    return cli.main([verb, str(model), "--out", str(out), "--threads", "1", *map(str, more)])


def column(out, name="ebv"):
    table = pd.read_parquet(out / "solutions.parquet")
    return table[name].to_numpy().reshape(-1, table["trait"].nunique())


def assert_close(found, wanted, rtol=1e-8):
    assert np.abs(found - wanted).max() <= rtol * np.abs(wanted).max()


@pytest.mark.parametrize("name", MODELS)
def test_breeding_values_and_reliabilities_are_those_of_a_dense_V(name, herd, tmp_path):
    model = model_of(herd, tmp_path / "model.yaml", **MODELS[name], output={"reliability": "exact"})
    assert run("solve", model, tmp_path / "out") == 0
    oracle = Oracle(model)
    assert pd.read_parquet(tmp_path / "out" / "solutions.parquet")["animal"].unique().tolist() == oracle.ids
    assert_close(column(tmp_path / "out"), oracle.ebv)
    np.testing.assert_allclose(column(tmp_path / "out", "reliability"), oracle.reliability, atol=1e-8)
    np.testing.assert_allclose(column(tmp_path / "out", "pev"), oracle.pev, atol=1e-8)


def with_frequencies(folder, seed=3):
    """A file of frequencies that are not those of the genotypes: G is then no longer singular."""
    snps = [line.split()[1] for line in (folder / "genotypes.bim").read_text().splitlines()]
    p = np.random.default_rng(seed).uniform(0.2, 0.8, len(snps)).round(3)
    lines = [f"{snp} C {value}" for snp, value in zip(snps, p, strict=True)]
    return "\n".join(["snp allele frequency", *lines]) + "\n", p


def test_the_mixed_model_equations_have_the_same_solution(herd, tmp_path):
    text, p = with_frequencies(herd)
    (tmp_path / "p.txt").write_text(text)
    genotypes = {"plink": str(herd / "genotypes"), "frequencies": str(tmp_path / "p.txt"), "min_maf": 0}
    model = model_of(
        herd, tmp_path / "model.yaml", genotypes=genotypes, permanent=True, variances=ONE | {"permanent": 0.2}
    )
    assert run("solve", model, tmp_path / "out") == 0
    X, table = read_dosages(herd / "genotypes"), pd.read_csv(herd / "records.tsv", sep="\t")
    W = np.where(np.isnan(X), 0, X - 2 * p) / np.sqrt(2 * np.sum(p * (1 - p)))
    table = table[table["milk"].notna()]
    n = len(X)
    Z = np.eye(n)[[int(name[1:]) for name in table["id"]]]
    B = np.column_stack([table["age"], pd.get_dummies(table["herd"]).to_numpy(float)])  # in the order of the file
    animals = np.flatnonzero(Z.any(axis=0))
    T = np.column_stack([B, Z[:, animals], Z]) / np.sqrt(0.6)
    S = T.T @ T
    at = np.arange(B.shape[1], B.shape[1] + animals.size)
    S[at, at] += 1 / 0.2
    S[-n:, -n:] += np.linalg.inv(W @ W.T) / 0.4
    wanted = np.linalg.solve(S, T.T @ table["milk"] / np.sqrt(0.6))
    effects = pd.read_parquet(tmp_path / "out" / "effects.parquet")["solution"].to_numpy()
    assert_close(column(tmp_path / "out")[:, 0], wanted[-n:])
    assert_close(effects, wanted[:-n])


def test_sampled_reliabilities_are_within_their_errors(herd, tmp_path):
    model = model_of(herd, tmp_path / "model.yaml", output={"reliability": "sampled"})
    assert run("solve", model, tmp_path / "out") == 0
    z = (column(tmp_path / "out", "reliability") - Oracle(model).reliability) / column(
        tmp_path / "out", "reliability_error"
    )
    assert np.abs(z).max() < 5
    assert np.sqrt((z**2).mean()) < 1.5


def test_the_order_of_records_and_of_genotypes_does_not_matter(herd, tmp_path):
    model = model_of(herd, tmp_path / "model.yaml")
    assert run("solve", model, tmp_path / "one") == 0
    rng = np.random.default_rng(1)
    X, ids = read_dosages(herd / "genotypes"), Oracle(model).ids
    order = rng.permutation(len(ids))
    write_genotypes(tmp_path / "other", np.nan_to_num(X[order], nan=-1), [ids[i] for i in order])
    table = pd.read_csv(herd / "records.tsv", sep="\t", dtype=str, keep_default_na=False)
    table.sample(frac=1, random_state=1).to_csv(tmp_path / "records.tsv", sep="\t", index=False)
    other = model_of(tmp_path, tmp_path / "other.yaml", genotypes={"plink": "other"})
    assert run("solve", other, tmp_path / "two") == 0
    one, two = (
        pd.read_parquet(tmp_path / name / "solutions.parquet").set_index("animal")["ebv"] for name in ("one", "two")
    )
    assert_close(two[one.index].to_numpy(), one.to_numpy(), 1e-10)


def test_new_animals_get_the_breeding_values_that_they_have_in_the_model(herd, tmp_path):
    text, _ = with_frequencies(herd)
    (tmp_path / "p.txt").write_text(text)
    X, ids = read_dosages(herd / "genotypes"), [f"a{i}" for i in range(60)]
    X = np.nan_to_num(X, nan=-1)
    keys = {"traits": ["milk", "fat"], "variances": TWO, "records": str(herd / "records.tsv")}
    write_genotypes(tmp_path / "old", X[:52], ids[:52])
    write_genotypes(tmp_path / "new", X[52:], ids[52:])
    for name, prefix in (("whole", herd / "genotypes"), ("part", tmp_path / "old")):
        genotypes = {"plink": str(prefix), "frequencies": str(tmp_path / "p.txt"), "min_maf": 0}
        assert (
            run("solve", model_of(herd, tmp_path / f"{name}.yaml", genotypes=genotypes, **keys), tmp_path / name) == 0
        )
    arguments = ["--genotypes", tmp_path / "new", "--effects", tmp_path / "part" / "snp_effects.parquet"]
    assert cli.main(["predict", *map(str, arguments), "--out", str(tmp_path / "c.parquet")]) == 0
    found = pd.read_parquet(tmp_path / "c.parquet")["ebv"].to_numpy().reshape(-1, 2)
    assert_close(found, column(tmp_path / "whole")[52:], 1e-9)


REML = {
    "one trait": {},
    "repeated records": {"permanent": True, "variances": ONE | {"permanent": 0.2}, "weights": "w"},
    "two traits": {"traits": ["milk", "fat"], "variances": TWO},
    "random": LITTER | {"variances": ONE | {"litter": 0.2}},
}


@pytest.mark.parametrize("name", REML)
def test_no_variances_near_the_estimates_are_more_likely(name, herd, tmp_path):
    model, out = model_of(herd, tmp_path / "model.yaml", **REML[name]), tmp_path / "out"
    assert run("variances", model, out) == 0
    facts = json.loads((out / "variances.json").read_text())
    assert facts["method"] == ("eigen" if name == "one trait" else "exact")
    oracle, found = Oracle(model), yaml.safe_load((out / "variances.yaml").read_text())["variances"]
    trace = pd.read_parquet(out / "trace.parquet")["log_likelihood"]
    best = oracle.blup(found)
    # The same likelihood, up to a constant.
    assert facts["log_likelihood"] - trace[0] == pytest.approx(
        best - oracle.blup(oracle.model["variances"]), abs=1e-6
    )
    errors = pd.read_parquet(out / "variances.parquet").groupby("effect")["error"].max()
    for effect, value in found.items():
        for i, j in zip(*np.tril_indices(len(np.atleast_2d(value))), strict=True):
            if np.linalg.eigvalsh(np.atleast_2d(value))[0] < 1e-2:  # at the boundary
                continue
            low, high = (
                oracle.blup(found | {effect: moved(value, i, j, step * errors[effect])}) for step in (-0.02, 0.02)
            )
            assert abs(high - low) < 0.1 * (2 * best - low - high) + 1e-6
            assert max(low, high) < best


def moved(value, i, j, step):
    other = np.atleast_2d(value).copy()
    other[i, j] += step
    other[j, i] = other[i, j]
    return other.tolist()


def test_simulated_scores_take_a_model_without_a_pedigree(herd, tmp_path):
    model = model_of(herd, tmp_path / "model.yaml")
    assert run("variances", model, tmp_path / "exact") == 0
    assert run("variances", model, tmp_path / "simulated", "--method", "simulated", "--simulations", 60) == 0
    facts = json.loads((tmp_path / "simulated" / "variances.json").read_text())
    one, two = (
        pd.read_parquet(tmp_path / name / "shares.parquet").set_index("effect")["share"]
        for name in ("exact", "simulated")
    )
    assert abs(one["genetic"] - two["genetic"]) < 4 * facts["simulation_error_of_h2"]
