"""Tables of records as users bring them, and traits drawn from QTL."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import BenchError
from bench.genotypes.phenotypes import read_phenotypes, simulate_traits
from bench.genotypes.spec import Trait

IDS = ["a", "b", "c", "7"]
GOOD = "id\tmilk\tfat\nb\t1.5\t-9\na\tNA\t2\n7\t2e-1\tnan\nc\t\t3\n"


def read(tmp_path, text, ids=IDS, encoding="utf-8"):
    path = tmp_path / "records.tsv"
    path.write_text(text, encoding=encoding)
    return read_phenotypes(path, ids)


def test_records_follow_the_order_of_the_individuals(tmp_path):
    table = read(tmp_path, GOOD)
    assert table.index.tolist() == IDS
    assert table.columns.tolist() == ["milk", "fat"]
    np.testing.assert_array_equal(table["milk"], [np.nan, 1.5, np.nan, 0.2])
    np.testing.assert_array_equal(table["fat"], [2, -9, 3, np.nan])


@pytest.mark.parametrize("separator", [",", ";", " "])
def test_other_separators_read_the_same(tmp_path, separator):
    text = GOOD.replace("c\t\t3", "c\tNA\t3").replace("\t", separator)
    assert read(tmp_path, text).equals(read(tmp_path, GOOD))


def test_windows_line_ends_and_a_byte_order_mark_read_the_same(tmp_path):
    assert read(tmp_path, GOOD.replace("\n", "\r\n"), encoding="utf-8-sig").equals(read(tmp_path, GOOD))


@pytest.mark.parametrize("header", ["FID IID", "#FID IID", "fid iid"])
def test_the_id_of_a_plink_table_is_its_second_column(tmp_path, header):
    table = read(tmp_path, f"{header} milk\nfam1 b 1\nfam1 c 2\n")
    np.testing.assert_array_equal(table["milk"], [np.nan, 1, 2, np.nan])


def test_an_individual_without_a_line_has_no_record(tmp_path):
    assert read(tmp_path, "id,milk\na,1\nb,2\n")["milk"].isna().tolist() == [False, False, True, True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "0 lines"),
        ("id,milk\n", "1 lines"),
        ("id\na\n", "names no trait"),
        ("id,milk,milk\na,1,2\n", "each once"),
        ("id,milk\na,1\nx,2\ny,3\nz,4\nw,5\n", r"4 of 5 individuals are not in the .fam file \(x, y, z, …\)"),
        ("id,milk\na,1\nb,2\na,3\n", "line 4: individual 'a' has a line already; keep one line each$"),
        ("f,animal,milk\nx,a,1\nx,b,2\n", "line already; .* recognised only by the names FID IID"),
        ("family id milk\nf a 1\ng b 2\n", "begins with family id; .* recognised only by the names FID IID"),
        ("a,1.5\nb,2\nc,3\n", "line 1 looks like data \\('a' is an individual.*; the table needs a header"),
        ("a,NA\nb,2\nc,3\n", "line 1 looks like data"),
        ("f1 a 1.5\nf1 b 2\nf1 c 3\n", "line 1 looks like data"),
        ("stranger,1.5\nb,2\nc,3\n", "line 1 looks like data \\('1.5' is a number\\)"),
        ("id,milk,2019\na,1,2\nb,2,3\n", "line 1 looks like data \\('2019' is a number\\)"),
        ("id,milk\na,1\nb,tall\n", "line 3: milk is 'tall'"),
        ("id,milk\na,1\nb,inf\n", "line 3: milk is 'inf'"),
        ("id,milk\na,1\nb,1_0\n", "line 3: milk is '1_0'"),
        ("id,milk\na,1\nb\n", "line 3 has 1 columns, the header has 2"),
        ('id,milk\na,1\nb,"2\n', "line 3: "),
        ("id,milk\na,NA\nb,\n", "'milk' has no record"),
        ("id,milk\na,2\nb,2.0\n", "'milk' does not vary, all its 2 records are 2"),
        ("id,milk\na,2\n", "'milk' does not vary"),
    ],
)
def test_a_table_that_cannot_be_used_is_told_in_a_sentence(tmp_path, text, message):
    with pytest.raises(BenchError, match=message) as error:
        read(tmp_path, text)
    assert "records.tsv" in str(error.value)


def test_a_file_that_is_no_text_is_told_in_a_sentence(tmp_path):
    (tmp_path / "records.tsv").write_bytes(b"id\tmilk\na\t\xff\xfe\n")
    with pytest.raises(BenchError, match="not a text file"):
        read_phenotypes(tmp_path / "records.tsv", IDS)


@settings(max_examples=300)
@given(data=st.data())
def test_a_corrupted_table_is_an_error_or_valid_records(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "fuzz.tsv"
    content = bytearray(GOOD.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content)))
        content[at : at + data.draw(st.integers(0, 6))] = data.draw(
            st.one_of(st.binary(max_size=4), st.sampled_from([b"\n", b"\t", b",", b'"', b"\r", b"1e999", b"\x00"]))
        )
    path.write_bytes(content)
    try:
        table = read_phenotypes(path, IDS)
    except BenchError as error:
        message = str(error)
        assert str(path) in message
    else:
        assert table.index.tolist() == IDS
        assert not np.isinf(table.to_numpy()).any()
        assert (table.nunique() > 1).all()


def qtl_dosages(n, q, seed=0):
    rng = np.random.default_rng(seed)
    return rng.binomial(2, rng.uniform(0.05, 0.95, q), (n, q)).astype(np.int8)


def test_breeding_values_have_the_asked_variance_and_are_centred():
    traits = (Trait(name="milk", h2=0.3, n_qtl=40), Trait(name="fat", h2=0.7, n_qtl=100))
    values, _ = simulate_traits(qtl_dosages(300, 150), traits, seed=5)
    assert values.columns.tolist() == ["milk", "fat"]
    np.testing.assert_allclose(values.var(ddof=0), [0.3, 0.7], rtol=1e-12)
    np.testing.assert_allclose(values.mean(), 0, atol=1e-12)


def test_breeding_values_are_linear_in_the_dosages_of_n_qtl_loci():
    qtl = qtl_dosages(400, 60)
    values, _ = simulate_traits(qtl, (Trait(n_qtl=25),), seed=5)
    design = np.column_stack([np.ones(400), qtl])
    effects, *_ = np.linalg.lstsq(design, values["trait"].to_numpy(), rcond=None)
    np.testing.assert_allclose(design @ effects, values["trait"], atol=1e-10)
    assert (np.abs(effects[1:]) > 1e-10).sum() == 25


def test_a_trait_does_not_depend_on_the_others():
    qtl = qtl_dosages(50, 60)
    fat = Trait(name="fat", n_qtl=30)
    alone = simulate_traits(qtl, (fat,), seed=5)[1]
    together = simulate_traits(qtl, (Trait(name="milk", n_qtl=30), fat), seed=5)[1]
    assert alone["fat"].equals(together["fat"])
    assert not np.allclose(together["fat"], together["milk"])


def test_qtl_that_do_not_vary_are_told_in_a_sentence():
    with pytest.raises(BenchError, match="do not vary"):
        simulate_traits(np.ones((5, 3), np.int8), (Trait(n_qtl=3),), seed=1)


@pytest.mark.statistical
def test_realised_heritability_and_missing_records_are_near_the_asked():
    n = 20_000
    trait = Trait(h2=0.3, n_qtl=50, missing_records=0.25)
    values, records = simulate_traits(qtl_dosages(n, 50), (trait,), seed=11)
    tbv, y = values["trait"].to_numpy(), records["trait"].to_numpy()
    seen = ~np.isnan(y)
    assert abs(seen.mean() - 0.75) < 5 * math.sqrt(0.25 * 0.75 / n)
    slope, _ = np.polyfit(tbv[seen], y[seen], 1)
    assert abs(slope - 1) < 5 * math.sqrt(0.7 / (0.3 * seen.sum()))
    residual = y[seen] - tbv[seen]
    assert abs(residual.var() / 0.7 - 1) < 5 * math.sqrt(2 / seen.sum())
