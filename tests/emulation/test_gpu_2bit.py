"""The 2-bit kernel on an emulated GPU: exact, whatever the sizes, the split, the order of the threads and the GPUs.

What the emulation leaves out is said in emulator.h; on a GPU `make gpu` repeats these checks.
"""

from __future__ import annotations

import ctypes as ct
import itertools

import cupy_stand_in
import numpy as np
import pytest
from case import Case
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench import kernels
from bench.errors import BenchError, DeviceLost
from bench.kernels import Problem
from bench.kernels._cuda import gpu as cuda
from bench.kernels._cuda.architectures import ARCHITECTURES, SHARED, architecture
from bench.kernels.gpu_2bit import geometry, slices_of
from bench.kernels.gpu_2bit.matrix import GpuMatrix


def opened(gpu, case: Case, target: str = "sm_90a", **options) -> GpuMatrix:
    """On a device of the target's architecture."""
    arch = architecture(target)
    gpu.capability, gpu.shared = ARCHITECTURES[arch], SHARED[arch]
    return GpuMatrix(case.packed, dtype=options.pop("dtype", "f8"), target=target, threads=1, **options)


def counts() -> dict[str, int]:
    """What the emulator counted since it was last asked, over all modules."""
    total = np.zeros(4, np.uint64)
    for library in cupy_stand_in.RawModule.loaded:
        found = (ct.c_uint64 * 4)()
        library.emulated_counts(found)
        total += np.array(found)
    return dict(zip(("multiplies", "loads", "bank_conflicts", "copies"), total.tolist(), strict=True))


@pytest.mark.parametrize(("lazy", "seed"), [(False, 0), (True, 0), (True, 7)], ids=["eager", "lazy", "skewed"])
@pytest.mark.parametrize("target", ["sm_90", "sm_90a"])
def test_products_of_integers_are_exact(gpu, target, lazy, seed):
    gpu.lazy, gpu.seed = lazy, seed
    case = Case.of(700, 300)
    case.check_integers(opened(gpu, case, target), 10)


@pytest.mark.parametrize("target", ["sm_80", "sm_86", "sm_90a"])
@pytest.mark.parametrize(("n", "m", "k"), [(1, 1, 1), (513, 641, 1), (70, 1025, 3)])
def test_sizes_need_not_be_round(gpu, target, n, m, k):
    case = Case.of(n, m, missing=0.1)
    case.check_integers(opened(gpu, case, target), k)


@pytest.mark.parametrize("target", ["sm_90", "sm_90a"])
def test_a_missing_call_counts_zero_and_can_be_multiplied_itself(gpu, target):
    case = Case.of(515, 130, missing=0.05)
    Z = opened(gpu, case, target)
    case.check_integers(Z, 2)
    V, U = case.numbers(130, 2, integers=True), case.numbers(515, 2, integers=True)
    miss = (case.dosages < 0).astype(float)
    np.testing.assert_array_equal(Z.missing.matmul(V), miss @ V)
    np.testing.assert_array_equal(Z.missing.rmatmul(U), miss.T @ U)
    out = np.ones((515, 2))
    Z.missing.add_matmul(V, out)
    np.testing.assert_array_equal(out, 1 + miss @ V)


def test_without_missing_calls_there_is_nothing_to_impute(gpu):
    assert opened(gpu, Case.of(21, 30)).missing is None


@pytest.mark.parametrize(
    ("slices", "allowed"), [(3, 1e-6), (4, 4e-9), (5, 2e-11), (6, 7e-14), (7, 3e-16), (8, 3e-16)]
)
def test_the_error_falls_by_256_with_each_slice(gpu, slices, allowed):
    case = Case.of(300, 200)
    target = "sm_90" if slices == 7 else f"sm_90_s{slices}"
    assert slices_of(target) == slices
    errors = opened(gpu, case, target)
    found = case.errors(errors, 2)
    assert max(found) < allowed
    if slices < 6:
        assert min(found) > allowed / 100  # a column's digits are what limits it
    declared = kernels.load("gpu_2bit").allowed_error("f8", target)
    V = case.numbers(200, 2)
    exact = case.counted @ V
    assert np.abs(errors.matmul(V) - exact).max() < declared * np.abs(exact).max()


