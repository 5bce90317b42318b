"""Verification before timing, in one process; what may not be timed leaves no time behind."""

import os

import numpy as np
import pytest

from bench import kernels, measure
from bench.errors import BenchError
from bench.experiments import Files, paired, products
from bench.genotypes.dataset import Dataset
from bench.kernels import Kernel, dense_blas
from bench.machine import this_machine
from bench.oracle import Oracle

pytestmark = pytest.mark.usefixtures("own_lock")

TIMING = {"least": 3, "seconds": 0.001, "most": 3}
CASE = {
    "experiment": "products", "dataset": "sheep", "kernel": "dense_blas", "target": "openblas", "dtype": "f8",
    "threads": 1, "k": [1, 4],
}  # fmt: skip


@pytest.fixture
def files(small_dataset, oracle):
    return Files(dataset=small_dataset, oracle=oracle, timing=TIMING)


def rows(doc, metric):
    return [row for row in doc.rows if row["metric"] == metric]


def test_every_k_and_direction_is_verified_then_timed_and_every_repeat_kept(files):
    doc = products.run(CASE, files)
    assert doc.status == "ok"
    cells = {(d, k) for d in ("matmul", "rmatmul") for k in (1, 4)}
    assert {(r["direction"], r["k"]) for r in rows(doc, "integer_mismatches")} == cells
    assert all(r["value"] == 0 for r in rows(doc, "integer_mismatches"))
    assert all(r["value"] < 1e-12 for r in rows(doc, "rel_error"))
    times = rows(doc, "product_time")
    assert {(r["direction"], r["k"], r["repeat"]) for r in times} == {(*c, i) for c in cells for i in range(3)}
    assert len(times) == 12
    assert all(r["value"] > 0 and r["unit"] == "s" for r in times)
    first = [r["metric"] for r in doc.rows]
    assert max(i for i, m in enumerate(first) if m == "rel_error") < first.index("product_time")


def test_prepare_product_and_memory_are_apart(files):
    doc = products.run(CASE, files)
    phases = {row["metric"]: row["phase"] for row in doc.rows}
    assert phases["prepare_time"] == "prepare"
    assert phases["product_time"] == "product"
    assert {phases[m] for m in ("bytes_held", "bytes_needed", "prepare_rss", "peak_rss")} == {"memory"}
    assert rows(doc, "bytes_held")[0]["value"] >= 23 * 57 * 8


def test_a_kernel_whose_size_depends_on_the_genotypes_reads_what_it_holds(files):
    doc = products.run(CASE | {"kernel": "scipy_sparse", "target": "csc"}, files)
    assert doc.status == "ok"
    (held,), (read,) = rows(doc, "bytes_held"), rows(doc, "bytes_read")
    assert read["value"] == held["value"] > 0


def test_a_problem_that_a_kernel_declines_is_refused_with_its_reason(files):
    case = CASE | {"kernel": "scipy_sparse", "target": "csc", "threads": 2}
    if this_machine().cores == 1:
        pytest.skip("one core: more threads are refused for that")
    assert "one thread" in refusal(case, files)


def test_the_document_says_what_was_measured_and_where(files, small_dataset):
    doc = products.run(CASE, files)
    data = Dataset.read(small_dataset)
    assert doc.identity["n"] == 23
    assert doc.identity["m"] == 57
    assert doc.identity["missing_rate"] == data.missing_rate
    assert "k" not in doc.identity
    told = doc.provenance
    assert told["dataset_hash"] == data.bed_sha256
    assert told["host"] == this_machine().host
    assert len(told["source_hash"]) == 64
    assert told["protocol"] == measure.PROTOCOL
    assert told["version"] == products.VERSION


class Wrong(dense_blas.DenseBlas):
    """Off by one in one entry of Z'U, with more than one column."""

    def rmatmul(self, U):
        out = super().rmatmul(U)
        if U.shape[1] > 1:
            out[3, 1] += 1
        return out


class Inaccurate(dense_blas.DenseBlas):
    """Whole numbers come out exactly, others in float32."""

    def matmul(self, V):
        return super().matmul(V.astype("f4").astype("f8"))


class NotANumber(dense_blas.DenseBlas):
    def matmul(self, V):
        return super().matmul(V) * np.nan


class Greedy(dense_blas.DenseBlas):
    def rmatmul(self, U):
        raise MemoryError("no room for 9 GB")


@pytest.fixture
def replace(monkeypatch):
    """Put another operator behind dense_blas."""

    def put(operator):
        def prepare(self, packed, *, target, dtype="f8", library=None, threads=1):
            return operator(packed, dtype=dtype, target=target, threads=threads)

        monkeypatch.setattr(Kernel, "prepare", prepare)

    return put


@pytest.mark.parametrize(
    ("operator", "words"),
    [
        (Wrong, "rmatmul with k = 4: 1 of 228 integer results differ"),
        (Inaccurate, "matmul with k = 1: 0 of 23 integer results differ, relative error"),
        (NotANumber, "relative error nan"),
    ],
)
def test_a_kernel_that_is_wrong_is_never_timed(files, replace, operator, words):
    replace(operator)
    doc = products.run(CASE, files)
    assert doc.status == "wrong"
    assert words in doc.reason
    assert not rows(doc, "product_time")
    assert not rows(doc, "product_cpu")
    assert rows(doc, "rel_error")


