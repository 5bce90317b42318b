"""The model file: what a breeder says about an evaluation, in YAML (docs/models.md)."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, model_validator

from bench.errors import BenchError, fault, meant
from bench.models.variances import MATERNAL_PERMANENT, PERMANENT, Variances, covariance

KIND = re.compile(r"class|covariate(?: within (?P<within>\S+))?")
NEEDED_KIND = "`class`, `covariate` or `covariate within COLUMN`"


def _beside_the_file(path: Path, info: ValidationInfo) -> Path:
    return Path(info.context or ".") / path


File = Annotated[Path, AfterValidator(_beside_the_file)]
Columns = Annotated[tuple[str, ...], Field(min_length=1)]


class _Stanza(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PedigreeFile(_Stanza):
    """The pedigree, and what stands for its unknown parents."""

    file: File
    selfing: bool = False
    groups: tuple[str, ...] = ()
    group_effect: Literal["fixed", "random"] = "fixed"
    metafounders: File | None = None

    @model_validator(mode="after")
    def _one_kind_of_group(self) -> PedigreeFile:
        if self.metafounders and (self.groups or self.group_effect == "random"):
            raise ValueError("metafounders are named by their file: leave out groups and group_effect")
        return self


class GenotypeFiles(_Stanza):
    """PLINK's .bed, .bim and .fam, which SNPs of them, and what they are centred and weighted by."""

    plink: File
    min_maf: Annotated[float, Field(ge=0, lt=0.5)] = 0.01
    frequencies: File | None = None
    weights: File | None = None


class Relationship(_Stanza):
    """What relationships the genotypes make. theta: the width of the Gaussian kernel."""

    kind: Literal["vanraden1", "vanraden2", "standardised", "gaussian"] = "vanraden1"
    theta: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0

    @property
    def linear(self) -> bool:
        """Whether breeding values are sums of SNP effects."""
        return self.kind != "gaussian"


class SingleStep(_Stanza):
    """How genotypes and pedigree are brought together, and how the equations are solved."""

    polygenic: Annotated[float, Field(ge=0, lt=1)] = 0.05
    tuning: Literal["none", "vitezica", "chen", "vanraden", "blupf90"] = "none"
    variant: str = "prior_pcg"
    preconditioner: str | None = None
    tolerance: Annotated[float, Field(gt=0, lt=1)] = 1e-10


class Maternal(_Stanza):
    """A genetic effect of the dam on her offspring's records."""

    dam: str | None = None
    permanent: bool = False


class Output(_Stanza):
    """What is computed beside the breeding values."""

    reliability: Literal["none", "exact", "sampled"] = "none"


class Effect(_Stanza):
    """A fixed effect of a trait. within: the class that a covariate is nested in."""

    column: str
    kind: Literal["class", "covariate"]
    within: str | None = None

    @property
    def name(self) -> str:
        return f"{self.column} within {self.within}" if self.within else self.column


