"""Relationships against dense numpy arithmetic on unpacked dosages."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from bench.build import build
from bench.errors import BenchError
from bench.genotypes.packed import PackedGenotypes
from bench.relationships import genomic
from bench.relationships.genomic import (
    RELATIONSHIPS,
    BlockCentred,
    Centred,
    Gram,
    dense_grm,
    grm_diagonal,
)
from bench.relationships.missing import missing_calls
from bench.solvers.operator import Dense


def draw(n=37, m=53, missing=0.0, seed=1):
    rng = np.random.default_rng(seed)
    dosages = rng.binomial(2, rng.uniform(0.05, 0.5, m), (n, m)).astype(np.int8)
    dosages[rng.random((n, m)) < missing] = -1
    return dosages


def imputed(dosages, relationship):
    """W and the divisor by mean imputation and numpy's own mean and sd: shares no code with the package."""
    Z = np.where(dosages < 0, np.nan, dosages.astype(float))
    seen = np.isfinite(Z).any(0)
    mean = np.array([np.nanmean(z) if ok else 0.0 for z, ok in zip(Z.T, seen, strict=True)])
    W = np.where(np.isnan(Z), mean, Z) - mean
    if relationship == "vanraden1":
        return W, float(np.sum(mean * (1 - mean / 2)))
    sd = np.array([np.nanstd(z, ddof=1) if np.isfinite(z).sum() > 1 else 0.0 for z in Z.T])
    return np.divide(W, sd, out=np.zeros_like(W), where=sd > 1e-12), float(dosages.shape[1])


def operator_of(dosages):
    packed = PackedGenotypes.from_dosages(dosages)
    raw = Dense(np.maximum(dosages, 0).astype(float))
    return packed, raw


@pytest.mark.parametrize("relationship", RELATIONSHIPS)
@pytest.mark.parametrize("missing", [0.0, 0.15])
def test_centred_products_equal_those_of_the_mean_imputed_matrix(relationship, missing):
    dosages = draw(missing=missing)
    dosages[:, 3], dosages[:, 4], dosages[:, 5] = 0, 2, -1
    packed, raw = operator_of(dosages)
    coding = RELATIONSHIPS[relationship](packed)
    W, divisor = imputed(dosages, relationship)
    rng = np.random.default_rng(2)
    V, U = rng.standard_normal((53, 3)), rng.standard_normal((37, 2))
    assert coding.divisor == pytest.approx(divisor, rel=1e-13)
    for operator in (Centred(raw, coding, missing_calls(packed)), BlockCentred(packed, coding)):
        np.testing.assert_allclose(operator.matmul(V), W @ V, atol=1e-12)
        np.testing.assert_allclose(operator.rmatmul(U), W.T @ U, atol=1e-12)
        np.testing.assert_allclose(Gram(operator, divisor).matmul(U), W @ (W.T @ U) / divisor, atol=1e-12)
    np.testing.assert_allclose(dense_grm(packed, coding), W @ W.T / divisor, atol=1e-13)
    np.testing.assert_allclose(grm_diagonal(packed, coding), (W**2).sum(1) / divisor, atol=1e-13)


@settings(max_examples=60, deadline=None)
@given(
    dosages=arrays.arrays(
        np.int8,
        st.tuples(st.integers(2, 9), st.integers(1, 12)),
        elements=st.sampled_from([-1, 0, 1, 2]),
    ),
    relationship=st.sampled_from(sorted(RELATIONSHIPS)),
    seed=st.integers(0, 99),
)
def test_centred_is_exact_or_refused_for_any_genotypes(dosages, relationship, seed):
    packed, raw = operator_of(dosages)
    W, divisor = imputed(dosages, relationship)
    if not W.any():
        with pytest.raises(BenchError, match="monomorphic or missing"):
            RELATIONSHIPS[relationship](packed)
        return
    coding = RELATIONSHIPS[relationship](packed)
    V = np.random.default_rng(seed).standard_normal((dosages.shape[1], 2))
    operator = Centred(raw, coding, missing_calls(packed))
    np.testing.assert_allclose(operator.matmul(V), W @ V, atol=1e-12)
    np.testing.assert_allclose(dense_grm(packed, coding), W @ W.T / divisor, atol=1e-12)


def test_centred_operator_is_its_own_adjoint():
    packed, raw = operator_of(draw(missing=0.2))
    operator = Centred(raw, RELATIONSHIPS["standardised"](packed), missing_calls(packed))
    rng = np.random.default_rng(3)
    v, u = rng.standard_normal((53, 1)), rng.standard_normal((37, 1))
    assert float((u.T @ operator.matmul(v)).item()) == pytest.approx(float((v.T @ operator.rmatmul(u)).item()))


