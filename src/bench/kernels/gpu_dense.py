"""The dense baseline on a GPU: dosages as float64 or float32 in its memory, multiplied by cuBLAS through CuPy.

They are unpacked on the device, a missing call as 0. NaN and infinity propagate as in any dense product: 0 times
either is NaN. The genotypes take 32 or 16 times the memory of 2-bit codes, and a product with few columns is bound by
reading them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.genotypes.packed import PackedGenotypes
from bench.kernels import Kernel, Problem
from bench.kernels._cuda.architectures import ARCHITECTURES, STAGES, lacks
from bench.kernels._cuda.one_gpu import OneGpuMatrix
from bench.kernels._cuda.panels import uploaded
from bench.kernels._cuda.rows import unpack

CUBLAS = 64 << 20  # bytes of a device's memory that cuBLAS may take for itself, with some room


class GpuDense(OneGpuMatrix):
    """Z (n, m) of raw dosages, held as its transpose, SNP by SNP, as it comes out of the .bed file.

    It does not know which calls are missing. Where some are, vectors stay on the host (`place` is None), where lists
    of them correct its products.
    """

    def __init__(self, packed: PackedGenotypes, *, dtype: str, target: str, threads: int):
        """threads: of the host; not used. BenchError: too little memory on the GPU."""
        super().__init__(packed, dtype=dtype, target=target, need=device_bytes(Problem(*packed.shape, 10, dtype)))
        with self.gpu.used():
            self._transposed = self.gpu.cupy.empty(packed.shape[::-1], self.dtype)
            missing = self.gpu.cupy.zeros(1, np.int64)
            for snps, bed in uploaded(self.gpu, packed.codes[:, : -(-packed.n_samples // 4)]):
                unpack(self.gpu, bed, self._transposed, snps.start, missing)
            if missing.get()[0]:
                self.place = None
            else:
                self.missing = None
        self.bytes_held = self._transposed.nbytes

    def _multiply(self, X: Any, *, transposed: bool, missing: bool) -> Any:
        assert not missing
        Z = self._transposed if transposed else self._transposed.T
        return self.gpu.cupy.ascontiguousarray(Z @ X)

    def _release(self) -> None:
        del self._transposed


def device_bytes(problem: Problem) -> int:
    """The matrix, and vectors with what cuBLAS takes; or, at first, the buffers of the upload."""
    matrix = problem.n * problem.m * problem.itemsize
    return matrix + max(2 * problem.vector_bytes + CUBLAS, STAGES)


def work(problem: Problem, direction: str, target: str) -> dict[str, float]:
    genotypes = float(problem.n) * problem.m
    return {"fma": genotypes * problem.k, "bytes": genotypes * problem.itemsize}


KERNEL = Kernel(
    name="gpu_dense",
    open="bench.kernels.gpu_dense:GpuDense",
    targets=tuple(ARCHITECTURES),
    dtypes=("f4", "f8"),
    gpu=True,
    requires=lacks,
    bytes_needed=lambda problem: problem.packed_bytes + STAGES,
    bytes_read=lambda problem: problem.n * problem.m * problem.itemsize,
    device_bytes=device_bytes,
    work=work,
    summary="dosages as floating-point numbers in a GPU's memory, multiplied by cuBLAS",
)
