"""What a data set of config/datasets.yaml may say, and what making it costs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    model_serializer,
    model_validator,
)

from bench.errors import BenchError, fault
from bench.genotypes.schemes import Breeds, GenotypedShare, Lines, genotyped_counts

# Raised when the same entry would give other data: they are made again, with all that hangs on them.
VERSIONS = {"simulated": 1, "livestock": 1, "fetched": 1, "plink": 1}


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Trait(_Model):
    """A quantitative trait: additive, normal effects, phenotypic variance 1."""

    name: str = Field(default="trait", pattern=r"^[A-Za-z][A-Za-z0-9_.-]*$")
    h2: float = Field(default=0.4, gt=0, lt=1, description="variance of the breeding values")
    n_qtl: int = Field(default=500, ge=1)
    missing_records: float = Field(default=0.0, ge=0, lt=1, description="share of individuals without a record")


class Simulated(_Model):
    """A population with a pedigree, a SNP panel and traits, drawn from `seed` alone.

    The genotyped are the last `genotyped_generations` generations ("all": founders included), n_samples in
    number and split evenly; an ungenotyped generation is as large as the largest genotyped one.
    """

    kind: Literal["simulated"]
    n_samples: int = Field(ge=2)
    n_snps: int = Field(ge=1)
    chromosomes: int = Field(default=5, ge=1, le=99)
    chromosome_length: int = Field(default=100_000_000, ge=1_000_000, description="base pairs; 1 cM a Mb")
    founders: int = Field(default=400, ge=4)
    generations: int = Field(default=5, ge=1, description="generations after the founders")
    genotyped_generations: int | Literal["all"] = "all"
    sires_per_generation: int = Field(default=20, ge=1)
    sire_accuracy: float = Field(default=0.7, gt=0, le=1, description="correlation of EBV and breeding value")
    min_maf: float = Field(default=0.01, ge=0, lt=0.5)
    missing_rate: float = Field(default=0.0, ge=0, lt=1)
    seed: int = Field(default=1, ge=0)
    traits: tuple[Trait, ...] = Field(default=(Trait(),), min_length=1)

    @model_validator(mode="after")
    def _possible(self) -> Simulated:
        if self.n_snps < self.chromosomes:
            raise ValueError(f"n_snps: {self.n_snps} SNPs cannot be spread over {self.chromosomes} chromosomes")
        if len({t.name for t in self.traits}) < len(self.traits):
            raise ValueError("traits: two traits have the same name")
        g = self.genotyped_generations
        if g != "all" and not 1 <= g <= self.generations:
            raise ValueError(f'genotyped_generations: {g} is not "all" or in 1..{self.generations}')
        if g == "all" and self.n_samples < self.founders + self.generations:
            raise ValueError(
                f"n_samples: {self.n_samples} do not hold {self.founders} founders and {self.generations} "
                "generations; lower founders, or genotype only the last generations"
            )
        smallest = min(self.generation_sizes())
        if smallest < 2 * self.sires_per_generation:
            raise ValueError(
                f"sires_per_generation: {self.sires_per_generation} sires need generations of at least "
                f"{2 * self.sires_per_generation} individuals, the smallest has {smallest}; lower it, "
                "founders or generations, or raise n_samples"
            )
        return self

    def generation_sizes(self) -> list[int]:
        """The number of individuals of generation 0 (the founders), 1, …, generations."""
        g = self.genotyped_generations
        if g == "all":
            return [self.founders, *shares(self.n_samples - self.founders, self.generations)]
        last = shares(self.n_samples, g)
        return [self.founders, *[last[0]] * (self.generations - g), *last]

    def chromosome_snps(self) -> list[int]:
        """SNPs of the panel on each chromosome."""
        return shares(self.n_snps, self.chromosomes)

    def chromosome_qtl(self) -> list[int]:
        """QTL on each chromosome, those of all traits together."""
        return shares(sum(t.n_qtl for t in self.traits), self.chromosomes)


class RecordedTrait(_Model):
    """A trait of variance 1: breeding value, permanent environment and residual; beside them are fixed effects."""

    name: str = Field(default="trait", pattern=r"^[A-Za-z][A-Za-z0-9_.-]*$")
    h2: float = Field(default=0.3, gt=0, lt=1, description="variance of the founders' breeding values")
    pe: float = Field(default=0.0, ge=0, lt=1, description="variance of the permanent environment")
    mean: float = 0.0
    herd_year_sd: float = Field(default=0.5, ge=0, description="standard deviation of the herd-years' effects")
    age_effect: float = Field(default=0.1, description="change of the record by a cohort's time of age")
    missing: float = Field(default=0.0, ge=0, lt=1, description="share of the records that lack this trait")

    @model_validator(mode="after")
    def _leaves_residual(self) -> RecordedTrait:
        if self.h2 + self.pe >= 1:
            raise ValueError(f"h2 + pe is {self.h2 + self.pe:g}; it must leave a residual, so be below 1")
        return self


Correlations = tuple[tuple[float, ...], ...]


class Livestock(_Model):
    """A large pedigree of which a part is genotyped and a part has records, drawn from `seed` alone.

    Every cohort has as many animals, but for `lines`. `genotyped` of the last `genotyped_cohorts` are genotyped, and
    with `genotype_sires` those animals' sires among them; or the shares that `genotyped_shares` says.
    """

    kind: Literal["livestock"]
    animals: int = Field(ge=20, description="of the pedigree")
    genotyped: int | None = Field(default=None, ge=2)
    n_snps: int = Field(ge=1)
    mating: Literal["dairy", "beef", "random", "lines"] = "dairy"
    cohorts: int = Field(default=10, ge=2)
    herds: int = Field(default=60, ge=1)
    sires: int = Field(default=60, ge=1, description="males in service in a cohort's time")
    sire_accuracy: float | None = Field(default=None, gt=0, le=1, description="null: sires are drawn at random")
    unknown_parents: float = Field(default=0.0, ge=0, lt=1, description="share of parents that are not recorded")
    groups: int = Field(default=0, ge=0, le=99, description="unknown-parent groups, by cohort")
    genotyped_cohorts: int = Field(default=3, ge=1)
    genotype_sires: bool = False
    chromosomes: int = Field(default=30, ge=1, le=99)
    chromosome_length: int = Field(default=100_000_000, ge=1_000_000, description="base pairs; 1 cM a Mb")
    founders: int = Field(default=500, ge=4, description="individuals whose haplotypes the founder gametes mix")
    min_maf: float = Field(default=0.05, ge=0, lt=0.5, description="among the haplotypes of the founders")
    n_qtl: int = Field(default=600, ge=1, description="of all traits together")
    polygenic: float = Field(default=0.0, ge=0, lt=1, description="share of genetic variance that no QTL explains")
    recorded: float = Field(default=0.6, gt=0, le=1, description="share with records, of those that may have some")
    recorded_sex: Literal["both", "female"] = "both"
    validation_cohorts: int = Field(default=1, ge=0, description="the youngest ones, which have no records")
    repeats: int = Field(default=1, ge=1, description="an animal has 1 to so many records")
    weights: bool = Field(default=False, description="records are means of 1 to 5 measurements")
    traits: tuple[RecordedTrait, ...] = Field(default=(RecordedTrait(),), min_length=1)
    genetic_correlations: Correlations | None = None
    residual_correlations: Correlations | None = None
    seed: int = Field(default=1, ge=0)
    selection: dict[str, float] | None = Field(default=None, description="weight of each trait's EBV")
    breeds: Breeds | None = None
    lines: Lines | None = None
    genotyped_shares: tuple[GenotypedShare, ...] | None = Field(default=None, min_length=1)

    @model_serializer(mode="wrap")
    def _without_what_is_not_used(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Entries that say none of it are written, and known by hashes of what is written, as they were without it.
        entry = write(self)
        later = ("selection", "breeds", "lines", "genotyped_shares", "genotyped")
        return {key: value for key, value in entry.items() if value is not None or key not in later}

    @model_validator(mode="after")
    def _possible(self) -> Livestock:
        self._possible_scheme()
        self._possible_genotyped()
        smallest = min(self.cohort_sizes())
        if self.n_snps < self.chromosomes:
            raise ValueError(f"n_snps: {self.n_snps} SNPs cannot be spread over {self.chromosomes} chromosomes")
        if len({t.name for t in self.traits}) < len(self.traits):
            raise ValueError("traits: two traits have the same name")
        if taken := {t.name for t in self.traits} & set(RECORD_COLUMNS):
            raise ValueError(f"traits: {min(taken)!r} is the name of another column of the records")
        if self.mating != "lines" and smallest < 4 * self.sires:
            raise ValueError(
                f"sires: {self.sires} sires need cohorts of at least {4 * self.sires} animals, the smallest has "
                f"{smallest}; lower sires or cohorts, or raise animals"
            )
        if self.mating == "beef" and self.sires < self.herds:
            raise ValueError(f"sires: {self.sires} cannot serve {self.herds} herds, each bull serves one of them")
        if self.validation_cohorts >= self.cohorts:
            raise ValueError(f"validation_cohorts: {self.validation_cohorts} of {self.cohorts} leave no records")
        if self.repeats == 1 and any(t.pe for t in self.traits):
            raise ValueError("repeats: 1 record an animal shows no permanent environment; raise it, or set pe: 0")
        if self.n_qtl < self.chromosomes:
            raise ValueError(f"n_qtl: {self.n_qtl} QTL cannot be spread over {self.chromosomes} chromosomes")
        for key in ("genetic_correlations", "residual_correlations"):
            _check_correlations(key, getattr(self, key), len(self.traits))
        return self

    def _possible_genotyped(self) -> None:
        if (self.genotyped is None) == (self.genotyped_shares is None):
            raise ValueError("genotyped: give either how many are genotyped, or genotyped_shares")
        if self.genotyped_shares is not None:
            if self.genotype_sires or self.mating == "lines":
                raise ValueError(
                    "genotyped_shares: cannot be joined with genotype_sires or with lines; leave one out"
                )
            if self.n_samples < 2:
                raise ValueError(f"genotyped_shares: {self.n_samples} animals in all; needed two at the least")
            return
        sizes, last = self.cohort_sizes(), len(self.cohort_sizes()) - self.genotyped_cohorts
        available = sum(sizes[cohort] for cohort in self.finished_cohorts() if cohort >= last)
        if self.n_samples > available:
            raise ValueError(
                f"genotyped: {self.genotyped} animals, the last {self.genotyped_cohorts} cohorts have {available}"
            )

    def _possible_scheme(self) -> None:
        if (self.mating == "lines") != (self.lines is not None):
            raise ValueError("lines: needed with `mating: lines`, and only there")
        if self.lines is not None:
            sizes = self.lines.cohort_sizes()
            if (self.animals, self.cohorts) != (sum(sizes), len(sizes)):
                raise ValueError(
                    f"lines: make {sum(sizes)} plants in {len(sizes)} cohorts, the entry says animals: "
                    f"{self.animals} and cohorts: {self.cohorts}"
                )
            if not 2 <= self.sires <= min(self.lines.parents, self.lines.crosses * self.lines.per_cross):
                raise ValueError(f"sires: {self.sires} parents of crosses, needed 2 to as many lines as there are")
            without = {"unknown_parents": 0, "polygenic": 0, "sire_accuracy": None, "genotype_sires": False}
            for key, needed in (without | {"breeds": None}).items():
                if getattr(self, key) != needed:
                    raise ValueError(f"{key}: {getattr(self, key)!r} is not simulated for lines; leave it out")
            if self.recorded_sex != "both":
                raise ValueError("recorded_sex: plants of lines are of both sexes; leave it out")
        if self.selection is not None:
            if self.sire_accuracy is not None:
                raise ValueError("selection: give either selection or sire_accuracy")
            if absent := sorted(set(self.selection) - {trait.name for trait in self.traits}):
                raise ValueError(f"selection: there is no trait {absent[0]!r}")
            if not self.selection or not all(map(np.isfinite, self.selection.values())):
                raise ValueError("selection: needed a finite weight for one trait at the least")
        if self.breeds is not None:
            if self.founders < 2 * len(self.breeds.shares):
                raise ValueError(f"founders: {self.founders} for {len(self.breeds.shares)} breeds, needed two each")
            fewest = min(self.breeds.portions(self.sires))
            needed = self.herds if self.mating == "beef" else 1
            if fewest < needed:
                raise ValueError(f"sires: a breed gets {fewest} of {self.sires}, needed {needed}; raise sires")

    @property
    def n_samples(self) -> int:
        """The number of genotyped, as the other kinds call it."""
        if self.genotyped_shares is not None:
            return sum(genotyped_counts(self.genotyped_shares, self.cohort_sizes()).values())
        assert self.genotyped is not None
        return self.genotyped

    def cohort_sizes(self) -> list[int]:
        """The number of animals of cohort 0 (the founders), 1, …"""
        return self.lines.cohort_sizes() if self.lines is not None else shares(self.animals, self.cohorts)

    def finished_cohorts(self) -> list[int]:
        """The cohorts whose animals may have records and genotypes: all; of lines not the plants on the way."""
        return self.lines.finished() if self.lines is not None else list(range(self.cohorts))

    def chromosome_snps(self) -> list[int]:
        """SNPs of the panel on each chromosome."""
        return shares(self.n_snps, self.chromosomes)

    def chromosome_qtl(self) -> list[int]:
        """QTL on each chromosome."""
        return shares(self.n_qtl, self.chromosomes)


RECORD_COLUMNS = ("id", "herd_year", "age", "weight")  # of the table of records, before the traits


def _check_correlations(key: str, matrix: Correlations | None, traits: int) -> None:
    if matrix is None:
        return
    if [len(row) for row in matrix] != [traits] * traits:
        raise ValueError(f"{key}: needed {traits} rows of {traits} numbers, one of each for every trait")
    R = np.array(matrix)
    if not (np.isfinite(R).all() and (R == R.T).all() and (np.diag(R) == 1).all()):
        raise ValueError(f"{key}: not a symmetric matrix with ones on its diagonal")
    if (lowest := np.linalg.eigvalsh(R)[0]) < 1e-8:
        raise ValueError(f"{key}: not positive definite, its lowest eigenvalue is {lowest:.2g}")


class Fetched(_Model):
    """A public data set, used only if its file has this sha256."""

    kind: Literal["fetched"]
    reader: Literal["wheat", "mice"]
    url: str = Field(pattern=r"^https://")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    file: str = Field(description="where the file lies in the folder that BENCH_DATA names")


class Plink(_Model):
    """A user's own genotypes: `prefix`.bed/.bim/.fam, or the three files by name."""

    kind: Literal["plink"]
    prefix: Path | None = None
    bed: Path | None = None
    bim: Path | None = None
    fam: Path | None = None
    phenotypes: Path
    pedigree: Path | None = None

    @model_validator(mode="after")
    def _named_once(self) -> Plink:
        if self.prefix is not None and self.prefix.suffix in (".bed", ".bim", ".fam"):
            raise ValueError(f"prefix: {self.prefix} is one file; give {self.prefix.with_suffix('')}, for all three")
        named = [self.bed, self.bim, self.fam]
        if self.prefix is not None and any(named):
            raise ValueError("prefix: give either prefix or bed, bim and fam")
        if self.prefix is None and not all(named):
            raise ValueError("prefix: missing; give prefix, or all of bed, bim and fam")
        return self

    def files(self) -> tuple[Path, Path, Path]:
        """The .bed, .bim and .fam file."""
        if self.prefix is not None:
            bed, bim, fam = (Path(f"{self.prefix}.{suffix}") for suffix in ("bed", "bim", "fam"))
            return bed, bim, fam
        assert self.bed is not None
        assert self.bim is not None
        assert self.fam is not None
        return self.bed, self.bim, self.fam