def test_padding_codes_past_the_last_individual_never_count():
    dosages = draw(n=41)
    whole = PackedGenotypes.from_dosages(dosages)
    some = whole.head(38)
    alone = PackedGenotypes.from_dosages(dosages[:38])
    for make in RELATIONSHIPS.values():
        np.testing.assert_array_equal(dense_grm(some, make(some)), dense_grm(alone, make(alone)))


@pytest.mark.parametrize("missing", [0.0, 0.1])
def test_dense_grm_over_many_blocks_and_panels_is_symmetric_and_the_same(monkeypatch, missing):
    packed = PackedGenotypes.from_dosages(draw(n=37, m=53, missing=missing))
    coding = RELATIONSHIPS["vanraden1"](packed)
    at_once = dense_grm(packed, coding)
    monkeypatch.setattr(genomic, "PANEL", 8)
    monkeypatch.setattr(genomic, "BLOCK_BYTES", 37 * 12 * 5)
    tiled = dense_grm(packed, coding)
    np.testing.assert_allclose(tiled, at_once, atol=1e-14)
    np.testing.assert_array_equal(tiled, tiled.T)
    np.testing.assert_array_equal(missing_dense(packed), packed.dosages() == -1)


@pytest.fixture(scope="module")
def gram_library(tmp_path_factory) -> Path:
    if shutil.which("g++") is None:
        pytest.skip("no g++ on this machine")
    library = build("gram", "scalar", tmp_path_factory.mktemp("gram")).library
    assert library is not None
    return library


@pytest.mark.parametrize("relationship", RELATIONSHIPS)
@pytest.mark.parametrize("missing", [0.0, 0.15])
@pytest.mark.parametrize("rows", [slice(None), slice(3, 30), slice(None, None, -1), np.array([2, 30, 7, 8])], ids=str)
def test_dense_grm_through_the_compiled_gram_is_that_of_brute_force(gram_library, relationship, missing, rows):
    dosages = draw(missing=missing)
    packed = PackedGenotypes.from_dosages(dosages)
    coding = RELATIONSHIPS[relationship](packed)
    W, divisor = imputed(dosages, relationship)
    for threads in (1, 2):
        found = dense_grm(packed, coding, rows, library=gram_library, threads=threads)
        np.testing.assert_allclose(found, W[rows] @ W[rows].T / divisor, atol=1e-13)
        np.testing.assert_array_equal(found, found.T)


def test_dense_grm_with_and_without_the_compiled_gram_is_the_same_to_the_last_bit(gram_library, monkeypatch):
    packed = PackedGenotypes.from_dosages(draw(n=61, m=333))
    coding = RELATIONSHIPS["vanraden1"](packed)
    monkeypatch.setattr(genomic, "PANEL", 16)
    found = dense_grm(packed, coding, library=gram_library)
    np.testing.assert_array_equal(found, dense_grm(packed, coding))


def missing_dense(packed):
    calls = missing_calls(packed)
    return np.zeros(packed.shape, bool) if calls is None else calls.by_individual.csr().toarray() == 1


def test_relationships_of_a_subset_use_everybodys_frequencies():
    packed = PackedGenotypes.from_dosages(draw(missing=0.1))
    coding = RELATIONSHIPS["standardised"](packed)
    rows = np.array([2, 30, 7])
    np.testing.assert_allclose(dense_grm(packed, coding, rows), dense_grm(packed, coding)[np.ix_(rows, rows)])


def test_missing_calls_of_complete_genotypes_are_none():
    assert missing_calls(PackedGenotypes.from_dosages(draw())) is None


@pytest.mark.parametrize("relationship", RELATIONSHIPS)
def test_monomorphic_genotypes_are_refused_with_a_sentence(relationship):
    packed = PackedGenotypes.from_dosages(np.tile(np.array([[0, 2, -1]], np.int8), (5, 1)))
    with pytest.raises(BenchError, match="all 3 SNPs are monomorphic or missing among 5 individuals"):
        RELATIONSHIPS[relationship](packed)


def test_vanraden1_has_a_mean_diagonal_near_one_under_random_mating():
    packed = PackedGenotypes.from_dosages(draw(n=400, m=900))
    coding = RELATIONSHIPS["vanraden1"](packed)
    assert grm_diagonal(packed, coding).mean() == pytest.approx(1.0, abs=0.02)
