"""The workflow when all goes well: what it leaves, what it does not do twice, what an edit reruns."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from checkout import ROOT, Checkout, would_run

from bench import figures, tables
from bench.collect import PROVENANCE

CONFIGS = ["config/smoke.yaml", "config/real.yaml", "config/papers/freudenberg2023.yaml"]
# What depends on a machine or a file that need not be there.
# A virtual machine may not tell its governor, numa_nodes and huge_pages.
MAY_BE_EMPTY = {"gpu", "driver", "library_hash", "compiler", "flags", "source_hash", "governor", "numa_nodes",
                "huge_pages"}  # fmt: skip


@pytest.mark.parametrize("config", [None, *CONFIGS])
def test_every_configuration_can_be_planned(checkout, config):
    planned = would_run(checkout.succeed("-n", *(["--configfile", config] if config else [])))
    assert planned["all"] == planned["collect"] == 1
    assert planned["table"] >= 3
    assert planned.get("session", 0) + planned.get("refused", 0) >= 5


def test_the_paper_s_sizes_are_planned_as_refused_jobs(checkout):
    planned = would_run(checkout.succeed("-n", "--configfile", CONFIGS[-1], "--config", "budget={memory_gb: 20}"))
    assert planned["refused"] >= 10


def test_planning_leaves_nothing_behind(checkout):
    assert not (checkout.folder / "results").exists()


def test_a_run_ends_with_one_table_of_every_case(finished):
    table = finished.table("tiny")
    assert set(table["experiment"]) == {"limits", "products", "scaling", "paired", "gblup"}
    assert set(table["case"]) == set(finished.documents("tiny"))
    assert set(table["status"]) == {"ok", "refused"}
    refused = table[table["status"] == "refused"]
    assert "gpu_2bit" in set(refused["kernel"])
    assert (refused["reason"].str.split().str.len() > 4).all()
    assert refused["reason"].str.contains("NVIDIA GPU|libmkl_rt").all()
    measured = table[table["status"] == "ok"]
    assert {"dense_blas", "decompress", "five_codes"} <= set(measured["kernel"].dropna())
    assert (measured.loc[measured["metric"] == "product_time", "value"] > 0).all()
    assert (measured.loc[measured["metric"] == "integer_mismatches", "value"] == 0).all()


def test_every_measured_row_says_where_it_comes_from(finished):
    measured = finished.table("tiny").query("status == 'ok' and experiment != 'limits'")
    for column in set(PROVENANCE) - MAY_BE_EMPTY:
        assert measured[column].notna().all(), column
        assert (measured[column].astype(str) != "").all(), column
    assert measured["commit"].str.fullmatch("[0-9a-f]{40}").all()
    assert measured["dirty"].eq(False).all()
    assert measured.loc[measured["kernel"].notna(), "source_hash"].str.fullmatch("[0-9a-f]{64}").all()
    native = measured[measured["kernel"].isin(["decompress", "five_codes"]) & (measured["experiment"] != "paired")]
    assert native["library_hash"].str.len().eq(64).all()
    assert native["flags"].str.contains("-O[23]").all()
    assert measured["dataset_hash"].str.len().eq(64).all()


def test_tables_and_figures_are_written_in_every_format(finished):
    results = finished.results("tiny")
    for name in tables.names():
        for kind in ("csv", "html", "md"):
            assert (results / "tables" / f"{name}.{kind}").stat().st_size > 0, (name, kind)
    begin = {"svg": b"<?xml", "pdf": b"%PDF", "png": b"\x89PNG"}
    for name in figures.names():
        for kind, magic in begin.items():
            assert (results / "figures" / f"{name}.{kind}").read_bytes().startswith(magic), (name, kind)


def test_no_temporary_file_is_left(finished):
    assert not [path for path in finished.results("tiny").rglob("*") if ".tmp" in path.name]
    assert not list(finished.results("tiny").glob("data/*/work/chromosome*"))


def test_a_second_run_does_nothing(finished):
    before = {p: p.stat().st_mtime_ns for p in finished.results("tiny").rglob("*") if p.is_file()}
    output = finished.succeed("--configfile", "tiny.yaml")
    assert "Nothing to be done" in output
    assert {p: p.stat().st_mtime_ns for p in finished.results("tiny").rglob("*") if p.is_file()} == before


@contextlib.contextmanager
def edited(path: Path, old: str, new: str):
    """`path` with one word replaced, and afterwards as it was, its time included."""
    text, status = path.read_text(), path.stat()
    assert old in text
    path.write_text(text.replace(old, new))
    try:
        yield
    finally:
        path.write_text(text)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def planned(finished: Checkout, *arguments: str) -> tuple[dict[str, int], str]:
    output = finished.succeed("--configfile", "tiny.yaml", "-n", *arguments)
    return would_run(output), output


REPORTED = {"collect": 1, "table": len(tables.names()), "figure": len(figures.names()), "all": 1}


def jobs_with(finished: Checkout, kernel: str) -> dict[str, int]:
    """{rule: number} of the jobs that ran `kernel`."""
    ran = [d for name, d in finished.documents("tiny").items() if kernel in name and d["status"] == "ok"]
    solves = sum(d["identity"]["experiment"] == "gblup" for d in ran)
    assert 0 < solves < len(ran)
    return {"session": len(ran) - solves, "gblup_solve": solves}


def test_editing_a_kernel_reruns_its_build_and_its_jobs_and_what_hangs_below(finished):
    source = finished.folder / "src/bench/kernels/decompress/decompress.cc"
    with edited(source, "#include", "// edited\n#include"):
        counts, output = planned(finished)
    assert counts == REPORTED | {"build": 1} | jobs_with(finished, "decompress")
    rerun = [line for line in output.splitlines() if line.strip().startswith("output:") and "/raw/" in line]
    assert all("decompress" in line for line in rerun)


def test_editing_a_kernel_without_sources_to_compile_reruns_only_its_jobs(finished):
    with edited(finished.folder / "src/bench/kernels/dense_blas.py", '"""The dense', '"""The  dense'):
        counts, _ = planned(finished)
    assert counts == REPORTED | jobs_with(finished, "dense_blas")


def test_editing_a_figure_draws_it_again_and_nothing_else(finished):
    with edited(finished.folder / "src/bench/figures/rates.py", '"""', '"""Edited. '):
        assert planned(finished)[0] == {"figure": 1, "all": 1}


def test_editing_what_tables_share_draws_them_again(finished):
    with edited(finished.folder / "src/bench/tables/_page.py", '"""', '"""Edited. '):
        assert planned(finished)[0].get("table") == len(tables.names())


def test_a_kernel_taken_out_of_the_configuration_times_nothing_again(finished):
    text = (finished.folder / "tiny.yaml").read_text()
    (finished.folder / "fewer.yaml").write_text(text.replace("- gpu_2bit\n", ""))
    counts = would_run(finished.succeed("--configfile", "fewer.yaml", "-n"))
    assert set(counts) <= set(REPORTED)
    assert counts["collect"] == 1


def test_a_change_of_the_repeats_times_everything_again(finished):
    counts, _ = planned(finished, "--config", "timing={seconds: 0.002}")
    documents = finished.documents("tiny").values()
    other = ("gblup", "limits")  # have repeats of their own
    timed = [d for d in documents if d["identity"]["experiment"] not in other and d["status"] != "refused"]
    assert counts["session"] >= len(timed)
    assert "build" not in counts


def test_the_documents_are_whole_and_name_their_case(finished):
    for name, document in finished.documents("tiny").items():
        assert set(document) == {"identity", "provenance", "status", "reason", "rows"}
        assert document["rows"] or document["reason"], name


def test_the_checkout_that_is_tested_is_not_touched(finished):
    assert not (ROOT / "results" / "tiny").exists()
    assert (finished.folder / ".snakemake").exists()
