"""One run at a time in a results folder; what was refused for a passing reason is tried again."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench import guard
from bench.errors import BenchError
from bench.genotypes.dataset import Dataset
from bench.record import write_json

HOLD = (
    "import sys, time; from bench import guard; guard.hold(sys.argv[1]); print('held', flush=True); time.sleep(600)"
)
TRY = """
import sys
from bench import guard
from bench.errors import BenchError
try:
    guard.hold(sys.argv[1])
except BenchError as error:
    sys.exit(str(error))
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def attempt(folder: Path) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", TRY, str(folder)], capture_output=True, text=True, check=False)


def test_a_second_run_is_told_who_holds_the_folder_and_what_to_do(tmp_path, holder):
    done = attempt(tmp_path)
    assert done.returncode == 1
    assert f"{tmp_path}: a run is already using this folder (process {holder.pid} on " in done.stderr
    assert "wait for it to end" in done.stderr
    assert "--config results=" in done.stderr


def test_another_folder_is_free(tmp_path, holder):
    assert attempt(tmp_path / "other").returncode == 0


def test_kill_9_frees_the_folder(tmp_path, holder):
    holder.kill()
    holder.wait()
    done = attempt(tmp_path)
    assert done.returncode == 0, done.stderr


def test_one_run_after_another_is_fine(tmp_path):
    assert attempt(tmp_path).returncode == 0
    assert attempt(tmp_path).returncode == 0


def test_a_child_of_the_run_does_not_keep_the_folder(tmp_path):
    code = (
        "import subprocess, sys; from bench import guard; guard.hold(sys.argv[1])\n"
        "print(subprocess.Popen(['sleep', '600'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).pid)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    try:
        assert attempt(tmp_path).returncode == 0
    finally:
        subprocess.run(["kill", done.stdout.strip()], check=True)


def test_a_read_only_folder_is_said_at_once(read_only_folder):
    with pytest.raises(BenchError, match="choose a writable results folder"):
        guard.hold(read_only_folder)


def test_a_full_disk_is_said_at_once(full_folder):
    with pytest.raises(BenchError, match="free some space"):
        guard.hold(full_folder / "results")


def manifest(results: Path, name: str, **fields) -> Path:
    path = results / "data" / name / "dataset.json"
    Dataset(name=name, **fields).write(path)
    return path


def refused_build(results: Path, name: str, compiler: str) -> Path:
    path = results / "build" / name / "scalar" / "build.json"
    write_json(path, {"status": "refused", "compiler": compiler})
    return path


def document(results: Path, name: str, status: str = "refused", **identity) -> Path:
    path = results / "raw" / "products" / f"{name}.json"
    case = {"dataset": "tiny", "kernel": "dense_blas", "target": "openblas"} | identity
    write_json(path, {"identity": case, "status": status})
    return path


def test_a_data_set_that_could_not_be_had_is_tried_again_with_all_that_hung_on_it(tmp_path):
    fetched, kept = manifest(tmp_path, "wheat", status="refused", reason="no network"), manifest(tmp_path, "tiny")
    hung = document(tmp_path, "a", dataset="wheat")
    others = [document(tmp_path, "b"), document(tmp_path, "c", "ok", dataset="wheat")]
    assert sorted(guard.forget_refusals(tmp_path)) == sorted([fetched, hung])
    assert not fetched.exists()
    assert not hung.exists()
    assert all(path.exists() for path in [kept, *others])


def test_a_build_is_tried_again_once_it_compiles(tmp_path):
    if shutil.which("g++") is None:
        pytest.skip("no g++ on this machine")
    failed = refused_build(tmp_path, "decompress", "g++")
    hung = document(tmp_path, "a", kernel="decompress", target="scalar")
    partner = document(tmp_path, "b", against="decompress/scalar")
    others = [document(tmp_path, "c", kernel="decompress", target="avx2"), document(tmp_path, "d")]
    assert sorted(guard.forget_refusals(tmp_path)) == sorted([failed, hung, partner])
    assert all(path.exists() for path in others)


@pytest.mark.parametrize(("compiler", "flags"), [("no-such-compiler", []), ("g++", ["-mno-such-cpu-feature"])])
def test_a_build_that_would_fail_again_is_left_as_it_is(tmp_path, compiler, flags):
    failed = refused_build(tmp_path, "limits", compiler)
    hung = document(tmp_path, "a", kernel="limits", target="scalar")
    assert guard.forget_refusals(tmp_path, flags=flags) == []
    assert failed.exists()
    assert hung.exists()


def test_a_build_that_succeeded_is_kept(tmp_path):
    path = tmp_path / "build/limits/scalar/build.json"
    write_json(path, {"status": "ok", "compiler": "g++"})
    assert guard.forget_refusals(tmp_path) == []


def test_a_damaged_manifest_is_forgotten(tmp_path):
    path = manifest(tmp_path, "tiny")
    path.write_text('{"name": "ti')
    assert guard.forget_refusals(tmp_path) == [path]


def test_what_this_machine_can_never_run_keeps_its_document(tmp_path):
    document(tmp_path, "a", kernel="gpu_2bit", target="sm_90")
    assert guard.forget_refusals(tmp_path) == []


def test_there_may_be_no_folder_yet(tmp_path):
    assert guard.forget_refusals(tmp_path / "absent") == []


def test_nothing_is_forgotten_under_a_run_that_reads_it(tmp_path, holder):
    path = manifest(tmp_path, "wheat", status="refused", reason="no network")
    assert guard.forget_refusals(tmp_path) == []
    assert path.exists()


@pytest.mark.parametrize(
    "arguments", ["-n", "-np", "--dry-run", "--lint --quiet all", "--report=r.html", "--report r.html"]
)
def test_a_look_at_the_workflow_is_not_a_run(arguments):
    assert guard.only_looks(["snakemake", *arguments.split()])


@pytest.mark.parametrize("arguments", ["", "--cores 4 --nolock", "--configfile config/smoke.yaml --quiet rules"])
def test_a_run_is_not_a_look(arguments):
    assert not guard.only_looks(["snakemake", *arguments.split()])
