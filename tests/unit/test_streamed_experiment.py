"""Streamed products: verified against the oracle, then timed in turn with the disk and a chunk in memory."""

import pytest

from bench.experiments import Files, streamed
from bench.genotypes.dataset import Dataset

pytestmark = pytest.mark.usefixtures("own_lock")

CASE = {
    "experiment": "streamed", "dataset": "sheep", "kernel": "numba_unpack", "target": "numba", "dtype": "f8",
    "threads": 1, "k": [1, 4], "streamed": {"memory": 1},
}  # fmt: skip


@pytest.fixture
def files(small_dataset, oracle):
    return Files(dataset=small_dataset, oracle=oracle, memory=10)


@pytest.fixture
def chunks(monkeypatch):
    monkeypatch.setattr(streamed, "chunk_snps", lambda *_, **__: 30)
    monkeypatch.setattr(streamed, "ROUNDS", 2)


def rows(doc, metric):
    return [row for row in doc.rows if row["metric"] == metric]


def test_every_product_is_verified_and_timed_both_ways_in_every_round(files, chunks):
    doc = streamed.run(CASE, files)
    assert doc.status == "ok", doc.reason
    assert all(row["value"] == 0 for row in rows(doc, "integer_mismatches"))
    timed = sorted((r["method"], r["direction"], r["k"], r["repeat"]) for r in rows(doc, "product_time"))
    cells = [(d, k, repeat) for d in ("matmul", "rmatmul") for k in (1, 4) for repeat in (0, 1)]
    assert timed == sorted((method, *cell) for method in ("resident", "streamed") for cell in cells)
    bed = Dataset.read(files.dataset).bed
    assert bed is not None
    assert [row["size"] for row in rows(doc, "reading_time")] == 2 * [bed.stat().st_size]
    of = {row["method"]: row["size"] for row in rows(doc, "product_time")}
    assert of["resident"] < of["streamed"] == bed.stat().st_size - 3
    assert {row["note"] for row in rows(doc, "reading_time")} <= {"dropped", "cached"}


def test_a_wrong_product_is_never_timed(files, chunks, monkeypatch):
    right = streamed.StreamedMatrix.rmatmul
    monkeypatch.setattr(streamed.StreamedMatrix, "rmatmul", lambda self, U: right(self, U) + 1e-3)
    doc = streamed.run(CASE, files)
    assert doc.status == "wrong"
    assert not rows(doc, "product_time")


def test_too_little_memory_for_a_chunk_is_a_refused_row(files):
    doc = streamed.run(CASE, files)
    assert doc.status == "refused"
    assert "needs at least" in (doc.reason or "")


def test_a_budget_that_is_none_is_refused_in_the_configuration():
    with pytest.raises(ValueError, match="bytes were needed"):
        streamed.Stanza.model_validate({"datasets": ["sheep"], "memory": "lots"})
