"""Raw, centred and imputed products in turn: verified against decoded dosages, then timed."""

import numpy as np
import pytest

from bench.experiments import Files, centred
from bench.experiments.paired import ROUNDS
from bench.relationships import genomic

pytestmark = pytest.mark.usefixtures("own_lock")

CASE = {
    "experiment": "centred", "dataset": "sheep", "kernel": "dense_blas", "target": "openblas", "dtype": "f8",
    "threads": 1, "k": [1, 4],
}  # fmt: skip


@pytest.fixture
def files(small_dataset, oracle):
    return Files(dataset=small_dataset, oracle=oracle)


def rows(doc, metric):
    return [row for row in doc.rows if row["metric"] == metric]


def test_every_method_is_timed_in_every_round_after_the_last_was_verified(files):
    doc = centred.run(CASE, files)
    assert doc.status == "ok", doc.reason
    cells = {(d, k) for d in ("matmul", "rmatmul") for k in (1, 4)}
    checked = [row for row in rows(doc, "rel_error") if "method" in row]
    assert {(row["direction"], row["k"]) for row in checked} == cells
    assert {row["method"] for row in checked} == {"imputed"}
    assert all(row["value"] < 1e-12 for row in checked)
    timed = [(row["method"], row["direction"], row["k"], row["repeat"]) for row in rows(doc, "product_time")]
    methods = ("raw", "centred", "imputed")
    assert sorted(timed) == sorted((a, *cell, r) for a in methods for cell in cells for r in range(ROUNDS))
    order = [row["metric"] for row in doc.rows]
    assert max(i for i, name in enumerate(order) if name == "rel_error") < order.index("product_time")


def test_complete_genotypes_have_nothing_to_impute(files, monkeypatch):
    monkeypatch.setattr(centred, "missing_of", lambda *arguments, **options: None)
    monkeypatch.setattr(centred, "TOLERANCE", np.inf)  # this data set has missing calls, which then count 0
    doc = centred.run(CASE, files)
    assert doc.status == "ok", doc.reason
    assert {row["method"] for row in rows(doc, "product_time")} == {"raw", "centred"}


@pytest.mark.parametrize("direction", ["matmul", "rmatmul"])
def test_a_wrong_centred_product_is_never_timed(files, monkeypatch, direction):
    right = getattr(genomic.Centred, direction)
    monkeypatch.setattr(genomic.Centred, direction, lambda self, x: right(self, x) + 1e-6)
    doc = centred.run(CASE, files)
    assert doc.status == "wrong"
    assert f"imputed {direction} with k = 1: relative error" in doc.reason
    assert not rows(doc, "product_time")


def test_memory_that_runs_out_ends_the_case_as_oom(files, monkeypatch):
    def none_left(*arguments, **options):
        raise MemoryError("no room for lists")

    monkeypatch.setattr(centred, "missing_of", none_left)
    doc = centred.run(CASE, files)
    assert (doc.status, doc.reason) == ("oom", "out of memory: no room for lists")
