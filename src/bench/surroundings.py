"""What else happened on the machine while a session was timed, and whether its times can be believed.

A snapshot before and one after; their differences are rows of the phase `surroundings`, and the verdict is the column
`contaminated`. What a system does not tell is None in a snapshot and no row: unknown is never a reason.
"""

from __future__ import annotations

import importlib
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.machine import usable_cpus
from bench.measure import CLOCK, Clock
from bench.record import Document

# Above these a session is contaminated. Measured on 2 virtual cores of a Zen 4: 58 one-thread sessions, no other
# run beside them, had 0.97 s (median; 0.84 to 1.00) of CPU time per second of their timed calls, 3 of them less
# than 0.90; 8 sessions with ten busy processes beside them 0.05 to 0.72 s, 19 to 262 involuntary switches a
# second, 63 to 97 % of the cores taken by others, and pressure on the CPU in 91 to 100 % of the time.
OTHERS_SHARE = 0.10  # of the usable cores, taken by other processes: memory bandwidth and clock are shared
STEAL_SHARE = 0.02  # of the usable cores, taken by the hypervisor: a virtual machine beside this one is busy
SWITCHES = 50.0  # involuntary, per second and thread: the scheduler's slice is 3 to 4 ms where a core is shared
CPU_SHARE = 0.90  # CPU time per wall time of one thread: the rest it waited
PRESSURE = {"cpu": 0.10, "memory": 0.01, "io": 0.25}  # share of the time in which some task waited for it
# Seconds that /proc/stat may be wrong by on each core: it counts ticks of 10 ms. Nothing shorter is judged by shares.
GRAIN = 0.05


@dataclass(frozen=True)
class Sources:
    """Where the kernel tells: other folders in tests. cpus: the numbers of the cores that may be used."""

    proc: Path = Path("/proc")
    sys: Path = Path("/sys")
    cpus: frozenset[int] = field(default_factory=usable_cpus)
    clock: Clock = CLOCK


@dataclass(frozen=True)
class Snapshot:
    """Counters at one moment, in seconds, joules, Hz and numbers; None where the system does not tell.

    busy, steal, idle: of the usable cores together, since boot. pressure: seconds in which some task waited.
    cpu, switches, minor_faults, major_faults: of this process and the programs that it ran.
    energy: of each meter, with the value at which it starts again from 0.
    """

    wall: float
    cpu: float
    switches: int
    minor_faults: int
    major_faults: int
    busy: float | None = None
    steal: float | None = None
    idle: float | None = None
    load: float | None = None
    frequency: float | None = None
    pressure: dict[str, float] = field(default_factory=dict)
    energy: dict[str, tuple[float, float]] = field(default_factory=dict)


@contextmanager
def watched(doc: Document, threads: int, sources: Sources | None = None) -> Iterator[None]:
    """Take a snapshot before and after the timed part of a session; rows and verdict go into `doc`."""
    sources = sources or Sources()
    before = take(sources)
    yield
    after = take(sources)
    add_rows(doc, before, after)
    doc.provenance["contaminated"] = verdict(before, after, threads, sources)


def take(sources: Sources) -> Snapshot:
    """The counters now."""
    own, ran = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return Snapshot(
        wall=sources.clock.wall(),
        cpu=sources.clock.cpu() + ran.ru_utime + ran.ru_stime,
        switches=own.ru_nivcsw + ran.ru_nivcsw,
        minor_faults=own.ru_minflt + ran.ru_minflt,
        major_faults=own.ru_majflt + ran.ru_majflt,
        **_cores(sources),
        load=_number(_words(sources.proc / "loadavg"), 0),
        frequency=frequency(sources),
        pressure=_pressure(sources),
        energy=_rapl(sources) | _nvml(),
    )


def _words(path: Path) -> list[str]:
    """The words of a small file; none where it cannot be read."""
    try:
        return path.read_text().split()
    except (OSError, UnicodeDecodeError):
        return []


def _number(words: list[str], at: int, scale: float = 1.0) -> float | None:
    try:
        return float(words[at]) * scale
    except (IndexError, ValueError):
        return None


def _cores(sources: Sources) -> dict[str, float]:
    """busy, steal and idle of the usable cores."""
    return processor_time(sources.proc / "stat", {f"cpu{number}" for number in sources.cpus})


