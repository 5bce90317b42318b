"""What a reference and a solve share: the document, its rows, the records of a trait, the exact solution's file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from bench import measure
from bench.errors import BenchError
from bench.genotypes.dataset import Dataset
from bench.genotypes.packed import PackedGenotypes
from bench.models.gblup import Records
from bench.plan import Case
from bench.record import Document, atomic_path

T = TypeVar("T")


@dataclass(frozen=True)
class Reference:
    """The exact solution. reason: why there is none; the arrays are then empty.

    b: (p,). ebv, reliability (NaN where not computed): (n,). effects: (m,) on the scale of W.
    """

    lam: float
    b: np.ndarray
    ebv: np.ndarray
    effects: np.ndarray
    reliability: np.ndarray
    reason: str = ""

    @classmethod
    def refused(cls, reason: str) -> Reference:
        none = np.empty(0)
        return cls(float("nan"), none, none, none, none, reason)

    def write(self, path: Path) -> None:
        with atomic_path(path) as tmp, tmp.open("wb") as file:
            np.savez(file, allow_pickle=False, **{name: np.asarray(value) for name, value in vars(self).items()})

    @classmethod
    def read(cls, path: Path) -> Reference:
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {f.name: file[f.name] for f in fields(cls)}
        except (OSError, KeyError, ValueError, EOFError) as error:
            raise BenchError(f"{path}: not a GBLUP reference ({error}); delete it and run again") from None
        return cls(**arrays | {"lam": float(arrays["lam"]), "reason": str(arrays["reason"])})


@dataclass(frozen=True)
class Session:
    """What the steps of a case share."""

    doc: Document
    case: Case
    dataset: Dataset
    packed: PackedGenotypes
    records: Records

    def timed(self, metric: str, phase: str, call: Callable[[], T]) -> T:
        """Run a step; its wall time is a row."""
        made: list[T] = []
        took = measure.once(lambda: made.append(call()))
        self.doc.add(metric, took.wall, "s", phase=phase)
        return made[0]

    def number(self, metric: str, value: float, phase: str, **place: Any) -> None:
        self.doc.add(metric, value, "1", phase=phase, **place)

    def skipped(self, metric: str, phase: str, reason: str) -> None:
        """A row that says why a step was not done."""
        self.doc.add(metric, float("nan"), "s", phase=phase, status="refused", reason=reason)


def records_of(dataset: Dataset, trait: str) -> Records:
    table = dataset.phenotypes()
    if trait not in table:
        raise BenchError(f"{dataset.name}: there is no trait {trait!r}; there are {', '.join(table.columns)}")
    return Records.of(table[trait].to_numpy(float), name=f"{dataset.name}, trait {trait}")


def relative(found: np.ndarray, wanted: np.ndarray) -> float:
    """The largest difference, relative to the largest wanted element."""
    return float(np.abs(found - wanted).max() / max(np.abs(wanted).max(), np.finfo(float).tiny))
