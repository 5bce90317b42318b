"""config/claims.yaml, checked: claims, blocks of measured tables, and numbers stated with their source."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from bench import config, experiments, kernels, tables
from bench.claims.query import MEASURED, STATISTICS
from bench.collect import COLUMNS
from bench.config import Stanza, known
from bench.errors import BenchError, fault

PATH = Path("config/claims.yaml")
NAME = r"[a-z0-9_]+"
Bound = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Where = dict[str, Any]


class Query(Stanza):
    """Which rows (`where`: column → value or list of values), compared with which (`than`), and what of them."""

    statistic: str
    where: Annotated[Where, Field(min_length=1)]
    than: Where = {}
    metric: str | None = None

    @model_validator(mode="after")
    def _checked(self) -> Query:
        known("statistic", self.statistic, list(STATISTICS))
        statistic = STATISTICS[self.statistic]
        if bool(self.than) != statistic.compares:
            raise ValueError(f"the statistic {self.statistic} {'needs' if statistic.compares else 'has no'} `than`")
        if (self.metric is None) is statistic.named:
            raise ValueError(f"the statistic {self.statistic} {'needs' if statistic.named else 'has no'} `metric`")
        if self.metric:
            known("metric", self.metric, list(MEASURED))
        if "experiment" not in self.where:
            raise ValueError("where: needs `experiment`")
        for column, value in [*self.where.items(), *self.than.items()]:
            known("column", column, list(COLUMNS))
            for one in values(value):
                if column == "experiment":
                    known("experiment", one, experiments.names())
                if column in ("kernel", "against"):
                    known("kernel", one, kernels.names())
        return self


class Wanted(Stanza):
    """Bounds in the unit of the statistic: `least`, `most`, both, or `about` a value, `within` a share of it."""

    least: Bound | None = None
    most: Bound | None = None
    about: Bound | None = None
    within: Annotated[float, Field(gt=0, lt=1)] | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Wanted:
        if (self.about is None) != (self.within is None):
            raise ValueError("`about` and `within` go together")
        if (self.about is None) == (self.least is None and self.most is None):
            raise ValueError("write `least`, `most` or both, or `about` and `within`")
        if self.least and self.most and self.least > self.most:
            raise ValueError(f"least {self.least:g} is more than most {self.most:g}")
        return self

    @property
    def low(self) -> float:
        """The least that is wanted, 0 if there is no such bound."""
        return self.about * (1 - self.within) if self.about and self.within else self.least or 0.0

    @property
    def high(self) -> float:
        """The most that is wanted, infinity if there is no such bound."""
        return self.about * (1 + self.within) if self.about and self.within else self.most or float("inf")


class Claim(Stanza):
    """A sentence that states a number, and how to find out whether it is so."""

    text: str
    stands: list[str] = []  # the pages whose marks show it, besides docs/claims.md
    configuration: str  # whose run measures it
    query: Query
    over: Literal["each", "either"] = "each"  # each cell, or in one of the two directions
    wanted: Wanted
    expected: Literal["holds", "does not hold"] = "holds"
    reason: str | None = None

    @model_validator(mode="after")
    def _reason(self) -> Claim:
        if (self.reason is None) is (self.expected == "does not hold"):
            raise ValueError("`expected: does not hold` and its `reason` go together")
        return self


class Block(Stanza):
    """Rows and columns of one of the report's tables, shown on a page."""

    configuration: str
    table: str
    where: Where = {}
    columns: Annotated[list[str], Field(min_length=1)]
    across: str | None = None  # whose values head columns of their own, of the one column that is measured
    intro: str

    @model_validator(mode="after")
    def _exists(self) -> Block:
        known("table", self.table, tables.names())
        return self


class Stated(Stanza):
    """Numbers of a page, or of one section of it, that no run of a configuration gives, and where they come from."""

    page: str
    section: str | None = None
    source: str


class Elsewhere(Stanza):
    """A bar that no table of measurements can tell, and what checks it."""

    text: str
    checked: str


class Claims(Stanza):
    """The whole file."""

    claims: dict[Annotated[str, Field(pattern=f"^{NAME}$")], Claim]
    blocks: dict[Annotated[str, Field(pattern=f"^{NAME}$")], Block] = {}
    elsewhere: list[Elsewhere] = []
    stated: list[Stated] = []

    @property
    def configurations(self) -> list[str]:
        """Those that the claims name, in the order of the file."""
        return list(dict.fromkeys(c.configuration for c in [*self.claims.values(), *self.blocks.values()]))


def values(value: Any) -> list[Any]:
    """A value of `where` as a list."""
    return value if isinstance(value, list) else [value]


def read(path: Path | str = PATH, root: Path = Path()) -> Claims:
    """The checked file. BenchError for keys and names that do not exist, and for a claim that the run of its
    configuration does not measure."""
    try:
        given = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BenchError(f"{path}: no such file; run this in the root of the checkout") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise BenchError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None
    try:
        found = Claims.model_validate(given)
    except ValidationError as errors:
        raise BenchError(f"{path}: " + "; ".join(map(_sentence, errors.errors()))) from None
    configs = {name: config.read([root / name], root) for name in found.configurations}
    for name, claim in found.claims.items():
        if lacks := unmeasured(claim, configs[claim.configuration]):
            raise BenchError(
                f"{path}: `claims.{name}`: {claim.configuration} {lacks}, so its run cannot measure this"
            )
    return found


def unmeasured(claim: Claim, config: config.Config) -> str | None:
    """What the claim's rows need that the configuration lacks; None if it lacks nothing."""
    for where in (claim.query.where, claim.query.where | claim.query.than):
        for experiment in values(where["experiment"]):
            stanza = config.experiments.get(experiment)
            if stanza is None:
                return f"has no experiment {experiment}"
            pairs = getattr(stanza, "pairs", None)
            offered = {
                "dataset": getattr(stanza, "datasets", None),
                "k": getattr(stanza, "k", None),
                "dtype": getattr(stanza, "dtypes", None),
                "method": getattr(stanza, "methods", None),
                "relationship": getattr(stanza, "relationships", None),
                "kernel": [one for pair in pairs for one in pair]
                if pairs
                else getattr(stanza, "kernels", None) or config.kernels,
                "against": [one for pair in pairs for one in pair[1:]] if pairs else [],
            }
            for column, names in offered.items():
                for one in values(where[column]) if names is not None and column in where else []:
                    if one not in names:
                        return f"has no {column} {one} in its experiment {experiment}"
    return None


def _sentence(error: Any) -> str:
    keys: Iterable[str] = Claims.model_fields
    match error["loc"]:
        case ("claims", _, "query", *_):
            keys = Query.model_fields
        case ("claims", _, "wanted", *_):
            keys = Wanted.model_fields
        case ("claims", *_):
            keys = Claim.model_fields
        case ("blocks", *_):
            keys = Block.model_fields
        case ("elsewhere", *_):
            keys = Elsewhere.model_fields
        case ("stated", *_):
            keys = Stated.model_fields
    return fault(error, ".".join(map(str, error["loc"])), keys).replace("docs/configuration.md", "docs/claims.md")
