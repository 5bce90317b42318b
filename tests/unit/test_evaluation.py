"""`bench solve` on files: breeding values against dense matrices, and what it writes."""

import json
from functools import partial

import numpy as np
import pandas as pd
import pytest

from bench import __main__ as cli
from bench.evaluation import solve as module
from evaluation_case import GROUPS, ONE, TWO, Oracle, model_of, read_bed

RANDOM = {"groups": list(GROUPS), "group_effect": "random"}
MODELS = {
    "one trait": {},
    "two traits": {"traits": ["milk", "fat"], "variances": TWO},
    "little polygenic": {"single_step": {"polygenic": 0.001, "tolerance": 1e-12}},
    "repeated records": {"permanent": True, "variances": ONE | {"permanent": 0.1}},
    "weights": {"traits": ["milk", "fat"], "variances": TWO, "weights": "weight"},
    "maternal": {
        "maternal": {}, "variances": {"genetic": [[0.35, -0.05], [-0.05, 0.1]], "residual": 0.5},
    },
    "pedigree": {"genotypes": None, "traits": ["milk", "fat"], "variances": TWO},
    "random groups": {"pedigree": RANDOM},
    "random groups, pedigree": {"pedigree": RANDOM, "genotypes": None},
    "fixed groups": {"pedigree": {"groups": list(GROUPS)}, "traits": ["milk", "fat"], "variances": TWO},
    "fixed groups, pedigree": {"pedigree": {"groups": list(GROUPS)}, "genotypes": None},
    "metafounders": {"pedigree": {"metafounders": "gamma.txt"}},
} | {
    f"tuning {tuning}": {"single_step": {"polygenic": 0.1, "tuning": tuning, "tolerance": 1e-12}}
    for tuning in ("vitezica", "chen", "vanraden", "blupf90")
} | {
    f"variant {variant}": {"single_step": {"polygenic": 0.1, "variant": variant, "tolerance": 1e-11}}
    for variant in ("ss_h", "ss_t", "ssgtablup", "sssnpblup")
}  # fmt: skip


def write_model(farm, path, **keys):
    """The model with its pedigree's files in the farm."""
    stanza = keys.pop("pedigree", None)
    if stanza is not None:
        stanza = {"file": str(farm / "pedigree.tsv")} | stanza
        if "metafounders" in stanza:
            stanza["metafounders"] = str(farm / stanza["metafounders"])
        keys["pedigree"] = stanza
    return model_of(farm, path, **keys)


def solve(model, out, *more):
    return cli.main(["solve", str(model), "--out", str(out), "--threads", "1", *map(str, more)])


def ebv_of(out, column="ebv"):
    """(levels, q), in the order of the file."""
    table = pd.read_parquet(out / "solutions.parquet")
    return table[column].to_numpy().reshape(-1, table["trait"].nunique())


def assert_close(found, wanted, rtol=1e-8):
    assert np.abs(found - wanted).max() <= rtol * np.abs(wanted).max()


@pytest.mark.parametrize("name", MODELS)
def test_breeding_values_are_those_of_a_dense_H(name, farm, tmp_path):
    model = write_model(farm, tmp_path / "model.yaml", **MODELS[name])
    assert solve(model, tmp_path / "out") == 0
    oracle, found = Oracle(model), ebv_of(tmp_path / "out")
    wanted = oracle.ebv
    if name.startswith("fixed groups"):  # their level is not estimated
        found, wanted = found - found.mean(axis=0), wanted - wanted.mean(axis=0)
    assert_close(found, wanted, 1e-7 if name == "little polygenic" else 1e-8)


def test_without_a_polygenic_share(farm, tmp_path):
    # A w of 0 in the limit: the dense H of the oracle has no inverse of Gw in it.
    model = write_model(farm, tmp_path / "model.yaml", single_step={"polygenic": 0, "tolerance": 1e-12})
    assert solve(model, tmp_path / "out") == 0
    assert_close(ebv_of(tmp_path / "out"), Oracle(model).ebv, 1e-7)


@pytest.mark.parametrize("name", ["two traits", "maternal", "random groups", "fixed groups"])
def test_exact_reliabilities(name, farm, tmp_path):
    model = write_model(farm, tmp_path / "model.yaml", **MODELS[name] | {"output": {"reliability": "exact"}})
    assert solve(model, tmp_path / "out") == 0
    oracle = Oracle(model)
    n, found = len(oracle.ids), {name: ebv_of(tmp_path / "out", name) for name in ("reliability", "pev")}
    np.testing.assert_allclose(found["reliability"][:n], oracle.reliability, atol=1e-8)
    np.testing.assert_allclose(found["pev"][:n], oracle.pev, rtol=1e-8)
    assert np.isnan(found["pev"][n:]).all()


