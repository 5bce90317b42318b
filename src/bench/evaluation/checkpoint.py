"""Checkpoints of an iteration: written now and then, on Ctrl-C and on SIGTERM, and gone once it is solved."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import fields
from typing import Any

import numpy as np

from bench.errors import BenchError
from bench.evaluation.journal import Iterations, Journal, Silent
from bench.evaluation.kept import Kept
from bench.single_step.solve import Estimates, Prepared, solve
from bench.solvers.operator import on_host
from bench.solvers.pcg import State, state_bytes

EVERY = 60.0  # seconds between two checkpoints, at the least
SHARE = 0.01  # of the time that writing them may take
SLOWEST = 1e8  # bytes a second at which a disk is taken to write before it has shown


class Pace:
    """When the next checkpoint is due: after EVERY seconds, and so that writing takes no more than SHARE of them."""

    def __init__(self, journal: Journal, size: int):
        """size: bytes of a checkpoint, about."""
        self._journal = journal
        self._next = journal.elapsed + max(EVERY, size / SLOWEST / SHARE)

    def due(self) -> bool:
        return self._journal.elapsed >= self._next

    def write(self, kept: Kept, arrays: Mapping[str, np.ndarray]) -> None:
        """What cannot be written is said; the file from before is kept, and the run goes on."""
        begin = self._journal.elapsed
        try:
            kept.write(arrays)
        except (BenchError, OSError) as error:
            self._journal.say(f"this checkpoint was left out, and the run goes on: {error}")
        end = self._journal.elapsed
        self._next = end + max(EVERY, (end - begin) / SHARE)


class Checkpoint:
    """PCG's state and the history of `iterations`, in a file."""

    stopping_line = b"stopping after this step; once more to stop at once\n"

    def __init__(self, kept: Kept, journal: Journal):
        self._kept, self._journal = kept, journal
        self._last: State | None = None
        self.asked_to_stop = False

    @property
    def path(self) -> str:
        return str(self._kept.path)

    def start(self, iterations: Iterations, size: int) -> None:
        """size: bytes of a state, about."""
        self._iterations, self._pace = iterations, Pace(self._journal, size)

    def keep(self, state: State) -> None:
        """Write the state if that is due, or if the run is to stop here.

        It is held until the next one comes, which takes two vectors of memory.
        """
        self._last = state
        if self.stopping():
            self._end()
        if self._pace.due():
            self.write()

    def write(self) -> None:
        """The state that pcg ended with, or is at."""
        if self._last is None:
            return
        arrays = {field.name: _host(getattr(self._last, field.name)) for field in fields(State)}
        history = np.array(self._iterations.history[: self._last.steps + 1])
        self._pace.write(self._kept, arrays | {"history": history})

    def stopping(self) -> bool:
        """Whether the iteration ends with this state."""
        return self.asked_to_stop

    def _end(self) -> None:
        self.asked_to_stop = False
        self.write()
        if self._kept.path.exists():
            self._journal.say(f"interrupted: {self.path} is kept; give the same command with --resume to go on")
        raise KeyboardInterrupt

    @contextmanager
    def kept_on_interrupt(self) -> Iterator[None]:
        """Ctrl-C or SIGTERM end the block with its next state, which is written; a second one ends it at once.

        What ignores them goes on doing so, as what a shell starts in the background does Ctrl-C.
        """
        if threading.current_thread() is not threading.main_thread():
            yield  # no thread but that hears signals
            return
        heard = {
            of: signal.getsignal(of)
            for of in (signal.SIGINT, signal.SIGTERM)
            if signal.getsignal(of) not in (None, signal.SIG_IGN)
        }

        def stop(*_: object) -> None:
            self.asked_to_stop = True
            restore()
            with suppress(OSError):  # not print, which may be what was interrupted
                os.write(2, self.stopping_line)

        def restore() -> None:
            for of, handler in heard.items():
                signal.signal(of, handler)

        for of in heard:
            signal.signal(of, stop)
        try:
            yield
            if self.stopping():
                self._end()
        finally:
            restore()

    def read(self, *, may_differ: str | None = None) -> tuple[State, list[tuple[int, float, float]], bool]:
        """The state, the history up to it (step, ‖r‖/‖b‖, seconds), and whether `may_differ` does. BenchError: see
        Kept."""
        found, differs = self._kept.read(may_differ=may_differ)
        try:
            history = [(int(step), float(norm), float(seconds)) for step, norm, seconds in found.pop("history")]
            found["checks"] = found["checks"].item()
            state = State(**found)  # pyright: ignore[reportArgumentType]
        except (KeyError, TypeError, ValueError) as error:
            raise BenchError(f"{self.path}: the checkpoint is damaged ({error}); solve without --resume") from None
        self._journal.say(f"going on from {self.path}, after {state.steps} steps")
        return state, history, differs

    def solve(self, prepared: Prepared, target: float, max_steps: int) -> Estimates:
        """Solve to ‖r‖/‖b‖ = target, from the state in the file if there is one."""
        state, history = None, []
        if self._kept.path.exists():
            state, history, _ = self.read()
        iterations = Iterations(Silent(), target, history)
        rows, columns = prepared.system.shape
        self.start(iterations, state_bytes(rows, 1, carried=columns - rows))
        with self.kept_on_interrupt():
            return solve(
                prepared, rtol=target, max_steps=max_steps, progress=iterations, keep=self.keep, resume=state
            )

    def remove(self) -> None:
        self._kept.remove()


def _host(value: Any) -> np.ndarray:
    return on_host(value) if hasattr(value, "get") else np.asarray(value)
