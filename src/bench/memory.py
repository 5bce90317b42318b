"""How much memory this process may take."""

from __future__ import annotations

import os
from pathlib import Path

CGROUPS, OWN_CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def cgroup(name: str) -> list[str]:
    """What file `name` says in this process's cgroup and in those above it, for cgroup versions 1 and 2."""
    own = OWN_CGROUPS
    found = []
    for line in own.read_text().splitlines() if own.exists() else []:
        _, controllers, path = line.split(":", 2)
        root = CGROUPS / controllers
        for folder in [root / path.lstrip("/"), *(root / path.lstrip("/")).parents]:
            if not folder.is_relative_to(root):
                break
            if (file := folder / name).is_file():
                found.append(file.read_text().strip())
    return found


def memory_limit() -> int:
    """The machine's memory, or the limit of this process's cgroup (a container, a Slurm job) if smaller."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for name in ("memory.max", "memory.limit_in_bytes"):
        limits += [int(text) for text in cgroup(name) if text.isdigit()]
    return min(limits)


def memory_available() -> int:
    """Bytes that new allocations can take now without swapping."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return min(int(line.split()[1]) * 1024, memory_limit())
    return memory_limit()
