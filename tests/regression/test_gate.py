"""The gate with real revisions, real compilers and slowdowns that are put in. bars.py measures the same at length."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from injections import FIVE_PERCENT, HALF_AGAIN, KERNELS, commit_all, copy_checkout, inject

from bench.build import build
from bench.machine import this_machine
from bench.regression import counts
from bench.regression.data import Data, make_data
from bench.regression.gate import Comparison, Settings, compare
from bench.regression.revisions import Revision, revision
from bench.regression.rounds import Contestant, Wrong, run_round
from bench.regression.sides import Crash, Side, describe
from bench.regression.verdict import Undecided

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ on this machine")
needs_valgrind = pytest.mark.skipif(counts.lacks() is not None, reason=str(counts.lacks()))
needs_avx2 = pytest.mark.skipif("avx2" not in this_machine().cpu_flags, reason="no AVX2 on this machine")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with this package, committed, and a second commit of the same sources."""
    made = copy_checkout(tmp_path_factory.mktemp("regression") / "tree")
    commit_all(made, "before")
    (made / "README").write_text("another commit\n")
    commit_all(made, "after")
    return made


@pytest.fixture
def changed(tree: Path) -> Path:
    """The tree, to be edited by one test."""
    yield tree
    subprocess.run(["git", "-C", str(tree), "checkout", "-q", "."], check=True)
    subprocess.run(["git", "-C", str(tree), "clean", "-qfd", "src"], check=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return make_data(tmp_path_factory.mktemp("data"), 3)


def run(tree: Path, base: str = "HEAD~1", head: str = ".", **settings: object) -> Comparison:
    sides = (revision(ref, tree, tree / "results") for ref in (base, head))
    given = {"kernels": ("decompress",), "k": (3,)} | settings
    return compare(*sides, Settings(**given), tree / "results", out=io.StringIO())  # type: ignore[arg-type]


# ---- counts


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The driver and a scalar library, which every processor runs."""
    folder = tmp_path_factory.mktemp("counted")
    library = build("decompress", "scalar", folder / "decompress").library
    assert library
    return counts.compile_driver(folder, "g++"), library


@needs_valgrind
def test_the_count_of_a_call_is_what_further_calls_add_to_a_whole_run(counted, data):
    # The oracle: runs that differ in nothing but the number of calls, without any part of callgrind's counts.
    driver, library = counted
    small = Data(data.bed, data.oracle, data.n, 199)

    def whole(repeats: int) -> int:
        command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", str(driver), str(library)]
        command += [str(small.bed), str(small.n), str(small.m), str(repeats), "matmul:3"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
        return int(re.findall(r"Collected : (\d+)", said)[0])

    found = counts.count(driver, library, small, [("matmul", 3)])
    added = (whole(11) - whole(1)) / 10
    # What the loop around the calls and the allocator do in between is less than a thousandth.
    assert found.products["matmul", 3] == pytest.approx(added, rel=1e-3)


@needs_valgrind
def test_a_count_is_the_same_every_time_and_grows_with_the_work(counted, data):
    driver, library = counted
    small = Data(data.bed, data.oracle, data.n, 199)
    products = [("matmul", 1), ("matmul", 3), ("rmatmul", 3)]
    first, second = (counts.count(driver, library, small, products) for _ in range(2))
    assert first == second
    assert first.prepare > data.n * 199 / 16
    # At least a multiply-add for each genotype and two columns of a 128-bit register.
    assert first.products["matmul", 3] > first.products["matmul", 1] > data.n * 199 / 2


def test_processes_that_count_may_use_all_cores(monkeypatch):
    for name, value in {"OMP_PLACES": "cores", "OMP_PROC_BIND": "close"}.items():  # as `bench compare` sets them
        monkeypatch.setenv(name, value)
    show = "import ctypes, os; ctypes.CDLL('libgomp.so.1'); print(len(os.sched_getaffinity(0)))"
    done = subprocess.run(
        [sys.executable, "-c", show], env=counts._environment(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip("no libgomp on this machine")
    assert int(done.stdout) == this_machine().cores


@needs_valgrind
def test_a_library_that_is_none_is_a_sentence(counted, data, tmp_path):
    (tmp_path / "x.so").write_text("no library")
    with pytest.raises(Undecided, match=r"x\.so"):
        counts.count(counted[0], tmp_path / "x.so", data, [("matmul", 1)])


def test_without_valgrind_the_counts_are_inconclusive_and_say_so(tree, monkeypatch):
    monkeypatch.setattr(counts, "lacks", lambda: "there is no valgrind on this machine to count instructions")
    made = run(tree, "HEAD", gates=("counts",))
    assert (made.verdict, made.exit_status) == ("inconclusive", 3)
    assert {f.reason for f in made.findings} == {"there is no valgrind on this machine to count instructions"}


def test_a_driver_that_does_not_compile_is_a_sentence(tmp_path):
    with pytest.raises(Undecided, match="does not compile: absent-compiler"):
        counts.compile_driver(tmp_path, "absent-compiler")
    with pytest.raises(Undecided, match="does not compile: false: exit status 1"):  # it says nothing itself
        counts.compile_driver(tmp_path, "false")


@needs_valgrind
@needs_avx2
@pytest.mark.slow
def test_five_percent_in_the_inner_loop_is_caught_by_the_counts_and_nothing_else_is_slower(changed):
    inject(changed, FIVE_PERCENT["decompress"])
    made = run(changed, gates=("counts",))
    found = {(f.metric, f.direction): f for f in made.findings}
    assert (made.verdict, made.exit_status) == ("slower", 1)
    assert found["prepare", None].verdict == "same"
    for direction in ("matmul", "rmatmul"):
        assert found["instructions", direction].verdict == "slower"
        assert 1.02 < found["instructions", direction].ratio < 1.1


# ---- sides and rounds


@pytest.fixture(scope="module")
def head(tree: Path) -> Revision:
    return revision(".", tree, tree / "results")


def contestants(head: Revision, library: Path) -> dict[str, Contestant]:
    return {side: Contestant(head, "decompress", "scalar", library) for side in ("base", "head")}


def test_a_revision_describes_its_own_kernels(head):
    said = describe(head)
    assert {"auto", "decompress", "dense_blas", "gpu_2bit"} <= set(said.kernels)
    assert said.runs("gpu_2bit") == [] or this_machine().gpus
    assert said.countable("decompress")[-1] in ("scalar", "avx2")
    assert all("512" not in target and "vnni" not in target for target in said.countable("slices"))


def test_a_side_with_the_package_of_another_tree_is_refused(head, tmp_path, monkeypatch):
    environment = head.environment()
    monkeypatch.setattr(Revision, "environment", lambda self: environment)
    with pytest.raises(Undecided, match="not from its own tree"):
        describe(Revision("other", "", tmp_path, tmp_path))


def test_a_round_pairs_the_times_and_reads_the_counters(head, counted, data):
    products = [("matmul", 1), ("rmatmul", 3)]
    found = run_round(
        contestants(head, counted[1]), products, data,
        pairs=7, processes=2, solve=True, order=np.random.default_rng(0),
    )  # fmt: skip
    for product in products:
        pairs = found.pairs[product]
        assert len(pairs.base) == len(pairs.head) == 7
        assert min(pairs.base + pairs.head) > 0
    assert found.counter("base", "bytes") == found.counter("head", "bytes") > data.n * data.m / 4
    assert found.counters["base"]["iterations"] == found.counters["head"]["iterations"]
    assert 5 < found.counter("base", "iterations") < 500
    assert found.unsolved is None


def test_a_side_that_cannot_do_what_it_is_asked_says_why(head, data):
    with Side(head) as side, pytest.raises(Undecided, match="prepare: BenchError: there is no kernel 'absent'"):
        side.ask("prepare", kernel="absent", target="x", library=None, bed=str(data.bed), n=data.n, m=data.m)


def broken_library(tmp_path: Path, change: tuple[str, str]) -> Path:
    """decompress/scalar with one piece of its source replaced."""
    own = copy_checkout(tmp_path / "broken")
    file = own / KERNELS / "decompress/decompress.cc"
    assert change[0] in file.read_text()
    file.write_text(file.read_text().replace(*change))
    return Revision("broken", "", own, tmp_path).build("decompress", "scalar")


WRONG = ("sum[c][r] += z[r] * x[d * step + c];", "sum[c][r] += z[r] * (x[d * step + c] * real(1.001));")
CRASH = (
    "auto* memory = allocate<uint8_t>(each * z.threads);",
    "__builtin_trap();\nauto* memory = allocate<uint8_t>(1);",
)


@pytest.mark.parametrize(("change", "words"), [(WRONG, "integer results differ"), (CRASH, "its process died of SIG")])
def test_a_head_that_multiplies_wrongly_or_crashes_is_wrong_and_such_a_base_decides_nothing(
    head, counted, data, tmp_path, change, words
):
    bad = broken_library(tmp_path, change)
    sides = contestants(head, counted[1])
    order = np.random.default_rng(0)
    broken = Contestant(head, "decompress", "scalar", bad)
    with pytest.raises(Wrong, match=words):
        run_round(sides | {"head": broken}, [("matmul", 3)], data, pairs=1, processes=1, order=order)
    with pytest.raises(Undecided, match=words) as told:
        run_round(sides | {"base": broken}, [("matmul", 3)], data, pairs=1, processes=1, order=order)
    assert not isinstance(told.value, Crash)


@pytest.mark.parametrize("seed", [0, 3])
def test_a_head_that_is_as_wrong_as_its_base_is_wrong(head, counted, data, tmp_path, seed):
    bad = Contestant(head, "decompress", "scalar", broken_library(tmp_path, WRONG))
    order = np.random.default_rng(seed)  # BASE is checked first, or HEAD
    with pytest.raises(Wrong, match="integer results differ"):
        run_round({"base": bad, "head": bad}, [("matmul", 3)], data, pairs=1, processes=1, order=order)


# ---- whole comparisons


@pytest.mark.alone
@pytest.mark.slow
def test_a_kernel_that_head_lacks_is_inconclusive_one_that_it_breaks_is_wrong_and_the_others_are_compared(changed):
    shutil.rmtree(changed / KERNELS / "slices")
    shutil.rmtree(changed / KERNELS / "auto")  # it includes slices
    (changed / KERNELS / "five_codes/five_codes.cc").write_text("no C++")
    made = run(changed, kernels=("slices", "five_codes", "dense_blas"), gates=("time",), k=(1,), pairs=6)
    said = {f.kernel: f for f in made.findings}
    assert "there is no kernel 'slices' in ." in said["slices"].reason
    assert said["slices"].verdict == "inconclusive"
    of_broken = [f for f in made.findings if f.kernel == "five_codes"]
    assert {f.verdict for f in of_broken} == {"wrong", "inconclusive"}
    assert all("does not build five_codes/" in f.reason for f in of_broken)
    assert said["dense_blas"].pairs
    assert said["dense_blas"].ratio
    assert made.exit_status == 1


@pytest.mark.slow
def test_revisions_that_take_time_in_different_ways_are_not_timed(changed):
    file = changed / "src/bench/measure.py"
    file.write_text(re.sub(r"^PROTOCOL = \d+", "PROTOCOL = 99", file.read_text(), flags=re.MULTILINE))
    made = run(changed, kernels=("dense_blas",), gates=("counters", "time"))
    assert {f.verdict for f in made.findings if f.gate == "time"} == {"inconclusive"}
    assert "PROTOCOL" in next(f.reason for f in made.findings if f.gate == "time")
    assert {f.verdict for f in made.findings if f.gate == "counters"} == {"same"}


@needs_avx2
@pytest.mark.alone
@pytest.mark.slow
def test_half_as_much_again_in_the_inner_loop_is_caught_by_paired_times(changed):
    inject(changed, HALF_AGAIN["decompress"])
    made = run(changed, gates=("time",), k=(10,))
    if "waited for a core" in str(made.findings):
        pytest.skip("this machine is too busy")
    assert (made.verdict, made.exit_status) == ("slower", 1), made.findings
    worst = max(made.findings, key=lambda f: f.ratio or 0)
    assert worst.verdict == "slower"
    assert worst.pairs == 30


@pytest.mark.alone
@pytest.mark.slow
def test_identical_commits_are_not_slower_by_any_gate(tree):
    made = run(tree, "HEAD~1", "HEAD")
    told = {(f.gate, f.verdict) for f in made.findings}
    assert ("counters", "same") in told
    if counts.lacks() is None:
        assert {verdict for gate, verdict in told if gate == "counts"} == {"same"}
    assert not {verdict for _, verdict in told} & {"slower", "wrong"}, made.findings
