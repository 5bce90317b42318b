"""Model files without a pedigree: `bench solve`, `predict` and `variances` against dense GBLUP."""

import json
import os
import re
import warnings
from pathlib import Path

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
    "gaussian": {"relationship": {"kind": "gaussian", "theta": 0.7}},
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
    "gaussian": {"relationship": {"kind": "gaussian"}},
}


@pytest.mark.parametrize("name", REML)
def test_no_variances_near_the_estimates_are_more_likely(name, herd, tmp_path):
    model, out = model_of(herd, tmp_path / "model.yaml", **REML[name]), tmp_path / "out"
    assert run("variances", model, out) == 0
    facts = json.loads((out / "variances.json").read_text())
    assert facts["method"] == ("eigen" if name in ("one trait", "gaussian") else "exact")
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


def test_snp_weights_and_a_weight_of_nothing(herd, tmp_path):
    weights = np.random.default_rng(4).gamma(0.7, size=150) * (np.arange(150) % 5 > 0)
    (tmp_path / "w.txt").write_text("".join(f"s{j} {w:.17g}\n" for j, w in enumerate(weights)))
    genotypes = {"plink": str(herd / "genotypes"), "weights": str(tmp_path / "w.txt")}
    model = model_of(herd, tmp_path / "model.yaml", genotypes=genotypes, output={"reliability": "exact"})
    assert run("solve", model, tmp_path / "out") == 0
    assert_close(column(tmp_path / "out"), Oracle(model).ebv)
    np.testing.assert_allclose(column(tmp_path / "out", "reliability"), Oracle(model).reliability, atol=1e-8)


def test_not_converging_is_a_status_and_the_last_step_is_kept(herd, tmp_path):
    model = model_of(herd, tmp_path / "model.yaml")
    assert run("solve", model, tmp_path / "out", "--max-steps", 3) == 1
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["converged"] is False
    assert np.corrcoef(column(tmp_path / "out")[:, 0], Oracle(model).ebv[:, 0])[0, 1] > 0.5
    assert run("variances", model, tmp_path / "v", "--method", "exact", "--max-steps", 1) == 1
    assert json.loads((tmp_path / "v" / "variances.json").read_text())["status"] == "not converged"
    assert (tmp_path / "v" / "variances.yaml").exists()


def test_a_later_evaluation_starts_from_an_earlier_one(herd, tmp_path):
    model = model_of(herd, tmp_path / "model.yaml")
    assert run("solve", model, tmp_path / "one") == 0
    assert run("solve", model, tmp_path / "two", "--start", tmp_path / "one") == 0
    assert json.loads((tmp_path / "two" / "evaluation.json").read_text())["steps"] <= 2


def test_the_gaussian_kernel_has_no_snp_effects_and_starts_from_itself(herd, tmp_path):
    keys = {"relationship": {"kind": "gaussian"}, "single_step": {"variant": "fernando", "tolerance": 1e-12}}
    model = model_of(herd, tmp_path / "model.yaml", **keys)
    assert run("solve", model, tmp_path / "one") == 0
    assert_close(column(tmp_path / "one"), Oracle(model).ebv, 1e-7)
    assert not (tmp_path / "one" / "snp_effects.parquet").exists()
    assert "no snp_effects.parquet" in (tmp_path / "one" / "log.txt").read_text()
    keys |= {"single_step": {"tolerance": 1e-10}, "output": {"reliability": "sampled"}}
    other = model_of(herd, tmp_path / "other.yaml", **keys)
    assert run("solve", other, tmp_path / "two", "--start", tmp_path / "one") == 0
    z = (column(tmp_path / "two", "reliability") - Oracle(other).reliability) / column(
        tmp_path / "two", "reliability_error"
    )
    assert np.sqrt((z**2).mean()) < 1.5


def test_a_gaussian_kernel_needs_distances(herd, tmp_path, capsys):
    write_genotypes(tmp_path / "same", np.r_[np.zeros((57, 150)), np.ones((3, 150))], [f"a{i}" for i in range(60)])
    keys = {"genotypes": {"plink": str(tmp_path / "same")}, "relationship": {"kind": "gaussian"}}
    assert run("solve", model_of(herd, tmp_path / "model.yaml", **keys), tmp_path / "out") == 2
    assert "the median distance between the genotypes of 60 animals is 0" in capsys.readouterr().err


