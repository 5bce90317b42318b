"""Result documents → one long table."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from synthetic_documents import measurements, paired_document, products_document, refused_document, written

from bench.collect import COLUMNS, collect, read, write
from bench.errors import BenchError
from bench.record import Document


def rewritten(path, change):
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    return [path]


@pytest.fixture
def path(tmp_path):
    return written(tmp_path, {"one": products_document("cattle", "decompress", "scalar", "f8", 1)})[0]


def test_every_row_of_a_document_carries_its_identity_outcome_and_provenance(path):
    frame = collect([path])
    document = json.loads(path.read_text())
    assert len(frame) == len(document["rows"])
    for name, value in (document["identity"] | document["provenance"]).items():
        assert frame[name].eq(value).all(), name
    assert frame["status"].eq("ok").all()
    assert frame["reason"].isna().all()
    assert frame["value"].tolist() == [row["value"] for row in document["rows"]]


def test_table_has_the_columns_and_dtypes_of_the_schema_whatever_it_holds(path, tmp_path):
    refused = written(tmp_path, {"two": refused_document("pigs", "gpu_2bit", "sm_80")})
    for frame in (collect([path]), collect(refused), collect([])):
        assert list(frame.columns) == list(COLUMNS)
        assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == COLUMNS


def test_a_document_without_rows_becomes_one_row_with_its_reason(tmp_path):
    frame = measurements(tmp_path, refused_document("pigs", "gpu_2bit", "sm_80"))
    assert len(frame) == 1
    row = frame.iloc[0]
    assert (row["status"], row["kernel"]) == ("refused", "gpu_2bit")
    assert row["reason"] == "needs an NVIDIA GPU, this machine has none"
    assert row["metric"] is pd.NA
    assert np.isnan(row["value"])


def test_fields_of_a_row_win_over_those_of_its_document(tmp_path):
    frame = measurements(tmp_path, paired_document())
    assert set(frame["kernel"]) == {"decompress", "dense_blas"}
    assert frame["against"].eq("dense_blas/openblas").all()


def test_a_step_that_was_refused_says_so_in_its_row_only(tmp_path):
    doc = Document({"experiment": "gblup", "dataset": "pigs"})
    doc.add("h2", 0.4, "1", phase="reml")
    doc.add("reliability_time", float("nan"), "s", phase="reliability", status="refused", reason="too large")
    frame = measurements(tmp_path, doc)
    assert frame["status"].tolist() == ["ok", "refused"]
    assert frame["reason"].isna().tolist() == [True, False]
    assert np.isnan(frame["value"].iloc[1])


def test_a_case_is_named_by_its_file_unless_the_document_names_it(tmp_path):
    named = Document({"experiment": "products", "case": "its-own"})
    plain = Document({"experiment": "products"})
    assert collect(written(tmp_path, {"a": named, "b": plain}))["case"].tolist() == ["its-own", "b"]


def test_the_same_case_in_two_files_is_an_error_that_names_both(tmp_path):
    doc = Document({"experiment": "products", "case": "same"})
    with pytest.raises(BenchError, match=r"b\.json: case same of experiment products is also in .*a\.json"):
        collect(written(tmp_path, {"a": doc, "b": doc}))


@pytest.mark.parametrize("part", ["identity", "provenance"])
def test_an_unknown_column_is_an_error_that_names_file_and_column(path, part):
    paths = rewritten(path, lambda document: document[part].update(flavour="sweet"))
    with pytest.raises(BenchError, match=r"one\.json: column `flavour`"):
        collect(paths)


def test_an_unknown_column_in_a_row_is_an_error(path):
    with pytest.raises(BenchError, match=r"one\.json: column `flavour`"):
        collect(rewritten(path, lambda document: document["rows"][0].update(flavour="sweet")))


@pytest.mark.parametrize(
    ("name", "value"), [("threads", "all"), ("k", [1, 10]), ("n", True), ("n", 1.5), ("dataset", 3), ("dirty", 1)]
)
def test_a_value_of_the_wrong_kind_is_an_error_that_says_what_was_needed(path, name, value):
    paths = rewritten(path, lambda document: document["identity"].update({name: value}))
    with pytest.raises(BenchError, match=rf"one\.json: column `{name}` holds .*{COLUMNS[name]} was needed"):
        collect(paths)


def test_an_unknown_status_is_an_error(path):
    with pytest.raises(BenchError, match="status 'fine' is not one of ok, refused"):
        collect(rewritten(path, lambda document: document.update(status="fine")))


@pytest.mark.parametrize(
    "text", ["", '{"identity": {"experiment": "prod', "[]", "3", '{"identity": {}}', '{"name": "x", "rows": []}']
)
def test_a_truncated_or_foreign_document_is_an_error_that_names_it(tmp_path, text):
    path = tmp_path / "odd.json"
    path.write_text(text)
    with pytest.raises(BenchError, match=r"odd\.json"):
        collect([path])


@pytest.mark.parametrize(
    ("part", "value"), [("rows", {}), ("identity", []), ("reason", 5), ("rows", [{"value": 1.0}])]
)
def test_a_part_of_the_wrong_shape_is_an_error_that_names_the_file(path, part, value):
    with pytest.raises(BenchError, match=r"one\.json"):
        collect(rewritten(path, lambda document: document.update({part: value})))


def test_a_document_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(BenchError, match=r"gone\.json: no such file"):
        collect([tmp_path / "gone.json"])


def test_written_table_reads_back_the_same(tmp_path):
    frame = measurements(tmp_path)
    write(frame, tmp_path / "measurements.parquet")
    pd.testing.assert_frame_equal(read(tmp_path / "measurements.parquet"), frame)


def test_an_empty_table_can_be_written_and_read(tmp_path):
    write(collect([]), tmp_path / "measurements.parquet")
    assert len(read(tmp_path / "measurements.parquet")) == 0


def test_reading_what_is_not_the_table_is_an_error_that_names_it(tmp_path):
    with pytest.raises(BenchError, match=r"gone\.parquet: no such file"):
        read(tmp_path / "gone.parquet")
    (tmp_path / "odd.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(BenchError, match=r"odd\.parquet: not a parquet table"):
        read(tmp_path / "odd.parquet")
    pd.DataFrame({"n": [1]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(BenchError, match=r"other\.parquet: columns .* differ from the schema's"):
        read(tmp_path / "other.parquet")
