"""Genotypes and products that the tests of GPU kernels compare with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.genotypes.packed import PackedGenotypes


@dataclass(frozen=True)
class Case:
    """packed: of dosages (n, m), in which −1 is a missing call."""

    packed: PackedGenotypes
    dosages: np.ndarray

    @classmethod
    def of(cls, n: int, m: int, *, missing: float = 0.0, seed: int = 0) -> Case:
        rng = np.random.default_rng([n, m, seed])
        dosages = rng.integers(0, 3, (n, m)).astype(np.int8)
        dosages[rng.random((n, m)) < missing] = -1
        packed = PackedGenotypes.from_dosages(dosages)
        if n % 4:
            packed.codes[:, -1] |= 0x55 << 2 * (n % 4) & 255  # what pads a .bed's byte may be anything: missing calls
        return cls(packed, dosages)

    @property
    def counted(self) -> np.ndarray:
        """Dosages with a missing call as 0."""
        return np.maximum(self.dosages, 0).astype(float)

    def numbers(self, rows: int, k: int, *, integers: bool = False) -> np.ndarray:
        rng = np.random.default_rng([rows, k])
        return rng.integers(-99, 100, (rows, k)).astype(float) if integers else rng.standard_normal((rows, k))

    def check_integers(self, Z, k: int) -> None:
        """Both directions, exact."""
        n, m = self.dosages.shape
        V, U = self.numbers(m, k, integers=True), self.numbers(n, k, integers=True)
        np.testing.assert_array_equal(Z.matmul(V), self.counted @ V)
        np.testing.assert_array_equal(Z.rmatmul(U), self.counted.T @ U)

    def errors(self, Z, k: int) -> list[float]:
        """Of both directions with normal deviates, against long doubles: |difference| / |product|, Frobenius."""
        n, m = self.dosages.shape
        found = []
        for A, X, got in (
            (self.counted, self.numbers(m, k), Z.matmul),
            (self.counted.T, self.numbers(n, k), Z.rmatmul),
        ):
            exact = A.astype(np.longdouble) @ X
            found.append(float(np.linalg.norm((got(X) - exact).astype(float)) / np.linalg.norm(exact.astype(float))))
        return found
