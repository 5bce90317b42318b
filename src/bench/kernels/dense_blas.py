"""The dense baseline: dosages as float64 or float32 in memory, multiplied by a BLAS.

Target "openblas" is numpy's `@`, that is, whichever BLAS numpy was linked with (OpenBLAS in its wheels).
Target "mkl" calls cblas_?gemm of libmkl_rt, from the Python package mkl or the system. NaN and infinity
propagate as in any dense product, except that a BLAS may skip a product whose vector element is 0.
"""

from __future__ import annotations

import ctypes as ct
import ctypes.util
import importlib.metadata
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.errors import BenchError
from bench.genotypes.packed import PackedGenotypes
from bench.kernels import Kernel, Problem
from bench.kernels._operands import Resident

if TYPE_CHECKING:
    from collections.abc import Callable

BLOCK = 256  # SNPs unpacked at a time
DOSAGES = np.array([[(0, 0, 1, 2)[byte >> shift & 3] for shift in (0, 2, 4, 6)] for byte in range(256)])
ROW_MAJOR, PLAIN, TRANSPOSED = 101, 111, 112  # cblas.h


def find_mkl() -> str | None:
    """The path or name of libmkl_rt; None when neither the Python package mkl nor the system has it."""
    try:
        files = importlib.metadata.files("mkl") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name.startswith("libmkl_rt.so") and (path := Path(str(file.locate()))).exists():
            return str(path.resolve())
    return ctypes.util.find_library("mkl_rt")


@cache
def load_mkl() -> ct.CDLL:
    """MKL with 32-bit sizes, which is its default interface."""
    if (path := find_mkl()) is None:
        raise BenchError(REFUSED_MKL)
    return ct.CDLL(path, mode=ct.RTLD_GLOBAL)


REFUSED_MKL = "libmkl_rt is not on this machine; install the Python package mkl (extra `mkl`)"


def requires(target: str) -> str | None:
    return REFUSED_MKL if target == "mkl" and find_mkl() is None else None


class DenseBlas(Resident[np.ndarray]):
    """The (n, m) dosages resident in memory, missing calls 0.

    They are stored SNP by SNP, as they come out of the .bed file, i.e. as the C-ordered transpose (m, n):
    with OpenBLAS 0.3.31 on Zen 4, 6,144 x 8,192, k = 10, that multiplies at 6.3 and 6.5 G/s in the two
    directions where the order (n, m) has 6.5 and 3.6.
    """

    def __init__(
        self,
        packed: PackedGenotypes,
        *,
        dtype: str = "f8",
        threads: int = 1,
        target: str = "openblas",
    ):
        if reason := requires(target):
            raise BenchError(reason)
        self.shape = packed.shape
        self.dtype = np.dtype(dtype)
        super().__init__(unpack(packed, self.dtype))
        self.bytes_held = self._open().nbytes
        self._product = mkl_product(threads) if target == "mkl" else numpy_product(threads)

    def matmul(self, V: np.ndarray) -> np.ndarray:
        return self._product(self._open().T, self._checked(V, self.shape[1]))

    def rmatmul(self, U: np.ndarray) -> np.ndarray:
        return self._product(self._open(), self._checked(U, self.shape[0]))


def unpack(packed: PackedGenotypes, dtype: np.dtype) -> np.ndarray:
    """(m, n) dosages in `dtype`, C-contiguous, missing calls 0; a block of SNPs at a time."""
    n = packed.n_samples
    of_byte = DOSAGES.astype(dtype)
    dosages = np.empty((packed.n_snps, n), dtype)
    for snps in packed.blocks(BLOCK):
        codes = packed.codes[snps, : -(-n // 4)]
        dosages[snps] = of_byte[codes].reshape(len(codes), -1)[:, :n]
    return dosages


def numpy_product(threads: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Z, X → Z X by numpy's BLAS with `threads` threads."""
    from threadpoolctl import ThreadpoolController

    blas = ThreadpoolController().select(user_api="blas")

    def product(Z: np.ndarray, X: np.ndarray) -> np.ndarray:
        with blas.limit(limits=threads):
            return np.ascontiguousarray(Z @ X)

    return product


def mkl_product(threads: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Z, X → Z X by MKL with `threads` threads. Z or its transpose is C-contiguous, X is."""
    mkl = load_mkl()

    def product(Z: np.ndarray, X: np.ndarray) -> np.ndarray:
        plain = bool(Z.flags.c_contiguous)
        real = ct.c_double if Z.dtype == np.float64 else ct.c_float
        gemm = mkl.cblas_dgemm if Z.dtype == np.float64 else mkl.cblas_sgemm
        (n, m), k = Z.shape, X.shape[1]
        out = np.empty((n, k), Z.dtype)
        if k:
            mkl.MKL_Set_Num_Threads(ct.c_int(threads))
            gemm(
                *(ct.c_int(i) for i in (ROW_MAJOR, PLAIN if plain else TRANSPOSED, PLAIN, n, k, m)),
                real(1), ct.c_void_p(Z.ctypes.data), ct.c_int(m if plain else n),
                ct.c_void_p(X.ctypes.data), ct.c_int(k),
                real(0), ct.c_void_p(out.ctypes.data), ct.c_int(k),
            )  # fmt: skip
        return out

    return product


def bytes_needed(problem: Problem) -> int:
    """The .bed pages, the dense matrix, and one block of SNPs being unpacked."""
    n, m = problem.n, problem.m
    return problem.packed_bytes + (n * m + min(BLOCK, m) * (n + 4)) * problem.itemsize


def work(problem: Problem, direction: str, target: str) -> dict[str, float]:
    genotypes = float(problem.n) * problem.m
    return {"fma": genotypes * problem.k, "bytes": genotypes * problem.itemsize}


KERNEL = Kernel(
    name="dense_blas",
    open="bench.kernels.dense_blas:DenseBlas",
    targets=("openblas", "mkl"),
    dtypes=("f4", "f8"),
    bytes_needed=bytes_needed,
    bytes_read=lambda problem: problem.n * problem.m * problem.itemsize,
    work=work,
    requires=requires,
    summary="dosages as floating-point numbers in memory, multiplied by a BLAS",
)
