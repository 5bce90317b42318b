"""Manifests, .bim and .fam files, and a user's own data."""

import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import BenchError
from bench.genotypes.bim_fam import read_bim, read_fam
from bench.genotypes.dataset import Dataset
from bench.genotypes.packed import pack_dosages, write_bed
from bench.genotypes.stages import make_dataset, refuse_dataset

BIM = "1\trs1\t0\t100\tA\tG\n1\trs2\t0.1\t2000\tC\tT\nX\trs3\t0\t5\tA\tC\n"
FAM = "f\ta\t0\t0\t1\t-9\nf\tb\t0\t0\t2\t-9\nf\tc\ta\tb\t0\t-9\nf\td\ta\tb\t1\t-9\nf\te\t0\t0\t1\t-9\n"
DOSAGES = np.array([[0, 1, 2], [2, -1, 1], [1, 1, 1], [0, 0, 2], [-1, 2, 0]], np.int8)


@pytest.fixture
def own(tmp_path):
    """A user's folder with genotypes, records and a pedigree, and its entry in datasets.yaml."""
    folder = tmp_path / "own"
    folder.mkdir()
    write_bed(folder / "mine.bed", [pack_dosages(DOSAGES)])
    (folder / "mine.bim").write_text(BIM)
    (folder / "mine.fam").write_text(FAM)
    (folder / "records.csv").write_text("id,milk\nb,1\na,2\nd,4\n")
    (folder / "pedigree.txt").write_text("id sire dam\na 0 0\nb 0 0\nc a b\nd a b\ne 0 0\n")
    return folder, {
        "kind": "plink",
        "prefix": str(folder / "mine"),
        "phenotypes": str(folder / "records.csv"),
        "pedigree": str(folder / "pedigree.txt"),
    }


def test_own_data_are_described_where_they_lie(own, tmp_path):
    folder, entry = own
    dataset = make_dataset(entry, name="mine", folder=tmp_path / "out")
    again = Dataset.read(tmp_path / "out" / "dataset.json")
    assert again == dataset
    assert again.bed == folder / "mine.bed"
    assert np.array_equal(again.packed().dosages(), DOSAGES)
    assert again.missing_rate == 2 / 15
    assert again.sample_ids() == ["a", "b", "c", "d", "e"]
    np.testing.assert_array_equal(again.phenotypes()["milk"], [2, 1, np.nan, 4, np.nan])
    assert again.breeding_values() is None
    assert again.folds() is None
    pedigree = again.pedigree()
    assert pedigree is not None
    assert pedigree["sire"].tolist() == ["0", "0", "a", "a", "0"]


def test_the_three_files_can_be_named_one_by_one(own, tmp_path):
    folder, entry = own
    files = {suffix: str(folder / f"mine.{suffix}") for suffix in ("bed", "bim", "fam")}
    dataset = make_dataset(
        {"kind": "plink", "phenotypes": entry["phenotypes"], **files}, name="mine", folder=tmp_path / "out"
    )
    assert dataset.packed().shape == (5, 3)


def test_a_manifest_is_the_same_bytes_wherever_its_data_set_lies(own, tmp_path):
    folder, entry = own
    make_dataset(entry, name="mine", folder=folder)
    text = (folder / "dataset.json").read_text()
    entries = json.loads(text)
    assert list(entries) == sorted(entries)
    assert entries["bed"] == "mine.bed"
    shutil.move(folder, tmp_path / "moved")
    moved = Dataset.read(tmp_path / "moved" / "dataset.json")
    assert np.array_equal(moved.packed().dosages(), DOSAGES)
    moved.write(tmp_path / "moved" / "again.json")
    assert (tmp_path / "moved" / "again.json").read_text() == text


def test_a_refused_data_set_says_why(own, tmp_path):
    _, entry = own
    refuse_dataset(entry, name="mine", reason="needs 900 GB of memory", folder=tmp_path)
    dataset = Dataset.read(tmp_path / "dataset.json")
    assert dataset.status == "refused"
    assert dataset.reason == "needs 900 GB of memory"
    assert dataset.bed is None
    with pytest.raises(BenchError, match="'mine' is refused: needs 900 GB"):
        dataset.packed()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"name": "x"}', "\x00"])
