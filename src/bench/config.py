"""The configuration: what to run. Unknown keys and impossible values are errors with a sentence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from bench import experiments, figures, kernels, tables
from bench.errors import BenchError, fault, meant
from bench.genotypes.spec import DatasetSpec, fault_of_entry

Threads = Annotated[int, Field(ge=1)] | Literal["all"]
Count = Annotated[int, Field(ge=1)]
Counts = Annotated[list[Count], Field(min_length=1)]
ThreadCounts = Annotated[list[Threads], Field(min_length=1)]
Dtypes = Annotated[list[Literal["f4", "f8"]], Field(min_length=1)]
Gates = Annotated[list[Literal["counts", "counters", "time"]], Field(min_length=1)]
Names = Annotated[list[str], Field(min_length=1)]
DATASET_NAME = r"[A-Za-z0-9][A-Za-z0-9_]*"


class Stanza(BaseModel):
    """A part of the configuration: an unknown key is an error, nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Timing(Stanza):
    """How long each cell is timed: `least` repeats, on until `seconds`, at the `most`; in so many fresh processes."""

    processes: Count = 1
    least: Annotated[int, Field(ge=3)] = 5
    seconds: Annotated[float, Field(gt=0)] = 0.3
    most: Annotated[int, Field(ge=3)] = 50

    @model_validator(mode="after")
    def _ordered(self) -> Timing:
        if self.least > self.most:
            raise ValueError(f"least: {self.least} repeats at the least are more than {self.most} at the most")
        return self


class Budget(Stanza):
    """What one job may use; beyond it a case becomes a refused row. Memory defaults to the machine's."""

    memory_gb: Annotated[float, Field(gt=0)] | None = None
    disk_gb: Annotated[float, Field(gt=0)] | None = None
    hours: Annotated[float, Field(gt=0)] = 12.0


class Regression(Stanza):
    """What `snakemake regression` compares; the options of `bench compare`."""

    base: str = "main"
    head: str = "."
    kernels: list[str] | None = None
    k: Counts = [1, 10, 32]
    pairs: Annotated[int, Field(ge=1)] = 15
    gates: Gates = ["counts", "counters", "time"]


class Config(Stanza):
    """The whole configuration, checked."""

    results: str = "results/main"
    node: str | None = None
    compiler: str = "g++"
    compiler_flags: list[str] = []
    budget: Budget = Budget()
    timing: Timing = Timing()
    regression: Regression = Regression()
    kernels: list[str]
    targets: list[str]
    experiments: dict[str, Any]
    tables: list[str]
    figures: list[str]
    datasets: dict[str, DatasetSpec]

    @model_validator(mode="after")
    def _names_exist(self) -> Config:
        for name in self.datasets:
            if not re.fullmatch(DATASET_NAME, name):
                raise ValueError(f"datasets: {name!r} cannot name a data set: use letters, digits and '_'")
        for name in self.kernels:
            known("kernel", name, kernels.names())
        declared = [kernels.load(name) for name in kernels.names()]
        targets = ["best", *sorted({t for k in declared if k.native for t in k.native.targets})]
        for target in self.targets:
            known("target", target, targets)
        for name, stanza in self.experiments.items():
            for dataset in getattr(stanza, "datasets", []):
                add = "; a new one is added to `datasets`"
                known(f"data set (experiment {name})", dataset, list(self.datasets), add)
        for name in self.tables:
            known("table", name, tables.names())
        for name in self.figures:
            known("figure", name, figures.names())
        return self

    @field_validator("experiments")
    @classmethod
    def _stanzas(cls, given: dict[str, Any]) -> dict[str, Stanza]:
        """Each experiment's own keys, checked by its module; an experiment set to null is left out."""
        for name in given:
            known("experiment", name, experiments.names())
        return {name: _stanza(name, keys) for name, keys in given.items() if keys is not None}


def _stanza(name: str, keys: Any) -> Stanza:
    """The keys of experiment `name`, whose errors name it."""
    try:
        return experiments.load(name).Stanza.model_validate(keys)
    except ValidationError as errors:
        named: list[Any] = [error | {"loc": (name, *error["loc"])} for error in errors.errors()]
        raise ValidationError.from_exception_data("experiments", named) from None


def read(override_files: Sequence[Path] = (), root: Path = Path()) -> Config:
    """The configuration of config/, with the files laid over it in turn as Snakemake does (maps are
    merged, lists replaced)."""
    if not (root / "config").is_dir():
        raise BenchError(f"no config/ here ({root.absolute()}): run this in the root of the checkout")
    merged: dict[str, Any] = {}
    for path in [root / "config/datasets.yaml", root / "config/config.yaml", *override_files]:
        try:
            given = yaml.safe_load(Path(path).read_text()) or {}
        except FileNotFoundError:
            raise BenchError(f"{path}: no such file") from None
        except (OSError, ValueError, yaml.YAMLError) as error:
            reason = " ".join(str(error).split())
            raise BenchError(f"{path}: cannot be read as a configuration ({reason})") from None
        if not isinstance(given, dict):
            raise BenchError(f"{path}: cannot be read as a configuration (a map of keys was needed)")
        _merge(merged, given)
    return check(merged)


def _merge(onto: dict[str, Any], given: dict[str, Any]) -> None:
    for key, value in given.items():
        if isinstance(value, dict) and isinstance(onto.get(key), dict):
            _merge(onto[key], value)
        else:
            onto[key] = value


def known(what: str, name: str, names: list[str], otherwise: str = "") -> None:
    """Raise a ValueError with what there is, and what may have been meant, unless `name` is in `names`.

    otherwise: appended, what can be done if it was meant as it stands.
    """
    if name not in names:
        raise ValueError(f"there is no {what} {name!r}; there are {', '.join(names)}{otherwise}{meant(name, names)}")


def check(config: dict[str, Any]) -> Config:
    """Validate a configuration as read from YAML; BenchError names each key that is wrong and why."""
    try:
        return Config.model_validate(config)
    except ValidationError as errors:
        raise BenchError("config: " + "; ".join(map(_sentence, errors.errors()))) from None


def _sentence(error: Any) -> str:
    keys: Iterable[str] = Config.model_fields
    match error["loc"]:
        case ("experiments", name, _):
            keys = experiments.load(name).Stanza.model_fields
        case ("budget" | "timing" | "regression" as part, _):
            keys = {"budget": Budget, "timing": Timing, "regression": Regression}[part].model_fields
        case ("datasets", name, *inside):
            return fault_of_entry(error, inside, "datasets", name)
    return fault(error, ".".join(map(str, error["loc"])), keys)