def processor_time(stat: Path, wanted: set[str]) -> dict[str, float]:
    """Seconds busy, steal and idle of the lines `wanted` of /proc/stat together; {} where it does not tell them all.

    A line has user, nice, system, idle, iowait, irq, softirq and steal, in ticks (proc(5)); "cpu" is that of all
    cores. Time of guests is in user and nice already.
    """
    try:
        lines = [line.split() for line in stat.read_text().splitlines()]
        cores = [[int(ticks) for ticks in words[1:9]] for words in lines if words and words[0] in wanted]
    except (OSError, ValueError):
        return {}
    if len(cores) < len(wanted) or any(len(core) < 8 for core in cores):
        return {}
    tick = 1 / os.sysconf("SC_CLK_TCK")
    user, nice, system, idle, iowait, irq, softirq, steal = (tick * sum(of) for of in zip(*cores, strict=True))
    return {"busy": user + nice + system + irq + softirq, "steal": steal, "idle": idle + iowait}


def _pressure(sources: Sources) -> dict[str, float]:
    """Seconds in which some task of the machine waited, from the line "some" of /proc/pressure."""
    found = {}
    for name in PRESSURE:
        words = _words(sources.proc / "pressure" / name)
        total = next((word for word in words if word.startswith("total=")), "")  # "some" is the first line
        seconds = _number([total.removeprefix("total=")], 0, 1e-6)
        if seconds is not None:
            found[name] = seconds
    return found


def frequency(sources: Sources) -> float | None:
    """The mean clock of the usable cores in Hz: of cpufreq, or as /proc/cpuinfo has it."""
    folder = sources.sys / "devices/system/cpu"
    found = [_number(_words(folder / f"cpu{n}/cpufreq/scaling_cur_freq"), 0, 1e3) for n in sorted(sources.cpus)]
    if None in found or not found:
        found = _cpuinfo_mhz(sources)
    known = [value for value in found if value]
    return sum(known) / len(known) if known else None


def _cpuinfo_mhz(sources: Sources) -> list[float | None]:
    try:
        lines = (sources.proc / "cpuinfo").read_text().splitlines()
    except OSError:
        return []
    pairs = [(key.strip(), value) for key, _, value in (line.partition(":") for line in lines)]
    found, number = [], -1
    for key, value in pairs:
        if key == "processor":
            number = int(value)
        if key == "cpu MHz" and number in sources.cpus:
            found.append(_number([value], 0, 1e6))
    return found


def _rapl(sources: Sources) -> dict[str, tuple[float, float]]:
    """Joules of each processor package, and where its counter wraps; often readable by root alone."""
    found = {}
    for folder in sorted((sources.sys / "class/powercap").glob("intel-rapl:*")):
        joules = _number(_words(folder / "energy_uj"), 0, 1e-6)
        wraps = _number(_words(folder / "max_energy_range_uj"), 0, 1e-6)
        if folder.name.count(":") == 1 and joules is not None:  # deeper ones are parts of these
            found[f"cpu {folder.name}"] = joules, wraps or float("inf")
    return found


def _nvml() -> dict[str, tuple[float, float]]:
    """Joules of each NVIDIA GPU, where the package pynvml is installed and the GPU tells."""
    try:
        nvml: Any = importlib.import_module("pynvml")
    except ImportError:
        return {}
    found = {}
    try:
        nvml.nvmlInit()
        for number in range(nvml.nvmlDeviceGetCount()):
            handle = nvml.nvmlDeviceGetHandleByIndex(number)
            found[f"gpu {number}"] = 1e-3 * nvml.nvmlDeviceGetTotalEnergyConsumption(handle), float("inf")
        nvml.nvmlShutdown()
    except getattr(nvml, "NVMLError", Exception):  # no driver, or a GPU that does not tell
        pass
    return found