Spec = Simulated | Livestock | Fetched | Plink
DatasetSpec = Annotated[Spec, Field(discriminator="kind")]
_ADAPTER: TypeAdapter[Spec] = TypeAdapter(DatasetSpec)


KINDS: dict[Any, type[_Model]] = {"simulated": Simulated, "livestock": Livestock, "fetched": Fetched, "plink": Plink}


def parse_spec(spec: Any, *, name: str, source: str = "--spec") -> Spec:
    """Validate the entry `name` of `source`; BenchError names every key that is wrong, and how."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_]*", name):
        raise BenchError(f"{source}: {name!r} cannot name a data set: use letters, digits and '_'")
    try:
        return _ADAPTER.validate_python(spec)
    except ValidationError as error:
        faults = "; ".join(fault_of_entry(e, e["loc"]) for e in error.errors(include_url=False))
        raise BenchError(f"{source}: data set {name!r}: {faults}") from None


def fault_of_entry(error: Any, inside: Sequence[int | str], *above: str) -> str:
    """A sentence for an error of an entry. inside: its place there, which pydantic begins with the kind."""
    kind, *place = inside or [None]
    trait = RecordedTrait if kind == "livestock" else Trait
    parts = {"traits": trait, "breeds": Breeds, "lines": Lines, "genotyped_shares": GenotypedShare}
    model = next((parts[key] for key in place[:-1] if key in parts), KINDS.get(kind, _Model))
    return fault(error, ".".join(map(str, (*above, *place))), model.model_fields)


def shares(total: int, parts: int) -> list[int]:
    """`total` split into `parts` numbers that differ by at most one, the larger ones first."""
    whole, rest = divmod(total, parts)
    return [whole + (i < rest) for i in range(parts)]
