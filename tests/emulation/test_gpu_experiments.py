"""Experiments take the GPU kernel like any other: products, GBLUP, and what becomes of a GPU that fails."""

from __future__ import annotations

import json
from dataclasses import replace

import cupy_stand_in
import pytest

import bench.experiments.products
from bench import guard, measure
from bench.experiments import Files, gblup, products
from bench.genotypes.dataset import Dataset
from bench.machine import this_machine
from bench.oracle import Oracle

TIMING = {"least": 1, "seconds": 0.0, "most": 1}
CASE = {
    "experiment": "products", "dataset": "sheep", "kernel": "gpu_2bit", "target": "sm_90", "dtype": "f8",
    "threads": 1, "k": [1, 4],
}  # fmt: skip


@pytest.fixture
def files(gpu, small_dataset, tmp_path, monkeypatch):
    """A machine that lists the stand-in's GPU, and a data set with missing calls."""
    own = measure.exclusive
    monkeypatch.setattr(measure, "exclusive", lambda: own(tmp_path / "lock"))
    equipped = replace(this_machine(), gpus=("Stand-in",), gpu_memory=1 << 30)
    monkeypatch.setattr(bench.experiments.products, "this_machine", lambda: equipped)
    Oracle.compute(Dataset.read(small_dataset).packed(), 4).write(tmp_path / "oracle.npz")
    return Files(
        dataset=small_dataset, oracle=tmp_path / "oracle.npz", timing=TIMING, reference=tmp_path / "reference.npz"
    )


def test_a_session_verifies_and_times_the_products(files):
    doc = products.run(CASE, files)
    assert (doc.status, doc.reason) == ("ok", None)
    found = {row["metric"]: row["value"] for row in doc.rows}
    assert found["integer_mismatches"] == 0
    assert found["rel_error"] < 1e-14
    assert found["product_time"] > 0
    assert found["work_int8"] == 7 * 23 * 57 * 4


def test_gblup_through_it_reproduces_its_reference(files):
    case = {key: CASE[key] for key in ("dataset", "dtype", "threads")} | {
        "experiment": "gblup", "trait": "weight", "relationship": "vanraden1",
    }  # fmt: skip
    trait = Dataset.read(files.dataset).phenotypes().columns[0]
    reference = case | {"solver": "cholesky", "trait": trait, "options": {}}
    assert gblup.run(reference, files).status == "ok"
    solve = case | {"solver": "pcg", "trait": trait, "kernel": "gpu_2bit", "target": "sm_90", "k": [2]}
    doc = gblup.run(solve | {"options": {"repeats": 1}}, files)
    assert (doc.status, doc.reason) == ("ok", None)
    errors = [row["value"] for row in doc.rows if row["metric"] == "ebv_error"]
    assert len(errors) == 2
    assert max(errors) < 1e-8


def test_a_gpu_that_is_lost_is_a_refused_row_that_the_next_run_tries_again(files, gpu, tmp_path, monkeypatch):
    def lose(*_):
        gpu.lost = True

    monkeypatch.setattr(bench.experiments.products, "time_limits", lose)
    doc = products.run(CASE, files)
    assert doc.status == "refused"
    assert doc.reason.startswith("the GPU failed or was lost: GPU 0: CuPy says cudaErrorDeviceUnavailable")
    doc.write(tmp_path / "results" / "raw" / "products" / "lost.json")
    kept = tmp_path / "results" / "raw" / "products" / "kept.json"
    kept.write_text(json.dumps({"identity": CASE, "status": "ok", "reason": None, "rows": []}))
    forgotten = guard.forget_refusals(tmp_path / "results")
    assert [path.name for path in forgotten] == ["lost.json"]
    assert kept.exists()


def test_memory_of_the_gpu_that_runs_out_is_its_own_outcome(files, gpu, monkeypatch):
    take, taken = cupy_stand_in._take, []

    def run_out(count):
        taken.append(count)
        if len(taken) > 12:
            gpu.free = 0
        take(count)

    monkeypatch.setattr(cupy_stand_in, "_take", run_out)
    doc = products.run(CASE, files)
    assert doc.status == "oom"
    assert doc.reason.startswith("out of memory: GPU 0: Out of memory allocating")
