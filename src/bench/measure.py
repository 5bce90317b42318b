"""The only clock of the suite.

PROTOCOL names what is measured and how; raising it reruns every timed job.
"""

from __future__ import annotations

import fcntl
import math
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import BenchError

PROTOCOL = 2
LOCK = Path(tempfile.gettempdir()) / "blupbench-timing.lock"
# Seconds of a sample. Below, what a call from Python costs (about 1 µs) and the clock's own reading (0.05 µs) show,
# and one interrupt (some µs) is a sizeable part.
SHORTEST = 1e-3
MOST_CALLS = 1_000_000  # of a sample
# Seconds after which the threads of a library that has returned sleep: OpenBLAS's spin for 2²⁶ cycles (26 ms at
# 2.6 GHz), those of libgomp for some ms.
SPIN = 0.05


@dataclass(frozen=True)
class Clock:
    """Seconds of wall and of this process's CPU time; replaced by a fake one in tests."""

    wall: Callable[[], float] = time.perf_counter
    cpu: Callable[[], float] = time.process_time


CLOCK = Clock()


def stream_clock(cuda: Any) -> Clock:
    """How far the current stream of a GPU has come, in seconds; cuda: `cupy.cuda`, or what has its Event.

    A reading is a CUDA event, and waits for it: what was asked of the stream before has then ended. Between two
    readings lies what calls made the GPU do, and at the beginning the time until it has got the first of it (10 to
    50 µs), which several calls in a row share. Elapsed times are float32 in milliseconds, so each is taken from the
    reading before, and the sum is kept in float64.
    """
    last, total = cuda.Event(), 0.0
    last.record()

    def wall() -> float:
        nonlocal last, total
        now = cuda.Event()
        now.record()
        now.synchronize()
        total += cuda.get_elapsed_time(last, now) / 1e3
        last = now
        return total

    return Clock(wall)


@dataclass(frozen=True)
class Sample:
    """One timed stretch of equal calls.

    wall and cpu: seconds per call; cpu sums over the process's threads. calls: how many were made. Of all calls
    together: switches, how often the kernel took a core away from a thread that wanted to go on; minor_faults, pages
    that came from memory; major_faults, pages that came from a disk.
    """

    wall: float
    cpu: float
    calls: int = 1
    switches: int = 0
    minor_faults: int = 0
    major_faults: int = 0


def once(call: Callable[[], object], clock: Clock = CLOCK, *, calls: int = 1) -> Sample:
    """Time `calls` calls in a row, each of which must return only when its result is ready.

    BenchError where the clock stood still or went backwards meanwhile: such a time is no time.
    """
    before = resource.getrusage(resource.RUSAGE_SELF)
    cpu, wall = clock.cpu(), clock.wall()
    for _ in range(calls):
        call()
    took, used = clock.wall() - wall, clock.cpu() - cpu
    after = resource.getrusage(resource.RUSAGE_SELF)
    _plausible(took, used)
    return Sample(
        took / calls,
        used / calls,
        calls,
        after.ru_nivcsw - before.ru_nivcsw,
        after.ru_minflt - before.ru_minflt,
        after.ru_majflt - before.ru_majflt,
    )


def _plausible(wall: float, cpu: float) -> None:
    """Refuse what cannot have been: wall time must grow, CPU time must not shrink."""
    for name, took, broken in (("wall clock", wall, not wall > 0), ("CPU clock", cpu, not cpu >= 0)):
        if broken:
            what = "stood still" if took == 0 else f"went backwards by {-took:.3g} s"
            raise BenchError(
                f"the {name} {what} during a timed call, so nothing can be timed; see what sets the clock of this "
                "machine (a virtual machine that was moved or paused does), and run again"
            )


