"""One run at a time in a results folder, and a second chance for what was refused for a passing reason."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

from bench.errors import BenchError
from bench.record import atomic_path, read_json

_held: dict[str, int] = {}


def hold(results: str | Path) -> None:
    """Reserve `results` for this process until it ends; BenchError if another run has it.

    A lock of the kernel, not a file that means something by being there: it goes with its process,
    also after kill -9, so there is nothing to unlock by hand.
    """
    folder = Path(results)
    with atomic_path(folder / ".writable"):  # a full or read-only folder is said now, not an hour later
        pass
    descriptor = os.open(folder / ".run-lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 200).decode() or "another process"
        os.close(descriptor)
        raise BenchError(
            f"{folder}: a run is already using this folder ({holder}); wait for it to end, or give this one "
            "a folder of its own: --config results=results/other"
        ) from None
    os.truncate(descriptor, 0)
    os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
    _held[str(folder)] = descriptor


def forget_refusals(results: str | Path) -> list[Path]:
    """Delete the manifests and build descriptions that say "refused", so that this run tries again.

    Such a refusal is about one moment: no network, no compiler. What can never run here is refused by
    the plan and keeps its row.
    """
    folder = Path(results)
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
