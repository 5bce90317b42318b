"""The kernel `slices`: its error for each number of digits, its scaling, and its sums at their bounds.

Oracle: products of a dosage and an input are exact in float64, and math.fsum rounds their sum once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench import kernels
from bench.build import build
from bench.genotypes.packed import PackedGenotypes
from bench.kernels import GenotypeOperator
from bench.machine import this_machine

KERNEL = kernels.load("slices")
TARGETS = [t for t in KERNEL.all_targets if KERNEL.lacks(t, this_machine()) is None]
FULL = [t for t in TARGETS if "_s" not in t]  # the builds whose number of digits is not fixed
EPSILON = {"f8": 2.0**-52, "f4": 2.0**-23}
Open = Callable[..., GenotypeOperator]
LIMITED = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="session")
def open_slices(tmp_path_factory: pytest.TempPathFactory) -> Open:
    """Prepare a target on packed genotypes, compiled with further flags."""

    @cache
    def compiled(target: str, *flags: str):
        made = build("slices", target, tmp_path_factory.mktemp(f"slices-{target}"), flags=flags)
        assert made.status == "ok", made.reason
        return made.library

    def opened(packed: PackedGenotypes, target: str, *flags: str, dtype: str = "f8") -> GenotypeOperator:
        return KERNEL.prepare(packed, target=target, dtype=dtype, library=compiled(target, *flags))

    return opened


def exact(Z: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Z x, each entry rounded once."""
    return np.array([math.fsum(row * x) for row in Z.astype("f8")])


def bound(Z: np.ndarray, x: np.ndarray, digits: int, dtype: str = "f8") -> np.ndarray:
    """The error that the docstring of the kernel allows, and the rounding of the result."""
    fixed = 2.01 * 256.0**-digits * np.abs(x).max() * Z.sum(axis=1)
    return fixed + EPSILON[dtype] * np.abs(exact(Z, x)) + 2.0**-1074


def random_dosages(n: int, m: int, seed: int) -> np.ndarray:
    return np.random.default_rng([seed, n, m]).integers(0, 3, (n, m))


@pytest.mark.parametrize("digits", [3, 4, 5, 6, 7])
@pytest.mark.parametrize("target", FULL)
@LIMITED
@given(
    n=st.integers(1, 300),
    m=st.integers(1, 80),
    exponents=st.lists(st.integers(-900, 900), min_size=1, max_size=3),
    spread=st.integers(0, 60),
    seed=st.integers(0, 2**32),
)
def test_the_error_is_within_the_bound_for_every_number_of_digits(
    open_slices, target, digits, n, m, exponents, spread, seed
):
    """Columns of their own magnitude, and inputs that differ by up to 2^spread within a column."""
    Z, rng = random_dosages(n, m, seed), np.random.default_rng(seed)
    operator = open_slices(PackedGenotypes.from_dosages(Z), target, f"-DSLICES={digits}")
    for product, matrix in ((operator.matmul, Z), (operator.rmatmul, Z.T)):
        rows = matrix.shape[1]
        powers = np.array(exponents) - rng.integers(0, spread + 1, (rows, len(exponents)))
        X = np.ldexp(rng.standard_normal((rows, len(exponents))), powers)
        found = product(X)
        for c in range(len(exponents)):
            assert (np.abs(found[:, c] - exact(matrix, X[:, c])) <= bound(matrix, X[:, c], digits)).all()


@pytest.mark.parametrize(("dtype", "digits"), [("f8", 6), ("f4", 4)])
@pytest.mark.parametrize("target", FULL)
def test_the_error_is_near_that_of_the_dtype(open_slices, target, dtype, digits):
    Z, rng = random_dosages(700, 900, 1), np.random.default_rng(2)
    operator = open_slices(PackedGenotypes.from_dosages(Z), target, dtype=dtype)
    for product, matrix in ((operator.matmul, Z), (operator.rmatmul, Z.T)):
        x = rng.standard_normal(matrix.shape[1]).astype(dtype).astype("f8")
        found, expected = product(x[:, None])[:, 0].astype("f8"), exact(matrix, x)
        error = np.abs(found - expected)
        assert (error <= bound(matrix, x, digits, dtype)).all()
        assert error.max() <= {"f8": 3e-14, "f4": 6e-8}[dtype] * np.abs(expected).max()


@pytest.mark.parametrize("target", TARGETS)
def test_the_declared_tolerance_is_kept_and_is_not_idle(open_slices, target):
    Z, rng = random_dosages(2100, 1900, 3), np.random.default_rng(4)
    operator, allowed = open_slices(PackedGenotypes.from_dosages(Z), target), KERNEL.allowed_error("f8", target)
    V = rng.standard_normal((1900, 3))
    expected = np.stack([exact(Z, v) for v in V.T], axis=1)
    error = np.abs(operator.matmul(V) - expected).max() / np.abs(expected).max()
    assert error <= allowed / 2
    assert error >= allowed / 100 or "s7" in target  # seven digits: the result's rounding is all there is


