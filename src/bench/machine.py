"""What the machine is, and what it can do at the most (measured)."""

from __future__ import annotations

import ctypes as ct
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from bench.build import Build

from bench.errors import BenchError
from bench.memory import cgroup
from bench.memory import memory_available as memory_available
from bench.memory import memory_limit as memory_limit
from bench.record import read_json

USABLE_SHARE = 0.9  # of the memory: the rest is the operating system's and the page cache's


@dataclass(frozen=True)
class Machine:
    """The facts that decide which kernels can run. Sizes in bytes; gpu_memory is the first GPU's.

    described: it is planned for, from elsewhere; gpu_builds: "kernel/target" of the GPU kernels that it said it runs.
    """

    host: str
    cpu: str
    cpu_flags: frozenset[str]
    cores: int
    memory: int
    gpus: tuple[str, ...] = ()
    driver: str = ""
    gpu_memory: int = 0
    described: bool = False
    gpu_builds: frozenset[str] = frozenset()

    @property
    def usable_memory(self) -> int:
        """What a job may plan with: stable from run to run, unlike what is free at the moment."""
        return int(self.memory * USABLE_SHARE)


_assumed: list[Machine] = []


@cache
def this_machine() -> Machine:
    """The machine that this process runs on, as far as its affinity and its cgroup let it; or the one assumed."""
    if _assumed:
        return _assumed[-1]
    info = _cpuinfo()
    gpus, driver, gpu_memory = _gpus()
    return Machine(
        host=platform.node(),
        cpu=info.get("model name", platform.processor() or platform.machine()),
        cpu_flags=frozenset((info.get("flags") or info.get("Features") or "").split()),
        cores=_core_count(),
        memory=memory_limit(),
        gpus=gpus,
        driver=driver,
        gpu_memory=gpu_memory,
    )