def test_sampled_reliabilities_are_within_their_errors(farm, tmp_path):
    model = write_model(farm, tmp_path / "model.yaml", output={"reliability": "sampled"})
    assert solve(model, tmp_path / "out") == 0
    oracle, table = Oracle(model), pd.read_parquet(tmp_path / "out" / "solutions.parquet")
    z = (table["reliability"] - oracle.reliability[:, 0]) / table["reliability_error"]
    assert np.abs(z).max() < 6
    assert np.sqrt((z**2).mean()) < 1.5
    assert "reliabilities: 200 of 200 samples" in (tmp_path / "out" / "log.txt").read_text()


@pytest.mark.parametrize("name", ["one trait", "metafounders"])
def test_sampled_reliabilities_are_solved_as_far_as_their_errors_need(name, farm, tmp_path, monkeypatch):
    # With metafounders a residual of 1e-2 left them off by two standard errors.
    model = write_model(farm, tmp_path / "model.yaml", **MODELS[name] | {"output": {"reliability": "sampled"}})
    assert solve(model, tmp_path / "out") == 0
    monkeypatch.setattr(module, "sampled", partial(module.sampled, rtol=1e-8))
    assert solve(model, tmp_path / "sharp") == 0
    found, wanted = (ebv_of(tmp_path / name, "reliability")[:300] for name in ("out", "sharp"))
    error = ebv_of(tmp_path / "sharp", "reliability_error")[:300]
    assert np.linalg.norm(found - wanted) < 0.3 * np.linalg.norm(error)


@pytest.fixture(scope="module")
def two_traits(farm, tmp_path_factory):
    """An evaluation with all its files: model, folder, what it said on the terminal."""
    folder = tmp_path_factory.mktemp("two_traits")
    single = {"polygenic": 0.1, "tuning": "chen", "tolerance": 1e-12}
    model = write_model(farm, folder / "model.yaml", **MODELS["two traits"] | {"single_step": single})
    assert solve(model, folder / "out", "--blupf90") == 0
    return model, folder / "out"


def test_text_holds_what_parquet_holds(two_traits):
    _, out = two_traits
    for file in ("solutions", "effects", "convergence", "solutions_levels"):
        one = pd.read_parquet(out / f"{file}.parquet")
        NA = {name: ["NA"] for name in one if one[name].dtype != object}
        kinds = {name: str for name in one if one[name].dtype == object}
        other = pd.read_csv(out / f"{file}.tsv", sep="\t", dtype=kinds, keep_default_na=False, na_values=NA)
        pd.testing.assert_frame_equal(one, other.astype(one.dtypes.to_dict()), rtol=1e-9, atol=1e-14)
    solutions = pd.read_parquet(out / "solutions.parquet")
    assert list(solutions) == ["animal", "trait", "ebv"]
    assert list(pd.read_parquet(out / "effects.parquet")) == ["effect", "kind", "level", "trait", "solution"]
    assert list(pd.read_parquet(out / "convergence.parquet")) == [
        "step", "residual", "preconditioned_residual", "seconds"
    ]  # fmt: skip


def test_blupf90_solutions_are_the_same_numbers(two_traits):
    from bench.exchange.blupf90 import read_solutions

    _, out = two_traits
    found, levels = read_solutions(out / "solutions"), pd.read_parquet(out / "solutions_levels.parquet")
    named = found.merge(levels, on=["effect", "level"], validate="many_to_one")
    assert len(named) == len(found)
    trait = named["trait"].map({1: "milk", 2: "fat"})
    animals = named[named["name"] == "animal"].assign(trait=trait).set_index(["id", "trait"])["solution"]
    wanted = pd.read_parquet(out / "solutions.parquet").set_index(["animal", "trait"])["ebv"]
    assert animals.to_dict() == wanted.to_dict()
    others = named[named["name"] != "animal"].assign(trait=trait).set_index(["name", "id", "trait"])["solution"]
    effects = pd.read_parquet(out / "effects.parquet").set_index(["effect", "level", "trait"])["solution"]
    assert others.to_dict() == effects.to_dict()


def test_snp_effects_predict_deviations_from_groups(farm, tmp_path):
    keys = MODELS["random groups"] | {"single_step": {"polygenic": 0, "tolerance": 1e-12}}
    model, out = write_model(farm, tmp_path / "model.yaml", **keys), tmp_path / "out"
    assert solve(model, out) == 0
    assert "predicts deviations from the groups of unknown parents" in (out / "log.txt").read_text()
    arguments = ["--genotypes", farm / "genotypes", "--effects", out / "snp_effects.parquet"]
    assert cli.main(["predict", *map(str, arguments), "--out", str(tmp_path / "c.parquet")]) == 0
    oracle = Oracle(model)
    n, g = len(oracle.ids), oracle.genotyped
    wanted = oracle.ebv[g] - oracle.Q[g] @ oracle.ebv[n:]
    assert_close(pd.read_parquet(tmp_path / "c.parquet")["ebv"].to_numpy()[:, None], wanted, 1e-7)


