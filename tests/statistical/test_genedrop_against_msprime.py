"""The gene drop against msprime's fixed pedigree on the same small pedigrees.

Each of the comparisons below fails by chance, under another seed, less than once in a thousand times: 15 of them, so
all together less than 1.5 % of the time. The seeds are fixed.
"""

import msprime
import numpy as np
import pytest
from scipy.stats import ks_2samp, ttest_ind

from bench.build import installed
from bench.genotypes.founders import MUTATION_RATE, RECOMBINATION_RATE, demography
from bench.genotypes.genedrop import Family, GeneDrop
from bench.genotypes.herds import simulate_pedigree
from bench.genotypes.spec import Livestock

pytestmark = [pytest.mark.statistical, pytest.mark.slow]
RARE = 1e-3
COHORTS, ANIMALS = 4, 96
BITS = 13  # of a founder gamete's label: two are the same once in 8,000


@pytest.fixture(scope="module")
def library():
    made = installed("genedrop")
    if made.library is None:
        pytest.skip(str(made.reason))
    return made.library


@pytest.fixture(scope="module")
def pedigree():
    return simulate_pedigree(
        Livestock(
            kind="livestock", animals=ANIMALS, genotyped=20, n_snps=99, mating="random", cohorts=COHORTS, herds=1,
            sires=4, n_qtl=99, seed=3,
        )
    )  # fmt: skip


def by_msprime(pedigree, length, seed):
    """The trees of the last two cohorts back to the founders of the pedigree."""
    builder = msprime.PedigreeBuilder()
    for sire, dam, born in pedigree[["sire", "dam", "born"]].to_numpy():
        parents = None if sire == 0 else [sire - 1, dam - 1]
        builder.add_individual(time=COHORTS - 1 - born, parents=parents, is_sample=born >= COHORTS - 2)
    return msprime.sim_ancestry(
        initial_state=builder.finalise(length), model="fixed_pedigree", recombination_rate=RECOMBINATION_RATE,
        random_seed=seed,
    )  # fmt: skip


def tabular(pedigree):
    """The numerator relationship matrix by the tabular method (Emik and Terrill 1949)."""
    A = np.zeros((ANIMALS + 1, ANIMALS + 1))  # row 0: the unknown parent
    for i, (sire, dam) in enumerate(pedigree[["sire", "dam"]].to_numpy(), start=1):
        A[i, :i] = A[:i, i] = (A[sire, :i] + A[dam, :i]) / 2
        A[i, i] = 1 + A[sire, dam] / 2
    return A[1:, 1:]


def realised(labels):
    """(animals, 2, sites) founder labels → (animals, animals) relationship: twice the share of alleles that agree."""
    flat = labels.transpose(1, 0, 2)
    return sum((a[:, None] == b[None]).mean(axis=2) for a in flat for b in flat) / 2


def labels_dropped(library, family, morgans, seed):
    found = np.zeros((len(family), 2, len(morgans)), int)
    drop = GeneDrop(library, length=1.0, seed=seed, switches=1e-9)
    for bit in range(BITS):
        marks = np.repeat((np.arange(1 << BITS) >> bit & 1).astype(np.uint8)[:, None], len(morgans), axis=1)
        bits = drop.drop(family, morgans, marks).bits.astype("<u8").view(np.uint8).reshape(len(family), 2, -1)
        found |= np.unpackbits(bits, axis=2, bitorder="little")[:, :, : len(morgans)].astype(int) << bit
    return found


