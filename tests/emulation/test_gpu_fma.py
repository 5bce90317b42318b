"""The multiply-add kernel under the emulation of a GPU: exact integers, and float64 within its error."""

import sys
import types
from dataclasses import replace

import numpy as np
import pytest
from case import Case
from compiler import compiled
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench import kernels
from bench.errors import BenchError, DeviceLost
from bench.kernels import Problem
from bench.kernels._cuda import nvrtc
from bench.kernels._cuda.architectures import ROWS
from bench.kernels.gpu_fma import device_bytes
from bench.kernels.gpu_fma.matrix import SOURCE, GpuFma, shared_bytes, splits_of, tiles
from bench.machine import this_machine

LONG = np.longdouble


def herd(n, m, missing=0.0, seed=0):
    """(packed, dosages with missing calls as 0, indicator of missing calls)."""
    case = Case.of(n, m, missing=missing, seed=seed)
    return case.packed, case.counted, case.dosages == -1


def opened(packed, dtype="f8", **options):
    return GpuFma(packed, dtype=dtype, target="sm_90", threads=1, **options)


def integers(rows, k, seed=1):
    return np.random.default_rng(seed).integers(-1000, 1001, (rows, k)).astype(float)


def planted(monkeypatch, source, right, wrong):
    """Have `source` compiled with a fault."""
    text = source.read_text()
    assert right in text
    monkeypatch.setattr(
        nvrtc,
        "compiled",
        lambda of, *how: compiled(of, *how, text=text.replace(right, wrong) if of == source else ""),
    )


def assert_exact(Z, dosages, k):
    n, m = dosages.shape
    V, U = integers(m, k), integers(n, k)
    np.testing.assert_array_equal(Z.matmul(V), dosages @ V)
    np.testing.assert_array_equal(Z.rmatmul(U), dosages.T @ U)


@pytest.mark.parametrize(
    ("n", "m", "k", "missing", "lazy", "seed"),
    [
        (70, 33, 1, 0.1, True, 1),
        (1601, 130, 10, 0.0, True, 2),
        (65, 1537, 10, 0.05, False, 0),
        (129, 257, 33, 0.02, True, 3),
    ],
)
def test_products_of_integers_are_exact(gpu, n, m, k, missing, lazy, seed):
    gpu.lazy, gpu.seed = lazy, seed
    packed, dosages, _ = herd(n, m, missing)
    assert_exact(opened(packed), dosages, k)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(n=st.integers(1, 200), m=st.integers(1, 200), k=st.sampled_from([1, 10]), seed=st.integers(0, 99))
def test_products_of_integers_are_exact_at_any_size(gpu, n, m, k, seed):
    packed, dosages, _ = herd(n, m, 0.1, seed)
    assert_exact(opened(packed), dosages, k)


@pytest.mark.parametrize(("dtype", "tolerance"), [("f8", 1e-14), ("f4", 5e-6)])
def test_normal_deviates_against_long_double(gpu, dtype, tolerance):
    packed, dosages, _ = herd(300, 700, 0.02)
    random = np.random.default_rng(3)
    V, U = random.standard_normal((700, 10)).astype(dtype), random.standard_normal((300, 10)).astype(dtype)
    Z = opened(packed, dtype)
    for found, wanted in ((Z.matmul(V), dosages.astype(LONG) @ V), (Z.rmatmul(U), dosages.T.astype(LONG) @ U)):
        assert found.dtype == np.dtype(dtype)
        assert found.flags.c_contiguous
        assert np.abs(found - wanted).max() <= tolerance * np.abs(wanted).max()


def test_a_column_does_not_depend_on_the_others_and_repeats_are_bit_equal(gpu):
    packed, _, _ = herd(300, 500)
    V = np.random.default_rng(4).standard_normal((500, 33))
    Z = opened(packed)
    whole = Z.matmul(V)  # in tiles of 8 and 9 columns
    np.testing.assert_array_equal(Z.matmul(V), whole)
    np.testing.assert_array_equal(Z.matmul(V[:, 5:6]), whole[:, 5:6])  # a tile of 1
    np.testing.assert_array_equal(Z.matmul(V[:, 20:30]), whole[:, 20:30])  # a tile of 10


