"""Simulated populations, in three stages: a pedigree, chromosomes one by one, and the assembled data set.

Founders come from a cattle-like population history, their chromosomes are dropped through the pedigree
(msprime's fixed pedigree), and SNPs are thinned to a panel.
"""

from __future__ import annotations

from pathlib import Path

import msprime
import numpy as np
import pandas as pd
import tskit

from bench.errors import BenchError
from bench.genotypes.bim_fam import read_bim, read_chromosomes
from bench.genotypes.dataset import Dataset, bed_sha256, write_table
from bench.genotypes.founders import (
    MUTATION_RATE,
    RECOMBINATION_RATE,
    bim_table,
    choose_sites,
    demography,
    segregating_sites,
)
from bench.genotypes.packed import PackedGenotypes, concatenate_beds, pack_dosages, write_bed
from bench.genotypes.pedigree import UNKNOWN, genotyped, seed_for, simulate_pedigree
from bench.genotypes.phenotypes import simulate_traits
from bench.genotypes.spec import Simulated

SAMPLE = 1  # tskit.NODE_IS_SAMPLE


def simulate_chromosome(spec: Simulated, pedigree: pd.DataFrame, chromosome: int, seed: int, folder: Path) -> None:
    """Write chromosome 1, 2, … of the genotyped to `folder`: panel.bed, panel.bim, qtl.bed, qtl.bim.

    The panel has the chromosome's share of SNPs with a minor allele frequency of at least `min_maf` among
    the genotyped, evenly spread: one drawn at random out of each run of equally many such sites. QTL
    are other sites that pass the same filter. Calls of the panel are then made missing at random.
    """
    ts = _ancestry(spec, pedigree, seed_for(seed, "ancestry", chromosome))
    ts = msprime.sim_mutations(
        ts,
        rate=MUTATION_RATE,
        model=msprime.BinaryMutationModel(),
        start_time=spec.generations,  # none inside the pedigree: it would be a Mendelian error
        random_seed=seed_for(seed, "mutations", chromosome),
    )
    rng = np.random.default_rng(seed_for(seed, "panel", chromosome))
    n_snps, n_qtl = spec.chromosome_snps()[chromosome - 1], spec.chromosome_qtl()[chromosome - 1]
    panel, qtl = choose_sites(segregating_sites(ts, spec.min_maf), n_snps, n_qtl, rng, spec.min_maf, chromosome)
    missing = np.random.default_rng(seed_for(seed, "missing calls", chromosome))
    _write_sites(ts, panel, folder / "panel", f"chr{chromosome}", chromosome, spec.missing_rate, missing)
    _write_sites(ts, qtl, folder / "qtl", f"qtl{chromosome}", chromosome, 0.0, missing)


def _ancestry(spec: Simulated, pedigree: pd.DataFrame, seed: int) -> tskit.TreeSequence:
    """The genealogy of the genotyped: through the pedigree, then back through the population's history."""
    length = spec.chromosome_length
    through_pedigree = msprime.sim_ancestry(
        initial_state=_pedigree_tables(spec, pedigree, length),
        model="fixed_pedigree",
        recombination_rate=RECOMBINATION_RATE,
        random_seed=seed_for(seed, "meioses"),
    )
    return msprime.sim_ancestry(
        initial_state=through_pedigree,
        demography=demography(spec.generations),
        model=msprime.SMCK(1),
        recombination_rate=RECOMBINATION_RATE,
        random_seed=seed_for(seed, "founders"),
    )


def _pedigree_tables(spec: Simulated, pedigree: pd.DataFrame, length: int) -> tskit.TableCollection:
    """What msprime.PedigreeBuilder builds, a table at a time: individual i has nodes 2i and 2i+1."""
    tables = msprime.PedigreeBuilder().finalise(length)
    n = len(pedigree)
    parents = pedigree[["sire", "dam"]].to_numpy(np.int32) - 1  # ids count from 1; unknown becomes −1
    tables.individuals.append_columns(
        flags=np.zeros(n, np.uint32),
        parents=parents.ravel(),
        parents_offset=np.arange(n + 1, dtype=np.uint32) * 2,
    )
    time = spec.generations - pedigree["generation"].to_numpy(float)
    tables.nodes.append_columns(
        flags=genotyped(spec, pedigree).repeat(2) * np.uint32(SAMPLE),
        time=time.repeat(2),
        population=np.zeros(2 * n, np.int32),
        individual=np.arange(n, dtype=np.int32).repeat(2),
    )
    return tables


