"""One run at a time in a results folder, and a second chance for what was refused for a passing reason."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

from bench.errors import BenchError
from bench.record import read_json, write_text

LOCK = ".run-lock"
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


def forget_refusals(results: str | Path) -> list[Path]:
    """Delete the manifests and build descriptions that say "refused", so that this run tries again.

    Such a refusal is about one moment: no network, no compiler. What can never run here is refused by
    the plan and keeps its row. Nothing is deleted under a run that may be reading it.
    """
    folder = Path(results)
    if _in_use(folder):
        return []
    found = [*folder.glob("data/*/dataset.json"), *folder.glob("build/*/*/build.json")]
    refused = []
    for path in found:
        try:
            status = read_json(path).get("status")
        except BenchError:
            status = "refused"
        if status == "refused":
            path.unlink()
            refused.append(path)
    return refused
