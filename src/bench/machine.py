"""What the machine is, and what it can do at the most (measured)."""

from __future__ import annotations

import ctypes as ct
import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

USABLE_SHARE = 0.9  # of the memory: the rest is the operating system's and the page cache's


@dataclass(frozen=True)
class Machine:
    """The facts that decide which kernels can run. Sizes in bytes."""

    host: str
    cpu: str
    cpu_flags: frozenset[str]
    cores: int
    memory: int
    gpus: tuple[str, ...] = ()
    driver: str = ""

    @property
    def usable_memory(self) -> int:
        """What a job may plan with: stable from run to run, unlike what is free at the moment."""
        return int(self.memory * USABLE_SHARE)


@cache
def this_machine() -> Machine:
    """The machine that this process runs on, as far as its affinity and its cgroup let it."""
    info = _cpuinfo()
    gpus, driver = _gpus()
    return Machine(
        host=platform.node(),
        cpu=info.get("model name", platform.processor() or platform.machine()),
        cpu_flags=frozenset((info.get("flags") or info.get("Features") or "").split()),
        cores=_core_count(),
        memory=memory_limit(),
        gpus=gpus,
        driver=driver,
    )


def _cpuinfo() -> dict[str, str]:
    """The first processor's entries of /proc/cpuinfo."""
    first = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def memory_limit() -> int:
    """The machine's memory, or the limit of this process's cgroup (a container, a Slurm job) if smaller."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for name in ("memory.max", "memory.limit_in_bytes"):
        limits += [int(text) for text in _cgroup(name) if text.isdigit()]
    return min(limits)


def _core_count() -> int:
    """Cores that this process may use: by affinity, and by the CPU quota of its cgroup, rounded up."""
    counts = [len(os.sched_getaffinity(0))]
    for text in _cgroup("cpu.max"):
        quota, _, period = text.partition(" ")
        if quota.isdigit() and period.isdigit():
            counts.append(-(-int(quota) // int(period)))
    return max(1, min(counts))


CGROUPS, OWN_CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def _cgroup(name: str) -> list[str]:
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


def memory_available() -> int:
    """Bytes that new allocations can take now without swapping."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return min(int(line.split()[1]) * 1024, memory_limit())
    return memory_limit()


def _gpus() -> tuple[tuple[str, ...], str]:
    """Names of the NVIDIA GPUs and the driver's version, from nvidia-smi."""
    if shutil.which("nvidia-smi") is None:
        return (), ""
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return (), ""
    rows = [line.split(", ") for line in done.stdout.splitlines() if ", " in line]
    return tuple(row[0] for row in rows if not done.returncode), rows[0][1] if rows else ""


def caches() -> dict[str, int]:
    """Size in bytes of each cache that the first core sees, such as {"L1d": 32768, "L2": 1048576}."""
    found: dict[str, int] = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        kind = (index / "type").read_text().strip()
        if kind == "Instruction":
            continue
        level = (index / "level").read_text().strip()
        size = (index / "size").read_text().strip()
        found[f"L{level}{'d' if kind == 'Data' else ''}"] = int(size.rstrip("K")) * 1024
    return found


def blas_libraries() -> list[dict[str, Any]]:
    """The BLAS libraries that this process has loaded, numpy's at the least, as threadpoolctl reports them."""
    import numpy
    import threadpoolctl

    assert numpy.dot
    keys = ("internal_api", "version", "threading_layer", "architecture")
    return [
        {key: pool.get(key) for key in keys}
        for pool in threadpoolctl.threadpool_info()
        if pool.get("user_api") == "blas"
    ]


def compilers() -> dict[str, str]:
    """The version of each C++ compiler on the path, such as {"g++": "13.2.0"}."""
    found = {}
    for name in ("g++", "clang++", "icpx", "nvcc"):
        if shutil.which(name):
            done = subprocess.run([name, "--version"], capture_output=True, text=True, check=False)
            # The last number of the first line that has one: g++ has its package's before it, nvcc lines above.
            numbers = (re.findall(r"\d+(?:\.\d+)+", line) for line in done.stdout.splitlines())
            found[name] = next((of[-1] for of in numbers if of), "")
    return found


class Limits:
    """The machine's measured ceilings: what the compiled limits.cc does, timed."""

    def __init__(self, library: Path):
        self._lib = ct.CDLL(str(library))
        u64, ptr, i32 = ct.c_uint64, ct.c_void_p, ct.c_int
        self._lib.limits_fma.restype, self._lib.limits_fma.argtypes = u64, [i32, u64, i32]
        self._lib.limits_read.restype, self._lib.limits_read.argtypes = u64, [ptr, u64, i32]

    def fma_rate(self, *, threads: int, dtype: str = "f8", seconds: float = 0.1, tries: int = 5) -> list[float]:
        """Multiply-adds per second of independent chains in registers; one figure per try."""
        from bench.measure import once

        real, iterations = int(dtype[1:]), 1_000_000
        took = once(lambda: self._lib.limits_fma(threads, iterations, real)).wall
        iterations = max(iterations, int(iterations * seconds / tries / max(took, 1e-9)))
        rates, done = [], [0]

        def work() -> None:
            done[0] = self._lib.limits_fma(threads, iterations, real)

        for _ in range(tries):
            took = once(work).wall
            rates.append(done[0] / took)
        return rates

    def read_rate(self, *, threads: int, size: int = 1 << 28, tries: int = 5) -> list[float]:
        """Bytes per second read from a buffer of `size` bytes that no cache should hold."""
        import numpy as np

        from bench.measure import once

        buffer = np.ones(size // 8)
        read = lambda: self._lib.limits_read(buffer.ctypes.data, buffer.nbytes, threads)  # noqa: E731
        read()
        return [buffer.nbytes / once(read).wall for _ in range(tries)]


def runnable_limits() -> list[str]:
    """The targets of limits.cc that this machine runs, the widest vectors last."""
    from bench.build import LIMITS

    flags = this_machine().cpu_flags
    return [target for target in LIMITS.targets if all(f in flags for f in LIMITS.cpu_flags(target))]


def best_limits(folder: Path) -> Limits | None:
    """The limits library with the widest vectors that this machine runs, of those built in `folder`."""
    from bench.build import Build

    for target in reversed(runnable_limits()):
        description = folder / target / "build.json"
        if not description.exists():
            continue
        if library := Build.read(description).library:
            return Limits(library)
    return None
