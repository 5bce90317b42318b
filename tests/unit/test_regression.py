"""The regression gate's judgement, from numbers that are made up; and what is said where there are none."""

from __future__ import annotations

import io
import json
import math
import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import __main__ as cli
from bench.build import compiler_version
from bench.errors import BenchError
from bench.measure import Clock
from bench.regression import report, sides
from bench.regression.data import simulate
from bench.regression.disturbance import Ticks, disturbance
from bench.regression.gate import Comparison, Settings, _subjects, compare
from bench.regression.progress import Progress
from bench.regression.revisions import Revision, revision
from bench.regression.sides import Description, describe
from bench.regression.verdict import (
    BARS,
    EXIT_STATUS,
    VERDICTS,
    Finding,
    Pairs,
    Undecided,
    judge_count,
    judge_time,
    overall,
    settled,
    tends,
)
from bench.statistics import Interval

ROOT = Path(__file__).parents[2]


def pairs(ratio: float, *, count: int = 15, noise: float = 0.0, seed: int = 0) -> Pairs:
    """Times whose ratio is `ratio` up to noise on the logarithm; the machine drifts by a third meanwhile."""
    rng = np.random.default_rng(seed)
    base = np.linspace(1, 1.3, count) * 1e-3
    return Pairs(list(base), list(base * ratio * np.exp(noise * rng.standard_normal(count))))


# ---- counts and counters


@pytest.mark.parametrize(
    ("base", "head", "verdict"),
    [
        (1000, 1000, "same"),
        (1000, 1020, "same"),
        (1000, 1021, "slower"),
        (1020, 1000, "same"),
        (1021, 1000, "faster"),
    ],
)
def test_a_count_fails_beyond_two_percent(base, head, verdict):
    for metric in ("instructions", "prepare", "bytes", "iterations"):
        assert judge_count(metric, base, head)[0] == verdict


def test_the_reason_names_the_increase():
    assert judge_count("instructions", 1000, 1050) == ("slower", "instructions: +5.0%, more than 2% is too much")


@pytest.mark.parametrize(
    ("base", "head", "verdict"),
    [(100e6, 109e6, "same"), (100e6, 111e6, "slower"), (111e6, 100e6, "faster"), (1e6, 5e6, "same"), (0, 0, "same")],
)
def test_memory_fails_beyond_a_tenth_unless_it_is_a_few_pages(base, head, verdict):
    assert judge_count("memory", base, head)[0] == verdict


@pytest.mark.parametrize(("base", "head"), [(math.nan, 1), (1, math.nan), (0, 1), (1, math.inf), (-1, 1)])
def test_a_count_that_is_none_decides_nothing(base, head):
    assert judge_count("iterations", base, head)[0] == "inconclusive"


# ---- times


@pytest.mark.parametrize(
    ("ratio", "said"),
    [(1, "same"), (1.1, "same"), (1.24, "same"), (1.26, "slower"), (0.79, "faster"), (0.9, "same")],
)
def test_a_round_of_exact_times_says_what_the_ratio_is(ratio, said):
    assert tends(pairs(ratio).ratio()) == said


@pytest.mark.parametrize(
    ("interval", "said"),
    [
        (Interval(1.3, 0.9, 1.8), None),  # it may be nothing
        (Interval(1.2, 1.1, 1.3), None),  # slower, but perhaps by less than the bar
        (Interval(1.25, 1.01, 1.5), "slower"),
        (Interval(0.8, 0.6, 0.99), "faster"),
        (Interval(math.nan, math.nan, math.nan), None),
    ],
)
def test_a_round_that_is_not_sure_says_nothing(interval, said):
    assert tends(interval) == said


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [
        (1.5, 1.5, "slower"),
        (0.6, 0.6, "faster"),
        (1.5, 1.0, "inconclusive"),  # it did not recur
        (1.5, 0.6, "inconclusive"),
        (1.0, None, "same"),
        (1.5, None, "inconclusive"),  # one round proves no difference
    ],
)
def test_a_difference_has_to_recur(first, second, verdict):
    rounds = [pairs(ratio) for ratio in (first, second) if ratio is not None]
    assert judge_time(rounds)[0] == verdict


def test_only_same_settles_a_cell_in_its_first_round():
    assert settled(pairs(1.0))
    assert not settled(pairs(1.5))
    assert not settled(replace(pairs(1.0), disturbed="the machine is busy"))


def test_the_ratio_is_head_over_base_with_its_interval():
    _, _, ratio = judge_time([pairs(1.5, noise=0.05), pairs(1.5, noise=0.05, seed=1)])
    assert 1.4 < ratio.low < ratio.value < ratio.high < 1.6


