"""Livestock populations: a pedigree much larger than its genotyped part, in three stages like `simulate`.

Founders' haplotypes come from the population's history; the QTL's alleles are dropped through the whole pedigree, so
that every animal has a true breeding value, and the panel's through the genotyped and their ancestors, by the same
meioses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd

from bench.errors import BenchError
from bench.genotypes.bim_fam import read_bim, read_chromosomes
from bench.genotypes.dataset import Dataset, bed_sha256, write_table
from bench.genotypes.founders import (
    RECOMBINATION_RATE,
    bim_table,
    draw_founders,
    qtl_effects,
)
from bench.genotypes.genedrop import BLOCK, Family, GeneDrop, room_to_pack
from bench.genotypes.herds import genotyped_rows, read_pedigree, simulate_pedigree, write_pedigree
from bench.genotypes.packed import PackedGenotypes, concatenate_beds, write_bed
from bench.genotypes.pedigree import UNKNOWN, seed_for
from bench.genotypes.records import Scale, draw_polygenic, draw_records, genetic_covariance
from bench.genotypes.selection import family_of
from bench.genotypes.spec import Livestock
from bench.record import atomic_path

# What a chromosome's folder holds.
PANEL, QTL, VALUES, EFFECTS = "panel", "qtl", "values.npy", "effects.npy"


def simulate_chromosome(
    spec: Livestock, pedigree: pd.DataFrame, chromosome: int, folder: Path, *, library: Path, threads: int = 1
) -> None:
    """Write chromosome 1, 2, … to `folder`.

    panel.bed, panel.bim: the genotyped at the chromosome's share of SNPs, drawn as in `simulate`, but by their
    frequency among the haplotypes of the founders. qtl.bed, qtl.bim: the genotyped at the QTL. effects.npy (QTL, t):
    their effects, normal and independent; values.npy (animals, t): the sums of dosage × effect of the whole pedigree.
    """
    founders = draw_founders(spec, chromosome)
    positions, haplotypes, is_qtl, pools = founders.positions, founders.haplotypes, founders.is_qtl, founders.pools
    drop = GeneDrop(
        library,
        length=spec.chromosome_length * RECOMBINATION_RATE,
        seed=seed_for(spec.seed, "meioses", chromosome),
        threads=threads,
    )
    everyone, rows = family_of(spec, pedigree), genotyped_rows(spec, pedigree)
    morgans = positions * RECOMBINATION_RATE

    qtl = drop.drop(everyone, morgans[is_qtl], haplotypes[:, is_qtl], pools)
    effects = qtl_effects(spec, chromosome)
    _save(folder / EFFECTS, effects)
    _save(folder / VALUES, qtl.values(effects))
    _write_sites(folder / QTL, [_codes(qtl.pack(rows))], positions[is_qtl], chromosome, label="qtl")
    del qtl

    ancestors, kept = everyone.pruned(rows)
    panel = drop_and_pack(drop, ancestors, kept, morgans[~is_qtl], haplotypes[:, ~is_qtl], pools)
    _write_sites(folder / PANEL, panel, positions[~is_qtl], chromosome, label="chr")


def drop_and_pack(
    drop: GeneDrop,
    family: Family,
    rows: np.ndarray,
    morgans: np.ndarray,
    haplotypes: np.ndarray,
    pools: np.ndarray | None = None,
) -> Iterator[np.ndarray]:
    """The codes of the animals `rows` of `family`, some sites at a time: (≤ BLOCK, ⌈n/4⌉) bytes, gone with the next.

    Blocks of sites are dropped one after the other by the same meioses: what is held does not grow with the sites.
    """
    room = room_to_pack(min(BLOCK, len(morgans)), len(rows))
    for begin in range(0, len(morgans), BLOCK):
        block = slice(begin, begin + BLOCK)
        yield _codes(drop.drop(family, morgans[block], haplotypes[:, block], pools).pack(rows, room))


def _codes(packed: PackedGenotypes) -> np.ndarray:
    return packed.codes[:, : -(-packed.n_samples // 4)]


def _write_sites(
    prefix: Path, codes: Iterable[np.ndarray], positions: np.ndarray, chromosome: int, *, label: str
) -> None:
    write_bed(prefix.with_suffix(".bed"), codes)
    bim = bim_table(positions, f"{label}{chromosome}", chromosome)
    write_table(prefix.with_suffix(".bim"), bim, header=False)


def _save(path: Path, values: np.ndarray) -> None:
    with atomic_path(path) as tmp, tmp.open("wb") as file:
        np.save(file, values)


def _load(path: Path, shape: tuple[int, int]) -> np.ndarray:
    try:
        values = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise BenchError(f"{path}: cannot be read ({error}); simulate the chromosome again") from None
    if values.shape != shape:
        raise BenchError(f"{path}: found numbers of shape {values.shape}, needed {shape}; simulate it again")
    return values


def assemble(spec: Livestock, pieces: list[Path], pedigree: pd.DataFrame, folder: Path, *, name: str) -> Dataset:
    """Join the chromosomes, draw the records, and write the data set with its manifest to `folder`.

    pieces: the folders of chromosome 1, 2, … as `simulate_chromosome` wrote them. Breeding values are scaled so that
    the founders, the first cohort, have the mean 0 and at the QTL exactly the share 1 − polygenic of the genetic
    covariance; qtl.tsv has the QTL's effects after that.
    """
    if len(pieces) != spec.chromosomes:
        raise BenchError(f"data set {name!r}: {len(pieces)} chromosomes given, {spec.chromosomes} needed")
    rows = genotyped_rows(spec, pedigree)
    bim = read_chromosomes([piece / f"{PANEL}.bim" for piece in pieces])
    bed = folder / "genotypes.bed"
    concatenate_beds(bed, [_panel(spec, piece) for piece in pieces])
    write_table(folder / "genotypes.bim", bim, header=False)
    write_table(folder / "genotypes.fam", _fam(pedigree, rows), header=False)
    write_pedigree(folder / "pedigree.tsv", pedigree)

    values, traits = _breeding_values(spec, pieces, pedigree, folder), [trait.name for trait in spec.traits]
    table = pd.DataFrame(np.round(values, 6), columns=traits)
    table.insert(0, "id", pedigree["id"])
    write_table(folder / "breeding_values.tsv", table)
    write_table(folder / "records.tsv", draw_records(spec, pedigree, values))

    dataset = Dataset(
        name=name,
        n_samples=spec.n_samples,
        n_snps=spec.n_snps,
        traits=tuple(traits),
        bed=bed,
        bim=folder / "genotypes.bim",
        fam=folder / "genotypes.fam",
        bed_sha256=bed_sha256(bed),
        breeding_values_path=folder / "breeding_values.tsv",
        pedigree_path=folder / "pedigree.tsv",
        records_path=folder / "records.tsv",
        source=spec.model_dump(mode="json"),
    )
    dataset.write(folder / "dataset.json")
    return dataset


def _breeding_values(spec: Livestock, pieces: list[Path], pedigree: pd.DataFrame, folder: Path) -> np.ndarray:
    """(animals, t) true breeding values; writes qtl.tsv."""
    t = len(spec.traits)
    raw = np.zeros((spec.animals, t))
    for piece in pieces:
        raw += _load(piece / VALUES, (spec.animals, t))
    founders = pedigree["born"].to_numpy() == 0
    scale = Scale.of(raw[founders], (1 - spec.polygenic) * genetic_covariance(spec))
    values = scale.apply(raw)
    if spec.polygenic:
        values += draw_polygenic(spec, Family.of(pedigree))
    qtl = read_chromosomes([piece / f"{QTL}.bim" for piece in pieces])
    pairs = zip(pieces, spec.chromosome_qtl(), strict=True)
    effects = np.concatenate([_load(piece / EFFECTS, (n_qtl, t)) for piece, n_qtl in pairs]) @ scale.factor
    for column, trait in enumerate(spec.traits):
        qtl[trait.name] = effects[:, column]
    write_table(folder / "qtl.tsv", qtl)
    return values


def _panel(spec: Livestock, piece: Path) -> PackedGenotypes:
    n_snps = len(read_bim(piece / f"{PANEL}.bim"))
    return PackedGenotypes.open(piece / f"{PANEL}.bed", n_samples=spec.n_samples, n_snps=n_snps)


def _fam(pedigree: pd.DataFrame, rows: np.ndarray) -> pd.DataFrame:
    """One family, as PLINK wants it; a parent without genotypes becomes unknown."""
    animals = pedigree.iloc[rows]
    parents = {p: animals[p].where(animals[p].isin(animals["id"]), UNKNOWN) for p in ("sire", "dam")}
    columns = {"family": "1", "id": animals["id"], **parents, "sex": animals["sex"], "phenotype": -9}
    return pd.DataFrame(columns)


def simulate(
    spec: Livestock, folder: Path, *, name: str, library: Path, jobs: int = 1, note: Callable[[str], None] = print
) -> Dataset:
    """All stages, `jobs` chromosomes at a time in processes of their own; pieces stay in `folder`/chromosomes."""
    pedigree = simulate_pedigree(spec, library)
    path = folder / "pedigree.tsv"
    write_pedigree(path, pedigree)
    pieces = [folder / "chromosomes" / str(c) for c in range(1, spec.chromosomes + 1)]
    # A fresh interpreter each: a forked one would inherit OpenMP's threads, which do not survive a fork.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        tasks = [(spec, path, c, piece, library) for c, piece in enumerate(pieces, start=1)]
        try:
            for chromosome in pool.map(_one_chromosome, tasks):
                note(f"chromosome {chromosome} of {spec.chromosomes}")
        except BrokenProcessPool:
            raise BenchError(
                f"data set {name!r}: the process of a chromosome was killed (too little memory?); lower --jobs and "
                "run again"
            ) from None
    return assemble(spec, pieces, pedigree, folder, name=name)


def _one_chromosome(task: tuple[Livestock, Path, int, Path, Path]) -> int:
    spec, pedigree, chromosome, folder, library = task
    simulate_chromosome(spec, read_pedigree(pedigree, spec), chromosome, folder, library=library)
    return chromosome
