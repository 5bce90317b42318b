"""Genotypes that are larger than the memory: equal to those in memory, within the budget, and what can go wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import __main__ as cli
from bench import kernels
from bench.build import installed
from bench.errors import BenchError
from bench.genotypes import bed_file
from bench.genotypes.bed_stream import BedStream
from bench.genotypes.packed import PackedGenotypes, write_bed
from bench.kernels import GenotypeMatrix, Problem
from bench.memory import bytes_of
from bench.relationships import streamed as centred_streamed
from bench.relationships.genomic import Gram, vanraden1
from bench.relationships.missing import MissingInRows
from bench.streamed import CHUNK as CHUNK_BYTES
from bench.streamed import LEAST, Source, StreamedMatrix, chunk_bytes, chunk_snps
from gblup_case import make_population, model_of

N, M, CHUNK = 301, 530, 128


@pytest.fixture(scope="module")
def dosages() -> np.ndarray:
    rng = np.random.default_rng(3)
    drawn = rng.binomial(2, rng.uniform(0.05, 0.5, M), (N, M)).astype(np.int8)
    drawn[rng.random((N, M)) < 0.03] = -1
    drawn[:, 130:300] = np.maximum(drawn[:, 130:300], 0)  # a chunk without missing calls
    return drawn


@pytest.fixture
def herd(dosages, tmp_path) -> Path:
    """herd.bed, .bim and .fam in a folder."""
    write_bed(tmp_path / "herd.bed", [PackedGenotypes.from_dosages(dosages).codes])
    (tmp_path / "herd.bim").write_text("".join(f"1 snp{j} 0 {j + 1} A G\n" for j in range(M)))
    (tmp_path / "herd.fam").write_text("".join(f"f id{i} 0 0 0 -9\n" for i in range(N)))
    return tmp_path / "herd"


@pytest.fixture
def small_chunks(monkeypatch) -> None:
    """Chunks of CHUNK SNPs: what a matrix as small as these needs is mostly work space."""
    monkeypatch.setattr("bench.matrix.chunk_snps", lambda *_, **__: CHUNK)


def opened(herd: Path, kernel: str = "auto", **options) -> Any:  # scipy's types know neither Z @ V nor products
    Z = GenotypeMatrix.from_bed(herd, kernel=kernel, memory=1, threads=1, **options)
    assert Z.streamed
    return Z


def in_memory(herd: Path, **options) -> Any:
    return GenotypeMatrix.from_bed(herd, threads=1, **options)


@pytest.mark.parametrize("kernel", ["auto", "decompress", "numba_unpack"])
def test_products_of_integers_are_those_in_memory_bit_for_bit(herd, dosages, small_chunks, kernel):
    Z, dense = opened(herd, kernel), np.maximum(dosages, 0).astype(float)
    rng = np.random.default_rng(1)
    for k in (1, 5):
        V, U = rng.integers(-99, 99, (M, k)), rng.integers(-99, 99, (N, k))
        np.testing.assert_array_equal(Z @ V, dense @ V)
        np.testing.assert_array_equal(Z.T @ U, dense.T @ U)
        np.testing.assert_array_equal(Z @ V, dense @ V)  # after a shorter last chunk, whole ones again
    np.testing.assert_array_equal(Z @ V[:, 0], dense @ V[:, 0])


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_other_products_are_those_in_memory_but_for_rounding(herd, small_chunks, dtype):
    Z, whole = opened(herd, dtype=dtype), in_memory(herd, dtype=dtype)
    assert not whole.streamed
    rng, allowed = np.random.default_rng(2), {"f4": 1e-5, "f8": 1e-13}[dtype]
    for k in (1, 3):
        V, U = rng.standard_normal((M, k)).astype(dtype), rng.standard_normal((N, k)).astype(dtype)
        for found, wanted in ((Z @ V, whole @ V), (Z.T @ U, whole.T @ U)):
            assert found.dtype == np.dtype(dtype)
            np.testing.assert_allclose(found, wanted, rtol=0, atol=allowed * np.abs(wanted).max())


@pytest.mark.parametrize("relationship", ["vanraden1", "standardised"])
@pytest.mark.parametrize("compiled", [True, False])
def test_centred_products_are_those_of_the_mean_imputed_matrix(
    herd, dosages, small_chunks, monkeypatch, relationship, compiled
):
    called = np.where(dosages < 0, np.nan, dosages.astype(float))
    dense = np.nan_to_num(called - np.nanmean(called, axis=0))
    if relationship == "standardised":
        dense /= np.nanstd(called, axis=0, ddof=1)
    W = opened(herd).centred(relationship)
    assert isinstance(W.products, centred_streamed.StreamedCentred)
    if not compiled:
        monkeypatch.setattr(W.products, "_library", None)
    rng = np.random.default_rng(2)
    V, U = rng.standard_normal((M, 3)), np.asfortranarray(rng.standard_normal((N, 18)))
    np.testing.assert_allclose(W @ V, dense @ V, atol=1e-10)
    np.testing.assert_allclose(W.T @ U, dense.T @ U, atol=1e-10)
    weights = rng.uniform(0, 2, M)
    through = W.products.through(U, lambda snps, T: weights[snps, None] * T)
    np.testing.assert_allclose(through, dense @ (weights[:, None] * (dense.T @ U)), atol=1e-8)


def test_a_product_with_the_relationship_matrix_reads_the_file_once(herd, small_chunks, monkeypatch):
    Z = opened(herd)
    W, passes, chunks = Z.centred(), [], StreamedMatrix.chunks
    monkeypatch.setattr(StreamedMatrix, "chunks", lambda self: passes.append(1) or chunks(self))
    U = np.random.default_rng(4).standard_normal((N, 2))
    found = Gram(W.products, W.divisor).matmul(U)
    assert len(passes) == 1
    whole = in_memory(herd).centred()
    np.testing.assert_allclose(found, whole @ (whole.T @ U) / W.divisor, atol=1e-10)
    raw = Z.products.through(U, lambda snps, T: 2 * T)
    np.testing.assert_allclose(raw, 2 * (Z @ (Z.T @ U)), atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 70) | st.integers(4090, 4200),
    m=st.integers(1, 9),
    k=st.integers(1, 19),
    rate=st.sampled_from([0.0, 0.02, 0.6, 1.0]),
    threads=st.integers(1, 2),
    seed=st.integers(0, 99),
)
def test_sums_at_missing_calls_found_in_the_rows(n, m, k, rate, threads, seed):
    rng = np.random.default_rng(seed)
    drawn = np.where(rng.random((n, m)) < rate, -1, rng.integers(0, 3, (n, m))).astype(np.int8)
    packed = PackedGenotypes.from_dosages(drawn)
    codes = packed.codes | (0x55 << 2 * (n % 4) & 0xFF) * (np.arange(packed.codes.shape[1]) == n // 4)  # padding
    library = installed("missing").library
    assert library is not None
    miss = MissingInRows(PackedGenotypes(codes.astype(np.uint8), n), library, threads)
    X, U = rng.integers(-9, 9, (m, k)).astype(float), rng.integers(-9, 9, (n, k)).astype(float)
    out = np.ones((n, k))
    miss.add_matmul(X, out)
    np.testing.assert_array_equal(out, 1 + (drawn < 0) @ X)
    np.testing.assert_array_equal(miss.rmatmul(U), (drawn < 0).T @ U)


@given(n=st.integers(1, 10**6), m=st.integers(1, 10**6), share=st.floats(0, 2), threads=st.integers(1, 64))
def test_a_chunk_stays_within_the_memory_and_is_the_largest_that_does(n, m, share, threads):
    kernel, problem = kernels.load("auto"), Problem(n, m, 10, "f8", threads)
    least = chunk_bytes(kernel, problem, min(m, LEAST))
    memory = least + int(share * 1e9)
    size = chunk_snps(kernel, problem, memory=memory)
    assert 1 <= size <= m
    assert chunk_bytes(kernel, problem, size) <= memory
    chunks = -(-m // size)
    fewer = -(-m // max(1, chunks - 1))  # SNPs of a chunk, were there one chunk less
    if chunks > 1 and fewer * problem.packed_bytes // m < CHUNK_BYTES:
        assert chunk_bytes(kernel, problem, fewer) > memory
    with pytest.raises(BenchError, match=r"needs at least .* MB of memory"):
        chunk_snps(kernel, problem, memory=least - 1)


PROGRAM = """
import json, resource, sys, threading
from pathlib import Path
import numpy as np
from bench import measure
from bench.build import installed
from bench.kernels import GenotypeMatrix
from bench.relationships.genomic import Gram