def test_seven_slices_are_as_exact_as_a_float64_result_can_be(gpu):
    assert max(Case.of(600, 520).errors(opened(gpu, Case.of(600, 520)), 3)) <= 1e-15


def test_results_do_not_depend_on_splits_paths_or_gpus(gpu):
    case = Case.of(1100, 700, missing=0.01)
    V, U = case.numbers(700, 3), case.numbers(1100, 3)
    found = []
    for target, splits, devices in (
        ("sm_90a", 1, 1),
        ("sm_90a", 3, 1),
        ("sm_90", 2, 1),
        ("sm_90", None, 2),
        ("sm_80", 1, 1),
    ):
        gpu.devices = devices
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(cuda.COUNT, str(devices))
            Z = opened(gpu, case, target, splits=splits)
            assert len(Z._parts) == devices
            found.append((Z.matmul(V), Z.rmatmul(U)))
    for ZV, ZtU in found[1:]:
        np.testing.assert_array_equal(ZV, found[0][0])
        np.testing.assert_array_equal(ZtU, found[0][1])


@pytest.mark.parametrize("streamed", [False, True])
def test_other_gpus_copy_what_the_first_has_made(gpu, monkeypatch, streamed):
    """CuPy's copy from another GPU waits for its own stream, not for the one that makes what is copied."""
    gpu.devices, gpu.free = 2, 1_200_000 if streamed else 1 << 30
    monkeypatch.setenv(cuda.COUNT, "2")
    case = Case.of(1030, 2100)
    Z = opened(gpu, case, "sm_90")
    assert Z.streamed == streamed
    made, copies = [False], []  # whether the first GPU has done what it was last asked to make for the others
    launch, wait, asarray = cupy_stand_in.Function.__call__, cupy_stand_in.Stream.synchronize, cupy_stand_in.asarray

    def launching(self, *arguments, **options):
        if self.name == "largest_magnitudes":
            made[0] = False
        return launch(self, *arguments, **options)

    def waiting(self):
        made[0] = made[0] or gpu.device == 0
        wait(self)

    def copying(value, dtype=None):
        if isinstance(value, cupy_stand_in.ndarray) and (value.device, gpu.device) == (0, 1):
            copies.append(made[0])
        return asarray(value, dtype)

    monkeypatch.setattr(cupy_stand_in.Function, "__call__", launching)
    monkeypatch.setattr(cupy_stand_in.Stream, "synchronize", waiting)
    monkeypatch.setattr(cupy_stand_in, "asarray", copying)
    V, U = case.numbers(2100, 1), case.numbers(1030, 1)
    Z.matmul(V), Z.rmatmul(U), Z.through(U, lambda snps, T: T)
    assert len(copies) > 5
    assert all(copies)


@pytest.mark.parametrize("k", [12, 33])
def test_many_columns_go_in_groups(gpu, k):
    case = Case.of(130, 140)
    Z = opened(gpu, case, "sm_90")
    case.check_integers(Z, k)
    assert sum(width for _, width in geometry.groups(k, 7)) == k


def test_shared_memory_is_read_from_all_banks_at_once(gpu):
    case = Case.of(520, 520)
    Z = opened(gpu, case, "sm_90")
    counts()
    Z.matmul(case.numbers(520, 10))
    Z.rmatmul(case.numbers(520, 10))
    found = counts()
    assert found["multiplies"] > 1000
    assert found["loads"] > 1000
    assert found["bank_conflicts"] == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_column_that_is_not_finite_is_as_in_a_dense_product(gpu, bad):
    case = Case.of(90, 80, missing=0.1)
    Z = opened(gpu, case)
    V, U = case.numbers(80, 3, integers=True), case.numbers(90, 3, integers=True)
    V[5, 1] = U[7, 2] = bad
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(Z.matmul(V), case.counted @ V)
        np.testing.assert_array_equal(Z.rmatmul(U), case.counted.T @ U)


