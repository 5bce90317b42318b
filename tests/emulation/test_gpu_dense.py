"""The dense GPU kernel against numpy: what is unpacked on the device, and its vectors. cuBLAS is stood in for."""

from dataclasses import replace

import numpy as np
import pytest
from case import Case
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench import kernels
from bench.errors import BenchError, DeviceLost
from bench.kernels import Problem
from bench.kernels.gpu_dense import GpuDense, device_bytes
from bench.machine import this_machine
from bench.solvers.operator import placement


def herd(n, m, missing=0.0, seed=0):
    """(packed, dosages with missing calls as 0)."""
    case = Case.of(n, m, missing=missing, seed=seed)
    return case.packed, case.counted


def opened(packed, dtype="f8"):
    return GpuDense(packed, dtype=dtype, target="sm_90", threads=1)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    n=st.integers(1, 300), m=st.integers(1, 300), k=st.sampled_from([1, 10, 33]), dtype=st.sampled_from(["f4", "f8"]),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_products_of_integers_are_exact(gpu, n, m, k, dtype, seed):
    packed, dosages = herd(n, m, 0.1, seed)
    random = np.random.default_rng(seed)
    V, U = random.integers(-1000, 1000, (m, k)), random.integers(-1000, 1000, (n, k))
    Z = opened(packed, dtype)
    for found, wanted in ((Z.matmul(V), dosages @ V), (Z.rmatmul(U), dosages.T @ U)):
        np.testing.assert_array_equal(found, wanted)
        assert found.dtype == np.dtype(dtype)
        assert found.flags.c_contiguous
    assert Z.bytes_held == n * m * np.dtype(dtype).itemsize


def test_normal_deviates_against_long_double(gpu):
    packed, dosages = herd(500, 700)
    V = np.random.default_rng(3).standard_normal((700, 10))
    wanted = dosages.astype(np.longdouble) @ V
    assert np.abs(opened(packed).matmul(V) - wanted).max() <= 1e-14 * np.abs(wanted).max()


def test_a_bed_that_is_larger_than_a_buffer_comes_in_pieces(gpu, monkeypatch):
    from bench.kernels._cuda import panels

    monkeypatch.setattr(panels, "STAGE", 70 * 33)
    packed, dosages = herd(131, 100, 0.05)
    U = np.random.default_rng(1).integers(-9, 9, (131, 3))
    np.testing.assert_array_equal(opened(packed).rmatmul(U), dosages.T @ U)


def test_nan_and_infinity_propagate(gpu):
    packed, dosages = herd(40, 30)
    V = np.ones((30, 3))
    V[4, 1], V[5, 2] = np.nan, np.inf
    with np.errstate(invalid="ignore"):
        wanted = (dosages[:, :, None] * V).sum(axis=1)
        np.testing.assert_array_equal(opened(packed).matmul(V), wanted)


def test_vectors_stay_on_the_gpu_unless_missing_calls_are_listed_on_the_host(gpu):
    complete, incomplete = opened(herd(40, 30)[0]), opened(herd(40, 30, 0.2)[0])
    assert complete.missing is None
    assert placement(complete) is not None
    assert placement(incomplete) is None
    assert not hasattr(incomplete, "missing")


def test_no_column_wrong_shapes_and_a_closed_matrix(gpu):
    Z = opened(herd(60, 50)[0])
    assert Z.matmul(np.empty((50, 0))).shape == (60, 0)
    with pytest.raises(ValueError, match=r"expected a \(50, k\) matrix, got \(60, 1\)"):
        Z.matmul(np.ones((60, 1)))
    Z.close()
    with pytest.raises(ValueError, match="closed"):
        Z.rmatmul(np.ones((60, 1)))
    Z.close()


def test_too_little_memory_is_refused_beforehand_with_the_figures(gpu):
    gpu.free = 100 << 20
    with pytest.raises(
        BenchError, match=r"genotypes: 0\.134 GB of the memory of GPU 0 are needed, 0\.105 GB are free"
    ):
        opened(herd(100, 100)[0])
    assert gpu.launched == []


def test_a_lost_gpu_is_a_sentence(gpu):
    packed, _ = herd(60, 50)
    gpu.lost = True
    with pytest.raises(DeviceLost, match="GPU 0: CuPy says cudaErrorDeviceUnavailable"):
        opened(packed)


def test_it_is_a_kernel_like_any_other(gpu):
    kernel = kernels.load("gpu_dense")
    machine = replace(this_machine(), gpus=("Stand-in",), gpu_memory=80 << 30)
    problem = Problem(3_100, 5_000, 10)
    assert kernel.refuses(problem, "sm_90", machine, memory=1 << 40) is None
    assert kernel.lacks("sm_90", replace(machine, gpus=())) == "needs an NVIDIA GPU, this machine has none"
    assert device_bytes(problem) >= 3_100 * 5_000 * 8 + problem.vector_bytes
    assert kernel.work(problem, "matmul", "sm_90") == {"fma": 1.55e8, "bytes": 1.24e8}
    packed, dosages = herd(40, 30)
    np.testing.assert_array_equal(kernel.prepare(packed, target="sm_90").matmul(np.eye(30)), dosages)
