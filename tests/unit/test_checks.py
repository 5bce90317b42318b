"""Checks of genotypes against brute force and against plink's."""

import shutil
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from bench.__main__ import main
from bench.errors import BenchError
from bench.genotypes import checks
from bench.genotypes.checks import Limits, bit_planes, check_genotypes, parent_pairs, refuse
from bench.genotypes.dataset import write_table
from bench.genotypes.packed import PackedGenotypes, write_bed


def dropped(seed: int, *, n: int = 40, m: int = 300, founders: int = 6, missing: float = 0.02):
    """Dosages of a family without errors, and each one's sire and dam (−1: none)."""
    rng = np.random.default_rng(seed)
    haplotypes = rng.random((n, 2, m)) < rng.uniform(0.1, 0.9, m)
    sire, dam = np.full(n, -1), np.full(n, -1)
    for i in range(founders, n):
        sire[i], dam[i] = 2 * rng.integers(i // 2), 2 * rng.integers(i // 2) + 1  # even rows are males
        for side, parent in enumerate((sire[i], dam[i])):
            haplotypes[i, side] = np.where(rng.random(m) < 0.5, haplotypes[parent, 0], haplotypes[parent, 1])
    dosages = haplotypes.sum(axis=1).astype(np.int8)
    dosages[rng.random((n, m)) < missing] = -1
    return dosages, sire, dam


def names(count: int, of: str) -> list[str]:
    return [f"{of}{i}" for i in range(count)]


def checked(dosages, pairs=None, limits=None):
    packed = PackedGenotypes.from_dosages(dosages)
    n, m = dosages.shape
    return check_genotypes(packed, individuals=names(n, "a"), snps=names(m, "s"), pairs=pairs, limits=limits)


genotypes = arrays.arrays(
    np.int8, st.tuples(st.integers(1, 9), st.integers(1, 150)), elements=st.sampled_from([-1, 0, 1, 2])
)


@settings(max_examples=80, deadline=None)
@given(dosages=genotypes, seed=st.integers(0, 999), words=st.sampled_from([1, 2, 1024]), twins=st.booleans())
def test_everything_is_what_brute_force_finds(dosages, seed, words, twins):
    rng = np.random.default_rng(seed)
    if twins:
        dosages = dosages[rng.integers(0, len(dosages), len(dosages) + 2)]
    n = len(dosages)
    pairs = rng.integers(0, n, (7, 2))
    before = checks.BLOCK_BYTES
    checks.BLOCK_BYTES = 8 * n * words  # blocks of so many words
    try:
        report = checked(dosages, pairs)
    finally:
        checks.BLOCK_BYTES = before
    for row, (i, j) in zip(report.parents.itertuples(), pairs, strict=True):
        both = (dosages[i] >= 0) & (dosages[j] >= 0)
        assert row.opposing == (np.abs(dosages[i] - dosages[j])[both] == 2).sum()
        assert row.compared == both.sum()
        assert (row.offspring, row.parent) == (f"a{i}", f"a{j}")
    np.testing.assert_allclose(report.individual_call_rate, (dosages >= 0).mean(axis=1))
    np.testing.assert_allclose(report.snp_call_rate, (dosages >= 0).mean(axis=0))
    np.testing.assert_array_equal(report.monomorphic, [len(set(z) - {-1}) < 2 for z in dosages.T.tolist()])
    found = set(report.duplicates.itertuples(index=False, name=None))
    earliest = {}
    for i, calls in enumerate(map(tuple, dosages.tolist())):
        earliest.setdefault(calls, i)
    wanted = {
        (f"a{earliest[calls]}", f"a{i}")
        for i, calls in enumerate(map(tuple, dosages.tolist()))
        if earliest[calls] != i and max(calls) >= 0
    }
    assert found == wanted


@settings(max_examples=40, deadline=None)
@given(dosages=genotypes)
def test_bit_planes_are_the_calls(dosages):
    packed = PackedGenotypes.from_dosages(dosages)
    n, m = dosages.shape
    for plane, wanted in zip(
        bit_planes(packed, slice(0, m)), (dosages == 0, dosages == 2, dosages >= 0), strict=True
    ):
        bits = np.unpackbits(plane.view(np.uint8), axis=1, bitorder="little")
        np.testing.assert_array_equal(bits[:, :m], wanted)
        assert not bits[:, m:].any()
        assert plane.shape[0] == n


def test_hashes_that_agree_by_chance_are_not_duplicates(monkeypatch):
    monkeypatch.setattr(checks, "_add_hashes", lambda hashes, planes, block: None)  # all hashes are 0
    dosages, _, _ = dropped(3)
    dosages[7] = dosages[0]
    found = checked(dosages).duplicates
    assert found.to_numpy().tolist() == [["a0", "a7"]]


def test_pairs_are_those_of_which_both_are_genotyped():
    sire, dam = np.array([-1, -1, 0, 0, 2]), np.array([-1, -1, 1, -1, 1])
    pairs = parent_pairs(sire, dam, np.array([4, 1, 2]))
    assert {tuple(pair) for pair in pairs.tolist()} == {(0, 2), (0, 1), (2, 1)}


def test_true_parents_have_no_conflict_and_a_wrong_one_is_named():
    dosages, sire, dam = dropped(1)
    rows = np.arange(len(dosages))
    report = checked(dosages, parent_pairs(sire, dam, rows))
    assert len(report.parents) == 2 * 34
    assert report.parents["opposing"].sum() == 0
    refuse(report)
    assert "conflict: none" in str(report)
    wrong = sire.copy()
    wrong[20] = next(i for i in range(0, 6, 2) if i != sire[20])
    report = checked(dosages, parent_pairs(wrong, dam, rows))
    sentence = rf"1 of 68 pairs .* more than 0\.01 of the SNPs, such as 'a20' and 'a{wrong[20]}' \(0\.\d+\)"
    with pytest.raises(BenchError, match=sentence):
        refuse(report)
    problems = report.problems()
    problems = problems[problems["kind"] != "monomorphic"]
    assert problems[["kind", "item", "other"]].to_numpy().tolist() == [["conflict", "a20", f"a{wrong[20]}"]]


def test_a_report_in_words_and_as_a_table():
    dosages, _, _ = dropped(2, missing=0)
    dosages[0], dosages[1] = 0, 2  # every SNP varies
    dosages[5] = dosages[4]
    dosages[9, :200] = -1
    dosages[:, 3] = 1
    dosages[:30, 8] = -1
    report = checked(dosages, limits=Limits(snp_call_rate=0.5))
    assert str(report).splitlines() == [
        "40 individuals × 300 SNPs, call rate 0.981; 0 pairs of offspring and parent compared",
        "conflict: none",
        "duplicate: 1 individuals have the calls of another one, such as 'a4' and 'a5'",
        "individual call rate: 1 of 40 individuals have a call rate below 0.9, such as 'a9' (0.337)",
        "SNP call rate: 1 of 300 SNPs have a call rate below 0.5, such as 's8' (0.25)",
        "monomorphic: 1 of 300 SNPs do not vary, such as 's3'",
    ]
    assert report.problems()["kind"].tolist() == ["duplicate", "individual call rate", "SNP call rate", "monomorphic"]
    with pytest.raises(BenchError, match=r"1 of 300 SNPs do not vary, such as 's3'; 1 individuals have the calls"):
        refuse(report, ["monomorphic", "duplicate"])
    with pytest.raises(BenchError, match="no check 'sex' of genotypes; there are conflict, duplicate"):
        refuse(report, ["sex"])
    refuse(report, [])


def test_a_spotless_report_has_an_empty_table():
    dosages, _, _ = dropped(2, missing=0)
    varies = dosages[:, (dosages.min(axis=0) != dosages.max(axis=0))]
    assert checked(varies).problems().empty


def test_ids_of_another_number_are_refused():
    packed = PackedGenotypes.from_dosages(dropped(1)[0])
    with pytest.raises(BenchError, match="40 individuals × 300 SNPs, but 3 and 300 ids"):
        check_genotypes(packed, individuals=names(3, "a"), snps=names(300, "s"))


def plink_errors(prefix: Path) -> Counter:
    """How many Mendelian errors plink finds for each offspring, of pairs of one parent and one offspring."""
    command = ["plink1.9", "--bfile", str(prefix), "--mendel", "--mendel-duos", "--out", str(prefix), "--nonfounders"]
    subprocess.run([*command, "--allow-no-sex", "--threads", "1"], check=True, capture_output=True)
    lines = prefix.with_suffix(".mendel").read_text().splitlines()
    return Counter(line.split()[1] for line in lines[1:])  # FID, KID


@pytest.mark.skipif(shutil.which("plink1.9") is None, reason="no plink1.9 on this machine")
@pytest.mark.parametrize("parent", ["sire", "dam"])
def test_plink_finds_the_same_opposing_homozygotes(tmp_path, parent):
    dosages, sire, dam = dropped(4, n=60, m=500, missing=0.05)
    rng = np.random.default_rng(0)
    wrong = rng.random(dosages.shape) < 0.05  # genotyping errors
    dosages[wrong] = rng.integers(0, 3, int(wrong.sum()))
    n, m = dosages.shape
    ids, of = np.array(names(n, "a")), {"sire": sire, "dam": dam}[parent]
    prefix = tmp_path / "family"
    packed = PackedGenotypes.from_dosages(dosages)
    write_bed(prefix.with_suffix(".bed"), [packed.codes])
    bim = pd.DataFrame({"chromosome": 1, "snp": names(m, "s"), "cm": 0, "bp": np.arange(m) + 1, "a1": "A", "a2": "C"})
    write_table(prefix.with_suffix(".bim"), bim, header=False)
    known = {name: np.where(of >= 0, ids[of], "0") if name == parent else "0" for name in ("sire", "dam")}
    fam = pd.DataFrame({"family": "f", "id": ids, **known, "sex": np.arange(n) % 2 + 1, "phenotype": -9})
    write_table(prefix.with_suffix(".fam"), fam, header=False)
    none = np.full(n, -1)
    pairs = parent_pairs(sire if parent == "sire" else none, dam if parent == "dam" else none, np.arange(n))
    report = check_genotypes(packed, individuals=ids, snps=names(m, "s"), pairs=pairs)
    errors = report.parents[report.parents["opposing"] > 0]
    assert errors["opposing"].sum() > 100
    found = dict(zip(errors["offspring"], errors["opposing"], strict=True))
    assert found == dict(plink_errors(prefix))


def test_files_are_checked_through_the_command_line(plink_files, tmp_path, capsys):
    parents = {i: (f"animal{i - 2}", f"animal{i - 1}") for i in range(2, 23) if i % 2 == 0}  # no family at all
    lines = ["id sire dam", *(f"animal{i} {' '.join(parents.get(i, ('0', '0')))}" for i in range(23))]
    (tmp_path / "pedigree.txt").write_text("\n".join(lines))
    files = ["--genotypes", str(plink_files), "--pedigree", str(tmp_path / "pedigree.txt")]
    assert main(["check", *files, "--out", str(tmp_path / "problems.tsv")]) == 0
    said = capsys.readouterr().out
    assert said.startswith("23 individuals × 57 SNPs, call rate 0.9")
    assert "of 22 pairs of offspring and parent are opposing homozygotes" in said
    kinds = pd.read_csv(tmp_path / "problems.tsv", sep="\t")["kind"]
    assert (kinds == "conflict").sum() > 10
    assert main(["check", *files, "--refuse", "duplicate", "conflict"]) == 2
    assert "bench check: genotypes: " in capsys.readouterr().err
    assert main(["check", "--genotypes", str(plink_files)]) == 0
    (tmp_path / "pedigree.txt").write_text("\n".join(lines[:-1]))
    capsys.readouterr()
    assert main(["check", *files]) == 2
    assert "sheep.fam: 1 of 23 animals are not in the pedigree, such as 'animal22'" in capsys.readouterr().err
