"""The gene drop against what Mendel says, and against a slow copy of its own rules."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.build import installed
from bench.genotypes.genedrop import Family, GeneDrop


@pytest.fixture(scope="module")
def library():
    made = installed("genedrop")
    if made.library is None:
        pytest.skip(str(made.reason))
    return made.library


@st.composite
def families(draw):
    """A pedigree of a few cohorts, some parents unknown."""
    sizes = draw(st.lists(st.integers(1, 30), min_size=1, max_size=5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    first = np.concatenate([[0], np.cumsum(sizes)])
    born = np.repeat(np.arange(len(sizes)), sizes)
    parents = [[int(rng.integers(-(first[b] // 4) - 1, first[b])) for b in born] for _ in range(2)]
    sire, dam = (np.maximum(np.array(p), -1) + 1 for p in parents)
    table = pd.DataFrame({"id": np.arange(1, len(born) + 1), "sire": sire, "dam": dam, "born": born})
    return Family.of(table), rng


def alleles(gametes):
    """(n, 2, sites) of 0 and 1."""
    n, _, words = gametes.bits.shape
    bytes_ = gametes.bits.astype("<u8").view(np.uint8).reshape(n, 2, 8 * words)
    return np.unpackbits(bytes_, axis=2, bitorder="little")[:, :, : gametes.sites]


def haplotypes_and_positions(rng, sites, founders=6):
    return rng.integers(0, 2, (founders, sites)).astype(np.uint8), np.sort(rng.random(sites))


@settings(max_examples=40, deadline=None)
@given(family=families(), sites=st.integers(1, 200), seed=st.integers(0, 2**32 - 1))
def test_every_gamete_is_made_of_its_parents_two(library, family, sites, seed):
    family, rng = family
    haplotypes, morgans = haplotypes_and_positions(rng, sites)
    there = alleles(GeneDrop(library, length=1.0, seed=seed).drop(family, morgans, haplotypes))
    for i, parents in enumerate(zip(family.sire, family.dam, strict=True)):
        for side, parent in enumerate(parents):
            sources = haplotypes if parent < 0 else there[parent]
            assert (sources == there[i, side]).any(axis=0).all()


@settings(max_examples=25, deadline=None)
@given(family=families(), sites=st.integers(1, 300), seed=st.integers(0, 2**32 - 1))
def test_any_threads_sites_and_animals_are_of_the_same_meioses(library, family, sites, seed):
    family, rng = family
    haplotypes, morgans = haplotypes_and_positions(rng, sites)
    one = GeneDrop(library, length=1.0, seed=seed).drop(family, morgans, haplotypes)
    two = GeneDrop(library, length=1.0, seed=seed, threads=2).drop(family, morgans, haplotypes)
    assert np.array_equal(one.bits, two.bits)
    some = np.flatnonzero(rng.random(sites) < 0.3)
    rows = np.flatnonzero(rng.random(len(family)) < 0.2)
    pruned, kept = family.pruned(rows)
    fewer = GeneDrop(library, length=1.0, seed=seed).drop(pruned, morgans[some], haplotypes[:, some])
    assert np.array_equal(alleles(fewer)[kept], alleles(one)[rows][:, :, some])
    assert np.array_equal(pruned.animal[kept], rows)


@settings(max_examples=25, deadline=None)
@given(family=families(), sites=st.integers(1, 200), seed=st.integers(0, 2**32 - 1))
def test_packed_genotypes_and_values_are_sums_of_the_alleles(library, family, sites, seed):
    family, rng = family
    haplotypes, morgans = haplotypes_and_positions(rng, sites)
    gametes = GeneDrop(library, length=1.0, seed=seed, threads=2).drop(family, morgans, haplotypes)
    dosages = alleles(gametes).sum(axis=1)
    rows = rng.permutation(len(family))[: rng.integers(1, len(family) + 1)]
    assert np.array_equal(gametes.pack(rows).dosages(), dosages[rows])
    effects = rng.standard_normal((sites, 2))
    np.testing.assert_allclose(gametes.values(effects), dosages @ effects, atol=1e-11)


def test_pruning_keeps_the_ancestors_and_nobody_else():
    table = pd.DataFrame(
        {"id": range(1, 7), "sire": [0, 0, 0, 1, 1, 4], "dam": [0, 0, 0, 2, 3, 0], "born": [0, 0, 0, 1, 1, 2]}
    )
    pruned, kept = Family.of(table).pruned(np.array([5]))
    assert pruned.animal.tolist() == [0, 1, 3, 5]
    assert (pruned.sire.tolist(), pruned.dam.tolist()) == ([-1, -1, 0, 2], [-1, -1, 1, -1])
    assert (pruned.first.tolist(), kept.tolist()) == ([0, 2, 3, 4], [3])


def pairs(n):
    """n calves of one sire and one dam."""
    born = np.repeat([0, 1], [2, n])
    sire, dam = np.where(born, 1, 0), np.where(born, 2, 0)
    return Family.of(pd.DataFrame({"id": np.arange(1, n + 3), "sire": sire, "dam": dam, "born": born}))


def test_recombination_is_haldanes(library):
    # The sire has 0 in one gamete and 1 in the other throughout, so that a change of alleles is a crossover.
    n, morgans = 40_000, np.array([0.0, 0.05, 0.2, 0.7, 1.4])
    for seed in range(1, 40):
        drop = GeneDrop(library, length=1.5, seed=seed, switches=1e-9)
        gametes = alleles(drop.drop(pairs(n), morgans, np.repeat([[0], [1]], 5, axis=1)))
        if (gametes[0, 0] != gametes[0, 1]).all():
            break
    inherited = gametes[2:, 0]
    assert abs(inherited[:, 0].mean() - 0.5) < 0.015
    for a in range(5):
        for b in range(a):
            expected = (1 - np.exp(-2 * (morgans[a] - morgans[b]))) / 2
            assert abs((inherited[:, a] != inherited[:, b]).mean() - expected) < 0.015


def test_founders_mix_the_haplotypes_evenly_and_switch_as_often_as_said(library):
    n, haplotypes, switches = 20_000, 8, 4.0
    table = pd.DataFrame({"id": np.arange(1, n + 1), "sire": 0, "dam": 0, "born": 0})
    family, morgans = Family.of(table), np.array([0.1, 0.4])
    which = np.array([[h >> bit & 1 for bit in range(3)] for h in range(haplotypes)]).T  # (3 bits, haplotypes)
    drop = GeneDrop(library, length=1.0, seed=11, switches=switches)
    drawn = sum(alleles(drop.drop(family, morgans, np.repeat(bit[:, None], 2, axis=1))).astype(int) << place
                for place, bit in enumerate(which))  # fmt: skip
    drawn = drawn.reshape(-1, 2)
    shares = np.bincount(drawn[:, 0], minlength=haplotypes) / len(drawn)
    np.testing.assert_allclose(shares, 1 / haplotypes, atol=0.01)
    same = np.exp(-switches * 0.3)
    assert abs((drawn[:, 0] == drawn[:, 1]).mean() - (same + (1 - same) / haplotypes)) < 0.01