@pytest.mark.parametrize("scale", [0.0, 5e-324, 2.0**-1000, 2.0**1000])
def test_inputs_of_any_size_keep_their_digits(gpu, scale):
    case = Case.of(60, 50)
    Z = opened(gpu, case)
    V = np.full((50, 2), scale)
    V[:, 1] = 1.0
    np.testing.assert_array_equal(Z.matmul(V), case.counted @ V)


def test_an_output_that_cancels_is_exact(gpu):
    case = Case.of(64, 2)
    case.dosages[:] = 1
    Z = opened(gpu, Case(type(case.packed).from_dosages(case.dosages), case.dosages))
    np.testing.assert_array_equal(Z.matmul(np.array([[1e15 + 1], [-1e15]])), 1.0)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(n=st.integers(1, 600), m=st.integers(1, 300), missing=st.sampled_from([0.0, 0.3]), seed=st.integers(0, 99))
def test_any_matrix_is_multiplied_exactly(gpu, n, m, missing, seed):
    case = Case.of(n, m, missing=missing, seed=seed)
    gpu.seed = seed
    case.check_integers(opened(gpu, case, "sm_90"), 1)


class TestStreamed:
    """Genotypes that do not fit the GPU."""

    @pytest.fixture
    def small(self, gpu, monkeypatch):
        gpu.free = 1_200_000
        return Case.of(520, 2100, missing=0.02)

    @pytest.mark.parametrize("lazy", [False, True])
    def test_products_are_those_of_the_whole(self, gpu, small, lazy):
        gpu.lazy = lazy
        Z = opened(gpu, small, "sm_90")
        assert Z.streamed
        small.check_integers(Z, 2)
        V, U = small.numbers(2100, 2), small.numbers(520, 2)
        streamed = Z.matmul(V), Z.rmatmul(U)
        gpu.free = 1 << 30
        whole = opened(gpu, small, "sm_90")
        assert not whole.streamed
        np.testing.assert_array_equal(streamed[0], whole.matmul(V))
        np.testing.assert_array_equal(streamed[1], whole.rmatmul(U))

    def test_the_hosts_copy_is_no_larger_than_the_genotypes(self, gpu, small):
        assert opened(gpu, small, "sm_90").streamed
        assert max(gpu.pinned) == small.packed.codes.nbytes  # 273,000: CuPy's pool would take 524,288

    def test_both_directions_take_one_passage(self, gpu, small):
        Z = opened(gpu, small, "sm_90")
        U = small.numbers(520, 2, integers=True)
        gpu.copied.clear()
        got = Z.through(U, lambda snps, T: T * 2.0)
        np.testing.assert_array_equal(got, 2 * small.counted @ (small.counted.T @ U))
        assert sum(gpu.copied) == small.packed.codes.nbytes + U.nbytes + got.nbytes

    def test_several_gpus_stream_their_own_individuals(self, gpu, small, monkeypatch):
        gpu.devices = 2
        monkeypatch.setenv(cuda.COUNT, "2")
        case = Case.of(1030, 2100)
        Z = opened(gpu, case, "sm_90")
        assert Z.streamed
        case.check_integers(Z, 1)

    def test_the_memory_to_use_can_be_named(self, gpu, monkeypatch):
        case = Case.of(520, 2100)
        monkeypatch.setenv(cuda.MEMORY, "1200000")
        assert opened(gpu, case, "sm_90").streamed

    def test_too_little_even_for_that_is_said(self, gpu, small):
        gpu.free = 100_000
        with pytest.raises(
            BenchError, match=r"to stream 512 SNPs of 520 individuals at a time takes .* GB, .* are free"
        ):
            opened(gpu, small, "sm_90")


