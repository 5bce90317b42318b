"""What a cross-validation has of each fold, and the finished folds of one that was interrupted."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.errors import BenchError
from bench.evaluation.checkpoint import Checkpoint
from bench.evaluation.journal import Journal
from bench.evaluation.kept import Kept
from bench.models.folds import Split
from bench.models.linear_regression import LinearRegression
from bench.statistics import Interval

FOLDER = "kept"
AGAIN = "delete it to have its fold fitted again, or take another folder"


@dataclass(frozen=True)
class Outcome:
    """training: animals. steps: of PCG. shares: genetic, of each trait's variance. status: "converged" or why not."""

    training: int
    steps: int
    shares: tuple[float, ...]
    status: str


@dataclass(frozen=True)
class Fold:
    """A split that was fitted. predictions: of crossvalidation_files.PREDICTIONS, a row per animal and trait. lr: by
    trait, forward only. reason: why it could not be fitted."""

    split: Split
    outcome: Outcome | None
    predictions: pd.DataFrame
    lr: dict[str, LinearRegression]
    reason: str = ""

    @property
    def status(self) -> str:
        return self.outcome.status if self.outcome else "refused"


class KeptFolds:
    """A file per fold in the folder `kept` of a cross-validation, and the states of the solves under way.

    What is there is of this problem, or nothing of it is used: BenchError. resume: False where nothing may be there.
    """

    def __init__(self, out: Path, problem: Mapping[str, str], journal: Journal, *, resume: bool):
        self._folder, self._problem, self._journal = out / FOLDER, problem, journal
        there = sorted(self._folder.glob("*.npz"))
        if there and not resume:
            raise BenchError(
                f"{self._folder}: {len(there)} files of an interrupted cross-validation are there; give the same "
                "command with --resume to go on, or delete that folder"
            )
        for path in there:
            Kept(path, problem, AGAIN).read()  # all of them, before the first fold is fitted

    def read(self, number: int, split: Split) -> Fold | None:
        """None where that fold had not ended."""
        kept = self._of(f"fold-{number}")
        if not kept.path.exists():
            return None
        found, _ = kept.read()
        facts = json.loads(str(found["facts"]))
        outcome = facts["outcome"] | {"shares": tuple(facts["outcome"]["shares"])}
        predictions = pd.read_parquet(io.BytesIO(found["predictions"].tobytes()))
        lr = {trait: _regression(of) for trait, of in facts["lr"].items()}
        return Fold(split, Outcome(**outcome), predictions, lr)

    def write(self, number: int, fold: Fold) -> None:
        """A fold that could not be fitted is not kept: the reason may be gone."""
        if fold.outcome is None:
            return
        buffer = io.BytesIO()
        fold.predictions.to_parquet(buffer, index=False)
        lr = {trait: asdict(of) for trait, of in fold.lr.items()}
        arrays = {
            "facts": np.array(json.dumps({"outcome": asdict(fold.outcome), "lr": lr})),
            "predictions": np.frombuffer(buffer.getvalue(), np.uint8),
        }
        try:
            self._of(f"fold-{number}").write(arrays)
        except (BenchError, OSError) as error:
            self._journal.say(f"this fold is not kept, and the next one goes on: {error}")
        for solve in ("partial", "later"):
            self._of(f"{solve}-{number}").remove()

    def checkpoint(self, number: int, solve: str) -> Checkpoint:
        """Of a fold's solve: "partial", or forward in time "later"."""
        return Checkpoint(self._of(f"{solve}-{number}"), self._journal)

    def remove(self) -> None:
        for path in self._folder.glob("*.npz"):
            self._of(path.stem).remove()
        if self._folder.exists() and not any(self._folder.iterdir()):
            self._folder.rmdir()

    def _of(self, name: str) -> Kept:
        return Kept(self._folder / f"{name}.npz", self._problem, AGAIN)


def _regression(of: dict[str, Any]) -> LinearRegression:
    intervals: dict[str, Any] = {
        name: Interval(**value) if isinstance(value, dict) else value for name, value in of.items()
    }
    return LinearRegression(**intervals)