def assume(path: str | Path) -> None:
    """Let this process plan for another machine, of which `bench machine --out` wrote the description.

    BenchError for a file that is not there or describes no machine.
    """
    description = Path(path)
    if not description.exists():
        raise BenchError(f"{description}: not there; `make slurm-node` writes the description of a compute node")
    facts = read_json(description)
    try:
        made = Machine(
            host=facts["host"],
            cpu=facts["cpu"],
            cpu_flags=frozenset(facts["flags"]),
            cores=int(facts["cores"]),
            memory=int(facts["memory"]),
            gpus=tuple(facts["gpus"]),
            driver=facts["driver"],
            gpu_memory=int(facts["gpu_memory"]),
            described=True,
            gpu_builds=frozenset(facts["gpu_builds"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BenchError(
            f"{description}: no description of a machine ({error} is missing or wrong); "
            "`bench machine --out` writes one"
        ) from None
    _assumed[:] = [made]
    this_machine.cache_clear()


def _cpuinfo() -> dict[str, str]:
    """The first processor's entries of /proc/cpuinfo."""
    first = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


@cache
def usable_cpus() -> frozenset[int]:
    """The numbers of the cores that this process may run on, as they were when first asked for: OpenMP binds the
    thread that loads it to one of them."""
    return frozenset(os.sched_getaffinity(0))


def _core_count() -> int:
    """Cores that this process may use: by affinity, and by the CPU quota of its cgroup, rounded up."""
    counts = [len(usable_cpus())]
    for text in cgroup("cpu.max"):
        quota, _, period = text.partition(" ")
        if quota.isdigit() and period.isdigit():
            counts.append(-(-int(quota) // int(period)))
    return max(1, min(counts))


def _gpus() -> tuple[tuple[str, ...], str, int]:
    """Names of the NVIDIA GPUs, the driver's version, and the first one's memory in bytes, from nvidia-smi."""
    if shutil.which("nvidia-smi") is None:
        return (), "", 0
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return (), "", 0
    rows = [line.split(", ") for line in done.stdout.splitlines() if line.count(", ") == 2]
    if done.returncode or not rows:
        return (), "", 0
    _, driver, mebibytes = rows[0]
    return tuple(row[0] for row in rows), driver, int(mebibytes) << 20 if mebibytes.isdigit() else 0


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
    """The machine's measured ceilings: what the compiled limits.cc does, timed. Rates are one figure per try."""

    def __init__(self, library: Path):
        self._lib = ct.CDLL(str(library))
        u64, ptr, i32 = ct.c_uint64, ct.c_void_p, ct.c_int
        self._lib.limits_fma.restype, self._lib.limits_fma.argtypes = u64, [i32, u64, i32, ptr]
        self._lib.limits_lookups.restype, self._lib.limits_lookups.argtypes = u64, [i32, u64, i32, i32, ptr]
        self._lib.limits_int8.restype, self._lib.limits_int8.argtypes = u64, [i32, u64, ptr]
        self._lib.limits_read.restype, self._lib.limits_read.argtypes = u64, [ptr, u64, i32]
        self._lib.limits_copy.restype, self._lib.limits_copy.argtypes = u64, [ptr, ptr, u64, i32]

    def fma(self, iterations: int, *, threads: int = 1, dtype: str = "f8") -> tuple[int, float]:
        """Multiply-adds done in `iterations` rounds, and the sum of what they came to."""
        checksum = ct.c_double()
        done = self._lib.limits_fma(threads, iterations, int(dtype[1:]), ct.byref(checksum))
        return done, checksum.value

    def lookups(self, iterations: int, *, columns: int, tables: int, threads: int = 1) -> tuple[int, float]:
        """Table lookups done in `iterations` rounds of 16, and the sum of the entries."""
        checksum = ct.c_double()
        done = self._lib.limits_lookups(threads, iterations, columns, tables, ct.byref(checksum))
        if not done and iterations:
            raise ValueError(f"limits.cc has no lookups of {columns} columns in {tables} tables")
        return done, checksum.value

    def int8(self, iterations: int, *, threads: int = 1) -> tuple[int, int]:
        """8-bit multiply-adds done in `iterations` rounds, and the sum of the products modulo 2³²."""
        checksum = ct.c_uint32()
        done = self._lib.limits_int8(threads, iterations, ct.byref(checksum))
        return done, checksum.value

    def read(self, buffer: np.ndarray, *, threads: int = 1) -> int:
        """Read the whole cache lines of `buffer`; the xor of their 64-bit words."""
        return self._lib.limits_read(buffer.ctypes.data, buffer.nbytes, threads)

    def copy(self, to: np.ndarray, source: np.ndarray, *, threads: int = 1) -> int:
        """Copy `source` over `to`, of the same size; the bytes read and written."""
        return self._lib.limits_copy(to.ctypes.data, source.ctypes.data, source.nbytes, threads)

    def fma_rate(self, *, threads: int, dtype: str = "f8", seconds: float = 0.1, tries: int = 5) -> list[float]:
        """Multiply-adds per second of independent chains in registers."""
        return _rates(lambda n: self.fma(n, threads=threads, dtype=dtype)[0], seconds, tries)

    def lookup_rate(
        self, *, threads: int, columns: int, tables: int = 1, seconds: float = 0.1, tries: int = 5
    ) -> list[float]:
        """Lookups per second: a load and an addition of `columns` doubles, in 1 table or 8 of 243 entries."""
        return _rates(lambda n: self.lookups(n, columns=columns, tables=tables, threads=threads)[0], seconds, tries)

    def int8_rate(self, *, threads: int, seconds: float = 0.1, tries: int = 5) -> list[float]:
        """8-bit multiply-adds per second, summed in 32 bits, of independent chains in registers."""
        return _rates(lambda n: self.int8(n, threads=threads)[0], seconds, tries)

    def read_rate(
        self, *, threads: int, size: int = 1 << 28, tries: int = 5, buffer: np.ndarray | None = None
    ) -> list[float]:
        """Bytes per second read from a buffer of `size` bytes, 256 MiB a try; from `buffer` where it is given.

        No cache should hold the default size; a smaller one tells how fast a matrix of that size can be read.
        """
        import numpy as np

        buffer = np.ones(size // 8) if buffer is None else buffer

        def work(passes: int) -> int:
            for _ in range(passes):
                self.read(buffer, threads=threads)
            return passes * buffer.nbytes

        work(1)
        return _timed(work, max(1, (1 << 28) // buffer.nbytes), tries)

    def copy_rate(self, *, threads: int, buffer: np.ndarray, tries: int = 5) -> list[float]:
        """Bytes per second, read and written, of copying the first half of `buffer` over the second."""
        source, to = buffer.reshape(2, -1)
        self.copy(to, source, threads=threads)
        return _timed(lambda _: self.copy(to, source, threads=threads), 1, tries)


def _rates(work: Callable[[int], int], seconds: float, tries: int) -> list[float]:
    """What `work(iterations)` says it did per second, with so many iterations that all tries take `seconds`."""
    from bench.measure import once

    iterations = 100_000
    took = once(lambda: work(iterations)).wall
    return _timed(work, max(iterations, int(iterations * seconds / tries / max(took, 1e-9))), tries)


def _timed(work: Callable[[int], int], iterations: int, tries: int) -> list[float]:
    """What `work(iterations)` says it did per second."""
    from bench.measure import once

    rates, done = [], [0]

    def call() -> None:
        done[0] = work(iterations)

    for _ in range(tries):
        took = once(call).wall
        rates.append(done[0] / took)
    return rates


def runnable(name: str) -> list[str]:
    """The targets of a library that is no kernel ("limits", "gram") that this machine runs, the widest last."""
    from bench.build import OTHERS

    native, flags = OTHERS[name], this_machine().cpu_flags
    return [target for target in native.targets if all(f in flags for f in native.cpu_flags(target))]


def best_target(name: str) -> str:
    """The last of them: each has a target that every machine runs."""
    return runnable(name)[-1]


def built_limits(folder: Path) -> list[Build]:
    """The builds of limits.cc in `folder` that this machine runs, the widest vectors last."""
    from bench.build import Build

    files = [folder / target / "build.json" for target in runnable("limits")]
    return [build for file in files if file.exists() and (build := Build.read(file)).library]


def best_limits(folder: Path) -> Limits | None:
    """The limits library with the widest vectors that this machine runs, of those built in `folder`."""
    built = built_limits(folder)
    return Limits(built[-1].library) if built and built[-1].library else None
