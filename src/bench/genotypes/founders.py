"""The history that founders' haplotypes come from, and the choice of sites of SNPs and QTL.

The ancestral allele is allele 1 of the .bim file (A) and the derived one allele 2 (G), so a dosage counts the derived
allele.
"""

from __future__ import annotations

from dataclasses import dataclass

import msprime
import numpy as np
import pandas as pd
import tskit

from bench.errors import BenchError
from bench.genotypes.pedigree import seed_for
from bench.genotypes.spec import Livestock, shares

RECOMBINATION_RATE = 1e-8  # per base pair and generation: 1 cM a Mb
MUTATION_RATE = 0.94e-8
# Holstein: generations ago → effective size from there on back. MacLeod et al. (2013), doi:10.1093/molbev/mst125
HISTORY = {
    0: 90, 3: 120, 6: 250, 12: 350, 18: 1_000, 24: 1_500, 154: 2_000, 454: 2_500, 654: 3_500,
    1_754: 7_000, 2_354: 10_000, 3_354: 17_000, 33_154: 62_000,
}  # fmt: skip
ANCESTRAL, DERIVED = "A", "G"


def demography(founders_at: int = 0, *, breeds: int = 1, split: float = 0) -> msprime.Demography:
    """The population's history, its present moved to `founders_at` generations ago.

    breeds: so many populations, each with that history, which were one until `split` generations before the present.
    """
    if breeds > 1:
        return _parted(breeds, split)
    history = msprime.Demography.isolated_model([HISTORY[0]])
    for time, size in list(HISTORY.items())[1:]:
        history.add_population_parameters_change(time=founders_at + time, initial_size=size)
    return history


def _parted(breeds: int, split: float) -> msprime.Demography:
    history = msprime.Demography()
    names: list[str | int] = [f"breed{b + 1}" for b in range(breeds)]
    for name in names:
        history.add_population(name=str(name), initial_size=HISTORY[0])
    at_split = [size for time, size in HISTORY.items() if time <= split][-1]
    history.add_population(name="ancestors", initial_size=at_split)
    for time, size in list(HISTORY.items())[1:]:
        for number in range(breeds) if time < split else [breeds] if time > split else []:
            history.add_population_parameters_change(time=time, initial_size=size, population=number)
    history.add_population_split(time=split, derived=names, ancestral="ancestors")
    history.sort_events()
    return history


@dataclass(frozen=True)
class Founders:
    """Haplotypes of a chromosome's founders.

    positions: (sites,) base pairs; haplotypes: (2 · founders, sites) of 0 and 1; is_qtl: (sites,) bool; pools:
    (pools, 2) the first haplotype of each breed and one past its last, and where there are several breeds, of all.
    """

    positions: np.ndarray
    haplotypes: np.ndarray
    is_qtl: np.ndarray
    pools: np.ndarray


def draw_founders(spec: Livestock, chromosome: int) -> Founders:
    """Of chromosome 1, 2, …: the SNPs of the panel and the QTL."""
    breeds = 1 if spec.breeds is None else len(spec.breeds.shares)
    sizes = shares(spec.founders, breeds)
    split = 0.0 if spec.breeds is None else spec.breeds.split
    ts = msprime.sim_ancestry(
        samples=spec.founders if breeds == 1 else {f"breed{b + 1}": size for b, size in enumerate(sizes)},
        demography=demography(breeds=breeds, split=split),
        model=msprime.SMCK(1),
        recombination_rate=RECOMBINATION_RATE,
        sequence_length=spec.chromosome_length,
        random_seed=seed_for(spec.seed, "founders", chromosome),
    )
    ts = msprime.sim_mutations(
        ts,
        rate=MUTATION_RATE,
        model=msprime.BinaryMutationModel(),
        random_seed=seed_for(spec.seed, "mutations", chromosome),
    )
    rng = np.random.default_rng(seed_for(spec.seed, "panel", chromosome))
    n_snps, n_qtl = spec.chromosome_snps()[chromosome - 1], spec.chromosome_qtl()[chromosome - 1]
    eligible = segregating_sites(ts, spec.min_maf)
    panel, qtl = choose_sites(eligible, n_snps, n_qtl, rng, spec.min_maf, chromosome)
    sites = np.union1d(panel, qtl)
    others = np.setdiff1d(np.arange(ts.num_sites), sites)
    haplotypes = ts.delete_sites(others, record_provenance=False).genotype_matrix(isolated_as_missing=False)
    ends = 2 * np.cumsum(sizes)
    pools = np.column_stack([ends - 2 * np.array(sizes), ends])
    if breeds > 1:
        pools = np.vstack([pools, [0, ends[-1]]])
    positions = ts.sites_position[sites].astype(np.int64)
    return Founders(positions, haplotypes.T, np.isin(sites, qtl), pools)


def qtl_effects(spec: Livestock, chromosome: int) -> np.ndarray:
    """(QTL, t) of a chromosome, normal and independent, before they are scaled."""
    rng = np.random.default_rng(seed_for(spec.seed, "effects", chromosome))
    return rng.standard_normal((spec.chromosome_qtl()[chromosome - 1], len(spec.traits)))


def segregating_sites(ts: tskit.TreeSequence, min_maf: float) -> np.ndarray:
    """Sites of a single mutation whose minor allele has at least the frequency `min_maf`, in order.

    A mutation's count is the number of samples below its node, which tskit keeps while it moves along
    the trees: no genotype is decoded.
    """
    sites, nodes = ts.mutations_site, ts.mutations_node
    count = np.zeros(ts.num_mutations, np.int64)
    starts = np.searchsorted(ts.sites_position[sites], np.asarray(ts.breakpoints(as_array=True)))
    for tree in ts.trees():
        for mutation in range(starts[tree.index], starts[tree.index + 1]):
            count[mutation] = tree.num_samples(nodes[mutation])
    minor = np.minimum(count, ts.num_samples - count) / ts.num_samples
    single = np.bincount(sites, minlength=ts.num_sites)[sites] == 1
    return sites[single & (minor > 0) & (minor >= min_maf)]


def choose_sites(
    eligible: np.ndarray,
    n_snps: int,
    n_qtl: int,
    rng: np.random.Generator,
    min_maf: float,
    chromosome: int,
) -> tuple[np.ndarray, np.ndarray]:
    """(n_snps,) sites for the panel and (n_qtl,) others, both in order."""
    if len(eligible) < n_snps + n_qtl:
        raise BenchError(
            f"chromosome {chromosome}: found {len(eligible)} sites with a minor allele frequency of at least "
            f"{min_maf}, needed {n_snps} for the panel and {n_qtl} QTL; use more or longer chromosomes, "
            "fewer SNPs or a lower min_maf"
        )
    run = np.array(shares(len(eligible), n_snps))
    chosen = np.cumsum(run) - run + rng.integers(run)
    panel = eligible[chosen]
    return panel, np.sort(rng.choice(np.delete(eligible, chosen), n_qtl, replace=False))


def bim_table(positions: np.ndarray, label: str, chromosome: int) -> pd.DataFrame:
    """A .bim table of sites at `positions` (base pairs from 0), named LABEL_1, LABEL_2, …"""
    return pd.DataFrame(
        {
            "chromosome": chromosome,
            "snp": [f"{label}_{i + 1}" for i in range(len(positions))],
            "cm": [f"{bp * RECOMBINATION_RATE * 100:.6f}" for bp in positions],
            "bp": positions + 1,
            "allele1": ANCESTRAL,
            "allele2": DERIVED,
        }
    )