def test_a_manifest_that_is_none_is_told_in_a_sentence(tmp_path, text):
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(BenchError, match=r"dataset\.json"):
        Dataset.read(tmp_path / "dataset.json")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("mine.fam", FAM.replace("f\tb", "g\ta"), "line 2: individual 'a' stands already in line 1"),
        ("mine.fam", "", "the file is empty"),
        ("mine.fam", FAM.replace("\t-9\nf\tc", "\nf\tc"), "line 2 has 5 columns, needed 6"),
        ("mine.fam", FAM + "f\tx\t0\t0\t1\t-9\n" * 1 + "f\ty\t0\t0\t1\t-9\nf\tz\t0\t0\t1\t-9\nf\tu\t0\t0\t1\t-9\n",
         "9 samples × 3 SNPs need 12 bytes, the file has 9"),
        ("mine.bim", BIM + "1\trs4\t0\t9\tA\tG\n", "5 samples × 4 SNPs need 11 bytes, the file has 9"),
        ("mine.bim", BIM.replace("2000", "2000.5"), "line 2: bp is '2000.5', a whole number was needed"),
        ("mine.bim", BIM.replace("0.1", "nan"), "line 2: cm is 'nan', a number was needed"),
        ("mine.bim", BIM.replace("\tC\tT", "\tC"), "line 2 has 5 columns"),
        ("records.csv", "id,milk\nq,1\na,2\n", r"1 of 2 individuals are not in the .fam file \(q\)"),
    ],
)  # fmt: skip
def test_own_files_that_do_not_fit_are_told_in_a_sentence(own, tmp_path, file, text, message):
    folder, entry = own
    (folder / file).write_text(text)
    with pytest.raises(BenchError, match=message):
        make_dataset(entry, name="mine", folder=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("file", ["mine.bed", "mine.bim", "mine.fam", "records.csv", "pedigree.txt"])
def test_an_own_file_that_is_missing_is_named(own, tmp_path, file):
    folder, entry = own
    (folder / file).unlink()
    with pytest.raises(BenchError, match=file):
        make_dataset(entry, name="mine", folder=tmp_path / "out")


def test_a_single_individual_is_refused_with_a_sentence(own, tmp_path):
    folder, entry = own
    write_bed(folder / "mine.bed", [pack_dosages(DOSAGES[:1])])
    (folder / "mine.fam").write_text(FAM.splitlines()[0])
    with pytest.raises(BenchError, match="one individual; at least two"):
        make_dataset(entry, name="mine", folder=tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bed": "x.bed"}, "either prefix or bed"),
        ({"prefix": None}, "missing; give prefix"),
        ({"phenotypes": None}, "`phenotypes`: a path was needed"),
        ({"prefix": "data/mine.bed"}, "prefix: data/mine.bed is one file; give data/mine, for all three"),
        ({"phenotype": "x"}, "unknown key `phenotype`; did you mean 'phenotypes'"),
    ],
)
def test_an_own_entry_that_is_wrong_is_told_in_a_sentence(own, tmp_path, change, message):
    _, entry = own
    with pytest.raises(BenchError, match=message):
        make_dataset(entry | change, name="mine", folder=tmp_path)


def test_a_name_that_is_no_file_name_is_refused(own, tmp_path):
    _, entry = own
    for name in ("", "../x", "a b", "-x"):
        with pytest.raises(BenchError, match="cannot name a data set"):
            make_dataset(entry, name=name, folder=tmp_path)


@settings(max_examples=300)
@given(data=st.data())
def test_a_corrupted_text_file_is_an_error_or_a_valid_table(tmp_path_factory, data):
    reader, text = data.draw(st.sampled_from([(read_bim, BIM), (read_fam, FAM)]))
    path = tmp_path_factory.getbasetemp() / "fuzz.txt"
    content = bytearray(text.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content)))
        content[at : at + data.draw(st.integers(0, 8))] = data.draw(
            st.one_of(st.binary(max_size=4), st.sampled_from([b"\n", b"\t", b"9" * 30, b"1e400", b"\x00", b"-"]))
        )
    path.write_bytes(content)
    try:
        table = reader(path)
    except BenchError as error:
        message = str(error)
        assert str(path) in message
    else:
        assert table.shape[1] == 6
        assert len(table) >= 1
        assert not table.isna().any().any()