@pytest.mark.parametrize("splits", [2, 3, 50])
def test_any_number_of_splits_gives_the_same_integers(gpu, splits):
    packed, dosages, _ = herd(150, 513, 0.05)
    assert_exact(opened(packed, splits=splits), dosages, 10)


def test_the_missing_calls_are_an_operator_on_the_same_copies(gpu):
    packed, _, missing = herd(90, 140, 0.1)
    Z = opened(packed)
    V, U, out = integers(140, 10), integers(90, 10), integers(90, 10, seed=5)
    np.testing.assert_array_equal(Z.missing.matmul(V), missing @ V)
    np.testing.assert_array_equal(Z.missing.rmatmul(U), missing.T @ U)
    wanted = out + missing @ V
    Z.missing.add_matmul(V, out)
    np.testing.assert_array_equal(out, wanted)
    assert opened(herd(30, 30)[0]).missing is None


def test_vectors_on_the_gpu_stay_there(gpu):
    import cupy

    packed, dosages, _ = herd(90, 140)
    Z = opened(packed)
    V = integers(140, 10)
    there = Z.place(V)
    gpu.copied.clear()
    out = Z.matmul(there)
    assert isinstance(out, cupy.ndarray)
    assert gpu.copied == []
    np.testing.assert_array_equal(out.get(), dosages @ V)


def test_nan_and_infinity_propagate_as_in_a_dense_product(gpu):
    packed, dosages, _ = herd(80, 90, 0.1)
    V = integers(90, 10)
    V[3, 2], V[7, 4] = np.nan, np.inf
    with np.errstate(invalid="ignore"):
        wanted = (dosages[:, :, None] * V).sum(axis=1)
    np.testing.assert_array_equal(opened(packed).matmul(V), wanted)


def test_no_column_wrong_shapes_and_a_closed_matrix(gpu):
    Z = opened(herd(60, 50)[0])
    assert Z.matmul(np.empty((50, 0))).shape == (60, 0)
    assert Z.rmatmul(np.empty((60, 0))).shape == (50, 0)
    with pytest.raises(ValueError, match=r"expected a \(50, k\) matrix, got \(60, 1\)"):
        Z.matmul(np.ones((60, 1)))
    with pytest.raises(ValueError, match=r"expected a \(60, k\) matrix"):
        Z.rmatmul(np.ones(60))
    Z.close()
    with pytest.raises(ValueError, match="closed"):
        Z.matmul(np.ones((50, 1)))
    Z.close()


def test_too_little_memory_is_refused_beforehand_with_the_figures(gpu):
    gpu.free = 10 << 20
    with pytest.raises(
        BenchError, match=r"genotypes: 0\.13\d* GB of the memory of GPU 0 are needed, 0\.0105 GB are free"
    ):
        opened(herd(100, 100)[0])
    assert gpu.launched == []


def test_a_lost_gpu_is_a_sentence(gpu):
    Z = opened(herd(60, 50)[0])
    gpu.lost = True
    with pytest.raises(DeviceLost, match="GPU 0: CuPy says cudaErrorDeviceUnavailable"):
        Z.matmul(np.ones((50, 1)))


def test_what_is_declared_holds_the_copies_and_the_vectors(gpu):
    problem = Problem(3000, 2000, 10)
    copies = 2 * ROWS * 2048 // 4 + 2 * ROWS * 3072 // 4
    assert device_bytes(problem) >= copies + problem.vector_bytes
    assert device_bytes(problem) >= opened(herd(3000, 2000)[0]).bytes_held == copies
    assert device_bytes(Problem(3_100_000, 50_241, 10)) < 1.05 * (2 * 3_100_000 * 50_241 / 4 + problem.vector_bytes)