def status(name):
    return 1024 * int(Path("/proc/self/status").read_text().split(name + ":")[1].split()[0])

for name in ("auto", "missing"):
    installed(name)  # compiled under no limit, if it has to be
threading.stack_size(1 << 20)
limit = status("VmData") + int(sys.argv[2]) + (16 << 20)  # and stacks and heaps of threads
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
Z = GenotypeMatrix.from_bed(sys.argv[1], memory=sys.argv[2], threads=1)
W = Z.centred()
measure.forget_peak_rss()
before = measure.current_rss()
rng = np.random.default_rng(1)
V, U = rng.standard_normal((Z.shape[1], 2)), rng.standard_normal((Z.shape[0], 2))
both = float(np.sum(U * (Z @ V))), float(np.sum((Z.T @ U) * V))
Gram(W.products, W.divisor).matmul(U)
# Not ru_maxrss: a program that was started counts there what its parent had.
peak = status("VmHWM")
try:
    bytearray(Z.packed.codes.nbytes)
except MemoryError:
    print(json.dumps([Z.streamed, Z.bytes_held, peak - before, *both]))
"""


def test_a_process_stays_within_its_memory_far_below_the_matrix(tmp_path):
    # RLIMIT_DATA: RLIMIT_AS counts the mapped file too. The program says nothing if a matrix's bytes could be had.
    n, m, budget = 20_000, 40_000, 60_000_000
    block = np.random.default_rng(1).integers(0, 256, (1000, n // 4), dtype=np.uint8)
    write_bed(tmp_path / "big.bed", (np.roll(block, turn) for turn in range(m // 1000)))
    (tmp_path / "big.bim").write_text("".join(f"1 s{j} 0 {j + 1} A G\n" for j in range(m)))
    (tmp_path / "big.fam").write_text("".join(f"f i{i} 0 0 0 -9\n" for i in range(n)))
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "big"), str(budget)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    streamed, held, peak, one, other = json.loads(ran.stdout)
    assert streamed
    assert held < budget < 200e6 <= (tmp_path / "big.bed").stat().st_size
    assert peak < budget, (peak, held)
    assert one == pytest.approx(other, rel=1e-9, abs=1e-3)


def shorten(bed: Path, size: int) -> None:
    """Cut a file; its time of change is kept, so that nothing but a read notices."""
    before = bed.stat()
    os.truncate(bed, size)
    os.utime(bed, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_file_that_is_shortened_during_a_product_is_said(herd, small_chunks):
    Z = opened(herd)
    passing = Z.products.chunks()
    next(passing)
    shorten(Path(f"{herd}.bed"), 10_000)
    with pytest.raises(BenchError, match=r"herd\.bed: it ends at byte 10000, and had \d+ .* somebody shortened it"):
        list(passing)
    with pytest.raises(BenchError, match=r"herd\.bed: it was changed since it was opened; open it again"):
        Z @ np.ones(M)


def test_a_file_that_is_shortened_while_its_alleles_are_counted_is_said(herd, monkeypatch):
    packed, read = PackedGenotypes.open(Path(f"{herd}.bed"), n_samples=N, n_snps=M), os.preadv

    def cutting(file, to, at):
        got = read(file, to, at)
        shorten(Path(f"{herd}.bed"), 10_000)
        return got

    monkeypatch.setattr("bench.genotypes.packed.CACHED", 4096)
    with monkeypatch.context() as patched:
        patched.setattr(bed_file.os, "preadv", cutting)
        with pytest.raises(BenchError, match=r"it ends at byte 10000, and had \d+ .* somebody shortened it"):
            packed.code_counts()
    with pytest.raises(BenchError, match=r"herd\.bed: it was changed since it was opened; open it again"):
        packed.head(N - 1).code_counts()


def test_a_file_that_is_gone_or_cannot_be_read_is_said(herd, small_chunks, monkeypatch):
    Z, bed = opened(herd), Path(f"{herd}.bed")
    bed.rename(f"{bed}.old")
    with pytest.raises(BenchError, match=r"herd\.bed: cannot be read \(No such file"):
        Z @ np.ones(M)
    Path(f"{bed}.old").rename(bed)

    def broken(*_):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(bed_file.os, "preadv", broken)
        with pytest.raises(BenchError, match=r"herd\.bed: cannot be read at byte 0 \(Input/output error\)"):
            Z @ np.ones(M)
    assert np.isfinite(Z @ np.ones(M)).all()  # an error leaves nothing locked


def test_short_reads_are_completed(herd, dosages, small_chunks, monkeypatch):
    read = os.preadv
    monkeypatch.setattr(bed_file.os, "preadv", lambda file, to, at: read(file, [to[0][:1000]], at))
    np.testing.assert_array_equal(opened(herd) @ np.ones(M), np.maximum(dosages, 0).sum(axis=1))


def test_one_product_at_a_time_and_none_after_closing(herd, small_chunks):
    Z = opened(herd)
    with pytest.raises(ValueError, match="one product at a time"):
        Z.products.through(np.ones((N, 1)), lambda snps, T: Z.products.rmatmul(np.ones((N, 1)))[snps])
    with pytest.raises(ValueError, match="expected a"):
        Z.products.matmul(np.ones((M + 1, 1)))
    Z.close()
    with pytest.raises(ValueError, match="closed"):
        Z @ np.ones(M)


def test_memory_is_refused_in_sentences(herd, dosages, monkeypatch):
    with pytest.raises(BenchError, match=r"kernel auto needs at least [\d.]+ MB of memory \(64 SNPs at a time"):
        GenotypeMatrix.from_bed(herd, memory="10kB", threads=1)
    for nonsense in ("much", "-3GB", "3 PB", True, float("nan")):
        with pytest.raises(BenchError, match=r'memory: .* bytes were needed, as a number or such as "800MB"'):
            GenotypeMatrix.from_bed(herd, memory=nonsense)
    with pytest.raises(BenchError, match="at least one byte was needed"):
        GenotypeMatrix.from_bed(herd, memory=0)
    with pytest.raises(BenchError, match="GB of memory"):  # an array is in memory already
        GenotypeMatrix.from_dosages(dosages, memory=1000)
    assert not GenotypeMatrix.from_bed(herd, memory="2 GB").streamed
    monkeypatch.setattr("bench.matrix.memory_available", lambda: 1000)
    with pytest.raises(BenchError, match=r"can be used; give memory=… to read it in chunks"):
        GenotypeMatrix.from_bed(herd, threads=1)
    with pytest.raises(BenchError, match=r"only genotypes of a \.bed file can be read"):
        BedStream(PackedGenotypes.from_dosages(dosages), 8)


def test_sizes_in_words():
    for text, size in (("800MB", 8e8), ("1.5 GB", 1.5e9), ("2GiB", 2**31), ("64 kib", 65536), ("17", 17), (5, 5)):
        assert bytes_of(text) == size


def test_jax_has_the_raw_products_of_a_streamed_matrix(herd, dosages, small_chunks):
    Z = opened(herd, dtype="f4")
    np.testing.assert_array_equal(
        Z.jax().matmul(np.ones((M, 2), "f4")), np.maximum(dosages, 0) @ np.ones((M, 2), "f4")
    )
    with pytest.raises(BenchError, match="raw products in JAX"):
        Z.centred().jax()


def test_an_evaluation_of_streamed_genotypes_is_that_of_genotypes_in_memory(tmp_path, small_chunks, monkeypatch):
    model = model_of(make_population(tmp_path), tmp_path / "model.yaml")
    for out, memory in (("held", 10**9), ("streamed", 1)):
        monkeypatch.setattr("bench.matrix.bytes_of", lambda *_, memory=memory: memory)
        options = ["--out", str(tmp_path / out), "--threads", "1", "--memory", "1GB"]
        assert cli.main(["solve", str(model), *options]) == 0
    said = "does not fit the memory given: it is read anew at each product"
    assert [said in (tmp_path / out / "log.txt").read_text() for out in ("held", "streamed")] == [False, True]
    held, found = (pd.read_parquet(tmp_path / out / "solutions.parquet")["ebv"] for out in ("held", "streamed"))
    np.testing.assert_allclose(found, held, atol=1e-9 * np.abs(held).max())
    wrong = ["solve", str(model), "--out", str(tmp_path / "no"), "--memory", "lots"]
    assert cli.main(wrong) == 2


def test_views_of_a_mapped_file_know_their_place(herd, dosages):
    whole = PackedGenotypes.open(Path(f"{herd}.bed"), n_samples=N, n_snps=M)
    later = PackedGenotypes(whole.codes[100:], N - 1, whole.path, whole.state)
    assert [made and made.offset for made in (whole.bed_file(), later.bed_file())] == [3, 3 + 100 * -(-N // 4)]
    assert PackedGenotypes(whole.codes[:, 1:], 4, whole.path, whole.state).bed_file() is None
    made = installed("auto")
    source = Source(kernels.load("auto"), made.target, "f8", made.library, 1)
    found = StreamedMatrix(later, source, chunk=64).matmul(np.ones((M - 100, 1)))
    np.testing.assert_array_equal(found[:, 0], np.maximum(dosages[:-1, 100:], 0).sum(axis=1))
    assert vanraden1(later).centre.size == M - 100
