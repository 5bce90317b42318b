"""One run at a time in a results folder; what was refused for a passing reason is tried again."""

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


def test_refused_data_sets_and_builds_are_forgotten_and_others_kept(tmp_path):
    fetched = manifest(tmp_path, "wheat", status="refused", reason="no network")
    kept = manifest(tmp_path, "tiny")
    failed, built = (tmp_path / f"build/{name}/scalar/build.json" for name in ("decompress", "limits"))
    write_json(failed, {"status": "refused"})
    write_json(built, {"status": "ok"})
    assert sorted(guard.forget_refusals(tmp_path)) == sorted([fetched, failed])
    assert not fetched.exists()
    assert not failed.exists()
    assert kept.exists()
    assert built.exists()


def test_a_damaged_manifest_is_forgotten(tmp_path):
    path = manifest(tmp_path, "tiny")
    path.write_text('{"name": "ti')
    assert guard.forget_refusals(tmp_path) == [path]


def test_result_documents_are_never_forgotten(tmp_path):
    write_json(tmp_path / "raw/products/a.json", {"status": "refused"})
    assert guard.forget_refusals(tmp_path) == []


def test_there_may_be_no_folder_yet(tmp_path):
    assert guard.forget_refusals(tmp_path / "absent") == []


def test_nothing_is_forgotten_under_a_run_that_reads_it(tmp_path, holder):
    path = manifest(tmp_path, "wheat", status="refused", reason="no network")
    assert guard.forget_refusals(tmp_path) == []
    assert path.exists()
