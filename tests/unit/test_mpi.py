"""Ranks of a real MPI on this machine, more than it has cores: sums, evaluations against one process, bad input."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
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


def run_program(what: str, folder: Path, ranks: int) -> subprocess.CompletedProcess[str]:
    return started([*mpirun(ranks), sys.executable, str(PROGRAM), what, str(folder)])


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


@pytest.mark.parametrize("ranks", [1, 2, pytest.param(4, marks=pytest.mark.slow)])
def test_sums_and_evaluations_are_those_of_one_process(models: Path, ranks: int):
    done = run_program("solves", models, ranks)
    assert done.returncode == 0, done.stderr
    for model in models.glob("*.yaml"):
        one = models / f"{model.stem}-one"
        for by in ("individuals", "snps"):
            out = models / f"{model.stem}-{by}-{ranks}"
            assert {path.name for path in out.iterdir()} == {path.name for path in one.iterdir()}
            for name, column in (("solutions", "ebv"), ("snp_effects", "effect")):
                wanted, found = (pd.read_parquet(folder / f"{name}.parquet") for folder in (one, out))
                error = np.abs(found[column] - wanted[column]).max() / np.abs(wanted[column]).max()
                assert error < 1e-12, (model, by, name)
            assert f"{ranks} ranks, 1 threads each, share the {by}" in (out / "log.txt").read_text()


def test_the_command_writes_and_speaks_once(models: Path, tmp_path: Path):
    command = [*BENCH, "solve", str(models / "two.yaml"), "--ranks", "snps", "--out", str(tmp_path / "out")]
    done = started([*mpirun(2), *command])
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("solved in") == 1
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["converged"] is True


def test_ranks_that_see_other_genotypes_are_refused_at_once(models: Path, farm: Path, tmp_path: Path):
    command = [*BENCH, "solve", "model.yaml", "--ranks", "individuals", "--out", "out"]
    for name in ("left", "right"):
        shutil.copytree(farm, tmp_path / name / "farm", ignore=shutil.ignore_patterns("chromosomes"))
        model_of(Path("farm"), tmp_path / name / "model.yaml")
    bed = tmp_path / "right" / "farm" / "genotypes.bed"
    content = bytearray(bed.read_bytes())
    content[-1] ^= 1
    bed.write_bytes(content)
    each = [["-n", "1", "-wdir", str(tmp_path / name), *command] for name in ("left", "right")]
    done = started(["mpirun", "--oversubscribe", *each[0], ":", *each[1]])
    assert done.returncode == 2
    said = [line for line in done.stderr.splitlines() if line.startswith("bench: ")]
    assert len(said) == 1
    assert "the ranks disagree: farm/genotypes.bed is" in said[0]
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
    from bench.errors import BenchError

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
