"""The history that founders' haplotypes come from, and the choice of sites of SNPs and QTL.

The ancestral allele is allele 1 of the .bim file (A) and the derived one allele 2 (G), so a dosage counts the derived
allele.
"""

from __future__ import annotations

import msprime
import numpy as np
import pandas as pd
import tskit

from bench.errors import BenchError
from bench.genotypes.spec import shares

RECOMBINATION_RATE = 1e-8  # per base pair and generation: 1 cM a Mb
MUTATION_RATE = 0.94e-8
# Holstein: generations ago → effective size from there on back. MacLeod et al. (2013), doi:10.1093/molbev/mst125
HISTORY = {
    0: 90, 3: 120, 6: 250, 12: 350, 18: 1_000, 24: 1_500, 154: 2_000, 454: 2_500, 654: 3_500,
    1_754: 7_000, 2_354: 10_000, 3_354: 17_000, 33_154: 62_000,
}  # fmt: skip
ANCESTRAL, DERIVED = "A", "G"


def demography(founders_at: int = 0) -> msprime.Demography:
    """The population's history, its present moved to `founders_at` generations ago."""
    history = msprime.Demography.isolated_model([HISTORY[0]])
    for time, size in list(HISTORY.items())[1:]:
        history.add_population_parameters_change(time=founders_at + time, initial_size=size)
    return history


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
