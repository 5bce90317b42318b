"""`bench validate`: the method LR on files of solutions."""

import re

import numpy as np
import pandas as pd
import pytest

from bench import __main__ as cli
from bench.evaluation.validate import validate


def written(folder, name, ebv, trait="milk", **columns):
    """Solutions of the animals a0, a1, …, in a folder of their own."""
    (folder / name).mkdir(exist_ok=True)
    table = pd.DataFrame({"animal": [f"a{i}" for i in range(len(ebv))], "trait": trait, "ebv": ebv} | columns)
    table.to_parquet(folder / name / "solutions.parquet", index=False)
    return folder / name


@pytest.fixture
def pair(tmp_path):
    rng = np.random.default_rng(1)
    p = rng.standard_normal(200)
    w = 0.5 + 0.8 * p + rng.standard_normal(200) * 0.4
    return written(tmp_path, "partial", p), written(tmp_path, "whole", w), p, w


def test_the_estimates_are_those_of_the_formulas(pair):
    partial, whole, p, w = pair
    found = validate(partial, whole).iloc[0]
    assert found["individuals"] == 200
    assert found["bias"] == pytest.approx(p.mean() - w.mean())
    assert found["dispersion"] == pytest.approx(np.polyfit(p, w, 1)[0])
    assert found["accuracy_ratio"] == pytest.approx(np.corrcoef(p, w)[0, 1])
    assert found["reliability_ratio"] == pytest.approx(np.polyfit(w, p, 1)[0])
    for name in ("bias", "dispersion", "accuracy_ratio", "reliability_ratio"):
        assert found[f"{name}_low"] < found[name] < found[f"{name}_high"]
    assert found["dispersion_low"] < 0.8 < found["dispersion_high"]
    assert found["bias_low"] < -0.5 < found["bias_high"] + 0.1


def test_only_the_animals_that_are_named_and_both_have(pair, tmp_path):
    partial, whole, p, w = pair
    (tmp_path / "young.txt").write_text("".join(f"a{i} x\n" for i in range(150, 200)))
    found = validate(partial, whole, animals=tmp_path / "young.txt").iloc[0]
    assert found["individuals"] == 50
    assert found["dispersion"] == pytest.approx(np.polyfit(p[150:], w[150:], 1)[0])
    longer = written(tmp_path, "longer", np.append(w, [9.0, 9.0]))
    pd.testing.assert_frame_equal(validate(partial, longer), validate(partial, whole))


def test_groups_are_no_animals_and_traits_are_apart(pair, tmp_path):
    *_, p, w = pair
    for name, ebv in (("p2", p), ("w2", w)):
        folder = written(tmp_path, name, np.append(ebv, 100.0), kind=["animal"] * 200 + ["group"])
        one = pd.read_parquet(folder / "solutions.parquet")
        both = pd.concat([one, one.assign(trait="fat", ebv=-2 * one["ebv"])])
        both.to_parquet(folder / "solutions.parquet", index=False)
    found = validate(tmp_path / "p2", tmp_path / "w2").set_index("trait")
    assert found.index.tolist() == ["milk", "fat"]
    assert found.loc["fat", "bias"] == pytest.approx(-2 * found.loc["milk", "bias"])
    assert found.loc["fat", "dispersion"] == pytest.approx(found.loc["milk", "dispersion"])
    assert found.loc["milk", "individuals"] == 200


def test_the_verb_prints_and_writes_the_table(pair, tmp_path, capsys):
    partial, whole, *_ = pair
    file = whole / "solutions.parquet"
    assert cli.main(["validate", str(partial), str(file), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert re.search(r"milk +200 +-0\.\d+ \[-0\.\d+, -0\.\d+\]", said.replace("−", "-")), said
    table = pd.read_csv(tmp_path / "out" / "validation.csv")
    pd.testing.assert_frame_equal(table, validate(partial, whole))
    assert "Legarra & Reverter" in (tmp_path / "out" / "validation.md").read_text()
    assert (tmp_path / "out" / "validation.html").read_text().startswith("<")


def test_bad_input_is_a_sentence(pair, tmp_path, capsys):
    partial, whole, p, _ = pair

    def said(*arguments):
        assert cli.main(["validate", *map(str, arguments)]) == 2
        return capsys.readouterr().err

    assert "absent: does not exist; the folder of an evaluation" in said(partial, tmp_path / "absent")
    assert "solutions.parquet: does not exist; the folder" in said(partial, tmp_path)
    (tmp_path / "text.parquet").write_text("no table")
    assert "text.parquet: not the solutions" in said(partial, tmp_path / "text.parquet")
    other = written(tmp_path, "other", p, trait="fat")
    assert "no trait in common" in said(partial, other)
    strange = written(tmp_path, "strange", p)
    pd.read_parquet(strange / "solutions.parquet").assign(animal=lambda t: "b" + t["animal"]).to_parquet(
        strange / "solutions.parquet"
    )
    assert "have no animal in common" in said(partial, strange)
    (tmp_path / "ids.txt").write_text("a1\nZora\n")
    assert "ids.txt: 1 of 2 animals are not in" in said(partial, whole, "--animals", tmp_path / "ids.txt")
    (tmp_path / "none.txt").write_text("\n")
    assert "none.txt: names no animal" in said(partial, whole, "--animals", tmp_path / "none.txt")
    assert "trait milk: the EBVs from the whole data do not vary" in said(
        partial, written(tmp_path, "flat", np.ones(200))
    )
    pd.DataFrame({"id": [1]}).to_parquet(tmp_path / "x.parquet")
    assert "x.parquet: has no column 'animal'; needed are animal, trait, ebv" in said(partial, tmp_path / "x.parquet")
    twice = pd.concat([pd.read_parquet(partial / "solutions.parquet")] * 2)
    twice.to_parquet(tmp_path / "twice.parquet")
    assert "more than one EBV" in said(partial, tmp_path / "twice.parquet")
