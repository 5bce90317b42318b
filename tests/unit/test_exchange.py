"""BLUPF90's files against plain parsing, back and forth, and with every sort of damage."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from bench.__main__ import main
from bench.errors import BenchError
from bench.exchange import snp_file
from bench.exchange.blupf90 import (
    PedigreeFile,
    read_pedigree_file,
    read_records,
    read_solutions,
    write_pedigree_file,
    write_records,
    write_solutions,
)
from bench.exchange.snp_file import from_plink, read_map, read_snp_file, to_plink, write_snp_file
from bench.genotypes.bim_fam import read_bim, read_fam
from bench.genotypes.packed import PackedGenotypes
from bench.relationships.pedigree import from_table

LAB = Path(os.environ.get("BENCH_DATA", "absent")) / "blupf90_lab"
lab = pytest.mark.skipif(not LAB.exists(), reason="BENCH_DATA has no blupf90_lab")
fuzz = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
words = st.text(st.characters(codec="utf-8", exclude_categories=["Z", "C"]), min_size=1, max_size=6)


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "file.txt"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def or_refused(read, *arguments, **options):
    """What `read` returns; None where it refuses, which it must do with the name of the file."""
    try:
        return read(*arguments, **options)
    except BenchError as error:
        said = str(error)
    assert "file.txt" in said
    return None


# SNP files


@fuzz
@given(
    dosages=arrays.arrays(
        np.int8, st.tuples(st.integers(1, 11), st.integers(1, 9)), elements=st.sampled_from([-1, 0, 1, 2])
    ),
    data=st.data(),
    at_once=st.sampled_from([1, 40, 1 << 20]),
)
def test_a_snp_file_reads_back_whatever_the_block(tmp_path, dosages, data, at_once):
    n = len(dosages)
    ids = data.draw(st.lists(words, min_size=n, max_size=n, unique=True))
    path, before = tmp_path / "markers.txt", snp_file.BLOCK_BYTES
    snp_file.BLOCK_BYTES = at_once
    try:
        write_snp_file(path, PackedGenotypes.from_dosages(dosages), ids)
        found, packed = read_snp_file(path)
    finally:
        snp_file.BLOCK_BYTES = before
    assert found.tolist() == ids
    np.testing.assert_array_equal(packed.dosages(), dosages)
    np.testing.assert_array_equal(packed.codes, PackedGenotypes.from_dosages(dosages).codes)
    lines = path.read_bytes().splitlines()
    assert len({line.rindex(b" ") for line in lines}) == 1  # genotypes begin at the same column


@fuzz
@given(content=st.one_of(st.binary(max_size=80), st.text("ab 0125\n\r\t", max_size=80).map(str.encode)))
def test_any_bytes_are_a_snp_file_or_refused(tmp_path, content):
    found = or_refused(read_snp_file, written(tmp_path, content))
    if found is None:
        return
    ids, packed = found
    lines = [line.split() for line in content.split(b"\n") if line.split()]
    assert ids.tolist() == [line[0].decode() for line in lines]
    digits = [["0125".index(c) if c != "5" else -1 for c in line[1].decode()] for line in lines]
    np.testing.assert_array_equal(packed.dosages(), digits)


@fuzz
@given(cut=st.integers(8, 31), seed=st.integers(0, 99))
def test_a_snp_file_that_was_cut_is_refused_or_ends_with_a_whole_line(tmp_path, cut, seed):
    dosages = np.random.default_rng(seed).integers(-1, 3, (4, 5)).astype(np.int8)
    path = tmp_path / "file.txt"
    write_snp_file(path, PackedGenotypes.from_dosages(dosages), list("abcd"))
    whole = path.read_bytes()
    found = or_refused(read_snp_file, written(tmp_path, whole[:cut]))
    assert (found is not None) == (cut % 8 in (0, 7))  # lines of 8 bytes, the last one with or without its end
    if found is not None:
        np.testing.assert_array_equal(found[1].dosages(), dosages[: -(-cut // 8)])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "the file is empty, a line per individual was needed"),
        ("\n \n", "the file is empty"),
        ("a 0125\nb 012\n", "line 2 has 3 genotypes, line 1 has 4"),
        ("a 0125\nb 0124\n", r"line 2: SNP 4 of individual 'b' is '4'; 0, 1, 2 or 5 \(missing\) was needed"),
        ("a 0125\nb 01.5\n", "SNP 3 of individual 'b' is '.'"),
        ("a 0125\n\nb 0121\n", "line 2 has 0 columns, needed 2"),
        ("a 0125\nb 01 21\n", "line 2 has 3 columns, needed 2"),
        ("a 0125\n0121\n", "line 2 has 1 columns"),
        ("a 0125\na 0121\n", "line 2: individual 'a' stands already in line 1"),
        (b"\xff\xfe 0125\n", "line 1: the id is not UTF-8 text"),
    ],
)
def test_a_damaged_snp_file_is_told_with_its_line(tmp_path, content, sentence):
    with pytest.raises(BenchError, match=rf"file\.txt: .*{sentence}"):
        read_snp_file(written(tmp_path, content))


def test_snp_files_that_cannot_be_read_or_written(tmp_path):
    with pytest.raises(BenchError, match="cannot be read"):
        read_snp_file(tmp_path / "absent.txt")
    packed = PackedGenotypes.from_dosages(np.zeros((2, 3), np.int8))
    with pytest.raises(BenchError, match="2 individuals, but 1 ids"):
        write_snp_file(tmp_path / "m.txt", packed, ["a"])
    with pytest.raises(BenchError, match="the id 'b c' is empty or has blanks"):
        write_snp_file(tmp_path / "m.txt", packed, ["a", "b c"])


# Maps


def test_a_map_with_and_without_header(tmp_path):
    plain = read_map(written(tmp_path, "s1 1 0\ns2 X 17\n"), 2)
    named = read_map(written(tmp_path, "CHR POS SNP_ID other\n1 0 s1 -\nX 17 s2 -\n"), 2)
    pd.testing.assert_frame_equal(plain, named)
    assert plain.to_numpy().tolist() == [["1", "s1", 0, 0], ["X", "s2", 0, 17]]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "the file is empty"),
        ("SNP_ID CHR\n1 1\n", "the header has no column POS; it has"),
        ("s1 1 0\ns2 1\n", r"line 2 has 2 columns, needed 3 \(SNP_ID, CHR, POS\)"),
        ("s1 1 0\ns2 1 x\n", "line 2: POS is 'x', a whole number was needed"),
        ("s1 1 0\ns2 1 -4\n", "line 2: POS is '-4'"),
        ("s1 1 0\ns1 1 4\n", "line 2: SNP 's1' stands already in line 1"),
        ("s1 1 0\n", "1 SNPs, but the genotypes have 2"),
    ],
)
def test_a_damaged_map_is_told_with_its_line(tmp_path, content, sentence):
    with pytest.raises(BenchError, match=sentence):
        read_map(written(tmp_path, content), 2)


@fuzz
@given(content=st.one_of(st.binary(max_size=60), st.text("SNP_IDCHRPOS 123\n", max_size=80).map(str.encode)))
def test_any_bytes_are_a_map_or_refused(tmp_path, content):
    or_refused(read_map, written(tmp_path, content), 2)


# Both programs' files through the command line


def test_conversion_to_plink_and_back_through_the_command_line(tmp_path, capsys):
    (tmp_path / "in.txt").write_text("cow1  0125\nheifer 2210\n")
    (tmp_path / "in.map").write_text("SNP_ID CHR POS\nr1 1 10\nr2 1 20\nr3 2 5\nr4 2 6\n")
    prefix, back = tmp_path / "a.b", tmp_path / "back"  # a dot in a prefix is no suffix
    given_ = ["--genotypes", str(tmp_path / "in.txt"), "--map", str(tmp_path / "in.map")]
    assert main(["convert", "--from", "blupf90", *given_, "--out", str(prefix)]) == 0
    assert capsys.readouterr().out == f"{prefix}: 2 individuals × 4 SNPs\n"
    bim, fam = read_bim(Path(f"{prefix}.bim")), read_fam(Path(f"{prefix}.fam"))
    assert bim["snp"].tolist() == ["r1", "r2", "r3", "r4"]
    assert set(bim["allele2"]) == {"B"}
    assert fam["id"].tolist() == ["cow1", "heifer"]
    packed = PackedGenotypes.open(Path(f"{prefix}.bed"), n_samples=2, n_snps=4)
    assert packed.dosages().tolist() == [[0, 1, 2, -1], [2, 2, 1, 0]]
    assert main(["convert", "--from", "plink", "--genotypes", str(prefix), "--out", str(back)]) == 0
    assert (tmp_path / "back.txt").read_text() == "cow1   0125\nheifer 2210\n"
    assert (tmp_path / "back.map").read_text() == (tmp_path / "in.map").read_text()
    capsys.readouterr()
    assert main(["convert", "--from", "plink", *given_, "--out", str(back)]) == 2
    assert "--map: the .bim file is the map" in capsys.readouterr().err
    assert main(["convert", "--from", "blupf90", "--genotypes", str(tmp_path / "no"), "--out", str(back)]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_without_a_map_snps_are_numbered(tmp_path):
    assert to_plink(written(tmp_path, "a 012\nb 210\n"), tmp_path / "out") == (2, 3)
    assert read_bim(tmp_path / "out.bim")["snp"].tolist() == ["SNP1", "SNP2", "SNP3"]
    assert from_plink(tmp_path / "out", tmp_path / "again") == (2, 3)


@lab
def test_the_lab_s_files(tmp_path):
    assert to_plink(LAB / "marker.txt", tmp_path / "lab", map_file=LAB / "chrmap.txt") == (1500, 3000)
    bim, fam = read_bim(tmp_path / "lab.bim"), read_fam(tmp_path / "lab.fam")
    packed = PackedGenotypes.open(tmp_path / "lab.bed", n_samples=1500, n_snps=3000)
    lines = (LAB / "marker.txt").read_text().splitlines()
    plain = np.array([[int(c) if c != "5" else -1 for c in line.split()[1]] for line in lines])
    np.testing.assert_array_equal(packed.dosages(), plain)
    assert fam["id"].tolist() == [line.split()[0] for line in lines]
    assert bim["bp"].tolist() == pd.read_csv(LAB / "chrmap.txt", sep=" ")["POS"].tolist()
    pedigree = read_pedigree_file(LAB / "pedigree.txt")
    assert len(from_table(pedigree.table)) == 15800
    assert not pedigree.sire_group.any()
    records = read_records(LAB / "phenotypes.txt", ["id", "mean", "trait", "tbv"], traits=["trait"])
    assert len(records) == 15800
    assert records["trait"][0] == 5.73


# Pedigrees


def test_a_pedigree_file_with_groups_reads_back(tmp_path):
    path = written(tmp_path, "a 0 -3 1990\nb a -12 1991\nc a b 1992\n")
    found = read_pedigree_file(path)
    assert found.table.to_numpy().tolist() == [["a", "0", "0"], ["b", "a", "0"], ["c", "a", "b"]]
    assert found.sire_group.tolist() == [0, 0, 0]
    assert found.dam_group.tolist() == [3, 12, 0]
    write_pedigree_file(tmp_path / "again.txt", found)
    assert (tmp_path / "again.txt").read_text() == "a 0 -3\nb a -12\nc a b\n"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "the file is empty, a line per animal was needed"),
        ("a 0 0\nb a\n", r"line 2 has 2 columns, needed 3 \(id, sire, dam\)"),
        ("a 0 0\n0 a a\n", "line 2: '0' stands for an unknown parent, an id was needed"),
        ("a 0 0\n-2 a a\n", "line 2: '-2' stands for an unknown parent"),
        ("a 0 0\nb 0 0\na 0 0\n", "line 3: animal 'a' stands already in line 1"),
        ("a 0 -99999999999999999999\n", "line 1: a group of 99999999999999999999 is no number"),
    ],
)
def test_a_damaged_pedigree_file_is_told_with_its_line(tmp_path, content, sentence):
    with pytest.raises(BenchError, match=sentence):
        read_pedigree_file(written(tmp_path, content))


@fuzz
@given(content=st.one_of(st.binary(max_size=60), st.text("ab0-12 \n", max_size=60).map(str.encode)))
def test_any_bytes_are_a_pedigree_file_or_refused(tmp_path, content):
    found = or_refused(read_pedigree_file, written(tmp_path, content))
    if found is None:
        return
    write_pedigree_file(tmp_path / "again.txt", found)
    again = read_pedigree_file(tmp_path / "again.txt")
    assert isinstance(again, PedigreeFile)
    pd.testing.assert_frame_equal(again.table, found.table)


# Records


@fuzz
@given(
    records=st.lists(
        st.tuples(words, st.one_of(st.just(np.nan), st.floats(-1e6, 1e6).filter(lambda x: x != -999))),
        min_size=1,
        max_size=8,
    )
)
def test_records_read_back_exactly(tmp_path, records):
    table = pd.DataFrame(records, columns=["herd", "milk"])
    write_records(tmp_path / "r.txt", table, traits=["milk"], missing=-999)
    again = read_records(tmp_path / "r.txt", ["herd", "milk"], traits=["milk"], missing=-999)
    pd.testing.assert_frame_equal(again, table.astype({"herd": again["herd"].dtype}))


def test_the_missing_code_is_the_one_told(tmp_path):
    path = written(tmp_path, "1 0 0\n2 1 -999\n")
    zero = read_records(path, ["id", "x", "y"], traits=["x", "y"])
    assert zero["x"].isna().tolist() == [True, False]
    assert zero["y"].isna().tolist() == [True, False]
    coded = read_records(path, ["id", "x", "y"], traits=["y"], missing=-999)
    assert coded["y"].isna().tolist() == [False, True]
    assert coded["x"].tolist() == ["0", "1"]  # a level, as it stands


@pytest.mark.parametrize(
    ("content", "columns", "traits", "sentence"),
    [
        ("", ["id", "y"], ["y"], "the file is empty, a line per record was needed"),
        ("1 2\n1 2 3\n", ["id", "y"], ["y"], r"line 2 has 3 columns, 2 were named \(id, y\)$"),
        ("1 2 3\n", ["id", "y"], ["y"], r"line 1 has 3 columns, .* line 1 is '1 2 3'"),
        ("1 2\n1 x\n", ["id", "y"], ["y"], r"line 2: y is 'x'; a number was needed \(0 where there is none\)"),
        ("1 2\n1 nan\n", ["id", "y"], ["y"], "line 2: y is 'nan'"),
        ("1 2\n", ["id", "y"], ["z"], "trait 'z' is none of the columns id, y"),
        ("1 2\n", ["y", "y"], ["y"], "are not all different"),
    ],
)
def test_damaged_records_are_told_with_their_line(tmp_path, content, columns, traits, sentence):
    with pytest.raises(BenchError, match=sentence):
        read_records(written(tmp_path, content), columns, traits=traits)


def test_records_that_would_read_back_otherwise_are_refused(tmp_path):
    with pytest.raises(BenchError, match="y has an observation of 0, which would be read as missing"):
        write_records(tmp_path / "r", pd.DataFrame({"y": [0.0, 1.0]}), traits=["y"])
    with pytest.raises(BenchError, match="herd has 'a b', which is empty or has blanks"):
        write_records(tmp_path / "r", pd.DataFrame({"herd": ["a b"]}), traits=[])


@fuzz
@given(content=st.one_of(st.binary(max_size=60), st.text("ab0-12.e \n", max_size=60).map(str.encode)))
def test_any_bytes_are_records_or_refused(tmp_path, content):
    found = or_refused(read_records, written(tmp_path, content), ["id", "y"], traits=["y"])
    assert found is None or not np.isinf(found["y"]).any()


# Solutions


@fuzz
@given(
    rows=st.lists(
        st.tuples(
            st.integers(1, 99), st.integers(1, 99), st.integers(1, 10**9), st.floats(-1e9, 1e9), st.floats(0, 9)
        ),
        min_size=1,
        max_size=8,
    ),
    errors=st.booleans(),
)
def test_solutions_read_back_exactly(tmp_path, rows, errors):
    table = pd.DataFrame(rows, columns=["trait", "effect", "level", "solution", "se"])
    table = table if errors else table.drop(columns="se")
    write_solutions(tmp_path / "solutions", table)
    pd.testing.assert_frame_equal(read_solutions(tmp_path / "solutions"), table)


def test_a_solutions_file_as_blupf90_writes_it(tmp_path):
    lines = ["trait/effect level  solution          s.e.", "   1   1         1          4.50000000  0.1"]
    found = read_solutions(written(tmp_path, "\n".join([*lines, "   1   2    12 -3e-2 1\n"])))
    assert found.to_numpy().tolist() == [[1, 1, 1, 4.5, 0.1], [1, 2, 12, -0.03, 1]]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "the file is empty"),
        ("trait/effect level  solution\n", "there is no solution below the header"),
        ("1 1 1\n", "line 1 has 3 columns, needed 4"),
        ("1 1 1 2.5\n1 1 2 2.5 .1\n", "line 2 has 5 columns, needed 4"),
        ("1 1 1.5 2.5\n", r"line 1: level is '1\.5', a whole number was needed"),
        ("1 1 1 ******\n", r"line 1: solution is '\*\*\*\*\*\*', a number was needed"),
    ],
)
def test_a_damaged_solutions_file_is_told_with_its_line(tmp_path, content, sentence):
    with pytest.raises(BenchError, match=sentence):
        read_solutions(written(tmp_path, content))


@fuzz
@given(content=st.one_of(st.binary(max_size=60), st.text("tr/ 012.-e\n", max_size=60).map(str.encode)))
def test_any_bytes_are_solutions_or_refused(tmp_path, content):
    or_refused(read_solutions, written(tmp_path, content))
