"""GenotypeMatrix: what docs/library.md shows, and the errors."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from bench import build, matrix
from bench.errors import BenchError
from bench.genotypes.packed import CODE_OF_DOSAGE, write_bed
from bench.kernels import GenotypeMatrix, best
from bench.relationships import missing

PAGE = Path(__file__).resolve().parents[2] / "docs" / "library.md"
N, M = 301, 127


@pytest.fixture(scope="module")
def dosages() -> np.ndarray:
    rng = np.random.default_rng(5)
    frequency = rng.uniform(0.05, 0.5, M)
    drawn = (rng.random((N, M)) < frequency).astype(int) + (rng.random((N, M)) < frequency)
    return np.where(rng.random((N, M)) < 0.03, -1, drawn)


@pytest.fixture
def herd(dosages, tmp_path) -> Path:
    """herd.bed, .bim and .fam in a folder."""
    codes = np.zeros((M, -(-N // 4) * 4), np.uint8)
    codes[:, :N] = CODE_OF_DOSAGE[dosages.T]
    quads = codes.reshape(M, -1, 4)
    write_bed(tmp_path / "herd.bed", [quads[..., 0] | quads[..., 1] << 2 | quads[..., 2] << 4 | quads[..., 3] << 6])
    (tmp_path / "herd.bim").write_text("".join(f"1 snp{j} 0 {j + 1} A G\n" for j in range(M)))
    (tmp_path / "herd.fam").write_text("".join(f"f id{i} 0 0 0 -9\n" for i in range(N)))
    return tmp_path / "herd"


def test_the_code_of_the_page_runs(herd, monkeypatch):
    monkeypatch.chdir(herd.parent)
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 5
    exec(compile("\n".join(blocks), str(PAGE), "exec"), {})


@pytest.mark.parametrize("kernel", ["auto", "numba_unpack", "dense_blas"])
def test_products_equal_dense_ones_in_both_directions(herd, dosages, kernel):
    Z, dense = GenotypeMatrix.from_bed(herd, kernel=kernel, threads=1), np.maximum(dosages, 0)
    rng = np.random.default_rng(1)
    V, U = rng.integers(-9, 10, (M, 5)), rng.integers(-9, 10, (N, 3))
    assert isinstance(Z, LinearOperator)
    assert Z.shape == (N, M)
    np.testing.assert_array_equal(Z @ V, dense @ V)
    np.testing.assert_array_equal(Z.T @ U, dense.T @ U)
    np.testing.assert_array_equal(Z.H @ U, dense.T @ U)
    np.testing.assert_array_equal(Z @ V[:, 0], dense @ V[:, 0])
    np.testing.assert_array_equal(Z.T @ U[:, 0], dense.T @ U[:, 0])
    np.testing.assert_array_equal(Z.rmatvec(U[:, 0]), dense.T @ U[:, 0])
    np.testing.assert_array_equal(Z.T.T @ V, dense @ V)
    np.testing.assert_array_equal((Z.T @ Z) @ V, dense.T @ (dense @ V))
    np.testing.assert_array_equal((2 * Z) @ V, 2 * (dense @ V))
    assert aslinearoperator(Z) is Z


def test_ids_come_with_the_matrix_and_float32_stays_float32(herd):
    Z = GenotypeMatrix.from_bed(f"{herd}.bed", dtype="f4", threads=1)
    assert Z.individuals is not None
    assert Z.snps is not None
    assert (Z.individuals[-1], Z.snps[0]) == (f"id{N - 1}", "snp0")
    assert (Z @ np.ones((M, 2))).dtype == np.float32
    assert Z.bytes_held >= N * M / 4


@pytest.mark.parametrize("relationship", ["vanraden1", "standardised"])
def test_centred_is_the_mean_imputed_matrix(dosages, relationship):
    called = np.where(dosages < 0, np.nan, dosages.astype(float))
    dense = np.nan_to_num(called - np.nanmean(called, axis=0))
    if relationship == "standardised":
        dense /= np.nanstd(called, axis=0, ddof=1)
    W = GenotypeMatrix.from_dosages(dosages).centred(relationship)
    rng = np.random.default_rng(2)
    V, U = rng.standard_normal((M, 4)), rng.standard_normal((N, 2))
    np.testing.assert_allclose(W @ V, dense @ V, atol=1e-11)
    np.testing.assert_allclose(W.T @ U, dense.T @ U, atol=1e-11)
    np.testing.assert_allclose(W.T @ U[:, 0], dense.T @ U[:, 0], atol=1e-11)
    np.testing.assert_allclose(W.T.T @ V, dense @ V, atol=1e-11)
    for layout in (np.asfortranarray, lambda X: np.repeat(X, 2, axis=0)[::2]):
        np.testing.assert_allclose(W @ layout(V), dense @ V, atol=1e-11)
        np.testing.assert_allclose(W.T @ layout(U), dense.T @ U, atol=1e-11)


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_leaves_no_entry_of_a_centred_column_finite(dosages, special):
    W = GenotypeMatrix.from_dosages(dosages).centred()
    V, U = np.ones((M, 3)), np.ones((N, 3))
    V[5, 1] = U[5, 1] = special
    with np.errstate(invalid="ignore"):
        for found in (W @ V, W.T @ U):
            assert not np.isfinite(found[:, 1]).any()
            assert np.isfinite(found[:, [0, 2]]).all()


def test_complex_operands_are_refused(dosages):
    Z = GenotypeMatrix.from_dosages(dosages)
    for product in (Z.matmat, Z.matvec, Z.centred().matmat, Z.T.rmatmat):
        with pytest.raises(BenchError, match="real numbers were needed, found complex128"):
            product(np.ones((M, 1)) * 1j)


@pytest.mark.parametrize("rate", [0, 0.03])
def test_gram_of_a_matrix_and_of_the_centred_one(dosages, tmp_path, monkeypatch, rate):
    dosages = dosages if rate else np.abs(dosages)
    Z, dense = GenotypeMatrix.from_dosages(dosages), np.maximum(dosages, 0)
    np.testing.assert_array_equal(Z.gram(), dense @ dense.T)
    np.testing.assert_array_equal(Z.gram(dtype="f8", out=tmp_path / "g.npy"), dense @ dense.T)
    W = Z.centred("standardised")
    np.testing.assert_allclose(W.gram(), W @ (W.T @ np.eye(N)) / W.divisor, atol=1e-11)
    monkeypatch.setattr(matrix, "memory_available", lambda: 1000)
    with pytest.raises(BenchError, match=r"301 individuals need .* GB of memory, 1e-06 GB can be used"):
        W.gram()
    refused = replace(build.installed("gram"), library=None, reason="no C++ compiler 'g++' on this machine")
    monkeypatch.setattr(matrix, "installed", lambda name: refused)
    with pytest.raises(BenchError, match="gram: no C\\+\\+ compiler"):
        Z.gram()


def test_best_names_what_runs_and_why():
    one, ten = best(1000, 2000, 1), best(1000, 2000, 10)
    assert one.kernel == ten.kernel == "auto"
    assert ten.scheme == {"matmul": "lut5", "rmatmul": "lut5"}
    assert set(one.scheme.values()) <= {"lut5", "slices"}
    assert one.target in one.reason


def test_without_a_compiler_numba_takes_over(dosages, monkeypatch, tmp_path):
    refused = replace(build.installed("auto"), library=None, reason="no C++ compiler 'g++' on this machine")
    monkeypatch.setattr(matrix, "installed", lambda name: refused)
    Z = GenotypeMatrix.from_dosages(dosages, threads=1)
    assert Z.kernel == "numba_unpack"
    np.testing.assert_array_equal(Z @ np.ones(M), np.maximum(dosages, 0).sum(1))
    choice = best(*dosages.shape)
    assert (choice.kernel, choice.reason) == ("numba_unpack", refused.reason)
    with pytest.raises(BenchError, match="kernel lut5: no C\\+\\+ compiler"):
        GenotypeMatrix.from_dosages(dosages, kernel="lut5")


def test_a_library_is_compiled_once_and_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    made = build.installed("missing", "scalar")
    assert made.library is not None
    assert made.library.is_relative_to(tmp_path)
    written = made.library.stat().st_mtime_ns
    assert build.installed("missing", "scalar") == made
    assert made.library.stat().st_mtime_ns == written
    assert build.installed("missing", "scalar", compiler="g++ -g").library != made.library
    absent = build.installed("missing", "scalar", compiler="no-such-compiler")
    assert absent.library is None
    assert "no-such-compiler" in (absent.reason or "")


def test_a_cache_that_cannot_be_made_is_a_sentence(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(BenchError, match=r"cannot be made \(.*\); name another in BENCH_CACHE"):
        build.installed("missing", "scalar")


def test_what_cannot_be_is_refused_with_a_sentence(herd, dosages, monkeypatch):
    with pytest.raises(BenchError, match=r"no_such\.fam"):
        GenotypeMatrix.from_bed(herd.with_name("no_such"))
    with pytest.raises(BenchError, match="there is no kernel 'lut6'"):
        GenotypeMatrix.from_bed(herd, kernel="lut6")
    with pytest.raises(BenchError, match="GPU"):
        GenotypeMatrix.from_bed(herd, kernel="gpu_2bit")
    with pytest.raises(BenchError, match="asked for 9999 threads, this machine has"):
        GenotypeMatrix.from_bed(herd, threads=9999)
    for none in (0, -1):
        with pytest.raises(BenchError, match=f"and {none} threads; at least one of each is needed"):
            GenotypeMatrix.from_bed(herd, threads=none)
    with pytest.raises(BenchError, match="f2 path"):
        GenotypeMatrix.from_bed(herd, dtype="f2")
    with monkeypatch.context() as little:
        little.setattr(missing, "memory_available", lambda: 1000)
        with pytest.raises(BenchError, match=r"herd\.bed: to list \d+ missing calls needs .* GB of memory"):
            GenotypeMatrix.from_bed(herd).centred()
    with pytest.raises(BenchError, match="there is no relationship 'yang'; there are vanraden1"):
        GenotypeMatrix.from_bed(herd).centred("yang")
    for wrong in (np.array([[3]]), np.array([0, 1]), np.empty((0, 3))):
        with pytest.raises(BenchError, match="an \\(n, m\\) array of 0, 1, 2"):
            GenotypeMatrix.from_dosages(wrong)
    monkeypatch.setattr(matrix, "memory_available", lambda: 1000)
    with pytest.raises(BenchError, match=r"herd\.bed in kernel auto: needs .* GB of memory"):
        GenotypeMatrix.from_bed(herd)


def test_a_wrong_shape_and_a_closed_matrix_are_value_errors(dosages):
    Z = GenotypeMatrix.from_dosages(dosages)
    with pytest.raises(ValueError, match=r"dimension mismatch|shape"):
        Z @ np.ones(M + 1)
    Z.close()
    with pytest.raises(ValueError, match="closed"):
        Z @ np.ones(M)
