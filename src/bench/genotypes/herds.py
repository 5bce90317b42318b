"""A large pedigree of overlapping cohorts, mated as dairy or beef cattle or at random; who of it is genotyped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from bench.errors import BenchError
from bench.genotypes.dataset import write_table
from bench.genotypes.lines import simulate_lines
from bench.genotypes.pedigree import FEMALE, MALE, seed_for
from bench.genotypes.schemes import genotyped_counts
from bench.genotypes.selection import Evaluate, Selection
from bench.genotypes.spec import Livestock

DAM_COHORTS = 5  # a female may have calves until she is so many cohorts old
SIRE_COHORTS = 3
SURVIVAL = 0.75  # of females from a cohort to the next
MOVED = 0.03  # share of calves that leave their dam's herd
SIRES_OF_A_HERD_YEAR = 6  # in dairy herds
COLUMNS = ("id", "sire", "dam", "sex", "born", "herd")


def simulate_pedigree(spec: Livestock, library: Path | None = None) -> pd.DataFrame:
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
    `pedigree.simulate_pedigree`. It is not one of the data set's traits. With `selection` they are those of highest
    index of EBVs (`selection.Selection`), which needs `library`, the compiled gene drop. At random otherwise.

    With `breeds` there is a column breed, 0 for a crossbred. Sires are purebred, of each breed its share; a purebred
    dam is mated to another breed with probability `crossing`, and a crossbred one to any, by the breeds' shares.
    """
    if spec.selection is not None and library is None:
        raise ValueError("selection needs `library`, the compiled gene drop")
    evaluate = None if spec.selection is None or library is None else Selection(spec, library)
    return simulate_lines(spec, evaluate) if spec.lines is not None else _simulate_herds(spec, evaluate)


