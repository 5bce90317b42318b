"""Where a number comes from: code, environment, machine and moment."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.machine import blas_libraries, this_machine, usable_cpus
from bench.measure import PROTOCOL
from bench.record import sha256_of
from bench.surroundings import settings

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "envs" / "run.txt"
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)


# A thread stays on a core, and the threads lie beside each other; the user's own settings win.
PINNED = {"OMP_PLACES": "cores", "OMP_PROC_BIND": "close"}


def set_threads(threads: int) -> None:
    """Fix the thread pools of every library, and their threads to cores; to be called before numpy is first
    imported."""
    usable_cpus()  # as it is now: OpenMP narrows it to one core for the thread that loads it
    for variable in THREAD_VARIABLES:
        os.environ[variable] = str(threads)
    for variable, value in PINNED.items():
        os.environ.setdefault(variable, value)


def git_state() -> tuple[str, bool | None]:
    """The commit of the checkout, and whether its code differs from it; ("", None) without git.

    That is a change of any tracked file, or a new one where code is looked for: a kernel counts by being there,
    a user's own configuration or data do not change what is computed.
    """

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
        except OSError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    if commit is None:
        return "", None
    changed = git("status", "--porcelain", "--untracked-files=no")
    return commit, bool(changed or git("ls-files", "--others", "--exclude-standard", "--", "src", "workflow"))


def blas_in_use() -> str:
    """The BLAS libraries loaded so far: name, version and the architecture they chose."""
    found = {f"{b['internal_api']} {b['version']} {b['architecture']}" for b in blas_libraries()}
    return "; ".join(sorted(found))


def collect_provenance(*, version: int, **more: Any) -> dict[str, Any]:
    """The columns that every row of a job shares; `version` is the experiment's."""
    machine = this_machine()
    commit, dirty = git_state()
    return {
        "commit": commit,
        "dirty": dirty,
        "protocol": PROTOCOL,
        "version": version,
        "lock_hash": sha256_of([LOCK]) if LOCK.exists() else "",
        "host": machine.host,
        "cpu": machine.cpu,
        "cores": machine.cores,
        "memory": machine.memory,
        "gpu": ", ".join(machine.gpus),
        "driver": machine.driver,
        **settings(),
        "blas": blas_in_use(),
        "python": platform.python_version(),
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        **more,
    }
