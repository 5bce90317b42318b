"""What a data set of config/datasets.yaml may say, and what making it costs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from bench.errors import BenchError, fault

# Raised when the same entry would give other data: they are made again, with all that hangs on them.
VERSIONS = {"simulated": 1, "fetched": 1, "plink": 1}


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


DatasetSpec = Annotated[Simulated | Fetched | Plink, Field(discriminator="kind")]
_ADAPTER: TypeAdapter[Simulated | Fetched | Plink] = TypeAdapter(DatasetSpec)


KINDS: dict[Any, type[_Model]] = {"simulated": Simulated, "fetched": Fetched, "plink": Plink}


def parse_spec(spec: Any, *, name: str, source: str = "--spec") -> Simulated | Fetched | Plink:
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
    model = Trait if "traits" in place[:-1] else KINDS.get(kind, _Model)
    return fault(error, ".".join(map(str, (*above, *place))), model.model_fields)


def shares(total: int, parts: int) -> list[int]:
    """`total` split into `parts` numbers that differ by at most one, the larger ones first."""
    whole, rest = divmod(total, parts)
    return [whole + (i < rest) for i in range(parts)]
