"""Blending and tuning against dense G and A_gg."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.build import installed
from bench.errors import BenchError
from bench.genotypes.packed import PackedGenotypes
from bench.relationships import tuning as module
from bench.relationships.codings import snp_coding
from bench.relationships.genomic import BlockCentred, Coding
from bench.relationships.numerator import GenotypedNumerator
from bench.relationships.pedigree import Pedigree
from bench.relationships.tuning import blend, genomic_moments, genomic_times_pedigree, pedigree_squares, snp_sums
from bench.solvers.operator import Dense

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ on this machine")


def library() -> Path:
    made = installed("pedigree").library
    assert made is not None
    return made


def population(seed: int, *, n: int = 60, g: int = 25, m: int = 90, missing: float = 0.05):
    """Genotypes dropped through a pedigree of random mating, and the numerator of the last g animals, shuffled."""
    rng = np.random.default_rng(seed)
    founders = 8
    sire, dam = (np.array([rng.integers(max(0, i - 20), i) if i >= founders else -1 for i in range(n)]) for _ in "sd")
    haplotypes = rng.random((n, 2, m)) < rng.uniform(0.1, 0.9, m)
    for i in range(founders, n):
        for side, parent in enumerate((sire[i], dam[i])):
            haplotypes[i, side] = np.where(rng.random(m) < 0.5, haplotypes[parent, 0], haplotypes[parent, 1])
    genotyped = n - g + rng.permutation(g)
    dosages = haplotypes.sum(axis=1)[genotyped].astype(np.int8)
    dosages[rng.random(dosages.shape) < missing] = -1
    dosages[:2, 0] = [0, 2]
    pedigree = Pedigree(np.arange(n).astype(str).astype(object), sire.astype(np.int32), dam.astype(np.int32))
    return PackedGenotypes.from_dosages(dosages), GenotypedNumerator(pedigree, genotyped, library=library())


def dense(packed, coding, numerator):
    """M, G and A_gg as arrays."""
    M = BlockCentred(packed, coding).matmul(np.eye(packed.n_snps))
    return M, M @ M.T / coding.divisor, numerator.matmul(np.eye(packed.n_samples))


def tuned(G: np.ndarray, A: np.ndarray, tuning: str) -> np.ndarray:
    """a 11' + b G, as the papers define it, element by element."""
    off = ~np.eye(len(G), dtype=bool)
    if tuning == "vitezica":
        alpha = A.mean() - G.mean()
        return G * (1 - alpha / 2) + alpha
    if tuning == "chen":
        a, b = np.linalg.solve([[1, np.diag(G).mean()], [1, G[off].mean()]], [np.diag(A).mean(), A[off].mean()])
        return a + b * G
    if tuning == "vanraden":
        g0, g1 = np.linalg.lstsq(np.c_[np.ones(A.size), A.ravel()], G.ravel(), rcond=None)[0]
        return (G - g0) / g1
    return G


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    tuning=st.sampled_from(["none", "vitezica", "chen", "vanraden", "blupf90"]),
    order=st.sampled_from([None, "tune-first", "blend-first"]),
    w=st.sampled_from([0.0, 1e-3, 0.05, 0.5]),
    relationship=st.sampled_from(["vanraden1", "standardised", "metafounder"]),
    choices=st.booleans(),
)
def test_the_blend_is_the_dense_one(seed, tuning, order, w, relationship, choices):
    packed, numerator = population(seed)
    weights = np.random.default_rng(seed).gamma(1, size=packed.n_snps) + 0.1
    coding = snp_coding(packed, relationship, min_maf=0.05 if choices else 0, weights=weights if choices else None)
    M, G, A = dense(packed, coding, numerator)
    if tuning == "blupf90":
        order = None
        wanted = tuned((1 - w) * G + w * A, A, "chen")
    elif order == "blend-first":
        wanted = tuned((1 - w) * G + w * A, A, tuning)
    else:
        wanted = (1 - w) * tuned(G, A, tuning) + w * A
    found = blend(packed, coding, numerator, w=w, tuning=tuning, order=order)
    Gw = found.marker_variance * M @ M.T + found.constant + found.polygenic * A
    np.testing.assert_allclose(Gw, wanted, rtol=1e-10, atol=1e-11)
    assert (found.polygenic > 0) == (w > 0)


