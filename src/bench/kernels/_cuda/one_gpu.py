"""A genotype matrix whole in one GPU's memory, in whatever form: what such matrices share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from bench.errors import BenchError
from bench.genotypes.packed import PackedGenotypes
from bench.kernels._cuda.arrays import received, returned
from bench.kernels._cuda.gpu import Gpu, gpus
from bench.kernels._operands import CLOSED, check_rows
from bench.solvers.operator import Place


def check_memory(gpu: Gpu, packed: PackedGenotypes, need: int) -> None:
    """BenchError unless `need` bytes of the GPU's memory are free."""
    if need > (free := gpu.free_memory()):
        raise BenchError(
            f"{packed.path or 'genotypes'}: {need / 1e9:.3g} GB of the memory of GPU {gpu.number} are needed, "
            f"{free / 1e9:.3g} GB are free"
        )


class OneGpuMatrix(ABC):
    """Z (n, m) of raw dosages, a missing call counting 0, on the first GPU.

    Vectors may be numpy's, CuPy's or of another library that speaks DLPack; the result is of the same kind, and where
    it is on a GPU it is ready when the current stream has come so far.
    """

    bytes_held: int
    place: Place | None

    def __init__(self, packed: PackedGenotypes, *, dtype: str, target: str, need: int):
        """need: bytes of the GPU's memory. BenchError: they are not free."""
        self.shape, self.dtype = packed.shape, np.dtype(dtype)
        self.gpu = gpus(target)[0]
        check_memory(self.gpu, packed, need)
        self._closed = False
        self.place = self._to_gpu

    def matmul(self, V: Any) -> Any:
        """Z V, (m, k) → (n, k)."""
        return self._product(V, transposed=False)

    def rmatmul(self, U: Any) -> Any:
        """Z'U, (n, k) → (m, k)."""
        return self._product(U, transposed=True)

    def _to_gpu(self, array: np.ndarray) -> Any:
        """A copy on the GPU, for vectors that stay there."""
        with self.gpu.used():
            return self.gpu.cupy.asarray(array)

    def _product(self, X: Any, *, transposed: bool, missing: bool = False) -> Any:
        outputs, inputs = self.shape[::-1] if transposed else self.shape
        check_rows(X, inputs)
        if self._closed:
            raise ValueError(CLOSED)
        with self.gpu.used():
            xp = self.gpu.cupy
            there = received(xp, X, self.dtype)
            out = xp.empty((outputs, 0), self.dtype)
            if X.shape[1]:
                out = self._multiply(there, transposed=transposed, missing=missing)
            return returned(xp, out, X, self.dtype)

    @abstractmethod
    def _multiply(self, X: Any, *, transposed: bool, missing: bool) -> Any:
        """The dosages, or the indicator of missing calls, times X, C-contiguous and of the matrix's dtype."""

    @abstractmethod
    def _release(self) -> None:
        """Drop what is on the GPU."""

    def close(self) -> None:
        """Give the GPU's memory back."""
        if self._closed:
            return
        self._closed = True
        self._release()
        with self.gpu.used():
            self.gpu.cupy.get_default_memory_pool().free_all_blocks()
