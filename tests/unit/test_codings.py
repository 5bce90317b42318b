"""Codings with choices against dense numpy arithmetic."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import BenchError
from bench.genotypes.packed import PackedGenotypes
from bench.relationships.codings import CODINGS, snp_coding
from bench.relationships.genomic import RELATIONSHIPS, BlockCentred, Centred, dense_grm, grm_diagonal
from bench.relationships.missing import missing_calls
from bench.solvers.operator import Dense
from salmon import read_salmon, reference_file


def drawn(seed: int, n: int = 23, m: int = 41, missing: float = 0.1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    dosages = rng.binomial(2, rng.uniform(0.02, 0.98, m), (n, m)).astype(np.int8)
    dosages[rng.random((n, m)) < missing] = -1
    dosages[:3, 0] = [0, 1, 2]  # a SNP that varies
    return dosages


def dense(dosages, relationship, *, min_maf=0.0, keep=None, weights=None, frequencies=None):
    """W and c of the SNPs that are kept, column by column."""
    Z = np.where(dosages < 0, np.nan, dosages.astype(float))
    W, c = np.zeros(Z.shape), 0.0
    for j, z in enumerate(Z.T):
        called = z[np.isfinite(z)]
        p = called.mean() / 2 if called.size else 0.0
        if min(p, 1 - p) < min_maf - 1e-9 or (keep is not None and not keep[j]):
            continue
        d = 1.0 if weights is None else weights[j]
        sd = called.std(ddof=1) if called.size > 1 else 0.0
        if frequencies is not None:
            p, sd = frequencies[j], np.sqrt(2 * frequencies[j] * (1 - frequencies[j]))
        if relationship == "metafounder":
            p = 0.5
        w = np.nan_to_num(z - 2 * p) * np.sqrt(d)
        if relationship == "vanraden2":
            sd = np.sqrt(2 * p * (1 - p))
        terms = {
            "vanraden1": d * 2 * p * (1 - p),
            "vanraden2": d * (sd > 1e-12),
            "standardised": d,
            "metafounder": d / 2,
        }
        c += terms[relationship]
        W[:, j] = w if relationship in ("vanraden1", "metafounder") else (w / sd if sd > 1e-12 else 0 * w)
    return W, c


@settings(max_examples=80, deadline=None)
@given(
    relationship=st.sampled_from(sorted(CODINGS)),
    seed=st.integers(0, 10**6),
    min_maf=st.sampled_from([0.0, 0.05, 0.2]),
    choices=st.sets(st.sampled_from(["keep", "weights", "frequencies"])),
    missing=st.sampled_from([0.0, 0.1]),
)
def test_every_choice_gives_the_dense_relationships(relationship, seed, min_maf, choices, missing):
    rng, dosages = np.random.default_rng(seed), drawn(seed, missing=missing)
    m = dosages.shape[1]
    made = {
        "keep": np.arange(m) % 4 > 0,
        "weights": rng.gamma(0.5, size=m) + 1e-3,
        "frequencies": rng.uniform(0.05, 0.95, m),
    }
    if relationship == "metafounder":
        choices.discard("frequencies")
    chosen = {name: made[name] for name in choices}
    packed = PackedGenotypes.from_dosages(dosages)
    coding = snp_coding(packed, relationship, min_maf=min_maf, **chosen)
    W, c = dense(dosages, relationship, min_maf=min_maf, **chosen)
    assert coding.divisor == pytest.approx(c, rel=1e-12)
    V, U = rng.standard_normal((m, 2)), rng.standard_normal((len(W), 3))
    raw = Dense(np.maximum(dosages, 0).astype(float))
    scale = np.abs(W).max()
    for operator in (Centred(raw, coding, missing_calls(packed)), BlockCentred(packed, coding)):
        np.testing.assert_allclose(operator.matmul(V), W @ V, atol=1e-12 * scale)
        np.testing.assert_allclose(operator.rmatmul(U), W.T @ U, atol=1e-12 * scale)
    np.testing.assert_allclose(dense_grm(packed, coding), W @ W.T / c, atol=1e-12 * scale**2)
    np.testing.assert_allclose(grm_diagonal(packed, coding), (W**2).sum(1) / c, atol=1e-12 * scale**2)


@pytest.mark.parametrize("relationship", RELATIONSHIPS)
def test_without_choices_the_coding_is_the_same_to_the_last_bit(relationship):
    packed = PackedGenotypes.from_dosages(drawn(5))
    plain, chosen = RELATIONSHIPS[relationship](packed), snp_coding(packed, relationship, weights=np.ones(41))
    np.testing.assert_array_equal(plain.centre, chosen.centre)
    np.testing.assert_array_equal(plain.scale, chosen.scale)
    assert plain.divisor == chosen.divisor
    np.testing.assert_array_equal(dense_grm(packed, plain), dense_grm(packed, chosen))


def test_a_snp_at_the_limit_of_the_frequency_is_kept():
    dosages = np.zeros((50, 2), np.int8)
    dosages[0, 0] = 1  # 1 of 100 alleles
    dosages[:2, 1] = 2
    packed = PackedGenotypes.from_dosages(dosages)
    assert snp_coding(packed, min_maf=0.01).scale.tolist() == [1, 1]
    assert snp_coding(packed, min_maf=0.0101).scale.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("choice", "sentence"),
    [
        (
            {"relationship": "vanraden3"},
            "no relationship 'vanraden3'; there are vanraden1, vanraden2, standardised, metafounder",
        ),
        ({"min_maf": 0.5}, "min_maf is 0.5"),
        ({"min_maf": float("nan")}, "min_maf is nan"),
        ({"min_maf": 0.4999}, "none of 41 SNPs is left"),
        ({"keep": np.zeros(41, bool)}, "none of 41 SNPs is left"),
        ({"keep": np.ones(40, bool)}, r"mask of SNPs is bool of shape \(40,\); 41 of bool were needed"),
        ({"keep": np.ones(41)}, "mask of SNPs is float64"),
        ({"weights": np.ones(3)}, r"one weight per SNP is needed, 41 in all; found an array of shape \(3,\)"),
        ({"weights": np.r_[np.ones(40), -1]}, "1 SNP weights are negative or no numbers, such as -1 of SNP 41"),
        ({"weights": np.zeros(41)}, "all 41 SNP weights are 0: there is no relationship to speak of"),
        ({"weights": np.r_[np.nan, np.ones(40)]}, "such as nan of SNP 1"),
        ({"frequencies": np.full(41, 1.5)}, "41 allele frequencies are not between 0 and 1, such as 1.5 of SNP 1"),
        ({"frequencies": np.zeros(41)}, "the 41 SNPs kept do not vary at the frequencies given"),
        ({"frequencies": np.full(41, 0.5), "relationship": "metafounder"}, "leave the frequencies out"),
    ],
)
def test_choices_that_cannot_be_are_refused(choice, sentence):
    dosages = drawn(5)
    dosages[0, dosages.mean(axis=0) == 1] = -1  # no frequency of a half
    with pytest.raises(BenchError, match=sentence):
        snp_coding(PackedGenotypes.from_dosages(dosages), **choice)


def test_a_weight_of_nothing_leaves_a_snp_out():
    packed, kept = PackedGenotypes.from_dosages(drawn(5)), np.arange(41) % 3 > 0
    one, two = snp_coding(packed, weights=kept.astype(float)), snp_coding(packed, keep=kept)
    np.testing.assert_array_equal(one.scale, two.scale)
    assert one.divisor == two.divisor


def test_salmon_keeps_the_snps_and_frequencies_of_the_reference():
    _, dosages = read_salmon()
    coding = snp_coding(PackedGenotypes.from_dosages(dosages), min_maf=0.01)
    kept = coding.scale > 0
    assert int(kept.sum()) == 11397  # as counted by ASRgenomics for the reference solution
    frequencies = np.loadtxt(reference_file("ss_salmon_load_all_freq.csv"), delimiter=",", skiprows=1)[:, 1]
    np.testing.assert_allclose(coding.centre[kept] / 2, frequencies, rtol=1e-12)
