"""The locks of envs/ hold what pyproject.toml asks for, at the versions of run.txt, each with its hashes."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINNED = re.compile(r"^([A-Za-z0-9_.-]+)==([^ ;\\]+)", re.MULTILINE)
EXTRAS = {"run": (), "test": ("test",), "mpi": ("mpi",), "cuda12": ("cuda12",), "cuda13": ("cuda13",)}


def pinned(lock: str) -> dict[str, set[str]]:
    """Package → versions; several where the platform or Python decides."""
    found: dict[str, set[str]] = {}
    for name, version in PINNED.findall((ROOT / "envs" / f"{lock}.txt").read_text()):
        found.setdefault(canonicalize_name(name), set()).add(version)
    return found


@pytest.mark.parametrize("lock", EXTRAS)
def test_a_lock_holds_what_is_asked_for(lock):
    asked = PROJECT["dependencies"] + [
        text for extra in EXTRAS[lock] for text in PROJECT["optional-dependencies"][extra]
    ]
    held = pinned(lock)
    for text in asked:
        requirement = Requirement(text)
        versions = held.get(canonicalize_name(requirement.name))
        assert versions, f"{requirement.name} is not in envs/{lock}.txt; run `make lock`"
        assert all(requirement.specifier.contains(version) for version in versions), text


@pytest.mark.parametrize("lock", ["cuda12", "cuda13"])
def test_a_gpu_s_lock_is_run_txt_and_what_the_gpu_needs(lock):
    run, held = pinned("run"), pinned(lock)
    assert {name: held.get(name) for name in run} == run
    assert all(name.startswith(("cupy-", "cuda-", "nvidia-")) for name in held.keys() - run.keys())


@pytest.mark.parametrize(("lock", "suffix"), [("cuda12", "-cu12"), ("cuda13", "")])
def test_a_gpu_s_lock_suffices_beside_a_driver(lock, suffix):
    """CuPy's wheels hold no library of CUDA: without the headers it cannot add arrays, without cuBLAS multiply."""
    for library in ("nvidia-cuda-nvrtc", "nvidia-cuda-runtime", "nvidia-cublas"):
        assert f"{library}{suffix}" in pinned(lock)


@pytest.mark.parametrize("lock", EXTRAS)
def test_every_file_of_a_lock_has_a_hash_and_no_host(lock):
    text = (ROOT / "envs" / f"{lock}.txt").read_text()
    entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in text
    assert "--index" not in text
