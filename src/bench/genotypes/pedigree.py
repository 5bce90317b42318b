"""A pedigree of discrete generations whose sires are selected."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd

from bench.genotypes.spec import Simulated

MALE, FEMALE = 1, 2
UNKNOWN = 0  # a parent that is not recorded


def seed_for(dataset_seed: int, *purpose: str | int) -> int:
    """A seed in 1..2³²−1 for one purpose, unrelated to the seeds for all others: sha256 of both."""
    text = "/".join(map(str, (dataset_seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") or 1


def simulate_pedigree(spec: Simulated, seed: int) -> pd.DataFrame:
    """Draw a pedigree: columns id, sire, dam (0 = unknown), sex (1 male, 2 female), generation.

    Ids count from 1 in order of birth, so a parent always precedes its offspring. The sires of a generation
    are the `sires_per_generation` males of the one before with the highest EBV; each of their mates is
    the dam of as many as any other, give or take one. The EBV belongs to a trait of infinitely many loci: a
    breeding value is the parents' mean plus a Mendelian sampling term of half the founders' variance (the
    loss of it through inbreeding is left out), and the EBV correlates with it by `sire_accuracy`.
    """
    rng = np.random.default_rng(seed_for(seed, "pedigree"))
    noise = np.sqrt(1 / spec.sire_accuracy**2 - 1)  # in units of the genetic standard deviation
    born, generations = 0, []
    parents = breeding_values = None
    for g, size in enumerate(spec.generation_sizes()):
        ids = np.arange(born + 1, born + size + 1)
        sire, dam = np.zeros(size, np.int64), np.zeros(size, np.int64)
        values = rng.standard_normal(size)
        if parents is not None and breeding_values is not None:
            sire, dam = _mate(parents, breeding_values, noise, size, spec.sires_per_generation, rng)
            first = parents["id"].iloc[0]
            midparent = (breeding_values[sire - first] + breeding_values[dam - first]) / 2
            values = midparent + np.sqrt(0.5) * values
        sex = rng.permutation(np.where(np.arange(size) < size // 2, MALE, FEMALE))
        parents = pd.DataFrame({"id": ids, "sire": sire, "dam": dam, "sex": sex, "generation": g})
        breeding_values = values
        generations.append(parents)
        born += size
    return pd.concat(generations, ignore_index=True)


def _mate(
    parents: pd.DataFrame,
    breeding_values: np.ndarray,
    noise: float,
    size: int,
    n_sires: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """The sire and the dam of `size` offspring."""
    ids, sex = parents["id"].to_numpy(), parents["sex"].to_numpy()
    spread = breeding_values.std() if len(breeding_values) > 1 else 1.0
    ebv = breeding_values + noise * spread * rng.standard_normal(len(ids))
    males = np.flatnonzero(sex == MALE)
    sires = ids[males[np.argsort(-ebv[males], kind="stable")[:n_sires]]]
    dams = np.resize(rng.permutation(ids[sex == FEMALE]), size)
    return rng.choice(sires, size), rng.permutation(dams)


def genotyped(spec: Simulated, pedigree: pd.DataFrame) -> np.ndarray:
    """(individuals of the pedigree,) whether each is genotyped."""
    g = spec.genotyped_generations
    first = 0 if g == "all" else spec.generations - g + 1
    return pedigree["generation"].to_numpy() >= first
