"""The contract of every kernel, over each target that this machine can run.

Oracle: dosages unpacked with plain Python bit arithmetic, and integer matrix products. Inputs of the exact
tests are small integers, so that float32 and float64 results must be equal bit by bit.
"""

from __future__ import annotations

import ctypes as ct
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from bench import kernels
from bench.build import installed
from bench.errors import BenchError
from bench.genotypes.packed import PackedGenotypes
from bench.kernels import GenotypeOperator, Problem
from bench.kernels._native import bind
from bench.machine import this_machine

MACHINE = this_machine()


def targets(name: str) -> tuple[str, ...]:
    """A kernel's targets; one of those for GPUs where there is none, to say so once."""
    kernel = kernels.load(name)
    return kernel.all_targets if MACHINE.gpus or not kernel.gpu else kernel.all_targets[-1:]


CASES = [
    pytest.param(
        name,
        target,
        id=f"{name}-{target}",
        marks=[pytest.mark.skip(reason=reason)] if (reason := kernels.load(name).lacks(target, MACHINE)) else [],
    )
    for name in kernels.names()
    for target in targets(name)
]
DTYPES = ["f4", "f8"]
DOSAGE_OF_CODE = (0, 0, 1, 2)  # code 1 is a missing call
SIZES = [1, 3, 4, 5, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 255, 256, 257]
COLUMNS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15, 16, 17, 24, 31, 32, 33]
# What 0 · ∞ and 0 · NaN give: a table of sums, or of the dosages that are not 0, skips the inputs whose dosage is 0.
SKIPS_ZEROS = {"adelie", "auto", "five_codes", "lut5", "miraculix", "scipy_sparse"}
# Sums may be split by threads; a BLAS, which a kernel's name says, may do so too.
SPLITS_SUMS = {"adelie"}
# What they hold grows with the dosages that are not 0; declared is the most, reached where none is 0.
STORES_NONZERO = {"adelie", "scipy_sparse"}
NONZERO = 0xAA  # makes each code of a byte 2 or 3

Open = Callable[..., GenotypeOperator]


@pytest.fixture(scope="session")
def library() -> Callable[[str, str], Path | None]:
    """(kernel, target) → its shared library, compiled unless these sources were before; None for a kernel that has
    none."""

    @cache
    def compiled(name: str, target: str) -> Path | None:
        if kernels.load(name).native is None:
            return None
        made = installed(name, target)
        assert made.status == "ok", made.reason
        return made.library

    return compiled


@pytest.fixture
def open_kernel(library: Callable[[str, str], Path | None]) -> Open:
    """Prepare a kernel's target on packed genotypes; skip the test where the kernel declines the problem."""

    def opened(
        name: str, target: str, packed: PackedGenotypes, dtype: str = "f8", threads: int = 1
    ) -> GenotypeOperator:
        kernel = kernels.load(name)
        if reason := declined(name, *packed.shape, dtype, threads):
            pytest.skip(reason)
        return kernel.prepare(packed, target=target, dtype=dtype, library=library(name, target), threads=threads)

    return opened


def declined(name: str, n: int, m: int = 1, dtype: str = "f8", threads: int = 1) -> str | None:
    """Why a kernel takes no such problem, on any machine."""
    kernel = kernels.load(name)
    if dtype not in kernel.dtypes:
        return f"{name} has no {dtype} path"
    return kernel.declines(Problem(n, m, 1, dtype, threads))


def unpack_by_hand(packed: PackedGenotypes) -> np.ndarray:
    """(n, m) int64 dosages, a missing call 0, bit by bit in plain Python; not to be changed."""
    return _unpacked(tuple(bytes(row) for row in packed.codes), *packed.shape)


