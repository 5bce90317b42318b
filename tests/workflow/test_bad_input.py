"""The workflow when something is missing or wrong: the rest goes on, and a sentence says what to do."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from checkout import OWN, Checkout, would_run

CLOSED = "http://127.0.0.1:9"  # the discard port: nothing answers
OFFLINE = {"https_proxy": CLOSED, "HTTPS_PROXY": CLOSED, "BENCH_DATA": None}
DATA = os.environ.get("BENCH_DATA", "absent")
HAS_WHEAT = Path(DATA, "wheat/wheat.RData").is_file()
REPORTED = ("missing", "failing")  # the phases of which a report is made: each takes six seconds


@dataclass
class Phase:
    """What one run left."""

    status: int
    output: str
    table: pd.DataFrame

    def reasons(self, *, status: str = "refused", **where: str) -> set[str]:
        rows = self.table[self.table["status"] == status]
        for column, value in where.items():
            rows = rows[rows[column] == value]
        return set(rows["reason"])


@pytest.fixture(scope="module")
def phases(checkout: Checkout) -> dict[str, Phase]:
    """Runs without compiler and network, twice; with a compiler that fails; the first one again with both."""
    if shutil.which("g++") is None:
        pytest.skip("no g++ on this machine")
    products = {"datasets": ["sheep", "wheat"], "dtypes": ["f8"], "threads": [1], "k": [1]}
    experiments = {"limits": None, "products": products, "scaling": None, "paired": None, "gblup": None}
    offline = OFFLINE | {"XDG_CACHE_HOME": str(checkout.folder / "cache")}
    found = {}

    def run(name, config, env):
        file = checkout.configure(config, compiler="own-compiler", experiments=experiments)
        status, output = checkout.run("--configfile", file, env=env)
        found[name] = Phase(status, output, checkout.table(config) if status == 0 else pd.DataFrame())
        if name in REPORTED:
            checkout.succeed("--configfile", file, "--report", f"{name}.html", env=env)

    run("missing", "repaired", offline)
    left = sorted(checkout.results("repaired").rglob("*.json"))
    checkout.succeed("--configfile", "repaired.yaml", "-n")
    assert sorted(checkout.results("repaired").rglob("*.json")) == left, "a dry run deleted something"
    run("again", "repaired", offline)
    compiler = checkout.folder / "bin" / "own-compiler"
    compiler.write_text("#!/bin/sh\necho 'kernel.cc:7:1: error: the compiler is broken' >&2\nexit 1\n")
    compiler.chmod(0o755)
    run("failing", "failing", offline)
    compiler.unlink()
    compiler.symlink_to(str(shutil.which("g++")))
    run("repaired", "repaired", offline | {"BENCH_DATA": DATA if HAS_WHEAT else None})
    return found


@pytest.mark.parametrize("name", ["missing", "again", "failing", "repaired"])
def test_a_run_without_compiler_or_network_ends_well(phases, name):
    assert phases[name].status == 0, phases[name].output


@pytest.mark.parametrize(
    ("name", "words"),
    [("missing", "no C++ compiler 'own-compiler' on this machine"), ("failing", "error: the compiler is broken")],
)
def test_without_a_compiler_native_rows_are_refused_and_the_others_measured(phases, name, words):
    phase = phases[name]
    (reason,) = phase.reasons(dataset="sheep", kernel="decompress")
    assert words in reason
    measured = phase.table[phase.table["status"] == "ok"]
    assert set(measured["dataset"]) == {"sheep"}
    assert set(measured["kernel"]) == {"dense_blas"}
    assert (measured["metric"] == "product_time").any()
    assert not (measured["metric"] == "fma_peak").any()


@pytest.mark.parametrize("name", ["missing", "failing"])
def test_without_a_network_the_rows_of_a_public_data_set_are_refused(phases, name):
    for kernel in ("dense_blas", "decompress"):
        reasons = {r for r in phases[name].reasons(dataset="wheat", kernel=kernel) if "libmkl_rt" not in r}
        assert len(reasons) == 1
        assert "cannot be fetched" in next(iter(reasons))
        assert "set BENCH_DATA to a folder that holds wheat/wheat.RData" in next(iter(reasons))


def test_a_report_is_made_whatever_was_refused(phases, checkout):
    for name in REPORTED:
        assert "</html>" in (checkout.folder / f"{name}.html").read_text()[-1000:]


def measured_pairs(phase: Phase) -> set[tuple[str, str]]:
    rows = phase.table[(phase.table["status"] == "ok") & (phase.table["metric"] == "product_time")]
    return set(zip(rows["dataset"], rows["kernel"], strict=True))


def test_a_kernel_that_was_not_built_is_measured_once_it_can_be(phases):
    assert measured_pairs(phases["missing"]) == {("sheep", "dense_blas")}
    assert {("sheep", "dense_blas"), ("sheep", "decompress")} <= measured_pairs(phases["repaired"])
    assert all("libmkl_rt" in reason for reason in phases["repaired"].reasons(dataset="sheep"))


@pytest.mark.skipif(not HAS_WHEAT, reason="BENCH_DATA has no wheat")
def test_a_data_set_that_was_not_fetched_is_measured_once_it_can_be(phases):
    assert {("wheat", "dense_blas"), ("wheat", "decompress")} <= measured_pairs(phases["repaired"])
    assert all("libmkl_rt" in reason for reason in phases["repaired"].reasons(dataset="wheat"))


def test_what_was_measured_is_not_measured_again(phases):
    def started(phase):
        rows = phase.table[(phase.table["dataset"] == "sheep") & (phase.table["kernel"] == "dense_blas")]
        return set(rows["started_at"].dropna())

    assert started(phases["missing"]) == started(phases["again"])


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"kernels": ["decompres"]}, "there is no kernel 'decompres'"),
        ({"resluts": "x"}, "unknown key `resluts`"),
        ({"experiments": {"products": {"datasets": ["sheeep"]}}}, "did you mean 'sheep'?"),
    ],
)
def test_a_mistake_in_the_configuration_is_a_sentence_without_a_traceback(checkout, overrides, words):
    status, output = checkout.run("--configfile", checkout.configure("mistaken", **overrides), "-n")
    assert status == 1
    assert words in output
    assert "Traceback" not in output


def truncated(folder: Path) -> str:
    os.truncate(folder / "sheep.bed", 100)
    return "23 samples × 57 SNPs need 345 bytes, the file has 100"


def sample_major(folder: Path) -> str:
    data = (folder / "sheep.bed").read_bytes()
    (folder / "sheep.bed").write_bytes(data[:2] + b"\x00" + data[3:])
    return "rewrite it SNP-major with"


def wrong_magic(folder: Path) -> str:
    data = (folder / "sheep.bed").read_bytes()
    (folder / "sheep.bed").write_bytes(b"\x00\x00" + data[2:])
    return "not a PLINK .bed file"


def bim_of_another(folder: Path) -> str:
    text = (folder / "sheep.bim").read_text().splitlines(keepends=True)
    (folder / "sheep.bim").write_text("".join(text[:-1]))
    return "23 samples × 56 SNPs need 339 bytes, the file has 345"


def unknown_ids(folder: Path) -> str:
    text = (folder / "sheep.tsv").read_text()
    (folder / "sheep.tsv").write_text(text.replace("animal5\t", "stranger\t"))
    return "stranger"


FAULTS = [truncated, sample_major, wrong_magic, bim_of_another, unknown_ids]


@pytest.fixture(scope="module")
def faulty(checkout: Checkout) -> tuple[dict[str, str], int, str]:
    """One run of a sound data set beside one of each fault: {fault: what should be said}, status, output."""
    words, entries = {}, ""
    for fault in FAULTS:
        folder = checkout.folder / fault.__name__
        shutil.copytree(checkout.folder / "own", folder)
        words[fault.__name__] = fault(folder)
        entry = OWN | {"prefix": f"{folder.name}/sheep", "phenotypes": f"{folder.name}/sheep.tsv"}
        entries += f"  {folder.name}: {entry}\n"
    with (checkout.folder / "config/datasets.yaml").open("a") as file:
        file.write(entries)
    products = {"datasets": ["sheep", *words], "dtypes": ["f8"], "threads": [1], "k": [1]}
    experiments = {"limits": None, "products": products, "scaling": None, "paired": None, "gblup": None}
    config = checkout.configure("own", kernels=["dense_blas"], experiments=experiments)
    status, output = checkout.run("--configfile", config, "--quiet", "rules")  # as make does
    return words, status, output


@pytest.mark.parametrize("fault", [fault.__name__ for fault in FAULTS])
def test_a_fault_of_one_s_own_data_is_said_in_the_output(faulty, fault):
    words, status, output = faulty
    assert status == 1
    assert words[fault] in output
    assert "Traceback" not in output


def test_one_s_own_data_are_measured_beside_the_faulty(faulty, checkout):
    sheep = [d for d in checkout.documents("own").values() if d["identity"]["dataset"] == "sheep"]
    assert "ok" in {d["status"] for d in sheep}
    assert {d["identity"]["dataset"] for d in checkout.documents("own").values() if d["status"] == "ok"} == {"sheep"}


def test_one_s_own_data_go_end_to_end(checkout):
    gblup = {"datasets": ["sheep"], "repeats": 1}
    experiments = {"limits": None, "products": None, "scaling": None, "paired": None, "gblup": gblup}
    config = checkout.configure("gblup", kernels=["dense_blas"], experiments=experiments, tables=["gblup", "refused"])
    checkout.succeed("--configfile", config)
    table = checkout.table("gblup").query("status == 'ok'")
    assert set(table["trait"]) == {"weight"}
    assert set(table["dataset"]) == {"sheep"}
    assert table["n"].eq(23).all()
    records = checkout.folder / "own/sheep.tsv"
    records.write_text(records.read_text().rstrip("\n") + "1\n")  # a further digit of the last record
    assert {"import_own", "gblup_reference"} <= set(would_run(checkout.succeed("--configfile", config, "-n")))


def test_a_read_only_results_folder_is_said_before_anything_runs(checkout, read_only_folder):
    config = checkout.configure("sealed", results=str(read_only_folder / "results"))
    status, output = checkout.run("--configfile", config)
    assert status == 1
    assert "choose a writable results folder (config key `results`)" in output
    assert "Traceback" not in output


def test_a_full_disk_is_said_before_anything_runs(checkout, full_folder):
    config = checkout.configure("filled", results=str(full_folder / "results"))
    status, output = checkout.run("--configfile", config)
    assert status == 1
    assert "free some space on that disk" in output
    assert "Traceback" not in output