@pytest.mark.parametrize("target", FULL)
class TestScaling:
    @pytest.mark.parametrize(
        "largest",
        [1.0, 1 - 2.0**-53, 1 + 2.0**-52, 0.498, 0.4981, -1.0, 1e300, 8.9e307, 2.0**-1022, 1e-310, 5e-324],
    )
    def test_any_largest_number_is_in_reach(self, open_slices, target, largest):
        """Near the edges of what digits express, where a power of two more or less decides; and of the exponents."""
        Z, rng = random_dosages(270, 9, 5), np.random.default_rng(6)
        Z[:, 0] = 1
        x = rng.uniform(-0.05, 0.05, 9) * largest
        x[0] = largest
        found = open_slices(PackedGenotypes.from_dosages(Z), target).matmul(x[:, None])[:, 0]
        assert (np.abs(found - exact(Z, x)) <= bound(Z, x, 6)).all()

    def test_sums_beyond_the_largest_double_are_infinite(self, open_slices, target):
        operator = open_slices(PackedGenotypes.from_dosages(np.full((3, 5), 2)), target)
        np.testing.assert_array_equal(operator.matmul(np.full((5, 1), -1.7e308)), np.full((3, 1), -np.inf))
        operator = open_slices(PackedGenotypes.from_dosages(np.full((3, 5), 2)), target, dtype="f4")
        np.testing.assert_array_equal(operator.matmul(np.full((5, 1), 3e38, "f4")), np.full((3, 1), np.inf))

    def test_columns_have_scales_of_their_own(self, open_slices, target):
        Z, rng = random_dosages(301, 77, 7), np.random.default_rng(8)
        operator = open_slices(PackedGenotypes.from_dosages(Z), target)
        X = rng.standard_normal((77, 11)) * 10.0 ** np.array([0, -300, 300, -5, 7, 0, 0, 33, -33, 100, -100])
        X[:, 5] = 0
        X[:, 6] = -0.0
        together = operator.matmul(X)
        np.testing.assert_array_equal(together, np.hstack([operator.matmul(X[:, [c]]) for c in range(11)]))
        np.testing.assert_array_equal(together[:, 5:7], 0)

    def test_small_integers_are_exact_beside_a_large_one(self, open_slices, target):
        Z = random_dosages(260, 40, 9)
        x = np.arange(40.0)
        x[7] = 2.0**46
        found = open_slices(PackedGenotypes.from_dosages(Z), target).matmul(x[:, None])[:, 0]
        np.testing.assert_array_equal(found, exact(Z, x))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("target", FULL)
def test_nan_and_infinities_count_as_in_a_dense_product(open_slices, target, dtype):
    Z = random_dosages(300, 61, 10)
    operator = open_slices(PackedGenotypes.from_dosages(Z), target, dtype=dtype)
    for product, matrix in ((operator.matmul, Z), (operator.rmatmul, Z.T)):
        X = np.random.default_rng(11).integers(-9, 10, (matrix.shape[1], 6)).astype(dtype)
        X[3, 1], X[5, 2], X[[0, 9], 3], X[-1, 4] = np.inf, np.nan, [np.inf, -np.inf], -np.inf
        with np.errstate(invalid="ignore"):
            expected = matrix.astype(dtype) @ X
        np.testing.assert_array_equal(product(X), expected)
        everywhere = np.full((matrix.shape[1], 1), np.inf, dtype)
        with np.errstate(invalid="ignore"):
            np.testing.assert_array_equal(product(everywhere), matrix.astype(dtype) @ everywhere)


@pytest.mark.parametrize("digits", [3, 6, 7])
@pytest.mark.parametrize("target", FULL)
def test_the_largest_and_smallest_digits_do_not_overflow_their_sums(open_slices, target, digits):
    """All dosages 2 and all digits below the first -128, or all digits 127: what 16-bit sums bear the fewest of."""
    ones = sum(256**s for s in range(digits))
    operator = open_slices(PackedGenotypes.from_dosages(np.full((1300, 1100), 2)), target, f"-DSLICES={digits}")
    for whole in (127 * ones, -127 * ones, 64 * 256 ** (digits - 1) - 128 * (ones - 256 ** (digits - 1))):
        value = float(whole)
        for product, inputs in ((operator.matmul, 1100), (operator.rmatmul, 1300)):
            found = product(np.full((inputs, 1), value))
            allowed = 2.0**-52 + 2.01 * 256.0**-digits * (int(value) != whole)
            np.testing.assert_allclose(found, float(2 * inputs * int(value)), rtol=allowed, atol=0)


@pytest.mark.parametrize("target", FULL)
def test_sums_taken_over_to_64_bits_on_the_way_are_the_same(open_slices, target):
    """Forced after 256 inputs: the default, 2^22, would need 268 MB of genotypes at the least."""
    Z, rng = random_dosages(1100, 1300, 12), np.random.default_rng(13)
    packed = PackedGenotypes.from_dosages(Z)
    once, often = open_slices(packed, target), open_slices(packed, target, "-DSLICES_FLUSH=256")
    V, U = rng.standard_normal((1300, 9)), rng.standard_normal((1100, 9))
    np.testing.assert_array_equal(often.matmul(V), once.matmul(V))
    np.testing.assert_array_equal(often.rmatmul(U), once.rmatmul(U))


@pytest.mark.parametrize("target", FULL)
def test_more_individuals_than_are_summed_in_registers_are_no_other(open_slices, target):
    """64 panels of 256 individuals at the most, fewer with more columns."""
    Z, rng = random_dosages(17_000, 6, 14), np.random.default_rng(15)
    operator = open_slices(PackedGenotypes.from_dosages(Z), target)
    for k in (1, 9):
        U = rng.integers(-99, 100, (17_000, k))
        np.testing.assert_array_equal(operator.rmatmul(U.astype("f8")), Z.T @ U)
