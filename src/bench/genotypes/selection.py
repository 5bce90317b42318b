"""EBVs of the animals born so far: BLUP of the traits' own records, while the pedigree is still being drawn.

The QTL are dropped cohort by cohort, by the very meioses that the chromosomes' jobs repeat, and the records are the
very ones that the data set will have. So breeding values here are those of the data set, and a trend in them is
the answer to selection.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy.sparse.linalg import cg
from threadpoolctl import threadpool_limits

from bench.errors import BenchError
from bench.genotypes.founders import RECOMBINATION_RATE, Founders, draw_founders, qtl_effects
from bench.genotypes.genedrop import Family, Gametes, GeneDrop
from bench.genotypes.pedigree import seed_for
from bench.genotypes.records import FIRST_RECORD, Scale, draw_polygenic, draw_records, genetic_covariance
from bench.genotypes.spec import Livestock

# (pedigree, cohort) → (n,) the index of the animals born before `cohort`, 0 of the others.
Evaluate = Callable[[pd.DataFrame, int], np.ndarray]
RTOL, MOST_STEPS = 1e-8, 2000


def family_of(spec: Livestock, pedigree: pd.DataFrame) -> Family:
    """The pedigree as the gene drop takes it: which founders unknown parents come from, and who is doubled."""
    pool = doubled = None
    if spec.breeds is not None:
        breed = pedigree["breed"].to_numpy()
        pool = np.where(breed > 0, breed - 1, len(spec.breeds.shares)).astype(np.uint8)  # of a crossbred: any breed
    if spec.lines is not None:
        cohorts = spec.lines.finished() if spec.lines.selfing is None else [0]
        doubled = pedigree["born"].isin(cohorts).to_numpy(np.uint8)
    return Family.of(pedigree, pool, doubled)


class Selection:
    """An `Evaluate` for one population: breeding values at the QTL, kept up to the cohort that was last asked for.

    Holds 16 bytes an animal, chromosome and 64 QTL of it.
    """

    def __init__(self, spec: Livestock, library: Path, *, threads: int = 1):
        self._spec = spec
        self._founders = [_qtl_of(draw_founders(spec, c)) for c in range(1, spec.chromosomes + 1)]
        self._drops = [
            GeneDrop(
                library,
                length=spec.chromosome_length * RECOMBINATION_RATE,
                seed=seed_for(spec.seed, "meioses", chromosome),
                threads=threads,
            )
            for chromosome in range(1, spec.chromosomes + 1)
        ]
        self._gametes: list[Gametes] = [
            drop.room(spec.animals, founders.haplotypes.shape[1])
            for drop, founders in zip(self._drops, self._founders, strict=True)
        ]
        self._effects = [qtl_effects(spec, c) for c in range(1, spec.chromosomes + 1)]
        self._raw = np.zeros((spec.animals, len(spec.traits)))
        self._cohorts = 0

    def __call__(self, pedigree: pd.DataFrame, cohort: int) -> np.ndarray:
        spec = self._spec
        values = self.breeding_values(pedigree, cohort)
        records = draw_records(spec, pedigree, values)
        season = records["herd_year"].str.rsplit("_", n=1).str[1].astype(int)
        lag = 1 if spec.lines is not None else int(FIRST_RECORD)
        there = pedigree["born"].to_numpy()[records["id"].to_numpy() - 1] < cohort
        records = records[(season + lag <= cohort).to_numpy() & there]
        rows, relationship = inverse_relationship(spec, pedigree, cohort)
        index = np.zeros(spec.animals)
        assert spec.selection is not None
        for name, weight in spec.selection.items():
            trait = next(trait for trait in spec.traits if trait.name == name)
            index[rows] += weight * blup(records, name, rows, relationship, (1 - trait.h2) / trait.h2)
        return index

    def breeding_values(self, pedigree: pd.DataFrame, cohorts: int) -> np.ndarray:
        """(n, t) as in the data set of the animals born before `cohorts`; of the others anything."""
        spec, family = self._spec, family_of(self._spec, pedigree)
        done, end = family.first[self._cohorts], family.first[cohorts]
        parts = zip(self._drops, self._founders, self._gametes, self._effects, strict=True)
        for drop, founders, gametes, effects in parts:
            morgans = founders.positions * RECOMBINATION_RATE
            span = self._cohorts, cohorts
            drop.continue_drop(gametes, family, *span, morgans, founders.haplotypes, founders.pools)
            self._raw[done:end] += gametes.values(effects, slice(done, end))
        self._cohorts = cohorts
        scale = Scale.of(self._raw[: family.first[1]], (1 - spec.polygenic) * genetic_covariance(spec))
        values = scale.apply(self._raw)
        return values + draw_polygenic(spec, family) if spec.polygenic else values


def _qtl_of(founders: Founders) -> Founders:
    at = founders.is_qtl
    return Founders(founders.positions[at], founders.haplotypes[:, at], at[at], founders.pools)


def inverse_relationship(spec: Livestock, pedigree: pd.DataFrame, cohort: int) -> tuple[np.ndarray, sp.csr_array]:
    """The rows of the animals born before `cohort` that are evaluated, and the inverse of their relationships.

    A⁻¹ = T′D⁻¹T (Henderson 1976), T = I − ½(S + D'), by its rules for parents that are not inbred: the Mendelian
    sampling has 1, ¾ or ½ of the variance of founders. Of lines, only finished ones are evaluated. Their parents are
    those of the F1 plant, and the Mendelian sampling of a line has F/2 of the variance of the founding lines, where F
    is its inbreeding (the lines of a cross vary by F times the base variance, the founding lines by twice it).
    """
    born = pedigree["born"].to_numpy()
    sire, dam = (np.maximum(pedigree[p].to_numpy() - 1, -1) for p in ("sire", "dam"))
    finished = np.isin(born, spec.finished_cohorts())
    rows = np.flatnonzero((born < cohort) & finished)
    known = (sire >= 0).astype(float) + (dam >= 0)
    sampling = 1 - known[rows] / 4
    if spec.lines is not None:
        f1 = rows.copy()
        for _ in range(spec.lines.selfing or 1):
            f1 = np.where(f1 >= 0, sire[f1], -1)
        sire, dam = (np.where(f1 >= 0, parent[f1], -1) for parent in (sire, dam))
        sampling = np.where(f1 >= 0, spec.lines.inbreeding() / 2, 1.0)
    else:
        sire, dam = sire[rows], dam[rows]
    place = np.full(len(born) + 1, -1)
    place[rows] = np.arange(len(rows))
    T = sp.eye_array(len(rows), format="csr")
    for parent in (sire, dam):
        at = np.flatnonzero(parent >= 0)
        T = T - sp.csr_array((np.full(len(at), 0.5), (at, place[parent[at]])), shape=T.shape)
    return rows, sp.csr_array(T.T @ sp.diags_array(1 / sampling) @ T)


def blup(
    records: pd.DataFrame, trait: str, rows: np.ndarray, relationship: sp.csr_array, variance_ratio: float
) -> np.ndarray:
    """EBVs of the animals `rows` from Henderson's mixed model equations: herd-year and age fixed, one residual.

    variance_ratio: of residual to additive variance; a permanent environment counts as residual. Without a record
    of the trait all are 0. One thread, so that they are the same on any machine's number of them.
    """
    table = records[records[trait].notna()]
    animal = np.searchsorted(rows, table["id"].to_numpy() - 1)
    if not len(table):
        return np.zeros(len(rows))
    level, levels = pd.factorize(table["herd_year"])
    lines, n, q = np.arange(len(table)), len(rows), len(levels)
    age = table["age"].to_numpy() - table["age"].mean()
    weight = table["weight"].to_numpy(float) if "weight" in table else np.ones(len(table))
    X = sp.coo_array((np.ones(len(table)), (lines, level)), shape=(len(table), q))
    Z = sp.coo_array((np.ones(len(table)), (lines, animal)), shape=(len(table), n))
    design = sp.hstack([X, sp.coo_array(age[:, None]), Z]).tocsr()
    weighted = sp.csr_array(design.multiply(weight[:, None])).T
    prior = sp.block_diag([sp.coo_array((q + 1, q + 1)), variance_ratio * relationship])
    left, right = sp.csr_array(weighted @ design + prior), weighted @ table[trait].to_numpy()
    diagonal = np.maximum(left.diagonal(), 1e-8)
    with threadpool_limits(1):
        solution, steps = cg(left, right, rtol=RTOL, maxiter=MOST_STEPS, M=sp.diags_array(1 / diagonal))
    if steps:
        raise BenchError(f"selection: the EBVs of {trait!r} did not converge in {MOST_STEPS} steps")
    return solution[q + 1 :]