class TestVectors:
    """What is multiplied may lie on the host, on the GPU, or belong to another library."""

    def test_vectors_of_the_gpu_stay_there(self, gpu):
        case = Case.of(200, 100)
        Z = opened(gpu, case)
        V = cupy_stand_in.asarray(case.numbers(100, 2, integers=True))
        gpu.copied.clear()
        got = Z.matmul(V)
        assert isinstance(got, cupy_stand_in.ndarray)
        assert not gpu.copied
        np.testing.assert_array_equal(got.get(), case.counted @ V.get())

    def test_jax_arrays_of_the_host_come_and_go(self, gpu):
        jnp = pytest.importorskip("jax.numpy")
        case = Case.of(40, 30)
        Z = opened(gpu, case)
        U = case.numbers(40, 2, integers=True).astype("f4")
        got = Z.rmatmul(jnp.asarray(U))
        assert isinstance(got, type(jnp.asarray(U)))
        np.testing.assert_array_equal(np.asarray(got), case.counted.T @ U)

    def test_float32_vectors_give_float32(self, gpu):
        case = Case.of(40, 30)
        Z = opened(gpu, case, dtype="f4")
        got = Z.matmul(case.numbers(30, 2, integers=True).astype("f4"))
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, case.counted @ case.numbers(30, 2, integers=True))

    def test_a_product_allocates_nothing_but_its_result(self, gpu, monkeypatch):
        case = Case.of(200, 100)
        Z = opened(gpu, case)
        V = cupy_stand_in.asarray(case.numbers(100, 2))
        Z.matmul(V)
        made = []
        monkeypatch.setattr(cupy_stand_in, "_take", made.append)
        Z.matmul(V)
        assert made == [200 * 2 * 8]

    def test_no_column_is_no_work(self, gpu):
        Z = opened(gpu, Case.of(20, 30))
        assert Z.matmul(np.empty((30, 0))).shape == (20, 0)
        assert Z.rmatmul(np.empty((20, 0))).shape == (30, 0)

    @pytest.mark.parametrize("shape", [(30,), (29, 2), (2, 30)])
    def test_a_wrong_shape_is_refused(self, gpu, shape):
        with pytest.raises(ValueError, match=r"expected a \(30, k\) matrix"):
            opened(gpu, Case.of(20, 30)).matmul(np.ones(shape))

    def test_a_closed_matrix_multiplies_nothing(self, gpu):
        Z = opened(gpu, Case.of(20, 30))
        Z.close()
        with pytest.raises(ValueError, match="closed"):
            Z.matmul(np.ones((30, 1)))


