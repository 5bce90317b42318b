"""Ranks of a real MPI on this machine, more than it has cores: sums, evaluations against one process, bad input."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.errors import BenchError
from bench.evaluation.over_ranks import check
from bench.evaluation.solve import Settings, evaluate
from bench.ranks.compare import compare, environment, mpirun
from bench.ranks.genotypes import Spread
from bench.ranks.worker import NUMBERS
from evaluation_case import TWO, model_of
from thread_ranks import on_ranks

PROGRAM = Path(__file__).parents[1] / "mpi_program.py"
pytestmark = [
    pytest.mark.skipif(shutil.which("mpirun") is None, reason="there is no mpirun here: install openmpi-bin"),
    pytest.mark.skipif(importlib.util.find_spec("mpi4py") is None, reason="mpi4py is not installed: the extra `mpi`"),
]
BENCH = [sys.executable, "-m", "bench"]


def started(command: list[str], **more) -> subprocess.CompletedProcess[str]:
    """It ends within two minutes: no deadlock."""
    variables = environment() | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False, timeout=120, **more)


def run_program(what: str, folder: Path, ranks: int, *more: object) -> subprocess.CompletedProcess[str]:
    return started([*mpirun(ranks), sys.executable, str(PROGRAM), what, str(folder), *map(str, more)])


@pytest.fixture(scope="module")
def models(farm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of model files, and of each its evaluation by one process in FILE-one."""
    folder = tmp_path_factory.mktemp("mpi")
    precise = {"polygenic": 0.1, "tolerance": 1e-13}
    model_of(
        farm, folder / "gblup.yaml", pedigree=None, single_step={"tolerance": 1e-13}, records=_genotyped(farm, folder)
    )
    model_of(farm, folder / "liu.yaml", single_step=precise | {"variant": "sssnpblup"})
    model_of(farm, folder / "two.yaml", traits=["milk", "fat"], variances=TWO, single_step=precise)
    for model in folder.glob("*.yaml"):
        evaluate(model, folder / f"{model.stem}-one", Settings(threads=1))
    return folder


def _genotyped(farm: Path, folder: Path) -> str:
    """The records of the genotyped animals, which GBLUP takes."""
    ids = pd.read_csv(farm / "genotypes.fam", sep=r"\s+", header=None, dtype=str)[1]
    records = pd.read_csv(farm / "records.tsv", sep="\t", dtype=str)
    records[records["id"].isin(ids)].to_csv(folder / "records.tsv", sep="\t", index=False)
    return str(folder / "records.tsv")


@pytest.fixture(scope="module")
def solved(models: Path) -> Path:
    """The folder, with the evaluations of two ranks, too."""
    done = run_program("solves", models, 2)
    assert done.returncode == 0, done.stderr
    return models


@pytest.mark.parametrize("ranks", [1, 2, pytest.param(4, marks=pytest.mark.slow)])
def test_sums_and_evaluations_are_those_of_one_process(solved: Path, ranks: int):
    models = solved
    if ranks != 2:
        done = run_program("solves", models, ranks)
        assert done.returncode == 0, done.stderr
    for model in models.glob("*.yaml"):
        one = models / f"{model.stem}-one"
        for by in ("individuals", "snps"):
            out = models / f"{model.stem}-{by}-{ranks}"
            assert {path.name for path in out.iterdir()} == {path.name for path in one.iterdir()}
            assert_equal_but_rounding(out, one)
            assert f"{ranks} ranks, 1 threads each, share the {by}" in (out / "log.txt").read_text()


def assert_equal_but_rounding(found: Path, wanted: Path) -> None:
    for name, column in (("solutions", "ebv"), ("snp_effects", "effect")):
        a, b = (pd.read_parquet(folder / f"{name}.parquet")[column] for folder in (found, wanted))
        assert np.abs(a - b).max() < 1e-12 * np.abs(b).max(), (found, name)


def test_kill_9_of_a_rank_changes_no_bit_and_any_number_of_ranks_goes_on(solved: Path, tmp_path: Path):
    done = run_program("stopped", solved, 2, "two", 1, 6, "SIGKILL", 0)
    assert done.returncode == 128 + signal.SIGKILL
    out, model = solved / "two-SIGKILL", solved / "two.yaml"
    assert sorted(path.name for path in out.iterdir() if path.name[0] != ".") == ["checkpoint.npz", "log.txt"]
    shutil.copytree(out, tmp_path / "alone")
    resume = [*BENCH, "solve", str(model), "--ranks", "individuals", "--threads", "1", "--resume", "--out", str(out)]
    done = started([*mpirun(2), *resume])
    assert done.returncode == 0, done.stderr
    for said in (f"going on from {out / 'checkpoint.npz'}, after ", "solved in"):
        assert done.stderr.count(said) == 1  # by rank 0 alone
    assert json.loads((out / "evaluation.json").read_text())["converged"] is True
    for name in ("solutions", "effects", "snp_effects", "convergence"):
        found, wanted = (pd.read_parquet(of / f"{name}.parquet") for of in (out, solved / "two-individuals-2"))
        without = ["seconds"] if name == "convergence" else []
        pd.testing.assert_frame_equal(found.drop(columns=without), wanted.drop(columns=without), check_exact=True)
    assert not list(out.glob("*checkpoint*"))
    evaluate(model, tmp_path / "alone", Settings(threads=1, resume=True))
    assert_equal_but_rounding(tmp_path / "alone", solved / "two-one")
    assert json.loads((tmp_path / "alone/evaluation.json").read_text())["steps"] > 6


