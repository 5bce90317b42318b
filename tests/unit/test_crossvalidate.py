"""`bench crossvalidate`: folds, what is learned where, measures, against dense matrices; and what it writes."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import __main__ as cli
from bench.errors import BenchError
from bench.evaluation import crossvalidation_files
from bench.evaluation.crossvalidate import Settings, _read, crossvalidate
from bench.evaluation.journal import Silent
from bench.evaluation.training import fit
from bench.evaluation.variances import Settings as VarianceSettings
from bench.models.folds import forward_splits, random_splits, splits_by_level
from bench.models.predictive_ability import measure
from bench.models.reml import Spectrum, estimate
from gblup_case import TWO, Oracle, coded, make_population, model_of, read_dosages, write_genotypes

BOTH = {"traits": ["milk", "fat"], "variances": TWO, "weights": "w"}


@pytest.fixture(scope="module")
def herd(tmp_path_factory):
    return make_population(tmp_path_factory.mktemp("herd"))


@pytest.fixture
def undrawn(monkeypatch):
    """Without the figure, which takes seconds."""
    monkeypatch.setattr(crossvalidation_files.figures, "save", lambda *_: None)


def run(model, out, *more):
    return cli.main(["crossvalidate", str(model), "--out", str(out), "--threads", "1", *map(str, more)])


# Folds


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 30), min_size=6, max_size=60), st.integers(2, 5), st.integers(1, 3), st.integers(0, 99)
)
def test_random_folds_hold_every_animal_out_once_in_each_repeat(animals, folds, repeats, seed):
    animal = np.array(animals)
    if np.unique(animal).size < folds:
        with pytest.raises(BenchError, match=f"--folds: {folds} folds of"):
            random_splits(animal, folds, repeats=repeats, seed=seed)
        return
    splits = random_splits(animal, folds, repeats=repeats, seed=seed)
    assert len(splits) == folds * repeats
    for repeat in range(1, repeats + 1):
        own = [split for split in splits if split.repeat == repeat]
        np.testing.assert_array_equal(sum(split.test.astype(int) for split in own), 1)
        sizes = [np.unique(animal[split.test]).size for split in own]
        assert max(sizes) - min(sizes) <= 1
        for split in own:
            np.testing.assert_array_equal(split.training, ~split.test)
            assert not set(animal[split.training]) & set(animal[split.test])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(2015, 2019)), min_size=2, max_size=40), st.booleans())
def test_forward_tests_animals_whose_first_record_it_is(records, rolling):
    animal, year = np.array(records).T
    years = np.unique(year)
    wanted = {
        y: {a for a in animal[year == y] if (year[animal == a] >= y).all()}
        for y in (years[1:] if rolling else years[1:][-1:])
    }
    if not any(wanted.values()):
        with pytest.raises(BenchError, match="--forward: "):
            forward_splits(animal, year.astype(float), column="year", rolling=rolling)
        return
    splits = forward_splits(animal, year.astype(float), column="year", rolling=rolling)
    assert [int(split.fold) for split in splits] == [y for y, animals in wanted.items() if animals]
    for split in splits:
        np.testing.assert_array_equal(split.training, year < int(split.fold))
        assert (year[split.test] == int(split.fold)).all()
        assert set(animal[split.test]) == wanted[int(split.fold)]


def test_forward_names_its_folds_by_all_digits():
    days = np.array([20240101, 20240102, 20240102.5, 20240103])
    splits = forward_splits(np.arange(4), days, column="day", rolling=True)
    assert [split.fold for split in splits] == ["20240102", "20240102.5", "20240103"]


def test_a_level_is_left_out_after_the_other():
    animal, family = np.array([0, 1, 2, 0, 3]), np.array(["b", "a", "b", "b", "c"], object)
    splits = splits_by_level(animal, family, ids=np.array(list("wxyz")), column="family")
    assert [(split.fold, np.flatnonzero(split.test).tolist()) for split in splits] == [
        ("a", [1]), ("b", [0, 2, 3]), ("c", [4])
    ]  # fmt: skip
    with pytest.raises(
        BenchError, match="1 animals have records of two levels of 'family', such as 'w' of 'b' and 'a'"
    ):
        splits_by_level(animal, np.array(["b", "a", "b", "a", "c"]), ids=np.array(list("wxyz")), column="family")
    with pytest.raises(BenchError, match="the column 'family' has the one level 'a'"):
        splits_by_level(animal, np.full(5, "a"), ids=np.array(list("wxyz")), column="family")


# What is learned


def test_predictions_are_those_of_a_dense_V_of_the_training_animals(herd, tmp_path, undrawn):
    model = model_of(herd, tmp_path / "model.yaml", **BOTH)
    assert run(model, tmp_path / "out", "--folds", 4, "--seed", 7) == 0
    found = pd.read_parquet(tmp_path / "out" / "predictions.parquet")
    table = pd.read_csv(herd / "records.tsv", sep="\t")
    animal = table["id"].str[1:].astype(int).to_numpy()
    for split in random_splits(animal, 4, seed=7):
        among = np.zeros(60, bool)
        among[animal[split.training]] = True
        oracle = Oracle(model, rows=split.training, among=among)
        of_fold = found[found["fold"] == split.fold]
        for j, trait in enumerate(BOTH["traits"]):
            rows = of_fold[of_fold["trait"] == trait].set_index("animal")
            at = [oracle.ids.index(name) for name in rows.index]
            np.testing.assert_allclose(rows["ebv"], oracle.ebv[at, j], atol=1e-9)
            b = dict(zip(["0", "1", "2", "age"], oracle.b.reshape(2, 4)[j], strict=True))
            test = table[split.test & table[trait].notna()]
            fixed = test["herd"].astype(str).map(b) + test["age"] * b["age"]
            means = (
                test.assign(wy=test["w"] * test[trait], wx=test["w"] * fixed).groupby("id")[["w", "wy", "wx"]].sum()
            )
            assert set(means.index) == set(rows.index)
            np.testing.assert_allclose(rows["y"], (means["wy"] / means["w"])[rows.index], rtol=1e-12)
            np.testing.assert_allclose(rows["fixed"], (means["wx"] / means["w"])[rows.index], atol=1e-8)


@pytest.mark.parametrize("kind", ["vanraden2", "standardised", "gaussian"])
def test_other_relationships_are_learned_from_the_training_animals_as_well(kind, herd, tmp_path, undrawn):
    model = model_of(herd, tmp_path / "model.yaml", relationship={"kind": kind})
    assert run(model, tmp_path / "out", "--forward", "generation") == 0
    found = pd.read_parquet(tmp_path / "out" / "predictions.parquet")
    table = pd.read_csv(herd / "records.tsv", sep="\t")
    animal = table["id"].str[1:].astype(int).to_numpy()
    training = ((table["generation"] < 4) & table["milk"].notna()).to_numpy()
    among = np.isin(np.arange(60), animal[training])
    oracle = Oracle(model, rows=training, among=among)
    at = [oracle.ids.index(name) for name in found["animal"]]
    np.testing.assert_allclose(found["ebv"], oracle.ebv[at, 0], atol=1e-9)
    whole = Oracle(model, among=among)
    lr = pd.read_parquet(tmp_path / "out" / "lr.parquet").iloc[0]
    assert lr["dispersion"] == pytest.approx(np.polyfit(oracle.ebv[at, 0], whole.ebv[at, 0], 1)[0], rel=1e-7)


def test_nothing_of_a_held_out_animal_changes_what_is_learned(herd, tmp_path):
    X = np.nan_to_num(read_dosages(herd / "genotypes"), nan=-1)
    table = pd.read_csv(herd / "records.tsv", sep="\t")
    held = table["family"] == "F2"
    animals = sorted(set(table["id"][held].str[1:].astype(int)))
    other, changed = X.copy(), table.copy()
    other[animals] = np.random.default_rng(2).integers(-1, 3, other[animals].shape)
    changed.loc[held, ["milk", "fat"]] = changed.loc[held, ["milk", "fat"]] * -100 + 7
    write_genotypes(tmp_path / "genotypes", other, [f"a{i}" for i in range(60)])
    changed.to_csv(tmp_path / "records.tsv", sep="\t", index=False, na_rep="NA", float_format="%.17g")
    keys = BOTH | {"relationship": {"kind": "vanraden2"}}
    fits = []
    for folder in (herd, tmp_path):
        model = model_of(folder, tmp_path / f"{folder.name}.yaml", **keys)
        whole = _read(model, Settings(by="family"), 1, Silent())
        (split,) = [s for s in splits_by_level(
            whole.records.animal, whole.records.labels, ids=whole.pedigree.ids, column="family"
        ) if s.fold == "F2"]  # fmt: skip
        fits.append(fit(whole, split.training, reml=VarianceSettings()))
    one, two = fits
    for name in ("effects", "ebv", "learned", "animals"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    np.testing.assert_array_equal(one.coding.centre, two.coding.centre)
    np.testing.assert_array_equal(one.coding.scale, two.coding.scale)
    np.testing.assert_array_equal(one.variances.genetic, two.variances.genetic)


def test_variances_of_a_fold_are_those_of_its_training_records(herd, tmp_path, undrawn):
    records = pd.read_csv(herd / "records.tsv", sep="\t").drop_duplicates("id")
    records.to_csv(tmp_path / "records.tsv", sep="\t", index=False, na_rep="NA", float_format="%.17g")
    keys = {"records": str(tmp_path / "records.tsv"), "fixed": {}}
    model = model_of(herd, tmp_path / "model.yaml", **keys)
    assert run(model, tmp_path / "out", "--by", "family", "--reml") == 0
    folds = pd.read_parquet(tmp_path / "out" / "folds.parquet").set_index("fold")
    records = records[records["milk"].notna()]
    at = records["id"].str[1:].astype(int).to_numpy()
    X = read_dosages(herd / "genotypes")
    for name in ("F0", "F4"):
        kept = (records["family"] != name).to_numpy()
        among = np.isin(np.arange(60), at[kept])
        W = coded(X, {"genotypes": {}}, among)[at[kept]]
        found = estimate(Spectrum.of(W @ W.T), records["milk"].to_numpy()[kept], np.ones((kept.sum(), 1)))
        assert folds.loc[name, "genetic_share"] == pytest.approx(found.h2, abs=2e-4)


# Measures


def test_measures_are_those_of_the_formulas():
    rng = np.random.default_rng(1)
    animal, fold = np.tile(np.arange(40), 2), np.r_[np.arange(40) % 4, 4 + np.arange(40) % 4]
    repeat = np.repeat([1, 2], 40)
    u, fixed = rng.standard_normal(80), 5 + rng.standard_normal(80)
    y = fixed + 0.7 * u + rng.standard_normal(80)
    found = measure(animal, fold, repeat, y, fixed, u, draws=300)

    def formulas(at):
        left, predicted = (y - fixed)[at], (fixed + u)[at]
        return [
            np.corrcoef(u[at], left)[0, 1], np.corrcoef(predicted, y[at])[0, 1], np.polyfit(u[at], left, 1)[0],
            (predicted - y[at]).mean(), ((predicted - y[at]) ** 2).mean(),
        ]  # fmt: skip

    def values(of):
        return [getattr(of, name).value for name in ("ability", "ability_phenotype", "slope", "bias", "mse")]

    by_fold = [formulas(fold == k) for k in range(8)]
    np.testing.assert_allclose([values(of) for of in found.by_fold], by_fold, rtol=1e-9)
    np.testing.assert_allclose(values(found.within), np.mean(by_fold, axis=0), rtol=1e-9)
    np.testing.assert_allclose(
        values(found.pooled), np.mean([formulas(repeat == r) for r in (1, 2)], axis=0), rtol=1e-9
    )
    for of in (found.pooled, found.within, *found.by_fold):
        for name in ("ability", "slope", "bias", "mse"):
            interval = getattr(of, name)
            assert interval.low < interval.value < interval.high


def test_intervals_cover_as_often_as_they_say():
    rng = np.random.default_rng(3)
    inside = []
    for seed in range(120):
        u = rng.standard_normal(60)
        y = 0.5 * u + rng.standard_normal(60)
        found = measure(
            np.arange(60), np.arange(60) % 5, np.ones(60), y, np.zeros(60), u, draws=200, seed=seed
        ).pooled
        inside.append((found.slope.low < 0.5 < found.slope.high, found.bias.low < 0 < found.bias.high))
    assert (np.mean(inside, axis=0) > 0.86).all()


def test_what_cannot_be_measured_is_not_a_number():
    y = np.array([1.0, 2.0, 3.0, 5.0])
    found = measure(np.arange(4), np.zeros(4, int), np.ones(4), y, np.zeros(4), np.zeros(4))
    assert np.isnan(found.pooled.ability.value)
    assert np.isnan(found.pooled.slope.low)
    assert found.pooled.mse.value == pytest.approx(39 / 4)
    assert np.isnan(measure(np.arange(2), np.zeros(2, int), np.ones(2), y[:2], y[:2], y[:2]).pooled.ability.value)


def test_forward_compares_with_the_breeding_values_of_all_records(herd, tmp_path, undrawn):
    model = model_of(herd, tmp_path / "model.yaml", **BOTH)
    assert run(model, tmp_path / "out", "--forward", "generation") == 0
    table = pd.read_csv(herd / "records.tsv", sep="\t")
    animal, generation = table["id"].str[1:].astype(int).to_numpy(), table["generation"].to_numpy()
    among = np.isin(np.arange(60), animal[generation < 4])
    p, w = (Oracle(model, rows=rows, among=among).ebv for rows in (generation < 4, generation <= 4))
    lr = pd.read_parquet(tmp_path / "out" / "lr.parquet").set_index("trait")
    for j, trait in enumerate(BOTH["traits"]):
        at = np.unique(animal[(generation == 4) & table[trait].notna()])
        assert lr.loc[trait, "individuals"] == at.size
        assert lr.loc[trait, "bias"] == pytest.approx(p[at, j].mean() - w[at, j].mean(), abs=1e-8)
        assert lr.loc[trait, "dispersion"] == pytest.approx(np.polyfit(p[at, j], w[at, j], 1)[0], rel=1e-7)
        assert lr.loc[trait, "accuracy_ratio"] == pytest.approx(np.corrcoef(p[at, j], w[at, j])[0, 1], rel=1e-7)


# Files and words


def test_what_is_written(herd, tmp_path, capsys, undrawn):
    model = model_of(herd, tmp_path / "model.yaml", **BOTH)
    assert run(model, tmp_path / "out", "--forward", "generation", "--rolling") == 0
    together = pd.read_csv(tmp_path / "out" / "crossvalidation.csv")
    assert together[["trait", "over"]].to_numpy().tolist() == [
        [trait, over] for trait in BOTH["traits"] for over in ("pooled", "within folds")
    ]
    folds = pd.read_parquet(tmp_path / "out" / "folds.parquet")
    assert folds["fold"].tolist() == ["2", "3", "4"] * 2
    assert (folds["status"] == "converged").all()
    found = pd.read_parquet(tmp_path / "out" / "predictions.parquet")
    np.testing.assert_allclose(found["prediction"], found["fixed"] + found["ebv"])
    summary = json.loads((tmp_path / "out" / "crossvalidation.json").read_text())
    assert summary["converged"] is True
    assert summary["settings"]["forward"] == "generation"
    said = capsys.readouterr().err
    assert "fold 1 of 3 (2): " in said
    assert "pooled" in said
    assert said == (tmp_path / "out" / "log.txt").read_text()


def test_no_file_of_an_earlier_run_forward_is_left(herd, tmp_path, undrawn):
    model = model_of(herd, tmp_path / "model.yaml")
    assert run(model, tmp_path / "out", "--forward", "generation") == 0
    assert len(list((tmp_path / "out").glob("lr.*"))) == 5
    assert run(model, tmp_path / "out", "--folds", 2) == 0
    assert not list((tmp_path / "out").glob("lr.*"))


def test_a_level_without_training_records_leaves_no_fixed_part(herd, tmp_path, undrawn):
    model = model_of(herd, tmp_path / "model.yaml", fixed={"generation": "class"})
    assert run(model, tmp_path / "out", "--forward", "generation") == 0
    found = pd.read_parquet(tmp_path / "out" / "predictions.parquet")
    assert found["fixed"].isna().all()
    assert found["ebv"].notna().all()
    folds = pd.read_parquet(tmp_path / "out" / "folds.parquet")
    assert folds["ability"].isna().all()
    assert len(pd.read_parquet(tmp_path / "out" / "lr.parquet")) == 1
    said = (tmp_path / "out" / "log.txt").read_text()
    assert "predictions without a fixed part" in said
    assert "milk: nothing is measured, because no held-out record has a fixed part" in said


def test_a_fold_that_does_not_converge_says_so_and_keeps_its_best(herd, tmp_path, undrawn):
    model = model_of(herd, tmp_path / "model.yaml")
    assert run(model, tmp_path / "out", "--folds", 3, "--max-steps", 3) == 1
    folds = pd.read_parquet(tmp_path / "out" / "folds.parquet")
    assert folds["status"].str.startswith("not converged: ‖r‖/‖b‖ = ").all()
    assert folds["ability"].notna().all()
    assert json.loads((tmp_path / "out" / "crossvalidation.json").read_text())["converged"] is False


def test_a_fold_that_cannot_be_fitted_is_a_row(herd, tmp_path, undrawn):
    table = pd.read_csv(herd / "records.tsv", sep="\t")
    table.loc[table["family"] != "F1", "fat"] = np.nan
    table = table[table[["milk", "fat"]].notna().any(axis=1)]
    table.to_csv(tmp_path / "records.tsv", sep="\t", index=False, na_rep="NA", float_format="%.17g")
    keys = {"records": str(tmp_path / "records.tsv"), "traits": ["milk", "fat"], "variances": TWO}
    model = model_of(herd, tmp_path / "model.yaml", fixed={}, **keys)
    assert run(model, tmp_path / "out", "--by", "family") == 0
    folds = pd.read_parquet(tmp_path / "out" / "folds.parquet").set_index(["trait", "fold"])
    assert folds.loc[("milk", "F1"), "status"] == "refused"
    assert folds.loc[("milk", "F1"), "note"] == "trait 'fat' has no training records"
    assert (folds.drop(index="F1", level="fold")["status"] == "converged").all()


MATERNAL = {"maternal": {"dam": "dam"}, "variances": {"genetic": [[1, 0], [0, 1]], "residual": 1}}
BAD = {
    "no way is given": ([], {}, "give one of --folds, --by and --forward; none of them was given"),
    "two ways are given": (["--folds", "3", "--by", "family"], {}, "--folds and --by was given"),
    "repeats without folds": (["--by", "family", "--repeats", "2"], {}, "--repeats goes with --folds"),
    "rolling without forward": (["--folds", "3", "--rolling"], {}, "--rolling goes with --forward"),
    "one fold": (["--folds", "1"], {}, "--folds: 1 folds of 42 animals with records; from 2 to 42 can be"),
    "no such column": (["--by", "famly"], {}, "no column 'famly'.*did you mean 'family'"),
    "no number": (["--forward", "family"], {}, "'family' is 'F.' in a record; numbers such as years"),
    "an animal in two levels": (["--by", "herd"], {}, "have records of two levels of 'herd'"),
    "maternal": (["--folds", "3"], MATERNAL, "takes no maternal effects"),
    "a seed below 0": (["--folds", "3", "--seed", "-1"], {}, "--seed: -1 was given; 0 or more was needed"),
    "no steps": (["--folds", "3", "--max-steps", "0"], {}, "--max-steps: 0 was given"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_is_said_in_a_sentence(name, herd, tmp_path, capsys):
    arguments, keys, sentence = BAD[name]
    model = model_of(herd, tmp_path / "model.yaml", **keys)
    assert run(model, tmp_path / "out", *arguments) == 2
    (said,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("bench crossvalidate: ")]
    assert pd.Series([said]).str.contains(sentence).all(), said


def test_a_model_with_a_pedigree_is_refused(herd, tmp_path):
    (tmp_path / "pedigree.tsv").write_text("id sire dam\na1 0 0\n")
    model = model_of(herd, tmp_path / "model.yaml", pedigree={"file": str(tmp_path / "pedigree.tsv")})
    with pytest.raises(BenchError, match="it has a pedigree, and cross-validation is of models without"):
        crossvalidate(model, tmp_path / "out", Settings(folds=3, threads=1))


# Interrupted


def test_finished_folds_are_kept_and_an_unfinished_one_goes_on(herd, tmp_path, undrawn, monkeypatch, capsys):
    from bench.evaluation import checkpoint
    from bench.evaluation.kept import Kept

    model, out = model_of(herd, tmp_path / "model.yaml", **BOTH), tmp_path / "out"
    asked = "--forward", "generation", "--rolling"
    assert run(model, tmp_path / "whole", *asked) == 0
    for name in ("EVERY", "SHARE", "SLOWEST"):
        monkeypatch.setattr(checkpoint, name, 0 if name == "EVERY" else np.inf)
    write, seen = Kept.write, []

    def killed(self, arrays):
        write(self, arrays)
        seen.append(self.path.name)
        if seen.count("later-2.npz") == 3:
            raise SystemExit  # as kill -9: nobody cleans up

    with monkeypatch.context() as patch:
        patch.setattr(Kept, "write", killed)
        with pytest.raises(SystemExit):
            run(model, out, *asked)
    kept = {path.name for path in (out / "kept").iterdir()}
    assert kept == {"fold-1.npz", "partial-2.npz", "later-2.npz"}
    assert run(model, out, *asked) == 2
    assert "kept: 3 files of an interrupted cross-validation are there; give" in capsys.readouterr().err
    assert run(model, out, *asked, "--max-steps", 99, "--resume") == 2
    assert "another problem, which differs in its max steps" in capsys.readouterr().err
    assert {path.name for path in (out / "kept").iterdir()} == kept
    with monkeypatch.context() as patch:
        patch.setattr(Kept, "write", lambda self, arrays: (seen.append(self.path.name), write(self, arrays)))
        seen.clear()
        assert run(model, out, *asked, "--resume") == 0
    assert "fold-1.npz" not in seen
    assert not (out / "kept").exists()
    for path in (tmp_path / "whole").glob("*.parquet"):
        pd.testing.assert_frame_equal(pd.read_parquet(out / path.name), pd.read_parquet(path), check_exact=True)
    assert (out / "log.txt").read_text().count("fold 2 of") == 1


def test_the_log_of_a_finished_folder_outlives_a_run_that_fails(herd, tmp_path, undrawn, monkeypatch):
    from bench.evaluation import crossvalidate as module

    model, out = model_of(herd, tmp_path / "model.yaml"), tmp_path / "out"
    assert run(model, out, "--folds", 2) == 0
    before = (out / "log.txt").read_text()

    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "fit", stopped)
    assert run(model, out, "--folds", 3) == 130
    log = (out / "log.txt").read_text()
    assert log.startswith(before)
    assert log.splitlines()[-1].endswith("stopped: KeyboardInterrupt")
    assert (out / "crossvalidation.json").exists()
