"""Experiments. The folder is the registry: a module per experiment.

A module `bench.experiments.<name>` defines
    Stanza                  the keys it takes in the configuration (a bench.config.Stanza; `datasets`, where it
                            takes any, names data sets)
    VERSION                 raised when what it computes changes: its cases then run again
    cases(stanza, config)   {id: case}
    run(case, files)        the result document of one case
and workflow/rules/experiments/<name>.smk turns its cases into jobs.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from bench.errors import BenchError

WITHOUT_DATA = ("limits",)  # whose cases have no data set; here, because loading a module may load numpy


@dataclass(frozen=True)
class Files:
    """What a job reads, as paths, and how much it may use.

    dataset: manifest of the case's data set, if it has one. build, against_builds: build.json of the kernel (of
    gram, where X X' is computed) and of a paired case's native partners. reference: .npz that a GBLUP reference
    writes and its solves read. timing: keywords of `measure.repeats`. memory: bytes that may be used, None for what
    is free when the job starts. process: the number of this one, where a case is run in several.
    """

    dataset: Path = Path()
    build: Path | None = None
    against_builds: tuple[Path, ...] = ()
    oracle: Path | None = None
    limits: Path | None = None
    reference: Path | None = None
    timing: dict[str, Any] = field(default_factory=dict)
    memory: int | None = None
    process: int = 0


def names() -> list[str]:
    """Every experiment in the folder."""
    return sorted(i.name for i in pkgutil.iter_modules([str(Path(__file__).parent)]))


def load(name: str) -> ModuleType:
    """The module of experiment `name`."""
    if name not in names():
        raise BenchError(f"there is no experiment {name!r}; there are {', '.join(names())}")
    return importlib.import_module(f"bench.experiments.{name}")


def identity(case: dict[str, Any]) -> dict[str, Any]:
    """The columns that a case gives to each of its rows: what is a list or a map varies inside the job."""
    return {key: value for key, value in case.items() if not isinstance(value, list | dict)}
