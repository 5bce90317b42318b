"""The rounds of a search for variances, kept so that an interrupted one goes on with the next round."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from bench.errors import BenchError
from bench.evaluation.checkpoint import Pace
from bench.evaluation.journal import Journal
from bench.evaluation.kept import Kept

Arrays = Mapping[str, np.ndarray]


class Rounds:
    """kept: None where nothing is kept, as inside a fold. earlier: the arrays of an interrupted search, or None."""

    def __init__(self, kept: Kept | None, journal: Journal, *, resume: bool = False):
        self._kept, self._journal = kept, journal
        self._pace, self._last = Pace(journal, 0), None
        self.earlier: Arrays | None = None
        if kept and resume:
            self.earlier, _ = kept.read()
            journal.say(f"going on from {kept.path}")

    def keep(self, arrays: Arrays) -> None:
        """After each round: written if that is due."""
        self._last = arrays
        if self._kept and self._pace.due():
            self._pace.write(self._kept, arrays)

    @contextmanager
    def kept_unless_found(self) -> Iterator[None]:
        """Where the block ends before its time, the last round is written."""
        try:
            yield
        except (KeyboardInterrupt, BenchError):
            self.write()
            raise

    def write(self) -> None:
        if self._kept and self._last is not None:
            self._pace.write(self._kept, self._last)
            if self._kept.path.exists():
                self._journal.say(f"{self._kept.path} is kept; give the same command with --resume to go on")

    def remove(self) -> None:
        if self._kept:
            self._kept.remove()