def labels_of_trees(ts, morgans):
    found = np.zeros((2, ts.num_samples // 2, len(morgans)), int)
    place = {node: at for at, node in enumerate(ts.samples())}
    for site, position in enumerate(morgans):
        tree = ts.at(position / RECOMBINATION_RATE)
        for root in tree.roots:
            for node in tree.samples(root):
                found[place[node] % 2, place[node] // 2, site] = root
    return found.transpose(1, 0, 2)


@pytest.fixture(scope="module")
def relationships(library, pedigree):
    """(drops, animals, animals) realised over a Morgan, by the gene drop and by msprime, of the last two cohorts."""
    family, morgans = Family.of(pedigree), np.linspace(0.01, 0.99, 25)
    last = (pedigree["born"] >= COHORTS - 2).to_numpy()
    mine = [realised(labels_dropped(library, family, morgans, seed)[last]) for seed in range(1, 41)]
    theirs = [realised(labels_of_trees(by_msprime(pedigree, 1e8, seed), morgans)) for seed in range(1, 201)]
    return np.array(mine), np.array(theirs), tabular(pedigree)[np.ix_(last, last)]


def test_realised_relationship_is_that_of_the_pedigree(relationships):
    """A z-test of the mean over pairs of each class of relationship, by either program."""
    mine, theirs, A = relationships
    i, j = np.triu_indices(len(A), 1)
    for drops in (mine, theirs):
        slopes = [np.polyfit(A[i, j], G[i, j], 1)[0] for G in drops]
        offsets = [(G[i, j] - A[i, j]).mean() for G in drops]
        inbreeding = [(np.diag(G) - np.diag(A)).mean() for G in drops]
        for found, expected in ((slopes, 1), (offsets, 0), (inbreeding, 0)):
            error = np.std(found, ddof=1) / np.sqrt(len(found))
            assert abs(np.mean(found) - expected) < 3.6 * error + 1e-9
        print(f"slope {np.mean(slopes):.4f} ± {np.std(slopes) / np.sqrt(len(slopes)):.4f}")


def test_realised_relationships_vary_as_much_as_msprimes(relationships):
    mine, theirs, A = relationships
    i, j = np.triu_indices(len(A), 1)
    related = A[i, j] >= 0.25
    spread = [[np.sqrt(((G - A)[i, j][related] ** 2).mean()) for G in drops] for drops in (mine, theirs)]
    print("standard deviation of G − A among close relatives:", *(f"{np.mean(s):.4f}" for s in spread))
    assert ttest_ind(*spread, equal_var=False).pvalue > RARE
    closest = np.argmax(np.where(related, A[i, j], 0))
    pair = [drops[:, i[closest], j[closest]] for drops in (mine, theirs)]
    assert ks_2samp(*pair).pvalue > RARE


def alleles_of(gametes):
    n = len(gametes.bits)
    bits = gametes.bits.astype("<u8").view(np.uint8).reshape(2 * n, -1)
    return np.unpackbits(bits, axis=1, bitorder="little")[:, : gametes.sites]


def summary(haplotypes, bp):
    """Shares of the folded spectrum's classes, and mean r² of three classes of distance."""
    p = haplotypes.mean(axis=0)
    minor = np.minimum(p, 1 - p)
    seen = minor > 0
    spectrum = np.histogram(minor[seen], [0, 0.05, 0.1, 0.2, 0.35, 0.51])[0] / seen.sum()
    common = np.flatnonzero(minor >= 0.1)[:: max(1, (minor >= 0.1).sum() // 250)]
    r2 = np.corrcoef(haplotypes[:, common].T) ** 2
    i, j = np.triu_indices(len(common), 1)
    apart = np.abs(bp[common][i] - bp[common][j])
    classes = ((1_000, 30_000), (30_000, 150_000), (150_000, 600_000))
    return [*spectrum, *(r2[i, j][(apart >= a) & (apart < b)].mean() for a, b in classes)]


def mutated(ts, seed, start):
    return msprime.sim_mutations(
        ts, rate=MUTATION_RATE, model=msprime.BinaryMutationModel(), start_time=start, random_seed=seed
    )


def test_spectrum_and_linkage_disequilibrium_are_msprimes(library, pedigree):
    length, mine, theirs = 1_500_000, [], []
    family, last = Family.of(pedigree), (pedigree["born"] >= COHORTS - 2).to_numpy()
    kinds = {"model": msprime.SMCK(1), "recombination_rate": RECOMBINATION_RATE}
    for seed in range(1, 31):
        pool = msprime.sim_ancestry(300, demography=demography(), sequence_length=length, random_seed=seed, **kinds)
        pool = mutated(pool, seed, 0)
        bp = pool.sites_position
        drop = GeneDrop(library, length=length * RECOMBINATION_RATE, seed=seed)
        found = alleles_of(drop.drop(family, bp * RECOMBINATION_RATE, pool.genotype_matrix().T))
        mine.append(summary(found.reshape(ANIMALS, 2, -1)[last].reshape(2 * last.sum(), -1), bp))
        ts = msprime.sim_ancestry(
            initial_state=by_msprime(pedigree, length, seed), demography=demography(COHORTS - 1), random_seed=seed,
            **kinds,
        )  # fmt: skip
        ts = mutated(ts, seed, COHORTS - 1)
        theirs.append(summary(ts.genotype_matrix().T, ts.sites_position))
    print(np.round([np.mean(mine, axis=0), np.mean(theirs, axis=0)], 4))
    p = ttest_ind(mine, theirs, equal_var=False).pvalue
    assert (p > RARE).all(), p
