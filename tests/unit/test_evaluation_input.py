"""What `bench solve` says of bad input: a sentence, status 2, and no file that looks whole."""

import re
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml
from test_evaluation import MODELS, solve, write_model

import bench.evaluation.solve as evaluation_of_files
from bench.errors import BenchError
from bench.evaluation.genotyped import snp_weights
from bench.evaluation.solve import Settings, evaluate
from bench.genotypes.packed import PackedGenotypes, pack_dosages, write_bed
from evaluation_case import GROUPS, ONE, TWO


def refused(model, out, capsys, *more, log=None):
    """The sentence; nothing but the log was written, and its last line has the sentence."""
    assert solve(model, out, *more) == 2
    (said,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("bench solve: ")]
    sentence = said.removeprefix("bench solve: ")
    assert [p.name for p in out.iterdir()] == ["log.txt"]
    assert (log or f"stopped: {sentence}") in (out / "log.txt").read_text().splitlines()[-1]
    return sentence


def changed_pedigree(farm, path, change):
    table = pd.read_csv(farm / "plain.tsv", sep="\t", dtype=str).set_index("id")
    change(table).reset_index().to_csv(path, sep="\t", index=False)
    return {"pedigree": {"file": str(path)}}


def loop(table):
    child = table.index[table["dam"] != "0"][0]
    table.loc[table.loc[child, "dam"], "dam"] = child
    return table[["sire", "dam"]]


def too_young(table):
    child = table.index[table["dam"] != "0"][-1]
    table.loc[table.loc[child, "dam"], "born"] = "99"
    return table


def wrong_sex(table):
    child = table.index[table["sire"] != "0"][-1]
    table.loc[table.loc[child, "sire"], "sex"] = "2"
    return table


def genotyped_gone(table):
    return table.rename(index={"300": "Zoe"})


PEDIGREES = {
    loop: r"p\.tsv: .*(loop|ancestor)",
    too_young: r"p\.tsv: .*(born|older)",
    wrong_sex: r"p\.tsv: .*(sire|male)",
    genotyped_gone: r"1 of \d+ animals are not in the pedigree, such as '300'",
}


@pytest.mark.parametrize("change", PEDIGREES)
def test_pedigrees_that_cannot_be(change, farm, tmp_path, capsys):
    keys = changed_pedigree(farm, tmp_path / "p.tsv", change)
    said = refused(write_model(farm, tmp_path / "model.yaml", **keys), tmp_path / "out", capsys)
    assert re.search(PEDIGREES[change], said), said


def changed_genotypes(farm, folder, change=lambda X: None, *, ids=None):
    """A copy of the genotypes after change(X), X (n, m) dosages."""
    shutil.copytree(farm, folder, ignore=shutil.ignore_patterns("chromosomes"))
    packed = PackedGenotypes.open(folder / "genotypes.bed", n_samples=90, n_snps=150)
    X = packed.dosages().astype(np.int8)
    change(X)
    write_bed(folder / "genotypes.bed", [pack_dosages(X)])
    return {"genotypes": {"plink": str(folder / "genotypes")}}


def test_genotypes_that_conflict_with_the_pedigree_and_duplicates_are_warnings(farm, tmp_path):
    def swap(X):
        X[[60, 80]] = X[[80, 60]]  # two that are not each other's sibs
        X[70] = X[71]
        X[:, 5] = 1
        X[:, 6] = 0

    model = write_model(farm, tmp_path / "model.yaml", **changed_genotypes(farm, tmp_path / "farm", swap))
    assert solve(model, tmp_path / "out") == 0
    log = (tmp_path / "out" / "log.txt").read_text()
    assert "pairs of offspring and parent are opposing homozygotes at more than 0.01 of the SNPs, such as" in log
    assert "1 individuals have the calls of another one, such as" in log
    assert "SNPs are left out: they do not vary, or the frequency of their rarer allele is below min_maf" in log
    effects = pd.read_parquet(tmp_path / "out" / "snp_effects.parquet")
    assert (effects["effect"].iloc[[5, 6]] == 0).sum() >= 1  # SNP 5 does not vary either, but all are heterozygous
    assert effects["effect"].iloc[6] == 0


def test_an_animal_that_is_genotyped_but_unknown_or_twice(farm, tmp_path, capsys):
    keys = changed_genotypes(farm, tmp_path / "farm")
    fam = tmp_path / "farm" / "genotypes.fam"
    lines = fam.read_text().splitlines()
    fields = lines[3].split()
    fam.write_text("\n".join([*lines[:3], "\t".join([fields[0], "Zora", *fields[2:]]), *lines[4:]]) + "\n")
    said = refused(write_model(farm, tmp_path / "model.yaml", **keys), tmp_path / "out", capsys)
    assert "genotypes.fam: 1 of 90 animals are not in the pedigree, such as 'Zora'" in said
    fam.write_text("\n".join([*lines[:3], lines[0], *lines[4:]]) + "\n")
    said = refused(write_model(farm, tmp_path / "model.yaml", **keys), tmp_path / "out", capsys)
    assert "stands already in line 1" in said