def test_too_few_pairs_decide_nothing():
    verdict, reason, _ = judge_time([pairs(2.0, count=4), pairs(2.0, count=4)])
    assert verdict == "inconclusive"
    assert reason == "4 pairs of times were taken, at least 5 are needed"
    assert judge_time([pairs(1.0, count=4)])[0] == "inconclusive"  # nor do they pass


@pytest.mark.parametrize("seconds", [0.0, -1e-3, math.nan])
def test_a_clock_that_goes_backwards_decides_nothing(seconds):
    bad = pairs(1.0)
    bad.head[3] = seconds
    verdict, reason, _ = judge_time([bad])
    assert verdict == "inconclusive"
    assert "backwards" in reason


def test_a_disturbed_round_neither_fails_nor_passes():
    slow = replace(pairs(2.0), disturbed="the machine's host gave 40% of its time to others")
    assert judge_time([slow, slow])[0] == "inconclusive"
    assert judge_time([slow, pairs(2.0)])[0] == "inconclusive"
    assert judge_time([replace(pairs(1.0), disturbed="busy")])[0] == "inconclusive"
    assert judge_time([slow, pairs(1.0)])[0] == "same"  # a round that can be believed


def test_noise_alone_does_not_make_a_comparison_slower():
    # A round's pairs of three processes each, and a process is off by a tenth as a whole; 2,000 cells.
    rng = np.random.default_rng(5)

    def a_round() -> Pairs:
        process = np.repeat(0.1 * rng.standard_normal(3), 5)
        return Pairs([1.0] * 15, list(np.exp(process + 0.2 * rng.standard_normal(15))))

    told = [judge_time([a_round(), a_round()])[0] for _ in range(2000)]
    assert "slower" not in told
    assert "faster" not in told


def test_half_as_much_again_is_seen_through_the_same_noise():
    told = [
        judge_time([pairs(1.5, noise=0.15, seed=2 * i), pairs(1.5, noise=0.15, seed=2 * i + 1)])[0]
        for i in range(500)
    ]
    assert told.count("slower") >= 490


@pytest.mark.parametrize(
    ("verdicts", "whole"),
    [
        (["same", "same"], "same"), (["same", "faster"], "faster"), (["faster", "inconclusive"], "inconclusive"),
        (["inconclusive", "slower"], "slower"), (["slower", "wrong"], "wrong"), ([], "inconclusive"),
    ],
)  # fmt: skip
def test_the_whole_is_as_bad_as_its_worst_part(verdicts, whole):
    assert overall(verdicts) == whole


def test_only_what_is_neither_slower_nor_unknown_ends_with_status_0():
    assert {verdict for verdict in VERDICTS if EXIT_STATUS[verdict] == 0} == {"same", "faster"}
    assert EXIT_STATUS["inconclusive"] not in (0, 1, 2)


# ---- disturbance and progress


@pytest.mark.parametrize(
    ("wall", "steal", "words"),
    [(1, 0, None), (19.9, 0, None), (20.1, 0, "waited for a core"), (1, 11, "gave 11% of its time"), (1, 10, None)],
)
def test_a_round_is_disturbed_by_a_host_or_by_waiting(wall, steal, words):
    said = disturbance(wall=wall, cpu=1.0, before=Ticks(1000, 5), after=Ticks(1100, 5 + steal))
    assert (said is None) if words is None else (words in str(said))


def test_ticks_are_those_of_the_kernel():
    assert Ticks.now().all > Ticks.now().steal >= 0


def test_progress_says_how_long_it_will_take():
    times = iter([0.0, 0.0, 60.0, 150.0])
    out = io.StringIO()
    progress = Progress(4.0, clock=Clock(wall=lambda: next(times)), out=out)
    progress.step("building", 1.0)
    progress.step("counting", 2.0)
    progress.step("timing", 1.0)
    lines = out.getvalue().splitlines()
    assert lines == ["[0:00] building", "[1:00, about 3:00 left] counting", "[2:30, about 0:50 left] timing"]


# ---- the data


def test_the_genotypes_are_the_same_every_time_and_of_related_individuals():
    dosages = simulate(203, 499)
    assert np.array_equal(dosages, simulate(203, 499))
    assert set(np.unique(dosages)) == {-1, 0, 1, 2}
    assert 0.002 < (dosages == -1).mean() < 0.01
    centred = np.maximum(dosages, 0) - np.maximum(dosages, 0).mean(axis=0)
    spectrum = np.linalg.svd(centred, compute_uv=False) ** 2
    assert spectrum[60:].sum() < 0.5 * spectrum.sum()  # 60 founder haplotypes: far from independent columns


