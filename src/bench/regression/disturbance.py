"""Whether something else on the machine makes the CPU times of a round worthless."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.surroundings import processor_time

# CPU time of one thread stands a busy machine, and both sides of a pair suffer alike. Beyond these every sample
# starts with the caches of somebody else, and the clock of a virtual core is not to be believed.
LARGEST_WAIT = 20.0  # wall over CPU time
LARGEST_STEAL = 0.10  # of all ticks
STAT = Path("/proc/stat")


@dataclass(frozen=True)
class Ticks:
    """Time of all cores since the start of the machine, and that which its host gave to others."""

    all: float
    steal: float

    @classmethod
    def now(cls) -> Ticks:
        times = processor_time(STAT, {"cpu"})
        return cls(sum(times.values()), times.get("steal", 0.0))


def disturbance(*, wall: float, cpu: float, before: Ticks, after: Ticks) -> str | None:
    """Why a round's times cannot be believed, None if they can. wall, cpu: seconds of its products together."""
    ticks = after.all - before.all
    if ticks > 0 and (after.steal - before.steal) / ticks > LARGEST_STEAL:
        share = (after.steal - before.steal) / ticks
        return f"the machine's host gave {share:.0%} of its time to others"
    if cpu > 0 and wall / cpu > LARGEST_WAIT:
        return f"the products waited for a core: {wall / cpu:.1f} times as long as they ran"
    return None
