"""X X' by each method: verified before it is timed, refused with a reason."""

import shutil
import subprocess

import numpy as np
import pytest

from bench import config
from bench.build import build
from bench.errors import BenchError
from bench.experiments import Files, gram
from bench.genotypes.dataset import Dataset
from bench.genotypes.packed import PackedGenotypes

pytestmark = pytest.mark.usefixtures("own_lock")

TIMING = {"least": 3, "seconds": 0.001, "most": 3}
CASE = {"experiment": "gram", "dataset": "sheep", "method": "dsyrk", "target": "scipy", "threads": 1}
needs_plink = pytest.mark.skipif(shutil.which("plink2") is None, reason="no plink2 on this machine")


@pytest.fixture
def files(small_dataset):
    return Files(dataset=small_dataset, timing=TIMING)


def rows(doc, metric):
    return [row for row in doc.rows if row["metric"] == metric]


def of(method):
    return CASE | {"method": method, "target": gram.LIBRARY[method]}


@pytest.mark.parametrize("method", ["dsyrk", "float32", pytest.param("plink2", marks=needs_plink)])
def test_a_method_is_verified_then_timed_and_every_repeat_kept(files, method):
    doc = gram.run(of(method), files)
    assert doc.status == "ok", doc.reason
    assert [r["repeat"] for r in rows(doc, "gram_time")] == [0, 1, 2]
    checked = rows(doc, "rel_error" if method == "plink2" else "integer_mismatches")
    assert doc.rows.index(checked[0]) < doc.rows.index(rows(doc, "gram_time")[0])
    assert checked[0]["value"] <= (1e-14 if method == "plink2" else 0)
    assert (doc.identity["n"], doc.identity["m"]) == (23, 57)
    assert rows(doc, "peak_rss")[0]["value"] > 0
    assert len(rows(doc, "prepare_time")) == (method == "dsyrk")


def test_the_compiled_method_says_which_library_it_ran(files, tmp_path):
    if shutil.which("g++") is None:
        pytest.skip("no g++ on this machine")
    made = build("gram", "scalar", tmp_path / "b")
    doc = gram.run(
        CASE | {"method": "gram", "target": "scalar"}, Files(**vars(files) | {"build": tmp_path / "b" / "build.json"})
    )
    assert doc.status == "ok", doc.reason
    assert doc.provenance["library_hash"] == made.library_hash
    assert doc.provenance["source_hash"] == made.source_hash
    assert rows(doc, "integer_mismatches")[0]["value"] == 0


@pytest.mark.parametrize("method", ["dsyrk", "float32"])
def test_a_wrong_product_is_never_timed(files, monkeypatch, method):
    def wrong(*arguments):
        Z = np.maximum(Dataset.read(files.dataset).packed().dosages(), 0).astype("f8")
        Z[5, 7] += 1
        return Z @ Z.T

    monkeypatch.setattr(gram, "_product", lambda *arguments: wrong)
    doc = gram.run(of(method), files)
    assert doc.status == "wrong"
    assert "integer products differ" in doc.reason
    assert not rows(doc, "gram_time")


def test_a_relationship_matrix_that_is_not_plink_s_formula_is_wrong(files, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(gram, "_product", lambda *arguments: lambda: np.eye(23))
    doc = gram.run(of("plink2"), files)
    assert doc.status == "wrong"
    assert "of its own formula" in doc.reason


def test_without_plink_the_row_is_refused_with_the_reason(files, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    doc = gram.run(of("plink2"), files)
    assert (doc.status, doc.reason) == (
        "refused",
        "there is no plink2 on this machine; Debian's package is called plink2",
    )


def test_plink_that_fails_says_why(tmp_path, monkeypatch):
    failed = subprocess.CompletedProcess(["plink2"], 7, "", "\nError: File write failure.\n")
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: failed)
    with pytest.raises(BenchError, match=r"plink2 ended with status 7: Error: File write failure\."):
        gram._plink_matrix(["plink2"], 3, tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"threads": 4096}, "asks for 4096 threads"),
        ({"method": "gram", "target": "scalar"}, "no C++ compiler"),
    ],
)
def test_what_cannot_run_here_is_refused(files, tmp_path, change, words):
    build("gram", "scalar", tmp_path / "b", compiler="no-such-compiler")
    doc = gram.run(CASE | change, Files(**vars(files) | {"build": tmp_path / "b" / "build.json"}))
    assert doc.status == "refused"
    assert words in doc.reason


def test_memory_and_data_that_will_not_do_are_refused(files, small_dataset):
    doc = gram.run(CASE, Files(**vars(files) | {"memory": 1000}))
    assert (doc.status, "dsyrk needs" in doc.reason) == ("refused", True)
    Dataset.refused("sheep", "there is no network").write(small_dataset)
    assert gram.run(CASE, files).reason == "there is no network"


def test_the_compiled_method_needs_its_build(files):
    with pytest.raises(BenchError, match="bench build gram"):
        gram.run(CASE | {"method": "gram", "target": "scalar"}, files)


def test_cases_are_a_session_per_method_build_and_threads():
    read = config.read()
    stanza = gram.Stanza(datasets=["tiny"], threads=[1])
    built = [c["target"] for c in gram.cases(stanza, read).values() if c["method"] == "gram"]
    assert len(built) == 1  # best
    everything = read.model_copy(update={"targets": ["scalar", "avx2", "avx512"]})
    found = [(c["method"], c["target"]) for c in gram.cases(stanza, everything).values()]
    assert found == [
        ("gram", "scalar"), ("gram", "avx2"), ("gram", "avx512"), ("dsyrk", "scipy"), ("float32", "numpy"),
        ("plink2", "plink2"),
    ]  # fmt: skip


def test_plink_s_formula_by_hand():
    # p = 1/4, 1/2 and, of the calls, 1/2; the fourth SNP does not vary, the fifth has no call.
    dosages = np.array([[1, 2, 1, 2, -1], [0, 0, -1, 2, -1]], np.int8)
    found = gram.plink_rows(PackedGenotypes.from_dosages(dosages), np.array([0, 1]))
    first = (0.5**2 / 0.375 + 1**2 / 0.5 + 0) / 4
    between = (0.5 * -0.5 / 0.375 + 1 * -1 / 0.5) / 3
    second = (0.5**2 / 0.375 + 1**2 / 0.5) / 3
    np.testing.assert_allclose(found, [[first, between], [between, second]], rtol=1e-14)
