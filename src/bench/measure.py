"""The only clock of the suite.

PROTOCOL names what is measured and how; raising it reruns every timed job.
"""

from __future__ import annotations

import fcntl
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROTOCOL = 1
LOCK = Path(tempfile.gettempdir()) / "blupbench-timing.lock"


@dataclass(frozen=True)
class Clock:
    """Seconds of wall and of this process's CPU time; replaced by a fake one in tests."""

    wall: Callable[[], float] = time.perf_counter
    cpu: Callable[[], float] = time.process_time


CLOCK = Clock()


@dataclass(frozen=True)
class Sample:
    """One timed call. wall and cpu in seconds; cpu sums over the process's threads."""

    wall: float
    cpu: float


def once(call: Callable[[], object], clock: Clock = CLOCK) -> Sample:
    """Time one call, which must return only when its result is ready."""
    cpu, wall = clock.cpu(), clock.wall()
    call()
    return Sample(clock.wall() - wall, clock.cpu() - cpu)


def repeats(
    call: Callable[[], object],
    *,
    least: int = 5,
    seconds: float = 0.5,
    most: int = 50,
    warm: bool = True,
    clock: Clock = CLOCK,
) -> list[Sample]:
    """Time `call` at least `least` times, then on until `seconds` have been measured or `most` calls made.

    warm: one call beforehand that is not counted (page faults, lazy initialisation, branch history).
    """
    if warm:
        call()
    samples: list[Sample] = []
    while len(samples) < least or (len(samples) < most and sum(s.wall for s in samples) < seconds):
        samples.append(once(call, clock))
    return samples


def peak_rss() -> int:
    """The largest resident set of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


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