def changed(table, **columns):
    """The records with other columns."""
    return table.assign(**columns)


GENOTYPED_ONLY = "a model without a pedigree needs the genotypes of all: leave their records out, or name a pedigree"
BAD = {
    "neither": ({"genotypes": None}, None, "has neither a `pedigree` nor `genotypes`"),
    "polygenic": ({"single_step": {"polygenic": 0.1}}, None, "single_step.polygenic: it is about the pedigree"),
    "tuning": ({"single_step": {"tuning": "chen"}}, None, "single_step.tuning: it is about the pedigree"),
    "variant": ({"single_step": {"variant": "ss_h"}}, None, "there is no polygenic share, and ss_h needs"),
    "kind": ({"relationship": {"kind": "vanraden3"}}, None, "relationship.kind"),
    "maternal": ({"maternal": {}, "variances": {"genetic": [[1, 0], [0, 1]], "residual": 1}}, None,
                 "maternal.dam: without a pedigree it has to name a column"),
    "collinear covariates": (
        {"fixed": {"age": "covariate", "days": "covariate"}}, lambda t: changed(t, days=t["age"] * 365 + 3),
        "covariate (age|days) is confounded with",
    ),
    "no variance": ({"fixed": {}}, lambda t: changed(t, milk=7.5), "'milk' does not vary around its fixed effects"),
    "no variance left": (
        {"fixed": {"herd": "class"}}, lambda t: changed(t, milk=t["herd"] * 2.5 + 1), "does not vary around its fixed"
    ),
    "one record": ({"fixed": {}}, lambda t: t[t["milk"].notna()].head(1),
                   "'milk' has 1 records and 1 fixed effects to estimate from them; more records"),
    "more fixed effects than records": (
        {"fixed": {"litter": "class", "herd": "class"}}, lambda t: t[t["milk"].notna()].drop_duplicates("litter"),
        r"has (\d+) records and \1 fixed effects to estimate from them",
    ),
    "NaN weights": ({"weights": "w"}, lambda t: changed(t, w=np.nan), "a recorded trait needs a number there"),
    "infinite record": ({}, lambda t: changed(t, milk=np.inf), "milk is 'inf'.*needed a finite number"),
    "no genotypes": ({}, lambda t: changed(t, id=t["id"].replace({"a3": "x1", "a4": "x2"})),
                     f"2 of .. animals with records are not in .*genotypes.fam: 'x.', 'x.'; {GENOTYPED_ONLY}"),
}  # fmt: skip


@pytest.mark.parametrize("verb", ["solve", "variances"])
@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_is_said_in_a_sentence(name, verb, herd, tmp_path, capsys):
    keys, of, sentence = BAD[name]
    if of is not None:
        table = of(pd.read_csv(herd / "records.tsv", sep="\t"))
        table.to_csv(tmp_path / "records.tsv", sep="\t", index=False, na_rep="NA")
        keys = keys | {"records": str(tmp_path / "records.tsv")}
    assert run(verb, model_of(herd, tmp_path / "model.yaml", **keys), tmp_path / "out") == 2
    (said,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith(f"bench {verb}: ")]
    assert re.search(sentence, said), said


@pytest.mark.parametrize(("option", "value", "least"), [("--seed", -1, 0), ("--max-steps", 0, 1)])
def test_numbers_that_cannot_be_are_refused_before_anything_is_written(option, value, least, herd, tmp_path, capsys):
    model = model_of(herd, tmp_path / "model.yaml")
    assert run("variances", model, tmp_path / "out", option, value) == 2
    assert f"bench variances: {option}: {value} was given; {least} or more was needed" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        ("0", "all 150 SNP weights are 0"),
        ("-1", "150 SNP weights are negative or no numbers, such as -1 of SNP 1"),
        ("nan", "line 2 is 's1 nan'; a SNP's id and its weight were needed"),
    ],
)
def test_snp_weights_that_cannot_be(weights, sentence, herd, tmp_path, capsys):
    (tmp_path / "w.txt").write_text("".join(f"s{j} {weights}\n" for j in range(150)))
    genotypes = {"plink": str(herd / "genotypes"), "weights": str(tmp_path / "w.txt")}
    assert run("solve", model_of(herd, tmp_path / "model.yaml", genotypes=genotypes), tmp_path / "out") == 2
    assert sentence in capsys.readouterr().err


