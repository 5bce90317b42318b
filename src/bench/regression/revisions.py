"""A revision of this project as a tree of its own, whose libraries its own code builds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.build import compiler_version
from bench.errors import BenchError
from bench.provenance import THREAD_VARIABLES
from bench.record import read_json
from bench.regression.verdict import Undecided

WORKTREE = (".", "WORKTREE")  # what names the working tree instead of a commit
BUILD_KEYS = ("status", "reason", "library", "version", "source_hash")  # of build.json, that are read here


@dataclass(frozen=True)
class Revision:
    """One side of a comparison.

    name: as it was asked for. commit: "" without git. root: its checkout. builds: where its libraries go. dirty:
    whether the working tree differs from the commit. fault: why there is no such tree, None if there is.
    """

    name: str
    commit: str
    root: Path
    builds: Path
    dirty: bool = False
    fault: str | None = None

    def __str__(self) -> str:
        return f"{self.name} ({self.commit[:10]}{', changed' if self.dirty else ''})" if self.commit else self.name

    @property
    def frozen(self) -> bool:
        """Whether the tree is that of a commit: what was built from it is good for ever."""
        return self.name not in WORKTREE and bool(self.commit)

    def environment(self) -> dict[str, str]:
        """That of its processes: its package, one thread, and no thread that spins while it waits."""
        own = {"PYTHONPATH": str(self.root / "src"), "PYTHONHASHSEED": "0", "OMP_WAIT_POLICY": "passive"}
        return os.environ | dict.fromkeys(THREAD_VARIABLES, "1") | own

    def build(self, kernel: str, target: str, *, compiler: str = "g++") -> Path:
        """The library of `kernel` for `target`, compiled by `bench build` of this revision.

        Undecided: it does not build, has no such kernel, or describes its builds in a way that is not known here.
        """
        if self.fault:
            raise Undecided(self.fault)
        folder = self.builds / kernel / target
        if self.frozen and (kept := _kept(folder, compiler)):
            return kept
        command = [sys.executable, "-P", "-m", "bench", "build", kernel, "--target", target]
        command += ["--compiler", compiler, "--out", str(folder)]
        done = subprocess.run(
            command, cwd=self.root, env=self.environment(), capture_output=True, text=True, check=False
        )
        if done.returncode:
            said = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            raise Undecided(f"{self} does not build {kernel}/{target}: {said}")
        return self._library(kernel, target, folder)

    def _library(self, kernel: str, target: str, folder: Path) -> Path:
        try:
            made = read_json(folder / "build.json")
        except BenchError as error:
            raise Undecided(f"{self} does not build {kernel}/{target}: {error}") from None
        if missing := _missing_keys(made):
            raise Undecided(f"{self}: its build.json has another schema (without {', '.join(missing)})")
        if made["status"] != "ok" or not made["library"]:
            raise Undecided(f"{self} does not build {kernel}/{target}: {made['reason']}")
        library = folder / made["library"]
        if not library.exists():
            raise Undecided(f"{self} does not build {kernel}/{target}: {library} is not there")
        return library


def _missing_keys(made: Any) -> list[str]:
    return [key for key in BUILD_KEYS if not isinstance(made, dict) or key not in made]


def _kept(folder: Path, compiler: str) -> Path | None:
    """The library of an earlier comparison with the same commit and the same compiler."""
    try:
        made = read_json(folder / "build.json")
    except BenchError:
        return None
    if _missing_keys(made) or made["status"] != "ok" or made["version"] != compiler_version(compiler):
        return None
    if made.get("compiler") != compiler:  # a compiler's options are part of its name: "g++ -O1"
        return None
    library = folder / made["library"]
    return library if library.exists() else None


def revision(ref: str, top: Path, folder: Path) -> Revision:
    """`ref` of the repository at `top`: the working tree for one of WORKTREE, else the commit, unpacked in `folder`.

    What cannot be had is a revision with a `fault`.
    """
    if ref in WORKTREE:
        commit = _git(top, "rev-parse", "--verify", "--quiet", "HEAD") or ""
        dirty = bool(commit and _git(top, "status", "--porcelain", "--untracked-files=normal", "--", "src"))
        found = Revision(ref, commit, top, folder / "builds" / "worktree", dirty)
        return found if (top / "src" / "bench").is_dir() else _broken(found, "has no src/bench")
    found = Revision(ref, "", folder, folder)
    if shutil.which("git") is None:
        return _broken(found, "cannot be read: there is no git on this machine")
    if _git(top, "rev-parse", "--git-dir") is None:
        return _broken(found, f"cannot be read: {top} is no git repository")
    commit = _git(top, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    if not commit:
        return _broken(found, "is no commit of this repository; fetch it, in CI with its whole history")
    tree = folder / "trees" / commit
    found = Revision(ref, commit, tree, folder / "builds" / commit)
    try:
        _unpack(top, commit, tree)
    except (OSError, subprocess.CalledProcessError) as error:
        return _broken(found, f"cannot be unpacked to {tree} ({error})")
    return found if (tree / "src" / "bench").is_dir() else _broken(found, "has no src/bench")


def _broken(found: Revision, why: str) -> Revision:
    return Revision(found.name, found.commit, found.root, found.builds, found.dirty, f"{found.name} {why}")


def _git(top: Path, *arguments: str) -> str | None:
    """What git prints; None where it fails."""
    try:
        done = subprocess.run(["git", "-C", str(top), *arguments], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _unpack(top: Path, commit: str, tree: Path) -> None:
    """The files of a commit, whole or not at all. `git archive` leaves the repository as it was."""
    if tree.is_dir():
        return
    tree.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=tree.parent) as scratch:
        archive = Path(scratch) / "archive.tar"
        command = ["git", "-C", str(top), "archive", "--format=tar", "-o", str(archive), commit]
        subprocess.run(command, check=True, capture_output=True)
        unpacked = Path(scratch) / "tree"
        unpacked.mkdir()
        # tar itself: Python's tarfile has its filter of unsafe names from 3.11.4 on only, and Debian 12 has 3.11.2.
        subprocess.run(["tar", "-xf", str(archive), "-C", str(unpacked)], check=True, capture_output=True)
        unpacked.rename(tree)