def test_an_evaluation_leaves_nothing_of_the_one_that_it_replaces(farm, tmp_path):
    out = tmp_path / "out"
    assert solve(write_model(farm, tmp_path / "genomic.yaml"), out, "--blupf90") == 0
    assert {"snp_effects.parquet", "state.npz", "solutions"} <= {path.name for path in out.iterdir()}
    assert solve(write_model(farm, tmp_path / "genomic.yaml"), out, "--start", out) == 0  # they are written anew
    assert {"snp_effects.parquet", "state.npz"} <= {path.name for path in out.iterdir()}
    pedigree = write_model(farm, tmp_path / "pedigree.yaml", genotypes=None)
    assert solve(pedigree, out) == 0
    assert solve(pedigree, tmp_path / "fresh") == 0
    assert {path.name for path in out.iterdir()} == {path.name for path in (tmp_path / "fresh").iterdir()}


@pytest.mark.parametrize("genotypes", [True, False])
def test_records_without_variation_are_refused(genotypes, farm, tmp_path, capsys):
    records = pd.read_csv(farm / "records.tsv", sep="\t").assign(milk=7.5)
    records.to_csv(tmp_path / "records.tsv", sep="\t", index=False)
    keys = {"records": str(tmp_path / "records.tsv")} | ({} if genotypes else {"genotypes": None})
    assert solve(write_model(farm, tmp_path / "model.yaml", **keys), tmp_path / "out") == 2
    assert "trait 'milk' does not vary around its fixed effects" in capsys.readouterr().err


def test_snp_effects_predict_the_genotyped(two_traits, farm, tmp_path):
    model, out = two_traits
    arguments = ["--genotypes", farm / "genotypes", "--effects", out / "snp_effects.parquet"]
    assert cli.main(["predict", *map(str, arguments), "--out", str(tmp_path / "c.parquet")]) == 0
    oracle, found = Oracle(model), pd.read_parquet(tmp_path / "c.parquet")
    g = oracle.genotyped
    assert found["animal"].tolist()[::2] == [oracle.ids[i] for i in g]
    # All but the polygenic part: (Gw − wA_gg) Gw⁻¹ û_g.
    rest = oracle.Gw - 0.1 * oracle.A[np.ix_(g, g)]
    wanted = rest @ np.linalg.solve(oracle.Gw, oracle.ebv[g])
    assert_close(found["ebv"].to_numpy().reshape(-1, 2), wanted, 1e-7)
    table = pd.read_parquet(out / "snp_effects.parquet")
    assert table.groupby("trait")["constant"].nunique().eq(1).all()
    assert (table["constant"] != 0).all()
    X = read_bed(farm / "genotypes", len(g), len(table) // 2)
    np.testing.assert_allclose(table["frequency"], np.tile(X.mean(axis=0) / 2, 2), atol=1e-12)


def test_the_log_and_the_summary_tell_what_was_done(two_traits):
    _, out = two_traits
    log, summary = (out / "log.txt").read_text(), json.loads((out / "evaluation.json").read_text())
    for said in (
        "300 animals, ", "90 genotyped animals × 150 SNPs", "tuning chen", "prior-PCG, preconditioner prior",
        "solved in ", "set-up of the solver: ", "iterations: ",
    ):  # fmt: skip
        assert said in log
    assert all(line.startswith("[0:") for line in log.splitlines())
    assert summary["converged"] is True
    assert summary["variant"] == "prior_pcg"
    assert summary["residual"] <= summary["tolerance"] == 1e-12
    convergence = pd.read_parquet(out / "convergence.parquet")
    assert convergence["step"].tolist() == list(range(summary["steps"] + 1))
    assert convergence["residual"].iloc[-1] <= 1e-12
    assert summary["steps_to_published_rules"]["Boerner & Johnston 2019"] < summary["steps"]
    assert set(summary["seconds"]) >= {"read genotypes", "iterations", "equations"}
    assert not (out / "checkpoint.npz").exists()


def test_progress_is_told_while_it_iterates(farm, tmp_path, capsys):
    from bench.evaluation.solve import Settings, evaluate

    class Slow:
        """A clock on which each look takes a second."""

        def __init__(self):
            self.now = 0.0

        def wall(self):
            self.now += 1.0
            return self.now

    model = write_model(farm, tmp_path / "model.yaml")
    assert evaluate(model, tmp_path / "out", Settings(threads=1), clock=Slow())
    said = capsys.readouterr().err
    assert "step 20: residual " in said
    assert " left" in said
    assert said == (tmp_path / "out" / "log.txt").read_text()
