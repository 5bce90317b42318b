"""What a comparison is doing, and how long it will take."""

from __future__ import annotations

import sys
from typing import TextIO

from bench.measure import CLOCK, Clock


class Progress:
    """Lines such as "[3:10, about 1:40 left] lut5: times". weight: what all steps weigh together."""

    def __init__(self, weight: float, *, clock: Clock = CLOCK, out: TextIO | None = None):
        self._weight, self._done, self._doing = weight, 0.0, 0.0
        self._clock, self._out = clock, out or sys.stderr
        self._start = clock.wall()

    @property
    def seconds(self) -> float:
        return self._clock.wall() - self._start

    def step(self, what: str, weight: float = 0.0) -> None:
        """Begin a step; the one before it is done."""
        self._done += self._doing
        self._doing = weight
        now = self.seconds
        left = f", about {_minutes(now * (self._weight - self._done) / self._done)} left" if self._done else ""
        print(f"[{_minutes(now)}{left}] {what}", file=self._out, flush=True)


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