class TestRefusals:
    """What a machine lacks, in sentences."""

    def lacks(self, target="sm_90a"):
        return kernels.load("gpu_2bit").requires(target)

    def test_another_architecture(self, gpu):
        gpu.capability = "8.0"
        assert self.lacks() == "sm_90a is for GPUs of compute capability 9.0; this one, Stand-in, has 8.0"
        assert self.lacks("sm_80_s4") is None

    def test_no_gpu(self, gpu):
        gpu.devices = 0
        assert "cudaErrorNoDevice: no CUDA-capable device is detected" in self.lacks()

    def test_an_old_driver(self, gpu, monkeypatch):
        def count():
            raise cupy_stand_in.CUDARuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient")

        monkeypatch.setattr(cupy_stand_in.cuda.runtime, "getDeviceCount", count)
        assert "CUDA driver version is insufficient; install the extra cuda12 or cuda13" in self.lacks()

    def test_no_cupy(self, gpu, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "cupy", None)
        assert self.lacks().startswith("CuPy cannot be imported")

    def test_no_nvrtc(self, gpu, monkeypatch):
        monkeypatch.setattr(cuda.nvrtc, "lacks", lambda: "NVRTC, the CUDA compiler, is not installed")
        assert "NVRTC" in self.lacks()

    def test_no_headers(self, gpu, monkeypatch):
        reason = "the headers of CUDA's runtime, which CuPy needs, are not installed"
        monkeypatch.setattr(cuda.nvrtc, "lacks_headers", lambda: reason)
        assert self.lacks() == reason

    def test_no_cublas(self, gpu):
        said = r"GPU 0: a library of CUDA is missing .*libcublas.*; install the extra"
        with pytest.raises(BenchError, match=said), cuda.told("GPU 0"):
            raise ImportError('Failure finding "libcublas.so.13": No such file')
        with pytest.raises(ImportError), cuda.told("GPU 0"):
            raise ImportError("cannot import name 'bench'")

    def test_out_of_memory_on_the_device(self, gpu):
        Z = opened(gpu, Case.of(200, 100))
        gpu.free = 1000
        with pytest.raises(MemoryError, match=r"GPU 0: Out of memory allocating"):
            Z.matmul(np.ones((100, 5)))

    def test_memory_that_the_driver_refuses_is_no_lost_gpu(self, gpu):
        with pytest.raises(MemoryError, match="GPU 0: cudaErrorMemoryAllocation"), cuda.told("GPU 0"):
            raise cupy_stand_in.CUDARuntimeError("cudaErrorMemoryAllocation: out of memory")  # of pinned memory

    def test_a_gpu_that_is_lost(self, gpu):
        Z = opened(gpu, Case.of(20, 30))
        gpu.lost = True
        with pytest.raises(
            DeviceLost, match=r"the GPU failed or was lost: GPU 0: .*cudaErrorDeviceUnavailable.*; run again"
        ):
            Z.matmul(np.ones((30, 1)))

    @pytest.mark.parametrize("asked", ["0", "2", "two"])
    def test_more_gpus_than_there_are(self, gpu, monkeypatch, asked):
        monkeypatch.setenv(cuda.COUNT, asked)
        with pytest.raises(BenchError, match="BENCH_GPUS: a number of GPUs from 1 to 1 was needed"):
            opened(gpu, Case.of(20, 30))

    def test_memory_that_is_no_number(self, gpu, monkeypatch):
        monkeypatch.setenv(cuda.MEMORY, "much")
        with pytest.raises(BenchError, match="BENCH_GPU_MEMORY: a number of bytes was needed, found 'much'"):
            opened(gpu, Case.of(20, 30))


class TestGeometry:
    @pytest.mark.parametrize(("k", "slices"), list(itertools.product([1, 10, 11, 12, 32, 100], [3, 4, 7, 8])))
    def test_groups_fit_a_launch_and_are_nearly_equal(self, k, slices):
        found = geometry.groups(k, slices)
        widths = [width for _, width in found]
        assert [first for first, _ in found] == list(np.cumsum([0, *widths[:-1]]))
        assert sum(widths) == k
        assert max(widths) * slices <= 80
        assert max(widths) - min(widths) <= 1

    @pytest.mark.parametrize("transposed", [False, True])
    @pytest.mark.parametrize(
        ("outputs", "inputs"), [(10, 10), (751_000, 50_241), (50_241, 3_100_000), (100, 20_000_000)]
    )
    def test_no_sum_can_pass_32_bits(self, outputs, inputs, transposed):
        how = geometry.variant("sm_90", 80, transposed=transposed, decode=0)
        cut = geometry.cut(outputs, inputs, how, 132)
        factor = 2 if transposed else 2 * 64
        assert cut.per_split * how.chunk * factor * 128 < 2**31
        assert cut.splits * cut.per_split >= cut.chunks
        assert cut.chunks * how.chunk >= inputs

    @pytest.mark.parametrize("arch", ARCHITECTURES)
    def test_a_block_fits_the_shared_memory(self, arch):
        assert all(how.shared_bytes <= SHARED[arch] for how in geometry.variants(arch))

    @pytest.mark.parametrize("digits", [3, 70, 77, 80])
    @pytest.mark.parametrize("arch", ARCHITECTURES)
    def test_a_variant_has_room_for_the_digits(self, arch, digits):
        assert 8 * geometry.variant(arch, digits, transposed=True, decode=1).tiles >= digits

    def test_a_matrix_takes_little_more_than_its_genotypes(self):
        problem = Problem(751_000, 50_241, 10)
        need = kernels.gpu_2bit.device_bytes(problem) - problem.vector_bytes
        assert need <= 1.05 * problem.packed_bytes