def test_a_truncated_bed(farm, tmp_path, capsys):
    keys = changed_genotypes(farm, tmp_path / "farm")
    bed = tmp_path / "farm" / "genotypes.bed"
    bed.write_bytes(bed.read_bytes()[:-7])
    said = refused(write_model(farm, tmp_path / "model.yaml", **keys), tmp_path / "out", capsys)
    assert "genotypes.bed: 90 samples × 150 SNPs need 3453 bytes, the file has 3446" in said


def test_no_SNP_is_left(farm, tmp_path, capsys):
    keys = changed_genotypes(farm, tmp_path / "farm", lambda X: X.fill(2))
    said = refused(write_model(farm, tmp_path / "model.yaml", **keys), tmp_path / "out", capsys)
    assert "all 150 SNPs are monomorphic or missing among 90 individuals" in said


# What a model file alone says is refused before any data are read: the records do not exist.
ALONE = [
    ({"single_step": {"variant": "prior_pgc"}}, r"single_step\.variant: there is no 'prior_pgc'; there are apy, .*"
     r"did you mean 'prior_pcg'\?"),
    ({"single_step": {"variant": "ss_h", "preconditioner": "blok"}},
     r"single_step\.preconditioner: ss_h has no 'blok'; it has .*; did you mean 'block'\?"),
    ({"single_step": {"variant": "ss_h", "polygenic": 0}},
     r"single_step\.polygenic is 0, and ss_h needs a share above 0.*; fernando.* prior_pcg.* take 0"),
    ({"single_step": {"polygenic": 0}, "output": {"reliability": "exact"}}, "exact ones need"),
    ({"genotypes": None, "output": {"reliability": "exact"}}, "the model has no genotypes"),
    ({"variances": {"genetic": [[1, 1], [1, 1]], "residual": TWO["residual"]}, "traits": ["milk", "fat"]},
     r"variances\.genetic: not positive definite, the smallest eigenvalue of its"),
    ({"variances": {"genetic": -1, "residual": 1}}, r"variances\.genetic: not positive definite"),
    ({"variances": {"genetic": 1}}, "variances: needs the key `residual`"),
    ({"variances": ONE | {"genetic": [[1, 2], [3, 4]]}}, r"variances\.genetic: it is 2 × 2, needed 1 × 1 \(milk\)"),
]  # fmt: skip


@pytest.mark.parametrize(("keys", "said"), ALONE)
def test_what_the_model_file_says_is_checked_first(keys, said, farm, tmp_path, capsys):
    model = write_model(farm, tmp_path / "model.yaml", **{"records": "absent.tsv"} | keys)
    found = refused(model, tmp_path / "out", capsys)
    assert found.startswith(str(model))
    assert re.search(said, found), found


def test_a_file_that_does_not_exist(farm, tmp_path, capsys):
    for key, value in (("records", "absent.tsv"), ("genotypes", {"plink": "absent"}), ("pedigree", None)):
        model = write_model(farm, tmp_path / "model.yaml", **({} if value is None else {key: value}))
        if value is None:
            content = yaml.safe_load(model.read_text()) | {"pedigree": {"file": "absent.tsv"}}
            model.write_text(yaml.safe_dump(content))
        assert "absent" in refused(model, tmp_path / "out", capsys)
    assert "absent.yaml: cannot be read as a model file" in refused(
        tmp_path / "absent.yaml", tmp_path / "out", capsys
    )


def with_records(farm, path, change):
    table = pd.read_csv(farm / "records.tsv", sep="\t", dtype=str, keep_default_na=False)
    change(table).to_csv(path, sep="\t", index=False)
    return {"records": str(path)}


RECORDS = {
    "a trait without records": (lambda t: t.assign(fat="NA"), "r.tsv: trait 'fat' has no records"),
    "an animal without pedigree": (
        lambda t: t.assign(id=["Zora", *t["id"][1:]]), "column 'id': 1 of .* not in the pedigree, such as 'Zora'"),
    "no number": (lambda t: t.assign(milk=["much", *t["milk"][1:]]), "r.tsv: line 2: milk is 'much'"),
    "no column": (lambda t: t.drop(columns="age"), "r.tsv: there is no column 'age'"),
    "a confounded covariate": (
        lambda t: t.assign(age=t["herd_year"].str[0]), r"covariate age is confounded with .*herd_year"),
    "a constant covariate": (lambda t: t.assign(age="2"), "covariate age is the same in all records"),
}  # fmt: skip


@pytest.mark.parametrize("name", RECORDS)
def test_records_that_cannot_be(name, farm, tmp_path, capsys):
    change, said = RECORDS[name]
    keys = MODELS["two traits"] | with_records(farm, tmp_path / "r.tsv", change)
    found = refused(write_model(farm, tmp_path / "model.yaml", **keys), tmp_path / "out", capsys)
    assert re.search(said, found), found


