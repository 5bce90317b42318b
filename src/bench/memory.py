"""How much memory this process may take."""

from __future__ import annotations

import os
import re
from pathlib import Path

from bench.errors import BenchError

UNITS = {"": 1, "B": 1} | {
    f"{letter}{binary}B": base**power
    for binary, base in (("", 1000), ("i", 1024))
    for power, letter in enumerate("kMGT", start=1)
}
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


def bytes_of(size: int | str, *, of: str = "memory") -> int:
    """Bytes, from their number or a text such as "800MB", "1.5 GB" or "2GiB". BenchError: neither, or less than 1."""
    text = str(size).strip()
    found = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([A-Za-z]*)", text)
    units = {name.lower(): value for name, value in UNITS.items()}
    if isinstance(size, bool) or found is None or found[2].lower() not in units:
        raise BenchError(f'{of}: {size!r} was given; bytes were needed, as a number or such as "800MB" or "2GiB"')
    amount = int(float(found[1]) * units[found[2].lower()]) if found[2] else int(float(found[1]))
    if amount < 1:
        raise BenchError(f"{of}: {size!r} was given; at least one byte was needed")
    return amount
