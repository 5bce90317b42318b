"""Experiments take the GPU kernel like any other: products, GBLUP, and what becomes of a GPU that fails."""

from __future__ import annotations

import json
from dataclasses import replace

import cupy_stand_in
import pytest

import bench.experiments.products
from bench import guard
from bench.build import installed
from bench.experiments import Files, gblup, products, single_step
from bench.genotypes.dataset import Dataset
from bench.genotypes.livestock import simulate
from bench.genotypes.spec import Livestock, RecordedTrait
from bench.machine import this_machine

TIMING = {"least": 1, "seconds": 0.0, "most": 1}
CASE = {
    "experiment": "products", "dataset": "sheep", "kernel": "gpu_2bit", "target": "sm_90", "dtype": "f8",
    "threads": 1, "k": [1, 4],
}  # fmt: skip


@pytest.fixture
def files(gpu, small_dataset, oracle, own_lock, tmp_path, monkeypatch):
    """A machine that lists the stand-in's GPU, and a data set with missing calls."""
    equipped = replace(this_machine(), gpus=("Stand-in",), gpu_memory=1 << 30)
    monkeypatch.setattr(bench.experiments.products, "this_machine", lambda: equipped)
    return Files(dataset=small_dataset, oracle=oracle, timing=TIMING, reference=tmp_path / "reference.npz")


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


HERD = Livestock(
    kind="livestock", animals=150, genotyped=40, n_snps=60, cohorts=4, herds=3, sires=5, genotype_sires=True,
    chromosomes=1, chromosome_length=1_000_000, founders=12, n_qtl=5, seed=9,
    traits=(RecordedTrait(name="milk", h2=0.3, mean=30),),
)  # fmt: skip


def test_a_single_step_solve_through_it_reproduces_its_reference(files, gpu, tmp_path):
    gpu.seed = 0
    library = installed("genedrop").library
    if library is None:
        pytest.skip("no g++ on this machine")
    simulate(HERD, tmp_path / "herd", name="herd", library=library, note=lambda text: None)
    own = Files(dataset=tmp_path / "herd" / "dataset.json", reference=tmp_path / "herd.npz")
    case = {"experiment": "single_step", "dataset": "herd", "trait": "milk", "threads": 1, "polygenic": 0.05,
            "tuning": "none"}  # fmt: skip
    assert single_step.run(case | {"solver": "reference"}, own).status == "ok"
    how = {"variant": "prior_pcg", "preconditioner": "prior", "options": {"rtol": 1e-10, "max_steps": 300}}
    solve = how | {"solver": "pcg", "kernel": "gpu_2bit", "target": "sm_90", "dtype": "f8", "k": [1]}
    doc = single_step.run(case | solve, own)
    assert (doc.status, doc.reason) == ("ok", None)
    assert gpu.launched.count("product") > 10
