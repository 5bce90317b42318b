"""A large pedigree of overlapping cohorts, mated as dairy or beef cattle or at random; who of it is genotyped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from bench.errors import BenchError
from bench.genotypes.dataset import write_table
from bench.genotypes.pedigree import FEMALE, MALE, seed_for
from bench.genotypes.spec import Livestock

DAM_COHORTS = 5  # a female may have calves until she is so many cohorts old
SIRE_COHORTS = 3
SURVIVAL = 0.75  # of females from a cohort to the next
MOVED = 0.03  # share of calves that leave their dam's herd
SIRES_OF_A_HERD_YEAR = 6  # in dairy herds
COLUMNS = ("id", "sire", "dam", "sex", "born", "herd")


def simulate_pedigree(spec: Livestock) -> pd.DataFrame:
    """Draw a pedigree: integer columns id, sire, dam, sex (1 male, 2 female), born (cohort), herd (from 1).

    Ids count from 1 in order of birth. An unknown parent is 0, or −g in unknown-parent group g: cohorts are divided
    evenly among the groups, and a calf's cohort says which is its parents'. A calf is born in its dam's herd; a cow
    that survives has a calf in most cohorts. Sires in service are males of the last three cohorts,
    `spec.sires` of them:

    - dairy: a herd uses six in a cohort's time, some sires much more than others (weights from a gamma distribution
      of shape ½), so that all herds share the popular ones.
    - beef: each sire serves in one herd, wherever he was born.
    - random: each calf's sire and dam are any in service, and its herd is any.

    With `sire_accuracy` they are those of highest EBV, where the EBV belongs to a trait of infinitely many loci as in
    `pedigree.simulate_pedigree`; at random otherwise. It is not one of the data set's traits.
    """
    rng = np.random.default_rng(seed_for(spec.seed, "pedigree"))
    sizes = np.array(spec.cohort_sizes())
    first = np.concatenate([[0], np.cumsum(sizes)])
    n = spec.animals
    sire, dam = np.full(n, -1, np.int32), np.full(n, -1, np.int32)
    herd = rng.integers(spec.herds, size=n, dtype=np.int32)
    sex = np.concatenate([rng.permutation(np.where(np.arange(s) < s // 2, MALE, FEMALE)) for s in sizes])
    merit = rng.standard_normal(n)
    for cohort in range(1, spec.cohorts):
        calves = slice(first[cohort], first[cohort + 1])
        dams = _dams(sex, first, cohort, rng)
        sires = _sires(spec, sex, merit, first, cohort, rng)
        herd[calves] = _herds_of(spec, herd[dams], rng)
        dam[calves] = dams
        sire[calves] = _sires_of(spec, sires, herd[dams], rng)
        merit[calves] = (merit[sire[calves]] + merit[dams]) / 2 + np.sqrt(0.5) * merit[calves]
    born = np.repeat(np.arange(spec.cohorts), sizes)
    unknown = -(born * spec.groups // spec.cohorts + 1) if spec.groups else np.zeros(n, np.int64)
    parents = {}
    for name, parent in (("sire", sire), ("dam", dam)):
        hidden = (parent < 0) | (rng.random(n) < spec.unknown_parents)
        parents[name] = np.where(hidden, unknown, parent + 1)
    columns = {"id": np.arange(1, n + 1), **parents, "sex": sex, "born": born, "herd": herd + 1}
    return pd.DataFrame({name: columns[name].astype(np.int64) for name in COLUMNS})


def _dams(sex: np.ndarray, first: np.ndarray, cohort: int, rng: np.random.Generator) -> np.ndarray:
    """The dam of each calf of `cohort`, in random order; a cow has another calf only where there are too few."""
    females = []
    for age in range(1, min(cohort, DAM_COHORTS) + 1):
        there = np.arange(first[cohort - age], first[cohort - age + 1])
        there = there[sex[there] == FEMALE]
        females.append(rng.permutation(there)[: int(np.ceil(len(there) * SURVIVAL ** (age - 1)))])
    cows = rng.permutation(np.concatenate(females))
    return np.resize(cows, first[cohort + 1] - first[cohort])


def _sires(
    spec: Livestock, sex: np.ndarray, merit: np.ndarray, first: np.ndarray, cohort: int, rng: np.random.Generator
) -> np.ndarray:
    """(spec.sires,) the males in service, in random order."""
    males = np.arange(first[max(0, cohort - SIRE_COHORTS)], first[cohort])
    males = rng.permutation(males[sex[males] == MALE])
    if spec.sire_accuracy is not None:
        noise = merit[males].std() * np.sqrt(1 / spec.sire_accuracy**2 - 1)
        ebv = merit[males] + noise * rng.standard_normal(len(males))
        males = males[np.argsort(-ebv, kind="stable")]
    return rng.permutation(males[: spec.sires])


def _sires_of(spec: Livestock, sires: np.ndarray, herds: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The sire of each calf, whose dam stands in `herds`."""
    if spec.mating == "random":
        return rng.choice(sires, len(herds))
    if spec.mating == "beef":
        # Sire i serves in herd i, i + herds, …: herd h has those of i = h modulo the number of herds.
        served = len(sires) // spec.herds + (np.arange(spec.herds) < len(sires) % spec.herds)
        return sires[herds + spec.herds * rng.integers(served[herds])]
    use = rng.gamma(0.5, size=len(sires))
    table = rng.choice(sires, (spec.herds, SIRES_OF_A_HERD_YEAR), p=use / use.sum())
    return table[herds, rng.integers(SIRES_OF_A_HERD_YEAR, size=len(herds))]