def test_moments_are_those_of_the_dense_matrices(monkeypatch):
    monkeypatch.setattr(module, "COLUMNS", 7)  # several blocks, the last one short
    packed, numerator = population(3)
    coding = snp_coding(packed, min_maf=0.1)
    M, G, A = dense(packed, coding, numerator)
    sums, squares = snp_sums(packed, coding)
    np.testing.assert_allclose(sums, M.sum(axis=0), atol=1e-12)
    np.testing.assert_allclose(squares, (M**2).sum(axis=0), atol=1e-12)
    moments = genomic_moments(packed, coding)
    assert moments.all == pytest.approx(G.mean(), abs=1e-14)
    assert moments.diagonal == pytest.approx(np.trace(G) / len(G))
    assert moments.off_diagonal == pytest.approx(G[~np.eye(len(G), dtype=bool)].mean())
    assert genomic_times_pedigree(packed, coding, numerator) == pytest.approx(float((G * A).sum()))
    assert pedigree_squares(numerator) == pytest.approx(float((A**2).sum()))


def test_tuned_relationships_have_the_moments_of_the_pedigree():
    packed, numerator = population(11)
    coding = snp_coding(packed)
    M, _, A = dense(packed, coding, numerator)
    for tuning, order in (("chen", "tune-first"), ("chen", "blend-first"), ("blupf90", None)):
        found = blend(packed, coding, numerator, w=0.05, tuning=tuning, order=order)
        Gw = found.marker_variance * M @ M.T + found.constant + found.polygenic * A
        assert np.trace(Gw) == pytest.approx(np.trace(A))
        assert Gw.sum() == pytest.approx(A.sum())


def test_what_cannot_be_blended_is_refused():
    packed, numerator = population(1)
    coding = snp_coding(packed)
    for w in (-0.1, 1.0, 1.5, float("nan")):
        with pytest.raises(BenchError, match="a residual polygenic share from 0 to below 1"):
            blend(packed, coding, numerator, w=w)
    with pytest.raises(BenchError, match="no tuning 'legarra'; there are none, vitezica, chen, vanraden, blupf90"):
        blend(packed, coding, numerator, w=0.1, tuning="legarra")
    with pytest.raises(BenchError, match="no order 'never'; there are tune-first and blend-first"):
        blend(packed, coding, numerator, w=0.1, order="never")
    with pytest.raises(BenchError, match="'blupf90' blends first"):
        blend(packed, coding, numerator, w=0.1, tuning="blupf90", order="tune-first")
    with pytest.raises(BenchError, match="24 individuals, but A_gg is of 25"):
        blend(packed.head(24), coding, numerator, w=0.1)
    fewer = PackedGenotypes(packed.codes[:80], packed.n_samples)
    with pytest.raises(BenchError, match="80 SNPs, but their coding has 90"):
        blend(fewer, coding, numerator, w=0.1)


class Kin(Dense):
    """An A_gg of its own."""

    @property
    def inbreeding(self) -> np.ndarray:
        return np.diag(self.array) - 1


def test_genotypes_that_contradict_the_pedigree_cannot_be_tuned():
    packed = PackedGenotypes.from_dosages(np.array([[0], [0], [2], [2]], np.int8))
    opposite = Kin(np.array([[1, 0, 0.6, 0.6], [0, 1, 0.6, 0.6], [0.6, 0.6, 1, 0], [0.6, 0.6, 0, 1]]))
    with pytest.raises(BenchError, match="tuning 'vanraden' would multiply G by -"):
        blend(packed, snp_coding(packed), opposite, w=0.05, tuning="vanraden")
    alike = PackedGenotypes.from_dosages(np.array([[0, 1]] * 3 + [[1, 1]], np.int8)).head(3)
    coding = Coding("vanraden1", np.full(2, 0.5), np.ones(2), 1.0)
    with pytest.raises(BenchError, match="the same mean on and off its diagonal"):
        blend(alike, coding, Kin(np.eye(3)), w=0.05, tuning="chen")


def test_a_population_too_small_to_tune():
    packed, numerator = population(4, g=2)
    coding = snp_coding(packed)
    pedigree = Pedigree(np.array(["a"], object), np.array([-1], np.int32), np.array([-1], np.int32))
    alone = GenotypedNumerator(pedigree, np.array([0]), library=library())
    with pytest.raises(BenchError, match="one genotyped animal has no relationships to match"):
        blend(packed.head(1), coding, alone, w=0.1, tuning="chen")
    with pytest.raises(BenchError, match="all relationships in A_gg are equal"):
        blend(packed.head(1), coding, alone, w=0.1, tuning="vanraden")
    assert blend(packed, coding, numerator, w=0.1, tuning="vitezica").marker_variance > 0
