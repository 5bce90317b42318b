"""One run on a GPU: what is asked of it, its time, and the document that grows with every step."""

from __future__ import annotations

import math
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.errors import BenchError, DeviceLost
from bench.kernels._cuda.gpu import cupy, told
from bench.measure import CLOCK, Clock
from bench.record import Document

DOCUMENT = "gpu.json"
UNITS = {"kernel_time": "s", "copy_peak": "B/s", "int8_peak": "1/s", "device_memory": "B", "clock_sm": "1/s"}


@dataclass(frozen=True)
class Settings:
    """What is asked for; of each list the most important first.

    sizes: individuals that are timed, at `snps` SNPs. columns: k. slices: digits of gpu_2bit. checked: (n, m) of the
    products that are compared with exact ones. checked_columns, checked_slices: of these. missing: share of missing
    calls, where there are any. repeats: of a time. seconds: of the run. buffer: bytes that are copied and read for
    the bandwidth. rounds: of a micro-benchmark. others: kernels that gpu_2bit is paired with; pairs: how often.
    steps: of PCG.
    """

    sizes: tuple[int, ...] = (751_000, 102_000, 3_100_000)
    snps: int = 50_241
    columns: tuple[int, ...] = (10, 1, 32)
    slices: tuple[int, ...] = (7, 4, 6)
    checked: tuple[int, int] = (5_003, 3_001)
    checked_columns: tuple[int, ...] = (10, 1, 32)
    checked_slices: tuple[int, ...] = (7, 4, 6, 8, 3, 5)
    missing: float = 0.01
    repeats: int = 10
    seconds: float = 520.0
    buffer: int = 2 << 30
    rounds: int = 1 << 14
    others: tuple[str, ...] = ("gpu_fma", "gpu_dense")
    pairs: int = 15
    steps: int = 20
    seed: int = 1


def said(line: str) -> None:
    """Onto the terminal, at once."""
    print(line, flush=True)


@dataclass
class Session:
    """The document, what of the time is left, and what must not be asked for any more.

    wrong: targets that gave a wrong product, which are not timed. lost: why the GPU cannot be used any longer.
    """

    folder: Path
    settings: Settings
    document: Document
    clock: Clock = CLOCK
    say: Callable[[str], object] = said
    wrong: set[str] = field(default_factory=set)
    lost: str = ""
    faults: int = 0
    _begun: float = field(init=False)

    def __post_init__(self) -> None:
        self._begun = self.clock.wall()

    def left(self) -> float:
        """Seconds until the run must have ended."""
        return self.settings.seconds - (self.clock.wall() - self._begun)

    def add(self, metric: str, value: float, unit: str, **place: Any) -> None:
        self.document.add(metric, value, unit, **place)

    def refuse(self, reason: str, metric: str, *, status: str = "refused", **place: Any) -> None:
        """A row without a value that says why."""
        self.document.add(metric, math.nan, UNITS.get(metric, "1"), status=status, reason=reason, **place)
        self.say(f"  {status}: {reason}")

    def step(
        self,
        case: str,
        call: Callable[[], object],
        *,
        needs: float,
        leave: float = 0.0,
        metric: str = "kernel_time",
        **place: Any,
    ) -> bool:
        """Do one part of the run, and write what there is; whether it was done.

        case: its name, unique in the run. needs: seconds, estimated. leave: seconds that are kept for what
        follows. metric, place: of the row that says why it was
        not done. What ends it ends nothing else, unless the GPU is lost.
        """
        place = {"case": case} | place
        self.say(f"[{self.left():4.0f} s left] {case}")
        before = len(self.document.rows)
        try:
            if self.lost:
                raise BenchError(f"the GPU was lost before: {self.lost}")
            if needs + leave > self.left():
                kept = f", {leave:.0f} s of them kept for what is more important" if leave > 0 else ""
                raise BenchError(f"takes about {needs:.0f} s, {max(0, self.left()):.0f} s of the run were left{kept}")
            with told(case):
                call()
        except MemoryError as error:
            self.refuse(f"out of memory: {error}", metric, status="oom", **place)
        except DeviceLost as error:
            self.refuse(str(error), metric, **place)
            self.lost = self._gone(str(error))
        except BenchError as error:
            self.refuse(str(error), metric, **place)
        except Exception as error:  # a fault of one part; the GPU's time is for the others
            traceback.print_exc(file=sys.stderr)
            self.faults += 1
            self.refuse(f"fault of the program: {type(error).__name__}: {error}", metric, **place)
        else:
            return True
        finally:
            for row in self.document.rows[before:]:
                row.setdefault("case", case)
            self.write()
        return False

    def _gone(self, said: str) -> str:
        """`said` if the GPU does not answer any more; "" if it does."""
        try:
            with told("GPU"):
                cupy().cuda.runtime.memGetInfo()
        except BenchError:
            return said
        return ""

    def write(self) -> None:
        self.document.write(self.folder / DOCUMENT)
