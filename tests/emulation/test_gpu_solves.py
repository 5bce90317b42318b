"""Solves whose vectors stay on the (emulated) GPU: the same code, the same numbers, and no vector on its way."""

from __future__ import annotations

import cupy_stand_in
import numpy as np
import pytest
from case import Case

from bench import kernels
from bench.kernels import Problem
from bench.kernels.gpu_2bit.matrix import GpuMatrix
from bench.models.gblup import Records, fit_marker_effects, fit_pcg
from bench.relationships.genomic import Centred, Gram, grm_diagonal, vanraden1
from bench.relationships.missing import missing_calls, missing_of
from bench.solvers import operator
from bench.solvers.operator import Dense, column_products, column_sums
from bench.solvers.pcg import jacobi, pcg

LAMBDA = 1.5


@pytest.fixture
def case() -> Case:
    return Case.of(300, 420, missing=0.02)


@pytest.fixture
def records(case) -> Records:
    y = np.random.default_rng(3).standard_normal(300)
    y[::7] = np.nan
    return Records.of(y)


def centred(case: Case, *, gpu: bool) -> Centred:
    if gpu:
        Z = GpuMatrix(case.packed, dtype="f8", target="sm_90", threads=1)
        return Centred(Z, vanraden1(case.packed), missing_of(Z, case.packed))
    Z = Dense(case.counted)
    return Centred(Z, vanraden1(case.packed), missing_calls(case.packed))


def test_centred_products_are_those_of_the_host(gpu, case):
    on_host, there = centred(case, gpu=False), centred(case, gpu=True)
    V, U = case.numbers(420, 2), case.numbers(300, 2)
    for X, name in ((V, "matmul"), (U, "rmatmul")):
        wanted = getattr(on_host, name)(X)
        allowed = 1e-12 * np.abs(wanted).max()
        np.testing.assert_allclose(getattr(there, name)(X), wanted, rtol=0, atol=allowed)
        assert there.place is not None
        got = getattr(there, name)(there.place(X))
        assert isinstance(got, cupy_stand_in.ndarray)
        np.testing.assert_allclose(got.get(), wanted, rtol=0, atol=allowed)


def test_gblup_on_the_gpu_is_gblup_on_the_host(gpu, case, records):
    fits = []
    for on_gpu in (False, True):
        W = centred(case, gpu=on_gpu)
        gram = Gram(W, W.coding.divisor)
        how = {"diagonal": grm_diagonal(case.packed, W.coding), "rtol": 1e-12, "max_steps": 500}
        fits.append((*fit_pcg(gram, records, LAMBDA, **how), W))
    (host, host_solution, _), (there, solution, W) = fits
    assert isinstance(solution.value, np.ndarray)
    assert solution.converged.all()
    assert abs(solution.steps - host_solution.steps) <= 1
    np.testing.assert_allclose(there.alpha, host.alpha, rtol=0, atol=1e-10 * np.abs(host.alpha).max())
    g, b, markers = fit_marker_effects(W, W.coding.divisor, records, LAMBDA, rtol=1e-12, max_steps=2000)
    assert markers.converged.all()
    np.testing.assert_allclose(b, host.b, rtol=1e-6)
    effects = W.rmatmul(records.scatter(there.alpha[:, None]))[:, 0] / W.coding.divisor
    np.testing.assert_allclose(g, effects, rtol=0, atol=1e-8 * np.abs(effects).max())


def test_an_iteration_brings_no_vector_to_the_host(gpu, case, records):
    """After the first steps, only numbers of a column pass: norms, step lengths, which columns are left."""
    W = centred(case, gpu=True)
    copied = []

    def observe(step, X, norms):
        assert isinstance(X, cupy_stand_in.ndarray)
        assert isinstance(norms, np.ndarray)
        if step >= 2:
            copied.append(max(gpu.copied))
        gpu.copied.clear()

    gram = Gram(W, W.coding.divisor)
    diagonal = grm_diagonal(case.packed, W.coding)
    fit_pcg(gram, records, LAMBDA, diagonal=diagonal, rtol=1e-10, max_steps=100, observe=observe)
    assert len(copied) > 5
    assert max(copied) <= 2 * 8  # two columns


@pytest.mark.parametrize(("n", "k"), [(0, 2), (1, 1), (9, 3), (16, 2), (17, 2), (250, 3), (40, 0)])
def test_sums_of_columns_are_those_of_the_host(gpu, monkeypatch, n, k):
    """And none is of many rows to few columns, which a GPU would do with two of its multiprocessors."""
    monkeypatch.setattr(operator, "PIECE", 16)
    rng = np.random.default_rng([n, k])
    A, B = rng.integers(-9, 10, (2, n, k)).astype(float)
    rows, summed = [], cupy_stand_in.ndarray.sum
    monkeypatch.setattr(cupy_stand_in.ndarray, "sum", lambda a, axis: rows.append(a.shape[0]) or summed(a, axis))
    a, b = cupy_stand_in.asarray(A), cupy_stand_in.asarray(B)
    np.testing.assert_array_equal(column_sums(a).get(), A.sum(axis=0))
    np.testing.assert_array_equal(column_products(a, b).get(), (A * B).sum(axis=0))
    np.testing.assert_array_equal(column_sums(A), A.sum(axis=0))
    assert max(rows) <= 16


def test_vectors_that_are_there_are_answered_there(gpu):
    """And a start that is given is used."""
    rng = np.random.default_rng(0)
    root = rng.standard_normal((40, 40))
    A = root @ root.T + 40 * np.eye(40)

    class There:
        shape = (40, 40)

        def matmul(self, V):
            return cupy_stand_in.asarray(A @ V.get())

    b = rng.standard_normal((40, 2))
    found = pcg(There(), cupy_stand_in.asarray(b), preconditioner=jacobi(np.diagonal(A)), rtol=1e-12)
    assert isinstance(found.value, cupy_stand_in.ndarray)
    exact = np.linalg.solve(A, b)
    np.testing.assert_allclose(found.value.get(), exact, rtol=1e-9)
    again = pcg(There(), cupy_stand_in.asarray(b), start=exact, rtol=1e-8)
    assert again.steps == 0


def test_columns_that_converge_first_leave_the_product(gpu):
    """Indices of columns are the host's; what they take is the device's."""
    A = np.diag([1.0, 2.0, 4.0, 8.0])
    b = np.array([[1.0, 1.0], [0, 1], [0, 1], [0, 1]])
    widths = []

    class There:
        shape = (4, 4)

        def place(self, array):
            return cupy_stand_in.asarray(array)

        def matmul(self, V):
            widths.append(V.shape[1])
            return cupy_stand_in.asarray(A @ V.get())

    found = pcg(There(), b, rtol=1e-12)
    np.testing.assert_allclose(found.value, np.linalg.solve(A, b), rtol=1e-10)
    assert widths[0] == 2
    assert 1 in widths


def test_the_gpu_kernel_is_a_kernel_like_any(gpu, case, monkeypatch):
    """GBLUP and single-step take what `prepare` gives."""
    kernel = kernels.load("gpu_2bit")
    Z = kernel.prepare(case.packed, target="sm_90", threads=1)
    assert Z.shape == (300, 420)
    assert Z.bytes_held >= case.packed.codes.nbytes
    assert set(kernel.work(Problem(300, 420, 10), "matmul", "sm_90")) == {"int8", "bytes"}
    np.testing.assert_array_equal(Z.matmul(np.ones((420, 1)))[:, 0], case.counted.sum(axis=1))
