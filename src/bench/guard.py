"""One run at a time in a results folder, and a second chance for what was refused for a passing reason."""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.errors import LOST, BenchError
from bench.record import read_json, write_text

LOCK = ".run-lock"
HEAD = 64 << 10  # bytes of a document in which its reason lies
_held: dict[str, int] = {}


def hold(results: str | Path) -> None:
    """Reserve `results` for this process until it ends; BenchError if another run has it.

    A lock of the kernel, not a file that means something by being there: it goes with its process,
    also after kill -9, so there is nothing to unlock by hand.
    """
    folder = Path(results)
    probe = folder / ".writable"
    write_text(probe, "x" * 4096)  # a full or read-only folder is said now, not an hour later
    probe.unlink(missing_ok=True)
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    if not _lock(descriptor):
        holder = os.read(descriptor, 200).decode() or "another process"
        os.close(descriptor)
        raise BenchError(
            f"{folder}: a run is already using this folder ({holder}); wait for it to end, or give this one "
            "a folder of its own: --config results=results/other"
        )
    os.truncate(descriptor, 0)
    os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
    _held[str(folder)] = descriptor


def _lock(descriptor: int) -> bool:
    """Take the lock of an open file; False if another process has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _in_use(folder: Path) -> bool:
    """Whether another process holds `folder`."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR)
    except OSError:
        return False  # no run yet, or a folder that this process cannot write to
    try:
        return not _lock(descriptor)
    finally:
        os.close(descriptor)


def only_looks(arguments: list[str]) -> bool:
    """Whether Snakemake was called to look at the workflow, not to run it: dry runs, lint, report, graphs."""
    looks = ("-n", "--dry-run", "--dryrun", "--lint", "--report", "--summary", "--detailed-summary", "--dag")
    looks += ("--rulegraph", "--filegraph", "--list")
    return any(argument.split("=")[0].startswith(looks) for argument in arguments)


def forget_refusals(results: str | Path, *, flags: Sequence[str] = ()) -> list[Path]:
    """Delete what an earlier run was refused and this one may be given, so that it tries again.

    That is the manifest of a data set that could not be had, the description of a build that failed and
    succeeds now (compiled to see; flags: those of the configuration), and the result documents that were
    refused for one of these, or because a GPU failed. What can never run here keeps its row, and nothing is
    deleted under a run that may be reading it.
    """
    folder = Path(results)
    if _in_use(folder):
        return []
    manifests = [path for path in folder.glob("data/*/dataset.json") if _refused(path)]
    builds = [path for path in folder.glob("build/*/*/build.json") if _refused(path) and _compiles(path, flags)]
    datasets = {path.parent.name for path in manifests}
    libraries = {f"{path.parent.parent.name}/{path.parent.name}" for path in builds}
    documents = [path for path in folder.glob("raw/*/*.json") if _lost(path) or _hangs_on(path, datasets, libraries)]
    forgotten = [*manifests, *builds, *documents]
    for path in forgotten:
        path.unlink(missing_ok=True)
    return forgotten


def _refused(path: Path) -> bool:
    """Whether a manifest or a build description says so, or says nothing because it is damaged."""
    try:
        return read_json(path).get("status") == "refused"
    except BenchError:
        return True


def _compiles(description: Path, flags: Sequence[str]) -> bool:
    """Whether the build that `description` says was refused can be made now."""
    from bench.build import build

    name, target = description.parent.parent.name, description.parent.name
    try:
        compiler = read_json(description)["compiler"]
        with tempfile.TemporaryDirectory() as scratch:
            return build(name, target, Path(scratch), compiler=compiler, flags=tuple(flags)).status == "ok"
    except (BenchError, KeyError):
        return True  # damaged, or of another version: its rule makes it anew


def _lost(document: Path) -> bool:
    """Whether a result document says that its device failed. There may be thousands: the text before the rows is
    searched."""
    with document.open("rb") as file:
        return f'"{LOST}'.encode() in file.read(HEAD)


def _hangs_on(document: Path, datasets: set[str], libraries: set[str]) -> bool:
    """Whether a result document was refused and is of one of these data sets, or "kernel/target" libraries."""
    if not (datasets or libraries):
        return False
    try:
        found = read_json(document)
    except BenchError:
        return False
    case = found["identity"]
    partners = (case.get("against") or "").split(",")
    used = {f"{case.get('kernel') or case.get('method')}/{case.get('target')}", *partners}
    return found["status"] == "refused" and (case["dataset"] in datasets or bool(used & libraries))