def test_a_kernel_may_declare_the_error_that_a_target_is_allowed(files, replace, monkeypatch):
    replace(Inaccurate)
    allowed = {"openblas": 1e-5, "mkl": 1e-9}
    monkeypatch.setattr(Kernel, "allowed_error", lambda self, dtype, target: allowed[target])
    assert products.run(CASE, files).status == "ok"
    allowed["openblas"] = 1e-9
    assert "(allowed 1e-09)" in products.run(CASE, files).reason


def test_without_a_declaration_the_allowed_error_is_that_of_the_dtype():
    assert kernels.load("decompress").allowed_error("f8", "avx2") == kernels.TOLERANCE["f8"]
    reduced, full = (kernels.load("slices").allowed_error("f8", t) for t in ("avx512vnni_s3", "avx512vnni"))
    assert full < 1e-12 < 1e-7 < reduced < 1e-5


def test_a_wrong_partner_stops_a_pair_before_it_is_timed(files, replace, monkeypatch):
    def prepare(self, packed, *, target, dtype="f8", library=None, threads=1):
        operator = Wrong if self.name == "numba_unpack" else dense_blas.DenseBlas
        return operator(packed, dtype=dtype, target="openblas", threads=threads)

    monkeypatch.setattr(Kernel, "prepare", prepare)
    case = CASE | {"experiment": "paired", "against": "numba_unpack/numba"}
    doc = paired.run(case, files)
    assert doc.status == "wrong"
    assert doc.reason.startswith("numba_unpack/numba: rmatmul")
    assert not rows(doc, "product_time")


def test_a_pair_is_timed_in_rounds_with_both_names(files, replace):
    replace(dense_blas.DenseBlas)
    doc = paired.run(CASE | {"experiment": "paired", "against": "numba_unpack/numba"}, files)
    assert doc.status == "ok"
    for kernel in ("dense_blas", "numba_unpack"):
        mine = [r for r in rows(doc, "product_time") if r["kernel"] == kernel]
        assert len(mine) == 2 * 2 * paired.ROUNDS
        assert {r["repeat"] for r in mine} == set(range(paired.ROUNDS))


@pytest.mark.parametrize("run", [products.run, paired.run])
def test_memory_that_runs_out_ends_the_case_as_oom(files, replace, run):
    replace(Greedy)
    doc = run(CASE | {"against": "numba_unpack/numba"}, files)
    assert doc.status == "oom"
    assert "no room for 9 GB" in doc.reason


def test_any_other_error_is_not_a_result(files, monkeypatch):
    def fail(*a, **k):
        raise RuntimeError("a mistake of the program")

    monkeypatch.setattr(Kernel, "prepare", fail)
    with pytest.raises(RuntimeError):
        products.run(CASE, files)


def refusal(case, files):
    doc = products.run(case, files)
    assert doc.status == "refused"
    assert not doc.rows
    return doc.reason


def test_a_refused_data_set_refuses_the_session_with_its_reason(files, small_dataset):
    Dataset.refused("sheep", "there is no network").write(small_dataset)
    assert refusal(CASE, files) == "there is no network"


def test_a_refused_build_refuses_the_session_with_its_reason(files, tmp_path):
    from bench.build import build

    build("decompress", "scalar", tmp_path / "b", compiler="no-such-compiler")
    case = CASE | {"kernel": "decompress", "target": "scalar"}
    reason = refusal(case, Files(**vars(files) | {"build": tmp_path / "b" / "build.json"}))
    assert "no C++ compiler 'no-such-compiler'" in reason


def test_more_individuals_than_there_are_is_refused(files):
    assert refusal(CASE | {"samples": 24}, files) == "asks for 24 individuals, sheep has 23"


def test_the_first_individuals_are_a_problem_of_their_own(files, small_dataset, tmp_path):
    Oracle.compute(Dataset.read(small_dataset).packed().head(9), 4).write(tmp_path / "nine.npz")
    doc = products.run(CASE | {"samples": 9}, Files(**vars(files) | {"oracle": tmp_path / "nine.npz"}))
    assert doc.status == "ok"
    assert doc.identity["n"] == 9


def test_more_threads_than_cores_is_refused(files):
    assert refusal(CASE | {"threads": 4096}, files).startswith("asks for 4096 threads, this machine has ")


def test_memory_beyond_the_budget_is_refused(files):
    assert "of memory" in refusal(CASE, Files(**vars(files) | {"memory": 1000}))


def test_memory_that_is_not_free_now_is_refused(files, monkeypatch):
    monkeypatch.setattr(products, "memory_available", lambda: 1000)
    assert "of memory" in refusal(CASE, Files(**vars(files) | {"memory": 10**12}))


def test_without_the_oracle_the_next_step_is_said(files):
    with pytest.raises(BenchError, match="bench oracle"):
        products.run(CASE, Files(**vars(files) | {"oracle": None}))


def test_a_truncated_bed_is_said_and_not_timed(files, plink_files):
    os.truncate(plink_files.with_suffix(".bed"), 100)
    with pytest.raises(BenchError, match="23 samples × 57 SNPs need 345 bytes, the file has 100"):
        products.run(CASE, files)
