"""Where a number comes from: the commit, whether the code is the commit's, and where its threads ran."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from bench import provenance
from bench.build import build
from bench.surroundings import ranges


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with one commit, which provenance takes for its own."""
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    for name in ("src/code.py", "config/config.yaml"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    (tmp_path / ".gitignore").write_text("__pycache__/\n")
    settings = ["-c", "user.name=name", "-c", "user.email=name@example.org", "-c", "commit.gpgsign=false"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "a commit"]):
        subprocess.run(["git", *settings, *arguments], cwd=tmp_path, check=True)
    return tmp_path


@pytest.mark.parametrize(
    ("file", "dirty"),
    [
        (None, False),
        ("src/code.py", True),
        ("config/config.yaml", True),
        ("src/bench/kernels/own.py", True),
        ("workflow/rules/own.smk", True),
        ("config/mine.yaml", False),
        ("notes.txt", False),
        ("src/__pycache__/code.pyc", False),
    ],
)
def test_changed_files_and_new_code_make_a_checkout_dirty(checkout, file, dirty):
    if file:
        (checkout / file).parent.mkdir(parents=True, exist_ok=True)
        (checkout / file).write_text("changed\n")
    commit, said = provenance.git_state()
    assert len(commit) == 40
    assert said is dirty


def test_without_git_the_commit_is_empty(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    assert provenance.git_state() == ("", None)


@pytest.fixture
def environment(monkeypatch):
    for name in (*provenance.THREAD_VARIABLES, *provenance.PINNED):
        monkeypatch.setenv(name, "before")  # what the test leaves is undone
    return monkeypatch


def test_threads_are_pinned_unless_the_user_has_said_where(environment):
    environment.delenv("OMP_PLACES")
    environment.setenv("OMP_PROC_BIND", "spread")
    provenance.set_threads(3)
    assert os.environ["OMP_NUM_THREADS"] == os.environ["OPENBLAS_NUM_THREADS"] == "3"
    assert (os.environ["OMP_PLACES"], os.environ["OMP_PROC_BIND"]) == ("cores", "spread")


PINNED = """
import os, sys
from bench.provenance import set_threads
set_threads(len(os.sched_getaffinity(0)))
import json, numpy, scipy.linalg
from pathlib import Path
from bench.machine import Limits, this_machine
from bench.provenance import collect_provenance
threads = len(os.sched_getaffinity(0))
Limits(Path(sys.argv[1])).fma(1000, threads=threads)
masks = [sorted(os.sched_getaffinity(int(task))) for task in os.listdir("/proc/self/task")]
print(json.dumps({"cores": this_machine().cores, "masks": masks, "told": collect_provenance(version=1)}))
"""


@pytest.mark.parametrize("allowed", ["all", "one"])
def test_pinned_threads_use_all_the_cores_that_are_left_and_only_them(tmp_path, allowed):
    if shutil.which("g++") is None:
        pytest.skip("no g++ on this machine")
    library = build("limits", "scalar", tmp_path / "limits").library
    every = sorted(os.sched_getaffinity(0))
    left = every if allowed == "all" else every[-1:]
    command = ["taskset", "-c", ",".join(map(str, left)), sys.executable, "-c", PINNED, str(library)]
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=clean)
    found = json.loads(done.stdout)
    assert found["cores"] == len(left)  # although OpenMP has bound the first thread to one of them
    bound = [mask for mask in found["masks"] if len(mask) < len(left)] or found["masks"]
    assert {core for mask in bound for core in mask} == set(left)
    assert found["told"]["affinity"] == ranges(frozenset(left))
    assert "OMP_PLACES=cores OMP_PROC_BIND=close" in found["told"]["pinning"]