# ---- revisions


def fake(folder: Path, body: str) -> Path:
    """A tree whose package `bench` is only a __main__ with this body."""
    package = folder / "src" / "bench"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(body)
    return folder


BUILD = """\
import json, pathlib, sys
folder = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
folder.mkdir(parents=True, exist_ok=True)
(folder / "x.so").write_text("")
(folder / "build.json").write_text(json.dumps({}))
"""
OK = {"status": "ok", "reason": None, "library": "x.so", "version": "g++ 1", "source_hash": "1"}


def of(tree: Path) -> Revision:
    return Revision("base", "", tree, tree / "builds")


def test_a_revision_builds_with_its_own_code(tmp_path):
    tree = fake(tmp_path, BUILD.replace("{}", repr(OK)))
    assert of(tree).build("x", "avx2") == tree / "builds" / "x" / "avx2" / "x.so"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (BUILD.replace("{}", "{'outcome': 'ok'}"), "build.json has another schema (without status, reason, library"),
        (BUILD.replace("{}", "[1]"), "build.json"),
        (
            BUILD.replace("{}", repr(OK | {"status": "refused", "reason": "no compiler", "library": None})),
            "no compiler",
        ),
        (BUILD.replace("{}", repr(OK | {"library": "gone.so"})), "gone.so is not there"),
        (
            "raise SystemExit('bench build: there is no kernel')",
            "does not build x/avx2: bench build: there is no kernel",
        ),
        ("import absent_package", "No module named 'absent_package'"),
        ("", "build.json: no such file"),
    ],
)
def test_a_revision_that_does_not_build_says_why(tmp_path, body, words):
    with pytest.raises(Undecided, match=re.escape(words)):
        of(fake(tmp_path, body)).build("x", "avx2")


def test_what_was_built_from_a_commit_is_kept_for_the_same_compiler_with_the_same_options(tmp_path):
    made = OK | {"version": compiler_version("git"), "compiler": "git"}  # a program with --version, always there
    frozen = replace(of(fake(tmp_path, BUILD.replace("{}", repr(made)))), commit="0123456789")
    library = frozen.build("x", "avx2", compiler="git")
    library.write_text("kept")
    assert frozen.build("x", "avx2", compiler="git").read_text() == "kept"
    assert frozen.build("x", "avx2", compiler="git -O1").read_text() == ""


def test_a_package_of_another_kind_is_said_and_is_not_a_crash(tmp_path):
    with pytest.raises(Undecided, match="base: describe: "):
        describe(of(fake(tmp_path, "")))


def test_a_side_that_dies_in_the_middle_of_an_answer_says_nothing(tmp_path, monkeypatch):
    worker = tmp_path / "worker.py"
    worker.write_text("import sys; sys.stdin.readline(); sys.stdout.write('{\"package')")
    monkeypatch.setattr(sides, "WORKER", worker)
    with pytest.raises(Undecided, match="base: describe: exit status 0"):
        describe(of(fake(tmp_path / "tree", "")))


