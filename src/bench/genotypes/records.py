"""Breeding values and records of a livestock population."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from bench.errors import BenchError
from bench.genotypes.genedrop import Family
from bench.genotypes.pedigree import FEMALE, seed_for
from bench.genotypes.spec import RECORD_COLUMNS, Correlations, Livestock

FIRST_RECORD = 2.0  # age at an animal's first record, in cohorts
AGE_SD = 0.2
MEASUREMENTS = 5  # a record is the mean of up to so many, with `weights`


@dataclass(frozen=True)
class Scale:
    """What makes raw values those of the specification: (raw − shift) @ factor. shift (t,), factor (t, t)."""

    shift: np.ndarray
    factor: np.ndarray

    @classmethod
    def of(cls, raw: np.ndarray, covariance: np.ndarray) -> Scale:
        """So that the rows `raw`, (n, t), get the mean 0 and exactly `covariance`, (t, t)."""
        centred = raw - raw.mean(axis=0)
        found = centred.T @ centred / len(raw)
        try:
            # Where found = F F′ and covariance = C C′ (lower triangles), the factor is F⁻ᵀ C′.
            factor = np.linalg.solve(np.linalg.cholesky(found).T, np.linalg.cholesky(covariance).T)
        except np.linalg.LinAlgError:
            raise BenchError(
                f"the QTL do not give {raw.shape[1]} traits variances of their own; raise n_qtl or animals"
            ) from None
        return cls(raw.mean(axis=0), factor)

    def apply(self, raw: np.ndarray) -> np.ndarray:
        return (raw - self.shift) @ self.factor


def covariance(variances: list[float], correlations: Correlations | None) -> np.ndarray:
    """(t, t) of the traits' variances and their correlations, by default none."""
    sd = np.sqrt(variances)
    return np.outer(sd, sd) * (np.eye(len(sd)) if correlations is None else np.array(correlations))


def genetic_covariance(spec: Livestock) -> np.ndarray:
    """(t, t) among founders."""
    return covariance([trait.h2 for trait in spec.traits], spec.genetic_correlations)


def draw_polygenic(spec: Livestock, family: Family) -> np.ndarray:
    """(n, t) breeding values of infinitely many loci, `polygenic` of the genetic covariance among founders.

    a = (a_sire + a_dam)/2 + m, where m has the share 1 − ¼(number of known parents) of the variance: the loss of it
    through inbreeding is left out.
    """
    rng = np.random.default_rng(seed_for(spec.seed, "polygenic"))
    known = (family.sire >= 0).astype(float) + (family.dam >= 0)
    values = rng.standard_normal((len(family), len(spec.traits))) * np.sqrt(1 - known / 4)[:, None]
    for begin, end in zip(family.first[:-1], family.first[1:], strict=True):
        for parents in (family.sire[begin:end], family.dam[begin:end]):
            values[begin:end] += 0.5 * np.where(parents >= 0, 1, 0)[:, None] * values[parents]
    return values @ np.linalg.cholesky(spec.polygenic * genetic_covariance(spec)).T


def draw_records(spec: Livestock, pedigree: pd.DataFrame, breeding_values: np.ndarray) -> pd.DataFrame:
    """The table of records: id, herd_year, age, weight (if the specification has weights), a column per trait.

    record = mean + herd-year + age_effect · age + breeding value + permanent environment + residual; the residual has
    the variance (1 − h2 − pe)/weight. An animal's first record stands in the herd-year of its birth, HERD_COHORT, and
    each further one in the next year's. Rows in the order of the pedigree. A trait is missing at random, and a record
    that lacks all traits is left out.
    """
    rng = np.random.default_rng(seed_for(spec.seed, "records"))
    able = pedigree["born"].to_numpy() < spec.cohorts - spec.validation_cohorts
    able &= pedigree["born"].isin(spec.finished_cohorts()).to_numpy()
    if spec.recorded_sex == "female":
        able &= pedigree["sex"].to_numpy() == FEMALE
    animals = np.flatnonzero(able)
    animals = np.sort(rng.choice(animals, round(spec.recorded * len(animals)), replace=False))
    lines = rng.integers(1, spec.repeats + 1, len(animals))
    which = np.repeat(np.arange(len(animals)), lines)  # of the recorded
    parity = np.arange(len(which)) - np.repeat(np.cumsum(lines) - lines, lines)
    rows, n, t = animals[which], len(which), len(spec.traits)

    year = pedigree["born"].to_numpy()[rows] + parity
    herd = pedigree["herd"].to_numpy()[rows]
    level = (herd - 1) * (spec.cohorts + spec.repeats) + year
    age = np.round(FIRST_RECORD + parity + AGE_SD * rng.standard_normal(n), 3)
    weight = rng.integers(1, MEASUREMENTS + 1, n) if spec.weights else np.ones(n, np.int64)
    environment = rng.standard_normal((spec.herds * (spec.cohorts + spec.repeats), t))
    permanent = rng.standard_normal((len(animals), t))
    rest = covariance([1 - trait.h2 - trait.pe for trait in spec.traits], spec.residual_correlations)
    residual = rng.standard_normal((n, t)) @ np.linalg.cholesky(rest).T / np.sqrt(weight)[:, None]
    absent = rng.random((n, t)) < [trait.missing for trait in spec.traits]

    values = breeding_values[rows] + residual
    for column, trait in enumerate(spec.traits):
        values[:, column] += trait.mean + trait.age_effect * age + trait.herd_year_sd * environment[level, column]
        values[:, column] += np.sqrt(trait.pe) * permanent[which, column]
    values[absent] = np.nan
    labels = pd.Series(herd).astype(str) + "_" + pd.Series(year).astype(str)
    named = (pedigree["id"].to_numpy()[rows], labels.to_numpy(), age, weight)
    table = pd.DataFrame(dict(zip(RECORD_COLUMNS, named, strict=True)))
    table = table if spec.weights else table.drop(columns="weight")
    for column, trait in enumerate(spec.traits):
        table[trait.name] = np.round(values[:, column], 6)
    return table.iloc[np.flatnonzero(~absent.all(axis=1))].reset_index(drop=True)
