"""The oracle, against products in exact Python integers and an unpacking of its own."""

from fractions import Fraction

import numpy as np
import pytest

from bench.errors import BenchError
from bench.genotypes.packed import PackedGenotypes
from bench.oracle import LARGEST, Oracle

N, M, K = 23, 57, 5


@pytest.fixture
def dosages():
    rng = np.random.default_rng(11)
    made = rng.integers(0, 3, (N, M)).astype(np.int8)
    made[rng.random((N, M)) < 0.1] = -1
    return made


@pytest.fixture
def oracle(dosages):
    return Oracle.compute(PackedGenotypes.from_dosages(dosages), K)


def exact(left, right):
    """A matrix product in Python's own integers."""
    return [[sum(int(a) * int(b) for a, b in zip(row, column, strict=True)) for column in right.T] for row in left]


def test_integer_products_are_exact(dosages, oracle):
    z = np.maximum(dosages, 0)
    assert oracle.integers["ZV"].tolist() == exact(z, oracle.integers["V"])
    assert oracle.integers["ZtU"].tolist() == exact(z.T, oracle.integers["U"])


def test_integer_inputs_are_small_whole_numbers_of_both_signs(oracle):
    for name, shape in (("V", (M, K)), ("U", (N, K))):
        values = oracle.integers[name]
        assert values.shape == shape
        assert (values == np.round(values)).all()
        assert values.min() < 0 < values.max() <= LARGEST
        assert values.min() >= -LARGEST


def test_normal_products_agree_with_rational_arithmetic(dosages, oracle):
    z, v = np.maximum(dosages, 0), oracle.normals["V"]
    for i in (0, N - 1):
        want = float(sum(int(a) * Fraction(b) for a, b in zip(z[i], v[:, 2], strict=True)))
        assert oracle.normals["ZV"][i, 2] == pytest.approx(want, rel=1e-13, abs=1e-13)


def test_more_snps_than_a_block_agree(dosages):
    rng = np.random.default_rng(5)
    wide = rng.integers(0, 3, (7, 2500)).astype(np.int8)
    oracle = Oracle.compute(PackedGenotypes.from_dosages(wide), 2)
    assert oracle.integers["ZV"].tolist() == exact(wide, oracle.integers["V"])
    assert oracle.integers["ZtU"].tolist() == exact(wide.T, oracle.integers["U"])


def test_the_same_data_give_the_same_oracle(dosages, oracle):
    again = Oracle.compute(PackedGenotypes.from_dosages(dosages), K)
    for kind in ("integers", "normals"):
        for name, values in getattr(oracle, kind).items():
            assert np.array_equal(values, getattr(again, kind)[name])


def test_an_oracle_reads_back(oracle, tmp_path):
    oracle.write(tmp_path / "o.npz")
    read = Oracle.read(tmp_path / "o.npz")
    assert list(tmp_path.iterdir()) == [tmp_path / "o.npz"]
    for kind in ("integers", "normals"):
        for name, values in getattr(oracle, kind).items():
            assert np.array_equal(values, getattr(read, kind)[name])


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half", None])
def test_a_damaged_or_absent_oracle_is_said_with_what_to_do(tmp_path, content):
    path = tmp_path / "o.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BenchError, match=r"o\.npz: .*bench oracle"):
        Oracle.read(path)
