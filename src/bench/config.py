"""The configuration: what to run. Unknown keys and impossible values are errors with a sentence."""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bench import kernels
from bench.errors import BenchError
from bench.genotypes.spec import DatasetSpec

Threads = Annotated[int, Field(ge=1)] | Literal["all"]
Count = Annotated[int, Field(ge=1)]


class Stanza(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Timing(Stanza):
    """How long each cell is timed: `least` repeats, on until `seconds`, at the `most`."""

    least: Annotated[int, Field(ge=3)] = 5
    seconds: Annotated[float, Field(gt=0)] = 0.3
    most: Annotated[int, Field(ge=3)] = 50


class Budget(Stanza):
    """What one job may use; beyond it a case becomes a refused row. Memory defaults to the machine's."""

    memory_gb: Annotated[float, Field(gt=0)] | None = None
    disk_gb: Annotated[float, Field(gt=0)] | None = None
    hours: Annotated[float, Field(gt=0)] = 12.0


class Products(Stanza):
    """Z V and Z'U: every kernel, timed after it has been verified."""

    datasets: list[str]
    dtypes: list[Literal["f4", "f8"]] = ["f8"]
    threads: list[Threads] = [1, "all"]
    k: list[Count] = [1, 10, 32]


class Scaling(Stanza):
    """The products on the first `samples` individuals of a data set: cost as n grows."""

    datasets: list[str]
    samples: list[Count]
    dtypes: list[Literal["f4", "f8"]] = ["f8"]
    threads: list[Threads] = [1]
    k: list[Count] = [10]


class Paired(Stanza):
    """Two kernels in one process, in turn: ratios that drift of the machine cannot bend."""

    datasets: list[str]
    pairs: list[tuple[str, str]]
    dtypes: list[Literal["f4", "f8"]] = ["f8"]
    threads: list[Threads] = [1]
    k: list[Count] = [10]


class Gblup(Stanza):
    """REML, EBVs, reliabilities and cross-validation; the solve through every kernel."""

    datasets: list[str]
    traits: list[str] | None = None
    relationships: list[Literal["vanraden1", "standardised"]] = ["vanraden1"]
    threads: list[Threads] = ["all"]
    folds: Annotated[int, Field(ge=2)] = 5
    rtol: Annotated[float, Field(gt=0, lt=1)] = 1e-12
    repeats: Count = 3
    eigen_max_n: Count = 6000
    inverse_max_n: Count = 6000
    cholesky_max_n: Count = 20000
    cv_reml_max_n: Count = 2000


class Experiments(Stanza):
    products: Products | None = None
    scaling: Scaling | None = None
    paired: Paired | None = None
    gblup: Gblup | None = None


class Config(Stanza):
    """The whole configuration, checked."""

    results: str = "results/main"
    compiler: str = "g++"
    compiler_flags: list[str] = []
    budget: Budget = Budget()
    timing: Timing = Timing()
    kernels: list[str]
    targets: list[str]
    experiments: Experiments
    tables: list[str]
    figures: list[str]
    datasets: dict[str, DatasetSpec]

    @model_validator(mode="after")
    def _names_exist(self) -> Config:
        for name in self.kernels:
            _known("kernel", name, kernels.names())
        declared = [kernels.load(name) for name in kernels.names()]
        targets = sorted({t for k in declared if k.native for t in k.native.targets})
        for target in self.targets:
            _known("target", target, targets)
        for name, experiment in self.experiments:
            for dataset in experiment.datasets if experiment else []:
                _known(f"data set (experiment {name})", dataset, list(self.datasets))
        for pair in self.experiments.paired.pairs if self.experiments.paired else []:
            for name in pair:
                _known("kernel (experiment paired)", name, kernels.names())
        return self


def _known(what: str, name: str, names: list[str]) -> None:
    if name not in names:
        close = difflib.get_close_matches(name, names, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"there is no {what} {name!r}; there are {', '.join(names)}{hint}")


def check(config: dict[str, Any]) -> Config:
    """Validate a configuration as read from YAML; BenchError names each key that is wrong and why."""
    try:
        return Config.model_validate(config)
    except ValidationError as errors:
        raise BenchError("config: " + "; ".join(map(_sentence, errors.errors()))) from None


def _sentence(error: Any) -> str:
    where = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        return f"unknown key `{where}`; docs/configuration.md lists the keys"
    message = error["msg"].removeprefix("Value error, ")
    return f"`{where}`: {message}" if where else message
