"""The .bed reader and writer, against bed-reader and against dosages counted one by one."""

import re

import numpy as np
import pytest
from bed_reader import open_bed, to_bed
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bench.errors import BenchError
from bench.genotypes import packed as packed_module
from bench.genotypes.packed import HEADER, PackedGenotypes, concatenate_beds, pack_dosages, write_bed

dosage_matrices = hnp.arrays(
    np.int8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=23), elements=st.integers(-1, 2)
)
SIZES = [1, 2, 3, 4, 5, 7, 8, 9, 203]


def random_dosages(n, m, seed=0):
    return np.random.default_rng(seed).integers(-1, 3, (n, m), dtype=np.int8)


@given(dosage_matrices)
def test_packing_and_unpacking_give_the_dosages_back(dosages):
    packed = PackedGenotypes.from_dosages(dosages)
    assert packed.shape == dosages.shape
    assert np.array_equal(packed.dosages(), dosages)


@pytest.mark.parametrize(
    "codes",
    [np.zeros((5, 2), np.int64), np.zeros(6, np.uint8), np.zeros((5, 1), np.uint8)],
    ids=["type", "1-d", "few"],
)
def test_an_array_that_cannot_be_codes_is_refused(codes):
    with pytest.raises(BenchError, match=r"5 individuals need \(number of SNPs, at least 2\) bytes \(uint8\)"):
        PackedGenotypes(codes, 5)


@given(dosage_matrices, st.integers(0, 255))
def test_counts_are_those_of_the_dosages_whatever_the_padding_holds(dosages, garbage):
    packed = pack_dosages(dosages)
    n = dosages.shape[0]
    if n % 4:
        packed[:, -1] |= (garbage << 2 * (n % 4)) & 0xFF
    packed = np.hstack([packed, np.full((len(packed), 2), garbage, np.uint8)])
    genotypes = PackedGenotypes(packed, n)
    expected = np.stack([(dosages == d).sum(0) for d in (0, -1, 1, 2)], axis=1)
    assert np.array_equal(genotypes.code_counts(), expected)
    assert genotypes.missing_rate() == pytest.approx((dosages == -1).mean())
    calls = np.where(dosages < 0, np.nan, dosages)
    with np.errstate(invalid="ignore"):
        frequency = np.nansum(calls, 0) / (2 * (~np.isnan(calls)).sum(0))
    assert np.allclose(genotypes.allele_frequency(), frequency, equal_nan=True, rtol=1e-15)


@pytest.mark.parametrize("n", SIZES)
def test_head_counts_only_the_first_individuals(n):
    dosages = random_dosages(211, 17)
    packed = PackedGenotypes.from_dosages(dosages).head(n)
    assert np.array_equal(packed.dosages(), dosages[:n])
    assert np.array_equal(packed.code_counts()[:, 1], (dosages[:n] == -1).sum(0))


def test_frequency_of_a_snp_without_calls_is_nan():
    dosages = np.array([[-1, 2], [-1, -1], [-1, 1]], np.int8)
    frequency = PackedGenotypes.from_dosages(dosages).allele_frequency()
    assert np.isnan(frequency[0])
    assert frequency[1] == 0.75


def test_counts_do_not_depend_on_the_blocks(monkeypatch):
    packed = PackedGenotypes.from_dosages(random_dosages(77, 50))
    whole = packed.code_counts()
    monkeypatch.setattr("bench.genotypes.packed.BLOCK_BYTES", 1)
    assert np.array_equal(packed.code_counts(), whole)


@pytest.mark.parametrize("n", SIZES)
def test_bed_reader_reads_what_we_write(tmp_path, n):
    dosages = random_dosages(n, 13)
    write_bed(tmp_path / "x.bed", (pack_dosages(dosages[:, j : j + 5]) for j in range(0, 13, 5)))
    with open_bed(tmp_path / "x.bed", iid_count=n, sid_count=13, count_A1=False) as bed:
        assert np.array_equal(bed.read(dtype="int8"), np.where(dosages < 0, -127, dosages))