def _herds_of(spec: Livestock, herds: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The herd of each calf, whose dam stands in `herds`."""
    moved = rng.random(len(herds)) < (1.0 if spec.mating == "random" else MOVED)
    return np.where(moved, rng.integers(spec.herds, size=len(herds)), herds)


def genotyped_rows(spec: Livestock, pedigree: pd.DataFrame) -> np.ndarray:
    """(spec.genotyped,) rows of the genotyped, ascending.

    Of the last `genotyped_cohorts` at random; with `genotype_sires` first these cohorts' sires, those of most
    calves first, up to a third of all genotyped.
    """
    rng = np.random.default_rng(seed_for(spec.seed, "genotyped"))
    recent = np.flatnonzero(pedigree["born"] >= spec.cohorts - spec.genotyped_cohorts)
    chosen = np.zeros(len(pedigree), bool)
    if spec.genotype_sires:
        sires = pedigree["sire"].to_numpy()[recent]
        known, calves = np.unique(sires[sires > 0], return_counts=True)
        chosen[known[np.argsort(-calves, kind="stable")][: spec.genotyped // 3] - 1] = True
    others = recent[~chosen[recent]]
    chosen[rng.choice(others, spec.genotyped - int(chosen.sum()), replace=False)] = True
    return np.flatnonzero(chosen)


def write_pedigree(path: Path, pedigree: pd.DataFrame) -> None:
    """Tab-separated; an unknown parent is 0, or the name of its group, G1, G2, …"""
    table = pedigree.copy()
    for parent in ("sire", "dam"):
        if (table[parent] < 0).any():
            ids = table[parent].astype(str)
            table[parent] = ids.where(table[parent] >= 0, "G" + (-table[parent]).astype(str))
    write_table(path, table)


def read_pedigree(path: Path, spec: Livestock) -> pd.DataFrame:
    """What `write_pedigree` wrote, as `simulate_pedigree` drew it."""
    try:
        pedigree = pd.read_csv(path, sep="\t", dtype={"sire": str, "dam": str})
        for parent in ("sire", "dam"):
            pedigree[parent] = pedigree[parent].str.replace("G", "-").astype(np.int64)
        pedigree = pedigree.astype(np.int64)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise BenchError(f"{path}: not the pedigree of a livestock data set ({error}); draw it again") from None
    if list(pedigree) != list(COLUMNS) or len(pedigree) != spec.animals:
        raise BenchError(
            f"{path}: {len(pedigree)} animals with columns {', '.join(map(str, pedigree))}, needed {spec.animals} "
            f"with {', '.join(COLUMNS)}; draw the pedigree again"
        )
    return pedigree