def _grown(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else max(0.0, after - before)


def others(before: Snapshot, after: Snapshot) -> float | None:
    """CPU seconds that other processes took of the usable cores."""
    busy = _grown(before.busy, after.busy)
    return None if busy is None else max(0.0, busy - (after.cpu - before.cpu))


def energy(before: Snapshot, after: Snapshot, kind: str) -> float | None:
    """Joules of all meters of a kind, "cpu" or "gpu"."""
    used = []
    for name in before.energy.keys() & after.energy.keys():
        (start, wraps), (end, _) = before.energy[name], after.energy[name]
        if name.startswith(kind):
            used.append(end - start if end >= start else end - start + wraps)
    return sum(used) if used else None


def add_rows(doc: Document, before: Snapshot, after: Snapshot) -> None:
    """The differences as rows; load and frequency, which are no counters, as two: repeat 0 before, 1 after."""

    def add(metric: str, value: float | None, unit: str, **place: Any) -> None:
        if value is not None:
            doc.add(metric, value, unit, phase="surroundings", **place)

    add("elapsed", _grown(before.wall, after.wall), "s")
    add("own_cpu", after.cpu - before.cpu, "s")
    add("others_cpu", others(before, after), "s")
    add("steal", _grown(before.steal, after.steal), "s")
    add("idle", _grown(before.idle, after.idle), "s")
    for name in PRESSURE:
        add(f"pressure_{name}", _grown(before.pressure.get(name), after.pressure.get(name)), "s")
    add("switches", after.switches - before.switches, "1")
    add("minor_faults", after.minor_faults - before.minor_faults, "1")
    add("major_faults", after.major_faults - before.major_faults, "1")
    for kind in ("cpu", "gpu"):
        add(f"energy_{kind}", energy(before, after, kind), "J")
    for repeat, snapshot in enumerate((before, after)):
        add("load", snapshot.load, "1", repeat=repeat)
        add("frequency", snapshot.frequency, "1/s", repeat=repeat)


def verdict(before: Snapshot, after: Snapshot, threads: int, sources: Sources) -> str | None:
    """What disturbed the session, in words; None where nothing is known to have."""
    elapsed, cores = after.wall - before.wall, len(sources.cpus)
    if not elapsed > 0:
        return "the clock stood still or went backwards while the session was timed"
    capacity, grain = elapsed * cores, GRAIN * cores
    own = after.cpu - before.cpu
    found = []

    taken, stolen = others(before, after), _grown(before.steal, after.steal)
    if taken is not None and taken > OTHERS_SHARE * capacity + grain:
        found.append(f"other processes took {taken / capacity:.0%} of the usable cores")
    if stolen is not None and stolen > STEAL_SHARE * capacity + grain:
        found.append(f"the hypervisor took {stolen / capacity:.0%} of the usable cores")
    switches = after.switches - before.switches
    if switches > SWITCHES * threads * max(elapsed, 1.0):
        found.append(f"{switches / elapsed:.0f} involuntary switches a second")
    if threads == 1 and own < CPU_SHARE * elapsed - GRAIN:
        found.append(f"one thread ran in {own / elapsed:.0%} of the time")
    for name, allowed in PRESSURE.items() if _whole_machine(sources) else ():
        waited = _grown(before.pressure.get(name), after.pressure.get(name))
        if waited is not None and waited > allowed * elapsed + GRAIN:
            found.append(f"some task waited for {name} in {waited / elapsed:.0%} of the time")
    return "; ".join(found) or None


def _whole_machine(sources: Sources) -> bool:
    """Whether all online cores may be used: /proc/pressure is about all of them."""
    try:
        lines = (sources.proc / "stat").read_text().splitlines()
    except OSError:
        return False
    online = {line.split()[0] for line in lines if line.startswith("cpu") and line[3:4].isdigit()}
    return online == {f"cpu{number}" for number in sources.cpus}


PINNING = ("OMP_PLACES", "OMP_PROC_BIND", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OPENBLAS_THREAD_TIMEOUT")


def settings(sources: Sources | None = None) -> dict[str, Any]:
    """The columns of what does not change while a session runs: where its threads may be, and how the machine is set.

    None where the system does not tell.
    """
    sources = sources or Sources()
    governors = {
        " ".join(_words(sources.sys / f"devices/system/cpu/cpu{n}/cpufreq/scaling_governor")) for n in sources.cpus
    }
    nodes = [path for path in (sources.sys / "devices/system/node").glob("node*") if path.name[4:].isdigit()]
    pages = _words(sources.sys / "kernel/mm/transparent_hugepage/enabled")
    return {
        "affinity": ranges(sources.cpus),
        "pinning": " ".join(f"{name}={os.environ[name]}" for name in PINNING if name in os.environ),
        "governor": ", ".join(sorted(governors - {""})) or None,
        "numa_nodes": len(nodes) or None,
        "huge_pages": next((word.strip("[]") for word in pages if word.startswith("[")), None),
    }


def ranges(numbers: frozenset[int]) -> str:
    """Numbers as the kernel writes them: "0-3,8"."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ",".join(f"{low}-{high}" if high > low else f"{low}" for low, high in found)