def _write_sites(
    ts: tskit.TreeSequence,
    sites: np.ndarray,
    prefix: Path,
    label: str,
    chromosome: int,
    missing_rate: float,
    rng: np.random.Generator,
) -> None:
    """Write `prefix`.bed and `prefix`.bim; individuals in the order of the pedigree."""
    keep = np.zeros(ts.num_sites, bool)
    keep[sites] = True
    positions = ts.sites_position[sites].astype(np.int64)
    kept = ts.delete_sites(np.flatnonzero(~keep), record_provenance=False)

    def blocks():
        for variant in kept.variants(isolated_as_missing=False, copy=False):
            haplotypes = variant.genotypes.reshape(-1, 2)
            dosages = haplotypes[:, 0] + haplotypes[:, 1]
            if missing_rate:
                dosages[rng.random(len(dosages)) < missing_rate] = -1
            yield pack_dosages(dosages[:, None])

    write_bed(prefix.with_suffix(".bed"), blocks())
    write_table(prefix.with_suffix(".bim"), bim_table(positions, label, chromosome), header=False)


def assemble(
    spec: Simulated, pieces: list[Path], pedigree: pd.DataFrame, seed: int, folder: Path, *, name: str
) -> Dataset:
    """Join the chromosomes, draw the traits, and write the data set with its manifest to `folder`.

    pieces: the folders of chromosome 1, 2, … as `simulate_chromosome` wrote them.
    """
    if len(pieces) != spec.chromosomes:
        raise BenchError(f"data set {name!r}: {len(pieces)} chromosomes given, {spec.chromosomes} needed")
    individuals = pedigree.loc[genotyped(spec, pedigree)].reset_index(drop=True)
    panel = [_piece(spec, folder_ / "panel") for folder_ in pieces]
    bim = read_chromosomes([folder_ / "panel.bim" for folder_ in pieces])
    bed = folder / "genotypes.bed"
    concatenate_beds(bed, panel)
    write_table(folder / "genotypes.bim", bim, header=False)
    write_table(folder / "genotypes.fam", _fam(individuals), header=False)
    write_table(folder / "pedigree.tsv", pedigree)

    qtl = np.concatenate([_piece(spec, folder_ / "qtl").dosages() for folder_ in pieces], axis=1)
    breeding_values, phenotypes = simulate_traits(qtl, spec.traits, seed)
    ids = individuals["id"].astype(str)
    for file, table in (("breeding_values.tsv", breeding_values), ("phenotypes.tsv", phenotypes)):
        table.insert(0, "id", ids)
        write_table(folder / file, table)

    packed = PackedGenotypes.open(bed, n_samples=spec.n_samples, n_snps=spec.n_snps)
    dataset = Dataset(
        name=name,
        n_samples=spec.n_samples,
        n_snps=spec.n_snps,
        missing_rate=packed.missing_rate(),
        traits=tuple(trait.name for trait in spec.traits),
        bed=bed,
        bim=folder / "genotypes.bim",
        fam=folder / "genotypes.fam",
        bed_sha256=bed_sha256(bed),
        phenotypes_path=folder / "phenotypes.tsv",
        breeding_values_path=folder / "breeding_values.tsv",
        pedigree_path=folder / "pedigree.tsv",
        source=spec.model_dump(mode="json"),
    )
    dataset.write(folder / "dataset.json")
    return dataset


def _piece(spec: Simulated, prefix: Path) -> PackedGenotypes:
    n_snps = len(read_bim(prefix.with_suffix(".bim")))
    return PackedGenotypes.open(prefix.with_suffix(".bed"), n_samples=spec.n_samples, n_snps=n_snps)


def _fam(individuals: pd.DataFrame) -> pd.DataFrame:
    """One family (PLINK looks for parents inside a family); a parent without genotypes becomes unknown."""
    known = individuals["id"].tolist()
    parents = individuals[["sire", "dam"]].where(individuals[["sire", "dam"]].isin(known), UNKNOWN)
    return pd.DataFrame(
        {
            "family": "1",
            "id": individuals["id"],
            "sire": parents["sire"],
            "dam": parents["dam"],
            "sex": individuals["sex"],
            "phenotype": -9,
        }
    )


def simulate(spec: Simulated, folder: Path, *, name: str) -> Dataset:
    """All three stages one after the other; pieces stay in `folder`/chromosomes."""
    pedigree = simulate_pedigree(spec, spec.seed)
    pieces = [folder / "chromosomes" / str(c) for c in range(1, spec.chromosomes + 1)]
    for chromosome, piece in enumerate(pieces, start=1):
        simulate_chromosome(spec, pedigree, chromosome, spec.seed, piece)
    return assemble(spec, pieces, pedigree, spec.seed, folder, name=name)
