"""The portable kernel: numba loops over the packed bytes, no compiler and no second copy of the matrix.

A block of SNPs is unpacked into a tile that stays in cache, and the tile is multiplied by loops that LLVM
vectorises for the processor at hand.
"""

from __future__ import annotations

from bench.kernels import Kernel, Problem

ROWS = 512  # individuals of a tile
SNPS = 16  # SNPs of a tile


def bytes_needed(problem: Problem) -> int:
    """The .bed pages, U transposed, and each thread's tile, sums and weights."""
    padded = -(-problem.n // ROWS) * ROWS
    each = SNPS * ROWS + problem.k * (ROWS + SNPS)
    return problem.packed_bytes + (padded * problem.k + problem.threads * each) * problem.itemsize


def work(problem: Problem, direction: str, target: str) -> dict[str, float]:
    return {"fma": float(problem.n) * problem.m * problem.k, "bytes": problem.packed_bytes}


KERNEL = Kernel(
    name="numba_unpack",
    open="bench.kernels.numba_unpack.matrix:NumbaMatrix",
    targets=("numba",),
    dtypes=("f4", "f8"),
    bytes_needed=bytes_needed,
    work=work,
    summary="numba loops over the packed bytes; portable, no second copy",
)