def test_a_signal_to_one_rank_ends_all_after_the_same_step_with_a_checkpoint(models: Path):
    done = run_program("stopped", models, 2, "two", 1, 5, "SIGTERM", 60)
    assert done.returncode == 130, done.stderr
    assert [line.split(":")[2] for line in done.stderr.splitlines() if line.startswith("bench: ")] == [" interrupted"]
    assert "Traceback" not in done.stderr
    with np.load(models / "two-SIGTERM/checkpoint.npz") as kept:
        assert len(kept["residual_norms"]) - 1 == 6
    assert "give the same command with --resume" in (models / "two-SIGTERM/log.txt").read_text()


@pytest.mark.parametrize("name", ["farm/genotypes.bed", "out/checkpoint.npz"])
def test_ranks_that_see_other_files_are_refused_at_once(name: str, farm: Path, tmp_path: Path):
    resume = ["--resume"] if name.startswith("out") else []
    command = [*BENCH, "solve", "model.yaml", "--ranks", "individuals", "--out", "out", *resume]
    for side in ("left", "right"):
        shutil.copytree(farm, tmp_path / side / "farm", ignore=shutil.ignore_patterns("chromosomes"))
        model_of(Path("farm"), tmp_path / side / "model.yaml")
    if resume:  # a folder that is not shared
        (tmp_path / "left/out").mkdir()
        (tmp_path / "left" / name).write_bytes(b"kept")
    else:
        content = bytearray((tmp_path / "right" / name).read_bytes())
        content[-1] ^= 1
        (tmp_path / "right" / name).write_bytes(content)
    each = [["-n", "1", "-wdir", str(tmp_path / side), *command] for side in ("left", "right")]
    done = started(["mpirun", "--oversubscribe", *each[0], ":", *each[1]])
    assert done.returncode == 2
    said = [line for line in done.stderr.splitlines() if line.startswith("bench: ")]
    assert len(said) == 1
    assert f"the ranks disagree: {name} is (" in said[0]
    assert not (tmp_path / "left" / "out" / "solutions.parquet").exists()


@pytest.mark.parametrize(("program", "said"), [("one_fails", "rank 1 on"), ("all_fail", "rank 0 on")])
def test_an_error_ends_all_ranks_with_one_sentence(models: Path, program: str, said: str):
    done = run_program(program, models, 3)
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if line.startswith("bench: ")]
    assert len(lines) == 1
    assert said in lines[0]
    assert "broken" in lines[0]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"genotypes": None, "single_step": {}}, "nothing to share among ranks"),
        ({"single_step": {"polygenic": 0.1, "variant": "ss_h"}}, "over ranks there are prior_pcg and sssnpblup"),
        ({"output": {"reliability": "sampled"}}, "over ranks there are none"),
        ({"single_step": {"polygenic": 0.1, "tuning": "vanraden"}}, "tuning 'vanraden' reads all genotypes"),
    ],
)
def test_what_ranks_cannot_do_is_refused(farm: Path, tmp_path: Path, keys, sentence):
    model = model_of(farm, tmp_path / "model.yaml", **keys)
    with pytest.raises(BenchError, match=sentence):
        on_ranks(1, lambda ranks: check(model, Spread(ranks, "snps"), "settings"))


def test_without_mpi4py_the_sentence_says_what_to_install(models: Path, tmp_path: Path):
    (tmp_path / "mpi4py").mkdir()
    (tmp_path / "mpi4py" / "__init__.py").write_text("raise ImportError('not here')")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [*BENCH, "solve", str(models / "two.yaml"), "--ranks", "snps", "--out", str(tmp_path / "out")]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert "install the extra `mpi`" in done.stderr


@pytest.mark.slow
def test_the_comparison_has_a_ratio_with_an_interval_and_the_pieces(tmp_path: Path):
    made = compare(200, 100, ranks=2, pairs=2, out=tmp_path / "made.json", layouts=["rows"])
    found = made.speed("rows")
    assert 0 < found.low <= found.value <= found.high
    assert f"rows         {found.value:.3f} [{found.low:.3f}, {found.high:.3f}]" in made.text()
    written = json.loads((tmp_path / "made.json").read_text())
    assert written["speed"]["rows"]["value"] == found.value
    assert set(written["runs"]["rows"][0]["sums"]) == set(map(str, NUMBERS))


@pytest.mark.parametrize(
    ("numbers", "sentence"),
    [({"pairs": 1}, "2 pairs or more"), ({"ranks": 0}, "1 or more individuals")],
)
def test_a_comparison_that_cannot_be_is_refused(numbers, sentence):
    with pytest.raises(BenchError, match=sentence):
        compare(200, 100, **{"ranks": 2, "pairs": 2} | numbers)


def test_a_run_that_fails_is_said(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("bench.ranks.compare._genotypes", lambda prefix, n, m: prefix)
    with pytest.raises(BenchError, match=r"a run of (one|rows) failed: .*drawn\.fam"):
        compare(200, 100, ranks=2, pairs=2, layouts=["rows"])
