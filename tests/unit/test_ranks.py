"""Sums, shares and products over ranks, with ranks that are threads; test_mpi.py has the real ones."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import BenchError
from bench.genotypes.packed import PackedGenotypes
from bench.models.gblup import Records, fit_cholesky, fit_pcg
from bench.ranks.agreement import SAMPLE, WHOLE, agree, file_facts
from bench.ranks.genotypes import SharedMatrix, Spread
from bench.ranks.scaling import Job, Pieces, join_seconds, paper_table, step, sum_seconds
from bench.ranks.start import own_cores
from bench.relationships.codings import snp_coding
from bench.relationships.genomic import Gram
from thread_ranks import on_ranks

SIZES = [1, 3]
N, M = 103, 61


@pytest.fixture(scope="module")
def packed() -> PackedGenotypes:
    rng = np.random.default_rng(4)
    dosages = rng.binomial(2, rng.uniform(0.1, 0.9, M), (N, M)).astype(np.int8)
    dosages[rng.random((N, M)) < 0.05] = -1
    return PackedGenotypes.from_dosages(dosages)


def dense(packed: PackedGenotypes, coding) -> np.ndarray:
    """W from its definition."""
    Z = packed.dosages().astype(float)
    return np.where(Z < 0, 0.0, (Z - coding.centre) * coding.scale)


@given(
    size=st.integers(1, 5),
    shape=st.tuples(st.integers(0, 9), st.integers(1, 3)),
    seed=st.integers(0, 100),
    scale=st.integers(0, 12),
)
@settings(max_examples=25, deadline=None)
def test_a_sum_is_that_in_the_order_of_the_ranks_and_the_same_bits_everywhere(size, shape, seed, scale):
    terms = (
        np.random.default_rng(seed).standard_normal((size, *shape)) * 10.0 ** (scale * np.arange(size))[:, None, None]
    )
    found = on_ranks(size, lambda ranks: ranks.sum(terms[ranks.rank]))
    wanted = terms[0].copy()
    for term in terms[1:]:
        wanted += term
    for one in found:
        np.testing.assert_array_equal(one, wanted)


def test_rows_are_joined_and_rank_0s_numbers_are_everybodys():
    cuts = np.array([0, 3, 3, 5])
    whole = np.arange(10.0).reshape(5, 2)
    for found in on_ranks(3, lambda ranks: ranks.join(whole[slice(*cuts[ranks.rank : ranks.rank + 2])], cuts)):
        np.testing.assert_array_equal(found, whole)
    assert [float(x[0]) for x in on_ranks(3, lambda ranks: ranks.same(np.array([ranks.rank + 1.0])))] == [1, 1, 1]
    assert on_ranks(3, lambda ranks: ranks.once(lambda: ranks.rank)) == [0, 0, 0]


@pytest.mark.parametrize("by", ["individuals", "snps"])
@pytest.mark.parametrize("size", SIZES)
def test_products_and_counts_of_shares_are_those_of_the_whole(packed, by, size):
    coding = snp_coding(packed, "standardised", min_maf=0.05)
    W, rng = dense(packed, coding), np.random.default_rng(1)
    V, U = rng.standard_normal((M, 3)), rng.standard_normal((N, 3))

    def products(ranks):
        Z = SharedMatrix(packed, Spread(ranks, by), threads=1, kernel="numba_unpack")
        shared = Z.coded(coding)
        return Z.packed.code_counts(), shared.shape, shared.matmul(V), shared.rmatmul(U)

    for counts, shape, ZV, ZtU in on_ranks(size, products):
        np.testing.assert_array_equal(counts, packed.code_counts())
        assert shape == (N, M)
        np.testing.assert_allclose(ZV, W @ V, atol=1e-12 * np.abs(W @ V).max())
        np.testing.assert_allclose(ZtU, W.T @ U, atol=1e-12 * np.abs(W.T @ U).max())


@pytest.mark.parametrize("size", SIZES)
def test_gblup_with_vectors_cut_into_shares_is_that_of_dense_equations(packed, size):
    coding = snp_coding(packed)
    W = dense(packed, coding)
    y = W @ np.random.default_rng(2).standard_normal(M) / 5 + np.random.default_rng(3).standard_normal(N) + 3
    y[[0, 7, 50]] = np.nan
    records = Records.of(y)
    among = W[records.index] @ W[records.index].T / coding.divisor
    wanted = fit_cholesky(among, records, 1.5)

    def fit(ranks):
        Z = SharedMatrix(packed, Spread(ranks, "individuals"), threads=1, kernel="numba_unpack")
        own = records.share(Z.rows)
        gram, diagonal = Gram(Z.own_rows(coding), coding.divisor), np.ones(own.n_samples)
        found, solution = fit_pcg(gram, own, 1.5, diagonal=diagonal, rtol=1e-14, max_steps=500)
        return found, solution.steps, solution.residual_norms

    found = on_ranks(size, fit)
    alpha = np.concatenate([fit.alpha for fit, _, _ in found])
    np.testing.assert_allclose(alpha, wanted.alpha, atol=1e-12 * np.abs(wanted.alpha).max())
    for one, steps, norms in found:
        np.testing.assert_allclose(one.b, wanted.b, rtol=1e-12)
        np.testing.assert_allclose(one.covariance, wanted.covariance, rtol=1e-12)
        assert steps == found[0][1]
        np.testing.assert_array_equal(norms, found[0][2])


@pytest.mark.parametrize(("by", "held"), [("individuals", "103 individuals"), ("snps", "61 SNPs")])
def test_more_ranks_than_there_are_shares_are_refused(packed, by, held):
    with pytest.raises(BenchError, match=f"{held}.*cannot be shared among 99 ranks; start fewer"):
        on_ranks(1, lambda ranks: (setattr(ranks, "size", 99), Spread(ranks, by).cuts(N, M)))


def test_shares_that_do_not_fit_their_node_together_are_refused(packed, monkeypatch):
    monkeypatch.setattr("bench.ranks.genotypes.memory_available", lambda: 26 * M - 1)
    with pytest.raises(BenchError, match=r"the shares of this node's ranks take .* more nodes"):
        on_ranks(2, lambda ranks: SharedMatrix(packed, Spread(ranks, "individuals"), threads=1))


def test_a_share_that_is_larger_than_what_a_rank_may_take_is_refused(packed):
    def made(ranks, memory):
        return SharedMatrix(packed, Spread(ranks, "individuals"), threads=1, kernel="numba_unpack", memory=memory)

    with pytest.raises(BenchError, match=r"a rank's share takes .*; ranks hold their shares: start more of them"):
        on_ranks(2, lambda ranks: made(ranks, 12 * M - 1))
    assert on_ranks(2, lambda ranks: made(ranks, 13 * M).shape) == [(N, M)] * 2


def test_ranks_that_see_other_files_are_told_which(tmp_path: Path):
    for name, content in (("a", b"one"), ("b", b"two")):
        (tmp_path / name).write_bytes(content)

    def facts(ranks):
        agree(ranks, {"herd.bed": file_facts([tmp_path / "ab"[ranks.rank]]).popitem()[1]})

    with pytest.raises(BenchError, match=r"disagree: herd\.bed is \(3 bytes.*\) to rank 0 .* to rank 1 on"):
        on_ranks(2, facts)
    with pytest.raises(BenchError, match="not read"):
        on_ranks(2, lambda ranks: agree(ranks, {} if ranks.rank else {"x": "y"}))
    assert "No such file" in file_facts([tmp_path / "none"])[str(tmp_path / "none")]


def test_a_large_file_is_known_by_samples_that_reach_both_ends(tmp_path: Path):
    path = tmp_path / "large"
    with path.open("wb") as file:  # a hole: no disk space
        file.truncate(WHOLE + 12345)
    before = file_facts([path])
    for place in (0, WHOLE + 12344):
        with path.open("r+b") as file:
            file.seek(place)
            file.write(b"x")
        after = file_facts([path])
        assert after != before
        before = after
    assert SAMPLE * 64 < WHOLE


@pytest.mark.parametrize(
    ("allowed", "wanted"),
    [
        ([[0], [1]], [[0], [1]]),  # bound apart
        ([[0, 1, 2, 3]] * 2, [[0, 1], [2, 3]]),
        ([[5, 7]] * 4, [[5], [5], [7], [7]]),  # more ranks than cores
        ([[0, 1, 2]] * 2, [[0], [1, 2]]),
        ([[0, 1], [0, 1], [2, 3]], [[0], [1], [2, 3]]),
    ],
)
def test_ranks_of_a_node_divide_the_cores_that_they_share(allowed, wanted):
    assert [own_cores(allowed, rank) for rank in range(len(allowed))] == wanted


PIECES = Pieces(product=1e9, memory=1e10, vectors=1e8, latency=1e-5, bandwidth=1e9)


def test_a_step_of_the_model_is_what_its_formulas_say():
    job = Job(n=10**6, m=10**4, k=2, nodes=4, ranks_a_node=2, cores_a_rank=8)
    rows = step(PIECES, job, "rows")
    assert math.isclose(rows.products, 2 * 1e10 * 2 / (1e9 * 64))
    one_way = 7 * (1e-5 + 8 * 2e4 / 8 / 5e8)  # two ranks share what their node sends
    assert math.isclose(rows.messages, 2 * one_way + 3 * 2 * 7 * (1e-5 + 8 * 2 / 8 / 5e8))
    assert math.isclose(rows.vectors, 2 * 125_000 / 1e8)
    assert math.isclose(rows.memory, 1e10 / 4 / 8 + 16 * (12 * 125_000 + 4 * 10**4))
    whole = step(PIECES, job, "individuals")
    assert whole.products == rows.products
    assert math.isclose(whole.messages - rows.messages, 7 * (1e-5 + 8 * 2e6 / 8 / 5e8))
    assert math.isclose(whole.vectors, 8 * rows.vectors)
    snps = step(PIECES, job, "snps")
    assert snps.messages > whole.messages
    assert sum_seconds(PIECES, 1, 1e6) == join_seconds(PIECES, 1, 1e6) == 0


def test_reading_limits_a_step_where_cores_are_many():
    job = Job(n=10**6, m=10**4, k=1, nodes=1, ranks_a_node=1, cores_a_rank=10_000)
    assert math.isclose(step(PIECES, job, "rows").products, 2 * 0.25 * 1e10 / 1e10)


def test_the_page_has_the_table_of_the_model():
    page = (Path(__file__).parents[2] / "docs" / "mpi.md").read_text(encoding="utf-8")
    assert paper_table() in page
