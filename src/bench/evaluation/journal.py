"""What a long evaluation says while it runs: lines on the terminal and in its log."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

import numpy as np

from bench.errors import BenchError
from bench.measure import CLOCK, Clock, peak_rss
from bench.record import make_folder, writing

EVERY = 2.0  # seconds between two lines of an iteration


class Journal:
    """Lines with the time since the start, on `terminal` and in the file `path`, which is there from the first on.

    append: to the log of a run that this one goes on with, or whose results are there until this one has its own.
    """

    def __init__(self, path: Path, *, append: bool = False, clock: Clock = CLOCK, terminal: TextIO | None = None):
        with writing(path):
            make_folder(path.parent)
            self._file = path.open("a" if append else "w", encoding="utf-8", buffering=1)
        self._path, self._told = path, False
        self._clock, self._terminal = clock, terminal or sys.stderr
        self._start = clock.wall()
        self.seconds: dict[str, float] = {}

    @property
    def elapsed(self) -> float:
        return self._clock.wall() - self._start

    def say(self, text: str) -> None:
        line = f"[{minutes(self.elapsed)}] {text}"
        print(line, file=self._terminal, flush=True)
        self._note(line)

    def _note(self, line: str) -> None:
        """A disk that is full by now ends no solve: the terminal still has the lines."""
        try:
            with writing(self._path):
                print(line, file=self._file)
        except (BenchError, OSError) as error:
            if not self._told:
                print(f"the log lacks lines from here on: {error}", file=self._terminal, flush=True)
            self._told = True

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Time a stretch of the work; said when it is done, with the memory's peak."""
        before = self.elapsed
        yield
        took = self.seconds[what] = self.elapsed - before
        self.say(f"{what}: {took:.1f} s, peak {peak_rss() / 1e9:.2f} GB")

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """The last line of a log is why it ended before its time; the terminal hears it from the command."""
        with suppress(OSError, BenchError):  # of a full disk, which is why it ended
            if error is not None:
                self._note(f"[{minutes(self.elapsed)}] stopped: {str(error) or type(error).__name__}")
            self._file.close()


class Silent(Journal):
    """Says and writes nothing: for the parts of a run that are too many to be told one by one."""

    def __init__(self, clock: Clock = CLOCK):
        self._clock, self._start = clock, clock.wall()
        self.seconds: dict[str, float] = {}

    def say(self, text: str) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        return None


class Iterations:
    """Lines such as "step 40: residual 3.1e-06, 0.4 s a step, about 0:25 left", not more than one in EVERY seconds.

    The time left is from the rate at which the residual has fallen since it was halved last time but `WINDOW` steps.
    """

    WINDOW = 20

    def __init__(self, journal: Journal, target: float, earlier: Sequence[tuple[int, float, float]] = ()):
        """earlier: the history of a run that this one goes on with."""
        self._journal, self._target = journal, target
        self._said = journal.elapsed
        self.history = list(earlier)  # step, ‖r‖/‖b‖, seconds
        self._start = self._said - (earlier[-1][2] if earlier else 0.0)

    def __call__(self, step: int, residual: float) -> None:
        now = self._journal.elapsed
        self.history.append((step, residual, now - self._start))
        if step and now - self._said >= EVERY:
            self._said = now
            pace = (now - self._start) / step
            left = self._left(residual)
            more = "" if left is None else f", about {minutes(left * pace)} left"
            self._journal.say(f"step {step}: residual {residual:.1e}, {pace:.2f} s a step{more}")

    def _left(self, residual: float) -> float | None:
        """Steps to the target if the residual goes on falling as in the last steps."""
        step, before, _ = self.history[max(0, len(self.history) - 1 - self.WINDOW)]
        rate = np.log(before / residual) / max(1, self.history[-1][0] - step) if residual > 0 else 0
        return float(np.log(residual / self._target) / rate) if rate > 0 else None


def minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