@pytest.mark.parametrize("n", SIZES)
def test_we_read_what_bed_reader_writes(tmp_path, n):
    dosages = random_dosages(n, 13)
    to_bed(tmp_path / "x.bed", np.where(dosages < 0, -127, dosages).astype(np.int8), count_A1=False)
    packed = PackedGenotypes.open(tmp_path / "x.bed", n_samples=n, n_snps=13)
    assert np.array_equal(packed.dosages(), dosages)
    assert np.array_equal(packed.dosages(slice(3, 8)), dosages[:, 3:8])
    assert np.array_equal(packed.dosages(np.array([12, 0])), dosages[:, [12, 0]])


def test_concatenated_beds_hold_the_snps_of_all_in_order(tmp_path):
    parts = [random_dosages(9, m, seed=m) for m in (1, 4, 7)]
    concatenate_beds(tmp_path / "x.bed", [PackedGenotypes.from_dosages(p) for p in parts])
    packed = PackedGenotypes.open(tmp_path / "x.bed", n_samples=9, n_snps=12)
    assert np.array_equal(packed.dosages(), np.hstack(parts))


def test_beds_of_other_individuals_are_not_concatenated(tmp_path):
    parts = [PackedGenotypes.from_dosages(random_dosages(n, 2)) for n in (5, 6)]
    with pytest.raises(BenchError, match="same number of individuals"):
        concatenate_beds(tmp_path / "x.bed", parts)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_leaves_no_file(tmp_path):
    def blocks():
        yield pack_dosages(random_dosages(5, 2))
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        write_bed(tmp_path / "x.bed", blocks())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\x6c\x1b", "5023 bytes, the file has 2"),
        (HEADER + bytes(3997), "1003 samples × 20 SNPs need 5023 bytes, the file has 4000"),
        (HEADER + bytes(5021), "need 5023 bytes, the file has 5024"),
        (b"PK\x03" + bytes(5020), "not a PLINK .bed file: it starts with 50 4b"),
        (b"\x6c\x1b\x00" + bytes(5020), "plink --bfile .* --make-bed"),
        (b"\x6c\x1b\x07" + bytes(5020), "third byte is 7"),
    ],
)
def test_a_file_that_does_not_fit_is_told_in_a_sentence(tmp_path, content, message):
    path = tmp_path / "x.bed"
    path.write_bytes(content)
    with pytest.raises(BenchError, match=message) as error:
        PackedGenotypes.open(path, n_samples=1003, n_snps=20)
    assert str(path) in str(error.value)


def test_a_missing_file_and_a_folder_are_told_in_a_sentence(tmp_path):
    for path in (tmp_path / "absent.bed", tmp_path):
        with pytest.raises(BenchError, match=re.escape(f"{path}: cannot be read")):
            PackedGenotypes.open(path, n_samples=3, n_snps=2)


def test_no_individuals_or_no_snps_is_an_error(tmp_path):
    (tmp_path / "x.bed").write_bytes(HEADER)
    for n, m in ((0, 2), (2, 0)):
        with pytest.raises(BenchError, match="at least one of each"):
            PackedGenotypes.open(tmp_path / "x.bed", n_samples=n, n_snps=m)


@settings(max_examples=200)
@given(data=st.data())
def test_a_corrupted_bed_is_an_error_or_valid_dosages(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "fuzz.bed"
    content = bytearray(HEADER + pack_dosages(random_dosages(10, 6)).tobytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content)))
        content[at : at + data.draw(st.integers(0, 5))] = data.draw(st.binary(max_size=5))
        if not content:
            break
    path.write_bytes(content)
    try:
        packed = PackedGenotypes.open(path, n_samples=10, n_snps=6)
    except BenchError as error:
        message = str(error)
        assert str(path) in message
    else:
        assert packed.code_counts().sum() == 60
        assert np.isin(packed.dosages(), (-1, 0, 1, 2)).all()


def test_taking_individuals_copies_them_in_their_order(monkeypatch):
    dosages = np.random.default_rng(3).integers(-1, 3, (23, 57)).astype(np.int8)
    rows = np.array([22, 0, 7, 7, 5])
    monkeypatch.setattr(packed_module, "BLOCK_BYTES", 23 * 8 * 10)
    taken = PackedGenotypes.from_dosages(dosages).take(rows)
    assert taken.shape == (5, 57)
    np.testing.assert_array_equal(taken.dosages(), dosages[rows])