def _simulate_herds(spec: Livestock, evaluate: Evaluate | None) -> pd.DataFrame:
    rng = np.random.default_rng(seed_for(spec.seed, "pedigree"))
    sizes = np.array(spec.cohort_sizes())
    first = np.concatenate([[0], np.cumsum(sizes)])
    n = spec.animals
    sire, dam = np.full(n, -1, np.int32), np.full(n, -1, np.int32)
    herd = rng.integers(spec.herds, size=n, dtype=np.int32)
    sex = np.concatenate([rng.permutation(np.where(np.arange(s) < s // 2, MALE, FEMALE)) for s in sizes])
    merit = rng.standard_normal(n)
    breeds = None if spec.breeds is None else Breeding(spec, n)
    born = np.repeat(np.arange(spec.cohorts), sizes)
    unknown = -(born * spec.groups // spec.cohorts + 1) if spec.groups else np.zeros(n, np.int64)

    def recorded(hidden: np.ndarray) -> pd.DataFrame:
        parents = {
            name: np.where((parent < 0) | not_known, unknown, parent + 1)
            for name, parent, not_known in zip(("sire", "dam"), (sire, dam), hidden, strict=True)
        }
        columns = {"id": np.arange(1, n + 1), **parents, "sex": sex, "born": born, "herd": herd + 1}
        if breeds is not None:
            columns["breed"] = breeds.breed
        return pd.DataFrame({name: columns[name].astype(np.int64) for name in columns_of(spec)})

    # Whose genes are unknown must be known before an animal has EBVs, and is drawn at the end without them.
    early = np.random.default_rng(seed_for(spec.seed, "unknown parents")) if evaluate is not None else None
    hidden = early.random((2, n)) < spec.unknown_parents if early is not None else None
    for cohort in range(1, spec.cohorts):
        calves = slice(first[cohort], first[cohort + 1])
        dams = _dams(sex, first, cohort, rng)
        if evaluate is not None and hidden is not None:
            merit = evaluate(recorded(hidden), cohort)
        if breeds is None:
            sires = _sires(spec, sex, merit, first, cohort, rng)
            herd[calves] = _herds_of(spec, herd[dams], rng)
            sire[calves] = _sires_of(spec, sires, herd[dams], rng)
        else:
            herd[calves] = _herds_of(spec, herd[dams], rng)
            wanted = breeds.of_sires(dams)
            for number, count in enumerate(spec.breeds.portions(spec.sires) if spec.breeds else [], start=1):
                sires = _sires(spec, sex, merit, first, cohort, rng, count=count, among=breeds.breed == number)
                of = np.flatnonzero(wanted == number)
                sire[first[cohort] + of] = _sires_of(spec, sires, herd[dams[of]], rng)
            breeds.inherit(calves, sire[calves], dams)
        dam[calves] = dams
        if evaluate is None:
            merit[calves] = (merit[sire[calves]] + merit[dams]) / 2 + np.sqrt(0.5) * merit[calves]
    return recorded(rng.random((2, n)) < spec.unknown_parents if hidden is None else hidden)


class Breeding:
    """breed: (n,) of each animal, from 1 on; 0 of a crossbred."""

    def __init__(self, spec: Livestock, n: int):
        assert spec.breeds is not None
        self._breeds = spec.breeds
        self._rng = np.random.default_rng(seed_for(spec.seed, "breeds"))
        founders = np.repeat(np.arange(1, len(spec.breeds.shares) + 1), spec.breeds.portions(spec.cohort_sizes()[0]))
        self.breed = np.zeros(n, np.int64)
        self.breed[: len(founders)] = self._rng.permutation(founders)

    def of_sires(self, dams: np.ndarray) -> np.ndarray:
        """The breed of the sire that each dam is mated to."""
        own, count = self.breed[dams], len(self._breeds.shares)
        weights = np.array(self._breeds.shares) / sum(self._breeds.shares)
        anyone = self._rng.choice(np.arange(1, count + 1), len(dams), p=weights)
        other = (own - 1 + self._rng.integers(1, count, len(dams))) % count + 1
        crossed = self._rng.random(len(dams)) < self._breeds.crossing
        return np.where(own == 0, anyone, np.where(crossed, other, own))

    def inherit(self, calves: slice, sires: np.ndarray, dams: np.ndarray) -> None:
        self.breed[calves] = np.where(self.breed[sires] == self.breed[dams], self.breed[dams], 0)


def columns_of(spec: Livestock) -> tuple[str, ...]:
    """Of the pedigree."""
    return (*COLUMNS, "breed") if spec.breeds is not None else COLUMNS


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
    spec: Livestock,
    sex: np.ndarray,
    merit: np.ndarray,
    first: np.ndarray,
    cohort: int,
    rng: np.random.Generator,
    *,
    count: int | None = None,
    among: np.ndarray | None = None,
) -> np.ndarray:
    """(count,) the males in service, by default spec.sires, in random order; among: (n,) who may be."""
    count = spec.sires if count is None else count
    males = np.arange(first[max(0, cohort - SIRE_COHORTS)], first[cohort])
    males = rng.permutation(males[(sex[males] == MALE) & (True if among is None else among[males])])
    if len(males) < count:
        raise BenchError(
            f"breeds: {count} sires of a breed are needed for cohort {cohort}, found {len(males)} purebred males; "
            "lower sires or crossing, or raise animals"
        )
    if spec.sire_accuracy is not None:
        noise = merit[males].std() * np.sqrt(1 / spec.sire_accuracy**2 - 1)
        ebv = merit[males] + noise * rng.standard_normal(len(males))
        males = males[np.argsort(-ebv, kind="stable")]
    elif spec.selection is not None:
        males = males[np.argsort(-merit[males], kind="stable")]
    return rng.permutation(males[:count])


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
    """(spec.n_samples,) rows of the genotyped, ascending.

    Of the last `genotyped_cohorts` at random; with `genotype_sires` first these cohorts' sires, those of most
    calves first, up to a third of all genotyped. Or of each cohort and sex what `genotyped_shares` says, at random.
    """
    rng = np.random.default_rng(seed_for(spec.seed, "genotyped"))
    born, sex = pedigree["born"].to_numpy(), pedigree["sex"].to_numpy()
    if spec.genotyped_shares is not None:
        counts = genotyped_counts(spec.genotyped_shares, spec.cohort_sizes())
        drawn = [
            rng.choice(np.flatnonzero((born == cohort) & (sex == which)), count, replace=False)
            for (cohort, which), count in sorted(counts.items())
        ]
        return np.sort(np.concatenate(drawn))
    able = np.isin(born, spec.finished_cohorts())
    recent = np.flatnonzero((born >= spec.cohorts - spec.genotyped_cohorts) & able)
    chosen = np.zeros(len(pedigree), bool)
    if spec.genotype_sires:
        sires = pedigree["sire"].to_numpy()[recent]
        known, calves = np.unique(sires[sires > 0], return_counts=True)
        chosen[known[np.argsort(-calves, kind="stable")][: spec.n_samples // 3] - 1] = True
    others = recent[~chosen[recent]]
    chosen[rng.choice(others, spec.n_samples - int(chosen.sum()), replace=False)] = True
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
    if list(pedigree) != list(columns_of(spec)) or len(pedigree) != spec.animals:
        raise BenchError(
            f"{path}: {len(pedigree)} animals with columns {', '.join(map(str, pedigree))}, needed {spec.animals} "
            f"with {', '.join(columns_of(spec))}; draw the pedigree again"
        )
    if wrong := _impossible(pedigree, spec):
        raise BenchError(f"{path}: line {wrong[0] + 2}: {wrong[1]}; draw the pedigree again")
    return pedigree


def _impossible(pedigree: pd.DataFrame, spec: Livestock) -> tuple[int, str] | None:
    """The first row that cannot have been drawn, and why: compiled code follows these numbers without a look."""
    sizes = np.array(spec.cohort_sizes())
    born = np.repeat(np.arange(len(sizes)), sizes)
    before = np.repeat(np.cumsum(sizes) - sizes, sizes)  # animals of earlier cohorts
    least, most = -spec.groups, before
    allowed = {
        "id": (np.arange(1, len(born) + 1),) * 2,
        "sire": (least, most),
        "dam": (least, most),
        "sex": (0, 2),
        "born": (born, born),
        "herd": (1, spec.herds),
        "breed": (0, len(spec.breeds.shares) if spec.breeds is not None else 0),
    }
    found = []
    for name, values in pedigree.items():
        low, high = (np.broadcast_to(end, len(born)) for end in allowed[str(name)])
        if (wrong := (values.to_numpy() < low) | (values.to_numpy() > high)).any():
            row = int(np.argmax(wrong))
            found.append((row, f"{name} is {values[row]}, needed {low[row]} to {high[row]}"))
    return min(found, default=None)
