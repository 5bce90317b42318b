"""The parts of a breeding scheme that a livestock entry may name: breeds, lines of plants, who is genotyped."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Breeds(_Part):
    """Several breeds: founders whose populations parted `split` generations ago, and how much is crossed since."""

    shares: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=2, max_length=20, description="of founders")
    split: float = Field(gt=0, description="generations before the founders that the breeds have one history")
    crossing: float = Field(default=0.0, ge=0, lt=1, description="share of purebred dams mated to another breed")

    def portions(self, total: int) -> list[int]:
        """`total` divided by `shares`, each portion rounded down and the rest given to the first ones."""
        whole = [int(total * share / sum(self.shares)) for share in self.shares]
        return [part + (at < total - sum(whole)) for at, part in enumerate(whole)]


class Lines(_Part):
    """A plant breeder's cycle: inbred parents are crossed in pairs, and inbred lines are made of each F1 plant."""

    parents: int = Field(ge=2, description="inbred lines that the first cycle starts from: the first cohort")
    crosses: int = Field(ge=1, description="in a cycle, each with one F1 plant")
    per_cross: int = Field(ge=1, description="lines of each cross")
    selfing: int | None = Field(default=None, ge=1, le=20, description="generations by single-seed descent")
    cycles: int = Field(default=1, ge=1)

    def cohort_sizes(self) -> list[int]:
        """Of the parents, then of each cycle's F1 plants and each generation of its lines (one if doubled)."""
        cycle = [self.crosses, *[self.crosses * self.per_cross] * (self.selfing or 1)]
        return [self.parents, *cycle * self.cycles]

    def finished(self) -> list[int]:
        """The cohorts of finished lines, the founding parents included."""
        length = 1 + (self.selfing or 1)
        return [cycle * length for cycle in range(self.cycles + 1)]

    def inbreeding(self) -> float:
        """Of a finished line of unrelated parents: 1 − (1/2)^selfing; 1 for a doubled haploid."""
        return 1.0 if self.selfing is None else 1 - 0.5**self.selfing


class GenotypedShare(_Part):
    """Of the animals of a sex and of some ages, the share that is genotyped."""

    share: float = Field(gt=0, le=1)
    sex: Literal["male", "female", "both"] = "both"
    ages: tuple[int, int] = Field(description="first and last age in cohorts; the youngest cohort has age 0")

    @model_validator(mode="after")
    def _in_order(self) -> GenotypedShare:
        if not 0 <= self.ages[0] <= self.ages[1]:
            raise ValueError(f"ages: {list(self.ages)} are not a first and a last age from 0 on")
        return self

    def sexes(self) -> tuple[int, ...]:
        """The codes of the sexes in a pedigree."""
        return {"male": (1,), "female": (2,), "both": (1, 2)}[self.sex]


def sex_sizes(cohort: int) -> dict[int, int]:
    """How many males (1) and females (2) a cohort of so many animals has."""
    return {1: cohort // 2, 2: cohort - cohort // 2}


def genotyped_counts(shares: tuple[GenotypedShare, ...], cohorts: list[int]) -> dict[tuple[int, int], int]:
    """{(cohort, sex): how many are genotyped}; ValueError where two shares are of the same animals.

    cohorts: their sizes, the oldest first.
    """
    found: dict[tuple[int, int], int] = {}
    for at, group in enumerate(shares):
        if group.ages[1] >= len(cohorts):
            raise ValueError(
                f"genotyped_shares.{at}: ages up to {group.ages[1]}, the oldest of {len(cohorts)} cohorts has the "
                f"age {len(cohorts) - 1}"
            )
        for age in range(group.ages[0], group.ages[1] + 1):
            cohort = len(cohorts) - 1 - age
            for sex in group.sexes():
                if (cohort, sex) in found:
                    raise ValueError(f"genotyped_shares.{at}: animals of age {age} are in an earlier share already")
                found[cohort, sex] = round(group.share * sex_sizes(cohorts[cohort])[sex])
    return found