@pytest.fixture(scope="module")
def wheat(tmp_path_factory):
    """wheat.bed of the 599 lines with their yields; rrBLUP's results."""
    folder = Path(os.environ.get("BENCH_DATA", ""))
    if "BENCH_DATA" not in os.environ or not (folder / "wheat" / "wheat.RData").exists():
        pytest.skip("BENCH_DATA does not name a folder with wheat/wheat.RData")
    rdata = pytest.importorskip("rdata")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content = rdata.read_rda(str(folder / "wheat" / "wheat.RData"))
    here = tmp_path_factory.mktemp("wheat")
    tables = {
        name: pd.read_csv(folder.parent / "reference" / f"wheat_rrblup_{name}.csv")
        for name in ("vc", "ebv", "cv10_sets")
    }
    ids = [str(i) for i in tables["ebv"]["id"]]
    write_genotypes(here / "genotypes", 2 * np.asarray(content["wheat.X"]), ids)
    yields = pd.DataFrame(np.asarray(content["wheat.Y"]), columns=[f"env{e}" for e in (1, 2, 4, 5)])
    yields.insert(0, "id", ids)
    yields["set"] = np.asarray(content["wheat.sets"]).astype(int)
    yields.sample(frac=1, random_state=3).to_csv(here / "records.tsv", sep="\t", index=False, float_format="%.17g")
    return here, tables


@pytest.mark.parametrize(
    ("trait", "kernel", "kind"), [("env1", "Amat", "vanraden1"), ("env4", "WWt", "standardised")]
)
def test_wheat_is_evaluated_as_by_rrblup(trait, kernel, kind, wheat, tmp_path):
    folder, tables = wheat
    vc = tables["vc"].set_index(["trait", "kernel", "method"]).loc[(trait, kernel, "REML")]
    keys = {"traits": [trait], "fixed": {}, "relationship": {"kind": kind}, "output": {"reliability": "exact"}}
    keys["genotypes"] = {"plink": str(folder / "genotypes"), "min_maf": 0}
    start = model_of(folder, tmp_path / "start.yaml", **keys, variances={"genetic": 0.5, "residual": 0.5})
    assert run("variances", start, tmp_path / "variances") == 0
    found = yaml.safe_load((tmp_path / "variances" / "variances.yaml").read_text())["variances"]
    assert found["residual"] / found["genetic"] == pytest.approx(vc["lambda"], rel=1e-3)
    assert run("solve", model_of(folder, tmp_path / "model.yaml", **keys, variances=found), tmp_path / "out") == 0
    table = pd.read_parquet(tmp_path / "out" / "solutions.parquet").set_index("animal")
    wanted = tables["ebv"].assign(id=tables["ebv"]["id"].astype(str)).set_index("id")
    np.testing.assert_allclose(table["ebv"], wanted.loc[table.index, f"{trait}_{kernel}"], atol=1e-4)
    np.testing.assert_allclose(np.sqrt(table["pev"]), wanted.loc[table.index, f"{trait}_{kernel}_PEVse"], rtol=2e-4)


@pytest.mark.slow
def test_wheat_is_predicted_as_well_as_by_rrblup(wheat, tmp_path):
    # rrBLUP's relationships had the frequencies of all lines, here they are those of the training lines.
    folder, tables = wheat
    genotypes = {"plink": str(folder / "genotypes"), "min_maf": 0}
    model = model_of(folder, tmp_path / "model.yaml", traits=["env1"], fixed={}, genotypes=genotypes)
    assert run("crossvalidate", model, tmp_path / "out", "--by", "set", "--reml") == 0
    wanted = tables["cv10_sets"].astype({"env": str}).set_index(["env", "kernel"]).loc[("1", "Amat")]
    found = pd.read_parquet(tmp_path / "out" / "crossvalidation.parquet").set_index("over")
    assert found.loc["pooled", "ability_phenotype"] == pytest.approx(wanted["r_pooled"], abs=5e-3)
    assert found.loc["pooled", "ability"] == pytest.approx(wanted["r_u_pooled"], abs=5e-3)
    assert found.loc["pooled", "mse"] == pytest.approx(wanted["mse"], rel=5e-3)
    assert found.loc["within folds", "ability"] == pytest.approx(wanted["r_fold_mean"], abs=5e-3)