def git(folder: Path, *arguments: str) -> str:
    settings = ["-c", "user.name=name", "-c", "user.email=name@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", *settings, "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository whose first commit has src/bench with a file that says 1, and whose working tree says 2."""
    tree = fake(tmp_path / "repository", "1")
    git(tree, "init", "-q", "-b", "main")
    git(tree, "add", ".")
    git(tree, "commit", "-q", "-m", "one")
    (tree / "src/bench/__main__.py").write_text("2")
    return tree


def test_a_ref_is_unpacked_as_it_was_and_leaves_the_repository_alone(repository, tmp_path):
    status = git(repository, "status", "--porcelain")
    found = revision("main", repository, tmp_path / "out")
    assert found.fault is None
    assert (found.root / "src/bench/__main__.py").read_text() == "1"
    assert found.commit == git(repository, "rev-parse", "HEAD")
    assert found.frozen
    assert git(repository, "status", "--porcelain") == status
    assert revision("main", repository, tmp_path / "out") == found


def test_the_working_tree_is_taken_as_it_is(repository, tmp_path):
    found = revision(".", repository, tmp_path / "out")
    assert (found.root, found.dirty, found.frozen) == (repository, True, False)
    assert "changed" in str(found)


@pytest.mark.parametrize("ref", ["absent", "--help", "", "main:src"])
def test_an_unknown_ref_is_a_revision_with_a_fault(repository, tmp_path, ref):
    assert "is no commit of this repository" in str(revision(ref, repository, tmp_path / "out").fault)


def test_without_git_or_a_repository_or_a_package_there_is_a_fault(repository, tmp_path, monkeypatch):
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert "is no git repository" in str(revision("main", empty, tmp_path / "out").fault)
    assert "has no src/bench" in str(revision(".", empty, tmp_path / "out").fault)
    monkeypatch.setenv("PATH", str(empty))
    assert "there is no git on this machine" in str(revision("main", repository, tmp_path / "out").fault)


# ---- a comparison of which one side cannot be had


def broken(tmp_path: Path) -> Comparison:
    head = Revision("head", "", ROOT, tmp_path)
    base = replace(head, name="absent", fault="absent is no commit of this repository")
    return compare(base, head, Settings(k=(1,)), tmp_path, out=io.StringIO())


def test_a_baseline_that_is_not_there_is_inconclusive_by_every_gate(tmp_path):
    made = broken(tmp_path)
    assert (made.verdict, made.exit_status) == ("inconclusive", 3)
    assert [finding.gate for finding in made.findings] == ["counts", "counters", "time"]
    assert {finding.reason for finding in made.findings} == {"absent is no commit of this repository"}


def test_the_command_ends_with_status_3_and_still_writes_its_report(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert cli.main(["compare", "absent-ref", "--out", str(tmp_path)]) == 3
    assert "inconclusive" in capsys.readouterr().out
    written = {f"regression.{kind}" for kind in ("json", "md", "csv", "html", "svg", "pdf", "png")}
    assert {file.name for file in tmp_path.iterdir()} >= written
    said = json.loads((tmp_path / "regression.json").read_text())
    assert (said["verdict"], said["exit_status"], said["schema"]) == ("inconclusive", 3, report.SCHEMA)
    assert "absent-ref is no commit" in (tmp_path / "regression.md").read_text()


def test_columns_that_are_no_numbers_are_told(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["compare", "main", "--k", "1,x"])
    assert ended.value.code == 2
    assert "--k: '1,x' was given, whole numbers such as 1,10,32 were needed" in capsys.readouterr().err


def test_below_the_root_of_a_checkout_nothing_is_compared(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT / "docs")
    assert cli.main(["compare", "HEAD", "--out", str(tmp_path)]) == 2
    assert "docs has no src/bench; run this in the root of the checkout" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"gates": ("counts", "speed")}, "--gates: there is no gate 'speed'"),
        ({"gates": ()}, "at least one of each"),
        ({"k": (0,)}, "numbers of columns from 1 on"),
        ({"pairs": 0}, "--pairs: 0"),
        ({"compiler": "g++ '"}, '--compiler: "g++ \'" is no command (No closing quotation)'),
    ],
)
def test_settings_that_cannot_be_are_a_sentence(settings, words):
    with pytest.raises(BenchError, match=re.escape(words)):
        Settings(**settings)


# ---- what is compared


def described(**lacks: dict[str, str | None]) -> Description:
    """A revision with native kernels: name → target → why this machine cannot run it."""
    return Description(
        2, {name: {"native": True, "gpu": False, "lacks": of, "flags": {}} for name, of in lacks.items()}
    )


def subjects(base: Description, head: Description, **settings: Any) -> tuple[list[str], list[Finding]]:
    side = Revision("main", "", ROOT, ROOT)
    made = Comparison(side, replace(side, name="."), Settings(**settings))
    found = _subjects({"base": base, "head": head}, made)
    return [f"{subject.kernel}/{subject.timed}" for subject in found], made.findings


def test_the_widest_build_that_both_run_is_compared():
    both = described(lut5={"scalar": None, "avx2": None, "avx512": "needs the CPU features avx512f"})
    assert subjects(both, both) == (["lut5/avx2"], [])
    assert subjects(described(lut5={"scalar": None}), both) == (["lut5/scalar"], [])  # HEAD has one more: no loss
    assert subjects(both, both, kernels=("lut5", "lut5")) == (["lut5/avx2"], [])


@pytest.mark.parametrize(
    ("head", "why"), [({"avx2": None}, "it has no target 'avx512'"), ({"avx2": None, "avx512": "needs a GPU"}, "GPU")]
)
def test_a_build_that_head_has_lost_is_no_pass_although_a_narrower_one_is_the_same(head, why):
    compared, (finding,) = subjects(described(lut5={"avx2": None, "avx512": None}), described(lut5=head))
    assert compared == ["lut5/avx2"]
    assert (finding.verdict, finding.target) == ("inconclusive", "avx512")
    assert finding.reason.startswith(". does not run lut5/avx512, which main does: ")
    assert why in finding.reason


