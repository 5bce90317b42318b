"""Products with the indicator of missing calls, native ones against scipy and against dense float64."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.build import MISSING, build
from bench.genotypes.packed import PackedGenotypes
from bench.machine import this_machine
from bench.relationships import missing as module
from bench.relationships.missing import missing_calls


@pytest.fixture(scope="session", params=MISSING.targets)
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """missing.cc compiled for a target."""
    absent = [f for f in MISSING.cpu_flags(request.param) if f not in this_machine().cpu_flags]
    if absent:
        pytest.skip(f"this machine lacks {', '.join(absent)}")
    made = build("missing", request.param, tmp_path_factory.mktemp("missing"), flags=("-Werror",))
    assert made.library, made.reason
    return made.library


def drawn(n: int, m: int, rate: float, seed: int = 0) -> PackedGenotypes:
    rng = np.random.default_rng([seed, n, m])
    dosages = rng.integers(0, 3, (n, m))
    return PackedGenotypes.from_dosages(np.where(rng.random((n, m)) < rate, -1, dosages))


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 70),
    m=st.integers(1, 40),
    k=st.integers(1, 19),
    rate=st.sampled_from([0.02, 0.5, 1.0]),
    threads=st.integers(1, 5),
    seed=st.integers(0, 999),
)
def test_products_equal_those_of_the_dense_indicator(library, n, m, k, rate, threads, seed):
    packed = drawn(n, m, rate, seed)
    calls = missing_calls(packed, threads=threads, library=library)
    miss = (packed.dosages() == -1).astype("f8")
    if calls is None:
        assert not miss.any()
        return
    rng = np.random.default_rng(seed)
    X, U = rng.integers(-9, 10, (m, k)).astype("f8"), rng.integers(-9, 10, (n, k)).astype("f8")
    for layout in (np.ascontiguousarray, np.asfortranarray):
        out = np.ones((n, k))
        calls.add_matmul(layout(X), out)
        np.testing.assert_array_equal(out, 1 + miss @ X)
    np.testing.assert_array_equal(calls.rmatmul(U), miss.T @ U)
    np.testing.assert_array_equal(calls.rmatmul(np.asfortranarray(U)), miss.T @ U)


def test_native_products_equal_those_of_scipy_and_no_bit_depends_on_the_number_of_threads(library):
    packed = drawn(331, 9001, 0.05)
    plain, one = missing_calls(packed), missing_calls(packed, library=library)
    assert plain is not None
    assert one is not None
    rng = np.random.default_rng(1)
    X, U = rng.standard_normal((9001, 10)), rng.standard_normal((331, 10))

    def products(calls):
        out = np.zeros((331, 10))
        calls.add_matmul(X, out)
        return out, calls.rmatmul(U)

    for found, wanted in zip(products(one), products(plain), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-11)
    for threads in (2, 7):
        again = products(missing_calls(packed, threads=threads, library=library))
        for found, wanted in zip(again, products(one), strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_sums_are_added_to_nothing_but_rows_of_doubles(library):
    calls = missing_calls(drawn(30, 20, 0.3), library=library)
    assert calls is not None
    for out in (np.zeros((30, 4), order="F"), np.zeros((30, 4), "f4"), np.zeros((30, 8))[:, ::2]):
        with pytest.raises(ValueError, match="a C-contiguous float64 array was needed"):
            calls.add_matmul(np.ones((20, 4)), out)


def test_listing_takes_less_memory_than_is_asked_for(monkeypatch):
    packed = drawn(2000, 3000, 0.2)
    calls = int(packed.code_counts()[:, 1].sum())
    monkeypatch.setattr(module, "BLOCK_BYTES", 1 << 20)  # of decoded genotypes, which is not counted
    tracemalloc.start()
    missing_calls(packed)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0.5 * module.CALL_BYTES * calls < peak < module.CALL_BYTES * calls