def repeats(
    call: Callable[[], object],
    *,
    least: int = 5,
    seconds: float = 0.5,
    most: int = 50,
    warm: bool = True,
    clock: Clock = CLOCK,
) -> list[Sample]:
    """`least` samples of `call`, then on until `seconds` have been measured or there are `most`.

    A sample is one call, or as many as take SHORTEST, found out beforehand.
    warm: the first call is not counted (page faults, lazy initialisation, branch history).
    """
    first = once(call, clock)
    calls = calls_of_a_sample(call, first, clock)
    samples = [] if warm or calls > 1 else [first]
    while len(samples) < least or (len(samples) < most and sum(s.wall * s.calls for s in samples) < seconds):
        samples.append(once(call, clock, calls=calls))
    return samples


def calls_of_a_sample(call: Callable[[], object], first: Sample, clock: Clock = CLOCK) -> int:
    """How many calls take SHORTEST; 1 for a call that takes that long.

    first: a call made before. One of ten times SHORTEST is believed although it was the first.
    """
    if first.wall >= 10 * SHORTEST:
        return 1
    calls = 1
    while calls < MOST_CALLS and (took := once(call, clock, calls=calls).wall) * calls < SHORTEST:
        calls = min(MOST_CALLS, max(2 * calls, math.ceil(1.2 * SHORTEST / took)))
    return calls


def settle(threads: int) -> None:
    """Wait until the threads of what was called before have stopped spinning; one thread leaves none behind."""
    if threads > 1:
        time.sleep(SPIN)


def pause(seconds: float) -> None:
    """Do nothing for so long."""
    time.sleep(seconds)


class Stopwatch:
    """How long each part of a computation took, in wall seconds. A part does not count the parts inside it."""

    def __init__(self, clock: Clock = CLOCK):
        self.seconds: dict[str, float] = {}
        self._clock, self._since = clock, clock.wall()
        self._inside: list[tuple[str, bool]] = []

    @contextmanager
    def part(self, name: str, *, whole: bool = False) -> Iterator[None]:
        """Count the block as `name`. whole: with all the parts inside it, which then do not count themselves."""
        if self._inside and self._inside[-1][1]:
            name, whole = self._inside[-1]
        self._charge()
        self._inside.append((name, whole))
        try:
            yield
        finally:
            self._charge()
            self._inside.pop()

    def inside(self, name: str) -> bool:
        """Whether `name` is what is being counted now."""
        return bool(self._inside) and self._inside[-1][0] == name

    def total(self, *, without: str = "") -> float:
        """Seconds of all parts up to now, but for one."""
        self._charge()
        return sum(took for name, took in self.seconds.items() if name != without)

    def _charge(self) -> None:
        now = self._clock.wall()
        if self._inside:
            name = self._inside[-1][0]
            self.seconds[name] = self.seconds.get(name, 0.0) + now - self._since
        self._since = now


def peak_rss() -> int:
    """The largest resident set of this process so far, in bytes; since `forget_peak_rss`, where that was called."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def forget_peak_rss() -> int:
    """Let `peak_rss` start again from now, where the system allows it; what it was until now, in bytes."""
    before = peak_rss()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets the peak
    return before


def peak_rss_of_children() -> int:
    """The largest resident set of a program that this process has started and that has ended, in bytes."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


def current_rss() -> int:
    """The resident set of this process now, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


@contextmanager
def exclusive(lock: Path = LOCK) -> Iterator[float]:
    """Hold the machine: no two timed jobs of any run on this machine are inside at once.

    Yields the seconds waited. The kernel drops the lock when its holder dies, however it dies.
    """
    start = time.monotonic()
    descriptor = _open_shared(lock)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another timed job on this machine (it holds {lock})", file=sys.stderr, flush=True)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield time.monotonic() - start
    finally:
        os.close(descriptor)


def _open_shared(lock: Path) -> int:
    """Open `lock` for reading, creating it where need be: that suffices for a lock, also on another user's
    file, which a system with protected_regular does not let one open with O_CREAT."""
    try:
        return os.open(lock, os.O_RDONLY)
    except FileNotFoundError:
        return os.open(lock, os.O_RDONLY | os.O_CREAT, 0o644)