class Model(_Stanza):
    """A model file, checked. Paths start at its folder."""

    records: File
    animal: str = "id"
    traits: Columns
    fixed: dict[str, Any] = {}
    random: dict[str, Literal["class"]] = {}
    permanent: bool = False
    maternal: Maternal | None = None
    weights: str | dict[str, str] | None = None
    pedigree: PedigreeFile | None = None
    genotypes: GenotypeFiles | None = None
    relationship: Relationship = Relationship()
    single_step: SingleStep = SingleStep()
    variances: dict[str, Any]
    output: Output = Output()

    @model_validator(mode="after")
    def _fits_together(self) -> Model:
        if twice := sorted({t for t in self.traits if self.traits.count(t) > 1}):
            raise ValueError(f"traits: {', '.join(twice)} stands there twice")
        for trait in self.traits:
            self.effects(trait)
        if self._by_trait:
            self._are_traits("fixed", self.fixed)
        if isinstance(self.weights, dict):
            self._are_traits("weights", self.weights)
        for name in self.random:
            if name in ("genetic", "residual", PERMANENT, MATERNAL_PERMANENT):
                raise ValueError(f"random: an effect cannot have the name {name!r}, which is taken")
            if any(effect.name == name and effect.kind == "class" for t in self.traits for effect in self.effects(t)):
                raise ValueError(
                    f"random: {name!r} is a fixed effect as well, which leaves nothing to it; take one off"
                )
        self._fits_pedigree()
        assert self.covariances
        return self

    def _fits_pedigree(self) -> None:
        """What needs a pedigree has one, and what it cannot go with is not there."""
        if self.genotypes is None and "relationship" in self.model_fields_set:
            raise ValueError("relationship: it is that of genotypes, and the model has none; take it off")
        if self.pedigree is not None:
            if not self.relationship.linear:
                raise ValueError(
                    f"relationship.kind: {self.relationship.kind} goes without a pedigree; take one of them off"
                )
            if self.pedigree.metafounders and "kind" in self.relationship.model_fields_set:
                raise ValueError("relationship.kind: metafounders have a coding of their own; take it off")
            return
        if self.genotypes is None:
            raise ValueError("the model has neither a `pedigree` nor `genotypes`, and needs one of them or both")
        for key, nothing in (("polygenic", 0), ("tuning", "none")):
            if key in self.single_step.model_fields_set and getattr(self.single_step, key) != nothing:
                raise ValueError(f"single_step.{key}: it is about the pedigree, and the model has none; take it off")
        if self.maternal and self.maternal.dam is None:
            raise ValueError("maternal.dam: without a pedigree it has to name a column of the records")

    @property
    def polygenic(self) -> float:
        """The share of A in the relationships of the genotyped; 0 without a pedigree."""
        return self.single_step.polygenic if self.pedigree else 0.0

    def _are_traits(self, key: str, names: dict[str, Any]) -> None:
        for name in names:
            if name not in self.traits:
                there = ", ".join(self.traits)
                raise ValueError(f"{key}: there is no trait {name!r}; there are {there}{meant(name, self.traits)}")

    @property
    def _by_trait(self) -> bool:
        return any(isinstance(value, dict) for value in self.fixed.values())

    def effects(self, trait: str) -> tuple[Effect, ...]:
        """The fixed effects of a trait, in the order of the file; the intercept is not among them."""
        stated = self.fixed.get(trait, {}) if self._by_trait else self.fixed
        if not isinstance(stated, dict):
            raise ValueError(f"fixed: {trait!r}: a map of effects was needed, as the other traits have")
        found = []
        for column, kind in stated.items():
            match = KIND.fullmatch(str(kind))
            if not match:
                raise ValueError(f"fixed: {column!r} is {kind!r}, needed {NEEDED_KIND}")
            found.append(
                Effect(column=column, kind="class" if match[0] == "class" else "covariate", within=match["within"])
            )
        return tuple(found)

    def weight_column(self, trait: str) -> str | None:
        """The column of a trait's weights; None where every record counts the same."""
        return self.weights.get(trait) if isinstance(self.weights, dict) else self.weights

    @property
    def components(self) -> tuple[str, ...]:
        """The genetic effects of an animal: of the traits, then their maternal ones."""
        return self.traits + (tuple(f"{t} (maternal)" for t in self.traits) if self.maternal else ())

    @cached_property
    def covariances(self) -> Variances:
        """The variances as matrices. ValueError names the one that cannot be."""
        needed = {"genetic": self.components, "residual": self.traits} | dict.fromkeys(self.random, self.traits)
        if self.permanent:
            needed[PERMANENT] = self.traits
        if self.maternal and self.maternal.permanent:
            needed[MATERNAL_PERMANENT] = self.traits
        if absent := [name for name in needed if name not in self.variances]:
            raise ValueError(f"variances: needs the key `{absent[0]}`")
        for name in self.variances:
            if name not in needed:
                there = ", ".join(needed)
                raise ValueError(f"variances: the model has no effect {name!r}; it has {there}{meant(name, needed)}")
        found = {name: covariance(name, self.variances[name], labels) for name, labels in needed.items()}
        return Variances(found.pop("genetic"), found.pop("residual"), found)


def read_model(path: Path | str) -> Model:
    """The model of a YAML file. BenchError names each key that is wrong, what there is, and what is needed."""
    path = Path(path)
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise BenchError(f"{path}: cannot be read as a model file ({reason})") from None
    if not isinstance(given, dict):
        raise BenchError(f"{path}: cannot be read as a model file (a map of keys was needed)")
    try:
        return Model.model_validate(given, context=path.parent)
    except ValidationError as errors:
        raise BenchError(f"{path}: " + "; ".join(_sentence(error) for error in errors.errors())) from None


def _sentence(error: Any) -> str:
    *above, key = error["loc"] or ("",)
    keys = _stanza(above[0] if above else None).model_fields
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"unknown key `{where}`; there are {', '.join(keys)}{meant(str(key), keys)}"
    return fault(error, where, keys)


def _stanza(key: Any) -> type[BaseModel]:
    """The model of what stands below a key; the whole one for None."""
    kind = Model.model_fields[key].annotation if key in Model.model_fields else Model
    kinds = (kind, *get_args(kind))
    return next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), Model)