def test_a_kernel_that_neither_side_has_is_a_misspelling_and_one_that_a_side_has_is_not():
    one, none = described(lut5={"scalar": None}), described()
    with pytest.raises(BenchError, match=r"--kernels: there is no kernel 'lut'.*did you mean 'lut5'"):
        subjects(one, one, kernels=("lut",))
    assert {finding.verdict for finding in subjects(one, none)[1]} == {"inconclusive"}


# ---- the report


def some(tmp_path: Path) -> Comparison:
    side = Revision("main", "0123456789abcdef", tmp_path, tmp_path)
    where = {"kernel": "lut5", "target": "avx2", "direction": "matmul", "k": 10}
    return Comparison(
        side, replace(side, name=".", dirty=True), Settings(),
        [
            Finding(gate="counts", metric="instructions", verdict="same", base=100, head=100, ratio=1.0, **where),
            Finding(gate="time", metric="time", verdict="slower", reason="CPU time × 1.5 in two rounds", base=1e-3,
                    head=1.5e-3, ratio=1.5, low=1.4, high=1.6, unit="s", pairs=30, **where),
            Finding("lut5", "counters", "bytes", "faster", base=100, head=90, ratio=0.9, unit="B"),
            Finding("auto", "time", "time", "inconclusive", "too | few", ratio=math.nan, low=math.nan, high=math.nan),
        ],
        {"adelie": "not installed"},
    )  # fmt: skip


def test_the_json_has_every_finding_and_no_number_that_json_lacks(tmp_path):
    said = json.loads(json.dumps(report.to_json(some(tmp_path)), allow_nan=False))
    assert [finding["verdict"] for finding in said["findings"]] == ["same", "slower", "faster", "inconclusive"]
    assert (said["verdict"], said["exit_status"]) == ("slower", 1)
    assert said["findings"][3]["ratio"] is None
    assert said["head"] == {"name": ".", "commit": "0123456789abcdef", "dirty": True, "fault": None}


def test_the_keys_of_the_json_are_documented(tmp_path):
    page = (ROOT / "docs/regression.md").read_text(encoding="utf-8")
    said = report.to_json(some(tmp_path))
    for key in {*said, *said["head"], *said["settings"], *said["findings"][0]}:
        assert f"`{key}`" in page, key
    assert f"`schema` is {report.SCHEMA}" in page


def test_the_page_states_the_bars_that_the_code_has():
    page = (ROOT / "docs/regression.md").read_text(encoding="utf-8")
    for metric, bar in BARS.items():
        assert f"{round(100 * (bar - 1))} %" in page, metric
    for verdict in VERDICTS:
        assert f"| `{verdict}` |" in page


def test_the_comment_starts_with_the_verdict_and_folds_the_rest(tmp_path):
    text = report.to_markdown(some(tmp_path))
    assert text.splitlines()[0] == "### ❌ HEAD is slower (1 slower, 1 inconclusive, 1 faster, 1 same)"
    table, _, folded = text.partition("<details>")
    (row,) = [line for line in table.splitlines() if line.startswith("| lut5 | Z V | 10 |")]
    assert "× 1.50 [1.40, 1.60]" in row
    assert row.endswith("❌ slower |")
    assert "- ❌ lut5, avx2, CPU time, Z V, k = 10: CPU time × 1.5 in two rounds" in table
    assert folded.count("\n| ") == 4 + 2
    widths = {line.count("|") for line in table.splitlines() if line.startswith("| ")}
    assert len(widths) == 1


def test_all_files_of_the_report_are_written_and_the_worst_row_is_the_first(tmp_path):
    report.write(some(tmp_path), tmp_path / "out")
    names = {file.suffix for file in (tmp_path / "out").iterdir()}
    assert names == {".json", ".md", ".csv", ".html", ".svg", ".pdf", ".png"}
    assert (tmp_path / "out" / "regression.csv").read_text().splitlines()[1].startswith("slower,lut5,avx2,CPU time")
    assert "<svg" in (tmp_path / "out" / "regression.svg").read_text()


def test_a_user_s_environment_is_passed_on_with_one_thread_and_the_revision_s_package(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    monkeypatch.setenv("BENCH_MIRACULIX", "/x")
    env = of(tmp_path).environment()
    assert (env["OMP_NUM_THREADS"], env["BENCH_MIRACULIX"]) == ("1", "/x")
    assert env["PYTHONPATH"] == str(tmp_path / "src")
    assert os.environ["OMP_NUM_THREADS"] == "8"