def test_confounded_levels_are_named_in_the_log(farm, tmp_path):
    keys = with_records(farm, tmp_path / "r.tsv", lambda t: t.assign(herd=t["herd_year"].str[0]))
    keys["fixed"] = {"herd_year": "class", "herd": "class"}
    assert solve(write_model(farm, tmp_path / "model.yaml", **keys), tmp_path / "out") == 0
    log = (tmp_path / "out" / "log.txt").read_text()
    assert "fixed effects of milk: level 1 of herd is confounded with herd_year; it is set to 0" in log


def test_too_little_memory_is_said_beforehand(farm, tmp_path, monkeypatch):
    keys = {"single_step": {"variant": "ss_h", "polygenic": 0.1}}
    model = write_model(farm, tmp_path / "model.yaml", **keys)
    with pytest.raises(BenchError, match=r"genotypes in chunks, kernel auto needs at least .* 0\.01 MB were given"):
        evaluate(model, tmp_path / "out", Settings(threads=1, memory=10_000))
    read = evaluation_of_files.read_inputs  # the genotypes of so small a herd take what they take
    monkeypatch.setattr(
        evaluation_of_files, "read_inputs", lambda *given, memory, **more: read(*given, memory=None, **more)
    )
    with pytest.raises(BenchError, match=r"SS-H.* needs .* GB of memory, 1e-05 GB can be used"):
        evaluate(model, tmp_path / "out", Settings(threads=1, memory=10_000))
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["log.txt"]
    exact = write_model(farm, tmp_path / "exact.yaml", output={"reliability": "exact"})
    with pytest.raises(BenchError, match=r"exact reliabilities of 300 levels .* GB of memory, .* GB can be used"):
        evaluate(exact, tmp_path / "out", Settings(threads=1, memory=400_000))
    assert "iterations" not in (tmp_path / "out" / "log.txt").read_text()


def test_reliabilities_that_cannot_be_sampled_are_refused_before_the_iterations(farm, tmp_path):
    single = {"polygenic": 0.1, "tuning": "vitezica"}
    keys = {"pedigree": {"file": str(farm / "pedigree.tsv"), "metafounders": str(farm / "gamma.txt")}}
    sampled = keys | {"single_step": single, "output": {"reliability": "sampled"}}
    model = write_model(farm, tmp_path / "model.yaml", **sampled)
    with pytest.raises(BenchError, match=r"the tuning subtracts .*cannot be drawn; use another tuning"):
        evaluate(model, tmp_path / "out", Settings(threads=1))
    assert "iterations" not in (tmp_path / "out" / "log.txt").read_text()


def test_memory_that_is_gone_meanwhile_is_a_sentence(farm, tmp_path, monkeypatch, capsys):
    from bench.evaluation import solve as module

    def gone(*_, **__):
        raise MemoryError("Unable to allocate 3.2 TiB")

    monkeypatch.setattr(module, "prepare", gone)
    said = refused(write_model(farm, tmp_path / "model.yaml"), tmp_path / "out", capsys, log="stopped: Unable")
    assert said.startswith("out of memory (Unable to allocate 3.2 TiB); close programs")


def test_a_full_disk(farm, tmp_path, full_folder, capsys):
    model = write_model(farm, tmp_path / "model.yaml")
    assert solve(model, full_folder / "out") == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "cannot write (No space left on device); free some space on that disk" in said
    assert not list(full_folder.glob("out/*.parquet"))


def test_groups_that_the_pedigree_does_not_have(farm, tmp_path, capsys):
    stanza = {"groups": [*GROUPS, "G3"]}
    found = refused(write_model(farm, tmp_path / "model.yaml", pedigree=stanza), tmp_path / "out", capsys)
    assert "no unknown parent is of the group 'G3'; take it off pedigree.groups" in found


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("snp weight\na 1\nb x\n", r"w\.txt: line 3 is 'b x'; a SNP's id and its weight were needed"),
        ("a 1\nb\n", r"w\.txt: line 2 is 'b'; a SNP's id and its weight were needed"),
        ("a 1\nb 2\na 2\n", r"w\.txt: line 3: SNP 'a' has a weight already"),
        ("b 2\n", r"w\.txt: 1 of 2 SNPs have no weight, such as 'a'"),
    ],
)
def test_weights_of_snps_that_cannot_be(tmp_path, text, sentence):
    path = tmp_path / "w.txt"
    path.write_text(text)
    with pytest.raises(BenchError, match=sentence):
        snp_weights(path, np.array(["a", "b"]))


def test_weights_of_snps_come_in_the_order_of_the_genotypes(tmp_path):
    path = tmp_path / "w.txt"
    path.write_text("snp weight\nb 2\nc 7\na 1.5\n")
    np.testing.assert_array_equal(snp_weights(path, np.array(["a", "b"])), [1.5, 2])
