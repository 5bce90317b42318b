"""The one binding of every native kernel (gmk.h)."""

from __future__ import annotations

import ctypes as ct
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.errors import BenchError
from bench.genotypes.packed import PackedGenotypes
from bench.kernels._operands import CLOSED, check_rows
from bench.shared_library import INT, POINTER, SIZE, address, load, optional

ABI = 1
SIGNATURES = {
    "gmk_abi": (INT, []),
    "gmk_prepare": (POINTER, [POINTER, SIZE, SIZE, SIZE, INT, INT]),
    "gmk_bytes": (SIZE, [POINTER]),
    "gmk_matmul": (INT, [POINTER, POINTER, SIZE, POINTER]),
    "gmk_rmatmul": (INT, [POINTER, POINTER, SIZE, POINTER]),
    "gmk_free": (None, [POINTER]),
}
REFILL = {"gmk_refill": (INT, [POINTER, POINTER, SIZE, SIZE])}


def bind(library: Path) -> ct.CDLL:
    """Load a compiled kernel and check that it speaks this ABI."""
    lib = load(library, "kernel", SIGNATURES, prefix="gmk", build="bench build")
    if (found := lib.gmk_abi()) != ABI:
        raise BenchError(f"{library}: kernel ABI {found}, this version needs {ABI}; build it again")
    return lib


class NativeMatrix:
    """A genotype matrix held by a native kernel."""

    def __init__(self, packed: PackedGenotypes, *, dtype: str, library: Path | None, threads: int):
        if library is None:
            raise BenchError("a native kernel needs its compiled library; build it with `bench build`")
        self.shape = packed.shape
        self.dtype = np.dtype(dtype)
        self._lib = bind(library)
        self._codes = packed.contiguous_rows()  # the kernel may read it: it lives as long as this object
        self._z = self._lib.gmk_prepare(
            self._codes.ctypes.data, self._codes.strides[0], *self.shape, threads, self.dtype.itemsize
        )
        if not self._z:
            raise MemoryError(f"{library}: no memory to prepare {self.shape[0]} x {self.shape[1]} genotypes")
        self.bytes_held = int(self._lib.gmk_bytes(self._z))
        self._closing: list[Callable[[], object]] = []

    def matmul(self, V: np.ndarray) -> np.ndarray:
        return self._product(self._lib.gmk_matmul, V, self.shape[1], self.shape[0])

    def rmatmul(self, U: np.ndarray) -> np.ndarray:
        return self._product(self._lib.gmk_rmatmul, U, self.shape[0], self.shape[1])

    def _product(self, function, X: np.ndarray, rows_in: int, rows_out: int) -> np.ndarray:
        check_rows(X, rows_in)
        if not self._z:
            raise ValueError(CLOSED)
        X = np.require(X, self.dtype, ["C", "ALIGNED"])  # ascontiguousarray keeps an odd address
        out = np.empty((rows_out, X.shape[1]), self.dtype)
        if X.shape[1] and function(self._z, X.ctypes.data, X.shape[1], out.ctypes.data):
            raise MemoryError(f"no memory for the work space of a product with {X.shape[1]} columns")
        return out

    def refill(self, packed: PackedGenotypes) -> bool:
        """Hold other SNPs of as many individuals, in the same memory; False where the kernel does not do that.

        Other SNPs than at first: not more of them. Preparing 240 MB anew takes three times as long, most of it for
        fresh pages.
        """
        if not self._z:
            raise ValueError(CLOSED)
        function = optional(self._lib, REFILL)
        codes = packed.contiguous_rows()
        if function is None or packed.n_samples != self.shape[0]:
            return False
        if function(self._z, codes.ctypes.data, codes.strides[0], packed.n_snps):
            return False
        self.shape, self._codes = packed.shape, codes
        return True

    def addresses(self) -> tuple[int, int, int]:
        """The prepared matrix, its matmul and its rmatmul, for a caller in C; valid until this object is closed."""
        if not self._z:
            raise ValueError(CLOSED)
        return self._z, address(self._lib.gmk_matmul), address(self._lib.gmk_rmatmul)

    def before_closing(self, call: Callable[[], object]) -> None:
        """Have `call` called when the addresses are about to become invalid."""
        self._closing.append(call)

    def close(self) -> None:
        if self._z:
            for call in self._closing:
                call()
            self._lib.gmk_free(self._z)
        self._z = None

    def __del__(self):
        if getattr(self, "_z", None):
            self.close()