@cache  # every kernel is asked for the same matrices
def _unpacked(rows: tuple[bytes, ...], n: int, m: int) -> np.ndarray:
    Z = np.array([[DOSAGE_OF_CODE[rows[j][i // 4] >> 2 * (i % 4) & 3] for j in range(m)] for i in range(n)])
    Z.flags.writeable = False
    return Z


def random_packed(n: int, m: int, seed: int = 0) -> PackedGenotypes:
    """Random bytes: every code occurs, missing calls and codes in the padding too."""
    rng = np.random.default_rng([seed, n, m])
    return PackedGenotypes(rng.integers(0, 256, (m, -(-n // 4)), dtype=np.uint8), n)


def integers(rows: int, k: int, dtype: str, seed: int = 1) -> np.ndarray:
    """Integers so small that all sums here are exact in float32."""
    return np.random.default_rng([seed, rows, k]).integers(-50, 51, (rows, k)).astype(dtype)


def assert_exact(operator: GenotypeOperator, Z: np.ndarray, k: int, dtype: str) -> None:
    """Both products equal the integer products."""
    n, m = Z.shape
    V, U = integers(m, k, dtype), integers(n, k, dtype)
    for found, expected in (
        (operator.matmul(V), Z @ V.astype(np.int64)),
        (operator.rmatmul(U), Z.T @ U.astype(np.int64)),
    ):
        assert found.dtype == np.dtype(dtype)
        assert found.flags.c_contiguous
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "target"), CASES)
class TestProducts:
    def test_products_are_exact_for_every_number_of_individuals(self, open_kernel, name, target, dtype):
        for n in SIZES:
            if declined(name, n):
                continue
            packed = random_packed(n, 37)
            assert_exact(open_kernel(name, target, packed, dtype), unpack_by_hand(packed), 3, dtype)

    def test_products_are_exact_for_every_number_of_snps(self, open_kernel, name, target, dtype):
        for m in SIZES:
            packed = random_packed(41, m)
            assert_exact(open_kernel(name, target, packed, dtype), unpack_by_hand(packed), 3, dtype)

    def test_products_are_exact_for_every_number_of_columns(self, open_kernel, name, target, dtype):
        packed = random_packed(67, 131)
        operator, Z = open_kernel(name, target, packed, dtype), unpack_by_hand(packed)
        for k in COLUMNS:
            assert_exact(operator, Z, k, dtype)

    def test_products_are_exact_beyond_every_block_of_the_kernels(self, open_kernel, name, target, dtype):
        packed = random_packed(4500, 70)
        assert_exact(open_kernel(name, target, packed, dtype), unpack_by_hand(packed), 10, dtype)
        packed = random_packed(70, 4500)
        assert_exact(open_kernel(name, target, packed, dtype), unpack_by_hand(packed), 10, dtype)

    def test_products_are_exact_where_codes_of_five_take_their_fifth_from_another_panel(
        self, open_kernel, name, target, dtype
    ):
        """lut5 regroups five panels of 256 individuals at once, and only from 2,048 SNPs on."""
        for n, m in ((1025, 2049), (1279, 2055), (1280, 2048), (2561, 2050)):
            packed = random_packed(n, m)
            if declined(name, n):
                continue
            Z = np.maximum(packed.dosages(), 0).astype("i8")  # by hand is too slow here
            assert_exact(open_kernel(name, target, packed, dtype), Z, 2, dtype)

    @pytest.mark.parametrize(("n", "m"), [(1, 3), (3, 1), (1031, 517), (1290, 2060)])
    def test_no_number_of_threads_changes_a_bit(self, open_kernel, name, target, dtype, n, m):
        if name in SPLITS_SUMS or "blas" in name:
            pytest.skip("its sums may be split by threads")
        packed, rng = random_packed(n, m), np.random.default_rng(2)
        V, U = rng.standard_normal((m, 3)).astype(dtype), rng.standard_normal((n, 3)).astype(dtype)
        one = open_kernel(name, target, packed, dtype)
        # numba has as many threads as the machine has cores; the others take any number.
        for threads in (2,) if name == "numba_unpack" else (2, 3, 7):
            more = open_kernel(name, target, packed, dtype, threads=threads)
            for k in (1, 3):  # auto takes another scheme for few columns
                np.testing.assert_array_equal(one.matmul(V[:, :k]), more.matmul(V[:, :k]))
                np.testing.assert_array_equal(one.rmatmul(U[:, :k]), more.rmatmul(U[:, :k]))

    def test_random_numbers_agree_with_numpy_to_rounding(self, open_kernel, name, target, dtype):
        packed = random_packed(611, 1213)
        operator, Z = open_kernel(name, target, packed, dtype), unpack_by_hand(packed).astype("f8")
        rng = np.random.default_rng(3)
        kernel = kernels.load(name)
        bound = kernel.tolerance(dtype, target) if kernel.tolerance else {"f8": 1e-13, "f4": 1e-5}[dtype]
        for k in (1, 10, 33):
            V, U = rng.standard_normal((1213, k)).astype(dtype), rng.standard_normal((611, k)).astype(dtype)
            for found, expected in (
                (operator.matmul(V), Z @ V.astype("f8")),
                (operator.rmatmul(U), Z.T @ U.astype("f8")),
            ):
                assert np.abs(found - expected).max() <= bound * np.abs(expected).max()


@pytest.mark.parametrize(("name", "target"), CASES)
class TestInputs:
    def test_codes_after_the_last_individual_are_ignored(self, open_kernel, name, target):
        for n in (1, 2, 3, 5, 254, 255, 257):
            clean = np.random.default_rng(n).integers(0, 256, (19, -(-n // 4)), dtype=np.uint8)
            clean[:, -1] &= 0xFF >> 2 * (-n % 4)
            dirty = clean.copy()
            dirty[:, -1] |= 0xFF << 2 * ((n - 1) % 4 + 1) & 0xFF
            U = integers(n, 4, "f8")
            first, second = (open_kernel(name, target, PackedGenotypes(c, n)) for c in (clean, dirty))
            np.testing.assert_array_equal(first.rmatmul(U), second.rmatmul(U))
            np.testing.assert_array_equal(first.matmul(integers(19, 4, "f8")), second.matmul(integers(19, 4, "f8")))

    def test_rows_wider_than_their_codes_are_ignored_past_them(self, open_kernel, name, target):
        wide = np.random.default_rng(5).integers(0, 256, (23, 40), dtype=np.uint8)
        packed = PackedGenotypes(wide[:, :13], 50)
        assert packed.codes.strides[0] == 40
        assert_exact(open_kernel(name, target, packed), unpack_by_hand(packed), 5, "f8")

    def test_every_other_snp_can_be_taken_as_a_view(self, open_kernel, name, target):
        packed = PackedGenotypes(random_packed(77, 60).codes[::2], 77)
        assert_exact(open_kernel(name, target, packed), unpack_by_hand(packed), 5, "f8")

    def test_codes_may_lie_in_any_order_in_memory(self, open_kernel, name, target):
        codes = random_packed(77, 60).codes
        for laid in (np.asfortranarray(codes), codes[::-1], np.repeat(codes, 2, axis=1)[:, ::2]):
            packed = PackedGenotypes(laid, 77)
            assert_exact(open_kernel(name, target, packed), unpack_by_hand(packed), 3, "f8")

    def test_nothing_to_multiply_and_no_thread_are_refused(self, open_kernel, name, target):
        for n, m, threads in ((0, 5, 1), (5, 0, 1), (5, 5, 0), (5, 5, -1)):
            packed = PackedGenotypes(np.zeros((m, -(-n // 4)), np.uint8), n)
            with pytest.raises(BenchError, match="at least one of each is needed"):
                open_kernel(name, target, packed, threads=threads)

    def test_the_head_of_a_matrix_is_that_many_first_individuals(self, open_kernel, name, target):
        packed = random_packed(300, 21)
        for n in (1, 2, 5, 64, 255, 257, 299):
            if declined(name, n):
                continue
            Z = unpack_by_hand(packed)[:n]
            assert_exact(open_kernel(name, target, packed.head(n)), Z, 3, "f8")

    def test_nothing_is_read_past_the_last_row(self, open_kernel, name, target):
        """The payload ends where a page ends and the next one may not be read: an over-read is a crash."""
        n, m = 1029, 7  # 258 bytes a row
        size = m * -(-n // 4)
        libc = ct.CDLL(None, use_errno=True)
        libc.mmap.restype, libc.mmap.argtypes = ct.c_void_p, [ct.c_void_p, ct.c_size_t, *[ct.c_int] * 3, ct.c_long]
        page = os.sysconf("SC_PAGESIZE")
        length = -(-size // page) * page
        start = libc.mmap(None, length + page, 3, 0x22, -1, 0)  # readable, writable; private, anonymous
        assert libc.mprotect(ct.c_void_p(start + length), ct.c_size_t(page), 0) == 0
        view = np.frombuffer(memoryview((ct.c_uint8 * size).from_address(start + length - size)), np.uint8).reshape(
            m, -1
        )
        view[:] = random_packed(n, m).codes
        packed = PackedGenotypes(view, n)
        operator = open_kernel(name, target, packed)
        assert_exact(operator, unpack_by_hand(packed), 3, "f8")
        operator.close()
        libc.munmap(ct.c_void_p(start), ct.c_size_t(length + page))

    def test_matmul_of_a_monomorphic_snp_is_constant(self, open_kernel, name, target):
        packed = PackedGenotypes.from_dosages(np.full((131, 1), 2))
        np.testing.assert_array_equal(
            open_kernel(name, target, packed).matmul(np.array([[3.0, -1.5]])), np.tile([[6.0, -3.0]], (131, 1))
        )

    def test_missing_calls_count_as_zero(self, open_kernel, name, target):
        packed = PackedGenotypes.from_dosages(np.full((70, 45), -1))
        operator = open_kernel(name, target, packed)
        np.testing.assert_array_equal(operator.matmul(np.ones((45, 3))), np.zeros((70, 3)))
        np.testing.assert_array_equal(operator.rmatmul(np.ones((70, 3))), np.zeros((45, 3)))

    def test_inputs_may_be_strided_fortran_ordered_misaligned_or_of_another_type(self, open_kernel, name, target):
        packed = random_packed(90, 61)
        operator, Z = open_kernel(name, target, packed), unpack_by_hand(packed)
        V = integers(122, 12, "f8")
        for given_V in (V[::2, ::3], np.asfortranarray(V[:61]), V[:61].astype("f4"), V[:61].astype(int)):
            kept = given_V.copy()
            np.testing.assert_array_equal(operator.matmul(given_V), Z @ given_V.astype(int))
            np.testing.assert_array_equal(given_V, kept)
        odd = np.empty(61 * 12 * 8 + 1, np.uint8)[1:].view("f8").reshape(61, 12)
        odd[:] = V[:61]
        assert not odd.flags.aligned
        np.testing.assert_array_equal(operator.matmul(odd), Z @ V[:61].astype(int))
        U = np.asfortranarray(integers(90, 7, "f8"))
        np.testing.assert_array_equal(operator.rmatmul(U), Z.T @ U.astype(int))

    def test_no_columns_give_no_columns(self, open_kernel, name, target):
        operator = open_kernel(name, target, random_packed(9, 6))
        assert operator.matmul(np.empty((6, 0))).shape == (9, 0)
        assert operator.rmatmul(np.empty((9, 0))).shape == (6, 0)

    def test_a_wrong_shape_is_refused(self, open_kernel, name, target):
        operator = open_kernel(name, target, random_packed(9, 6))
        for wrong in (np.ones((9, 2)), np.ones(6), np.ones((6, 2, 1))):
            with pytest.raises(ValueError, match=r"expected a \(6, k\) matrix"):
                operator.matmul(wrong)
        with pytest.raises(ValueError, match=r"expected a \(9, k\) matrix"):
            operator.rmatmul(np.ones((6, 2)))

    def test_a_closed_matrix_refuses_products_and_may_be_closed_again(self, open_kernel, name, target):
        operator = open_kernel(name, target, random_packed(9, 6))
        operator.close()
        operator.close()
        with pytest.raises(ValueError, match="closed"):
            operator.matmul(np.ones((6, 2)))
        with pytest.raises(ValueError, match="closed"):
            operator.rmatmul(np.ones((9, 2)))

    def test_the_result_outlives_the_matrix(self, open_kernel, name, target):
        packed = random_packed(33, 6)
        operator = open_kernel(name, target, packed)
        V = integers(6, 2, "f8")
        result = operator.matmul(V)
        operator.close()
        np.testing.assert_array_equal(result, unpack_by_hand(packed) @ V.astype(int))

    @pytest.mark.parametrize("k", [1, 10])
    def test_nan_and_infinity_reach_the_rows_that_carry_the_allele(self, open_kernel, name, target, k):
        """All kernels agree where the dosage is not 0; where it is, a dense product gives NaN, a table nothing."""
        packed = random_packed(97, 53)
        Z = unpack_by_hand(packed)
        operator = open_kernel(name, target, packed)
        for special in (np.nan, np.inf, -np.inf):
            for product, matrix in ((operator.matmul, Z), (operator.rmatmul, Z.T)):
                X = integers(matrix.shape[1], k, "f8")
                X[17, 0] = special
                with np.errstate(invalid="ignore"):
                    expected = matrix.astype("f8") @ X
                clean = np.where(np.isfinite(X), X, 0)
                if name in SKIPS_ZEROS:
                    expected[matrix[:, 17] == 0, 0] = (matrix @ clean)[matrix[:, 17] == 0, 0]
                with np.errstate(invalid="ignore"):
                    found = product(X)
                np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("name", "target"), CASES)
@settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_matrix_has_exact_products(open_kernel, name, target, data):
    n, m = data.draw(st.integers(1, 300), label="n"), data.draw(st.integers(1, 120), label="m")
    k, dtype = (
        data.draw(st.integers(1, 33), label="k"),
        data.draw(st.sampled_from(kernels.load(name).dtypes), label="dtype"),
    )
    assume(not declined(name, n))
    packed = random_packed(n, m, seed=data.draw(st.integers(0, 2**32), label="seed"))
    assert_exact(open_kernel(name, target, packed, dtype), unpack_by_hand(packed), k, dtype)


@pytest.mark.parametrize(("name", "target"), CASES)
@settings(
    max_examples=20, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(n=st.integers(1, 200), m=st.integers(1, 200), k=st.integers(1, 12), seed=st.integers(0, 2**32))
def test_the_two_directions_are_adjoint(open_kernel, name, target, n, m, k, seed):
    assume(not declined(name, n))
    operator = open_kernel(name, target, random_packed(n, m, seed))
    V, U = integers(m, k, "f8", seed), integers(n, k, "f8", seed + 1)
    assert np.sum(U * operator.matmul(V)) == np.sum(operator.rmatmul(U) * V)


@pytest.mark.parametrize(("name", "target"), CASES)
def test_products_agree_with_bed_reader(open_kernel, name, target, tmp_path):
    """Written by bed_reader, so neither the unpacking nor the packing is ours."""
    bed_reader = pytest.importorskip("bed_reader")
    rng = np.random.default_rng(11)
    dosages = rng.integers(0, 3, (83, 57)).astype("f8")
    dosages[rng.random(dosages.shape) < 0.1] = np.nan
    bed_reader.to_bed(tmp_path / "z.bed", dosages, count_A1=False)
    packed = PackedGenotypes.open(tmp_path / "z.bed", n_samples=83, n_snps=57)
    assert_exact(open_kernel(name, target, packed), np.nan_to_num(dosages).astype(int), 6, "f8")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "target"), CASES)
def test_what_a_matrix_holds_is_within_what_was_declared(open_kernel, name, target, dtype):
    packed = random_packed(1501, 2003)
    if name in STORES_NONZERO:
        packed = PackedGenotypes(packed.codes | NONZERO, 1501)
    operator = open_kernel(name, target, packed, dtype)
    problem = Problem(n=1501, m=2003, k=10, dtype=dtype)
    declared = kernels.load(name).bytes_needed(problem)
    assert packed.n_snps * -(-packed.n_samples // 4) <= operator.bytes_held <= declared
    assert declared <= 1.6 * (operator.bytes_held + problem.packed_bytes) + 4e6


MEASURE = """
import sys
from pathlib import Path
import numpy as np
from bench import kernels
from bench.genotypes.packed import PackedGenotypes
from bench.measure import current_rss

name, target, library, nonzero = sys.argv[1:]
kernel = kernels.load(name)
library = Path(library) if library else None
def multiply(n, m, k):
    codes = np.random.default_rng(0).integers(0, 256, (m, -(-n // 4)), dtype=np.uint8) | np.uint8(nonzero)
    V, U = np.ones((m, k)), np.ones((n, k))
    before = current_rss()
    operator = kernel.prepare(PackedGenotypes(codes, n), target=target, library=library)
    operator.matmul(V), operator.rmatmul(U)
    return before
multiply(40, 30, 2)
Path("/proc/self/clear_refs").write_text("5")
before = multiply(6000, 9000, 16)
peak = int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1]) * 1024
print(peak - before)
"""


@pytest.mark.parametrize(("name", "target"), CASES)
def test_memory_taken_is_within_what_was_declared(library, name, target):
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            MEASURE,
            name,
            target,
            str(library(name, target) or ""),
            str(NONZERO if name in STORES_NONZERO else 0),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if "clear_refs" in done.stderr:
        pytest.skip("this system does not let a process reset its memory peak")
    assert done.returncode == 0, done.stderr
    problem = Problem(n=6000, m=9000, k=16)
    kernel = kernels.load(name)
    # The codes were in memory before, as the page cache may hold them: they are declared, and not measured.
    declared = kernel.bytes_needed(problem) - problem.packed_bytes + problem.vector_bytes
    measured = int(done.stdout)
    # Less than one more copy of the genotypes, 13.5 MB; interpreters and foreign libraries take what they take.
    slack = 4e6 if kernel.native else 16e6
    assert measured <= 1.1 * declared + slack
    assert measured >= 0.5 * (kernel.bytes_needed(problem) - problem.packed_bytes) - slack


@pytest.mark.parametrize("k", [1, 2, 10, 32, 100])
@pytest.mark.parametrize(("n", "m"), [(10_240, 20_480), (6_005, 30_011), (102_000, 50_241), (3_100_000, 50_241)])
@pytest.mark.parametrize("name", ["lut5", "slices", "auto"])
def test_beside_one_packed_copy_a_kernel_takes_at_most_64_mb(name, n, m, k):
    """The measured memory is held against this declaration above."""
    problem = Problem(n=n, m=m, k=k, threads=4)
    one_copy = m * 64 * -(-n // 256)
    beside = kernels.load(name).bytes_needed(problem) - problem.packed_bytes - one_copy
    assert 0 < beside <= 64e6


@pytest.mark.parametrize(("name", "target"), CASES)
def test_a_matrix_too_large_for_any_memory_is_no_matrix(library, name, target):
    """The C ABI answers NULL, and neither throws nor reads the codes; 2^50 individuals exceed 47 address bits."""
    if kernels.load(name).native is None:
        pytest.skip("not native")
    codes = np.zeros(1, np.uint8)
    assert bind(library(name, target)).gmk_prepare(codes.ctypes.data, 1, 2**50, 1, 1, 8) is None


@pytest.mark.parametrize("name", kernels.names())
def test_a_declaration_says_what_the_kernel_is_and_where_it_runs(name):
    kernel = kernels.load(name)
    assert kernel.summary
    assert kernel.all_targets
    assert set(kernel.dtypes) <= {"f4", "f8"}


def test_a_gpu_kernel_is_refused_where_there_is_none():
    kernel = kernels.load("gpu_2bit")
    for target in kernel.all_targets:
        assert kernel.lacks(target, replace(MACHINE, gpus=())) == "needs an NVIDIA GPU, this machine has none"
    if not MACHINE.gpus:  # nvidia-smi tells of one, and nothing can be done with it
        said = kernel.lacks("sm_90", replace(MACHINE, gpus=("NVIDIA H100",)))
        assert said
        assert "install the extra cuda12 or cuda13" in said
        with pytest.raises(BenchError, match="install the extra cuda12 or cuda13"):
            kernel.prepare(random_packed(4, 4), target="sm_90")