def test_tiles_are_as_equal_as_can_be():
    assert tiles(10) == [(0, 10)]
    assert tiles(32) == [(0, 8), (8, 8), (16, 8), (24, 8)]
    assert [width for _, width in tiles(33)] == [8, 8, 8, 9]
    assert all(shared_bytes(width, real) <= 99 << 10 for width in range(1, 11) for real in (4, 8))


def test_few_blocks_are_split_and_many_are_not():
    assert splits_of(50_241, 48_438, 132) > 1
    assert splits_of(3_100_000, 786, 132) == 1
    assert splits_of(100, 3, 132) == 1


def test_it_is_a_kernel_like_any_other(gpu):
    kernel = kernels.load("gpu_fma")
    machine = replace(this_machine(), gpus=("Stand-in",), gpu_memory=80 << 30)
    problem = Problem(100, 100, 10)
    assert kernel.refuses(problem, "sm_90", machine, memory=1 << 40) is None
    assert "compute capability 8.0" in kernel.lacks("sm_80", machine)
    assert kernel.lacks("sm_90", replace(machine, gpus=())) == "needs an NVIDIA GPU, this machine has none"
    assert kernel.work(problem, "matmul", "sm_90") == {"fma": 1e5, "bytes": 2500.0}
    packed, dosages, _ = herd(40, 30)
    assert_exact(kernel.prepare(packed, target="sm_90"), dosages, 10)


@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100", "sm_120"])
def test_it_compiles_without_spills(arch):
    if reason := nvrtc.lacks():
        pytest.skip(reason)
    if arch not in nvrtc.architectures():
        pytest.skip(f"this NVRTC does not know {arch}")
    made = nvrtc.compiled(SOURCE, arch, {"COLUMNS": 10, "REAL_BYTES": 8, "MISSING": 0})
    assert made.kernels["product"].spilled == 0
    assert made.kernels["product"].registers <= 255


@pytest.mark.slow
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("wait_for_copies<1>();", "wait_for_copies<2>();"),
        ("        __syncthreads();  // nobody reads", "        // nobody reads"),
        ("input < inputs);", "true);"),
        ("x + (t + 8) * PITCH", "x + (t + 7) * PITCH"),
        ("+ 0x04000400", "+ 0x04000000"),
        ("begin = split * per_split", "begin = split * (per_split - 1)"),
        ("s < splits; s++", "s < splits - 1; s++"),
    ],
)
def test_planted_faults_are_caught(gpu, monkeypatch, right, wrong):
    planted(monkeypatch, SOURCE, right, wrong)
    packed, dosages, _ = herd(300, 330, 0.05)
    Z = opened(packed, splits=2)
    V = integers(330, 3)
    there = Z.place(np.vstack([V, np.full((200, 3), np.nan)]))[:330]  # no input may be read behind the last
    for seed in range(1, 6):
        gpu.seed, gpu.lazy = seed, seed % 2 == 0
        try:
            np.testing.assert_array_equal(Z.matmul(there).get(), dosages @ V)
        except AssertionError:  # wrong, or the emulator's own finding
            return
    pytest.fail("the fault was not seen")


@pytest.mark.parametrize("where", [(1, 0), (2, 0)], ids=["host", "GPU"])
def test_other_libraries_arrays_come_and_go_by_dlpack(gpu, monkeypatch, where):
    class Foreign:
        __module__ = "foreign.arrays"

        def __init__(self, held):
            self.held, self.shape, self.ndim = held, held.shape, held.ndim

        def __dlpack__(self, **options):
            return self.held.__dlpack__(**options)

        def __dlpack_device__(self):
            return where

    library = types.SimpleNamespace(from_dlpack=lambda array: Foreign(np.from_dlpack(array)))
    monkeypatch.setitem(sys.modules, "foreign", library)
    packed, dosages, _ = herd(60, 50)
    V, Z = integers(50, 10), opened(packed)
    gpu.copied.clear()
    out = Z.matmul(Foreign(V))
    assert bool(gpu.copied) == (where[0] == 1)
    assert isinstance(out, Foreign)
    np.testing.assert_array_equal(out.held, dosages @ V)
