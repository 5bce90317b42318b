"""X X' of raw dosages, exact in integers, tile by tile: in memory or, where it is larger, in a file.

The arithmetic is that of kernels/_gram/gram.cc; docs/gram.md says how fast it is and why it is done so.
"""

from __future__ import annotations

import ctypes as ct
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from bench.errors import BenchError
from bench.genotypes.packed import PackedGenotypes
from bench.memory import memory_available
from bench.record import atomic_path
from bench.shared_library import INT, POINTER, SIZE, load

TILE = 2048  # individuals a side; a multiple of 4, where a byte of the .bed starts
CODES = 1024  # bytes that the library holds of an individual at a time
LARGEST = 2**31 - 1  # a sum of a tile: int32
SIGNATURES = {"gram_tile": (INT, [POINTER, *[SIZE] * 7, INT, POINTER, SIZE])}

Dtype = Literal["i4", "i8", "f8"]


def gram(
    packed: PackedGenotypes,
    *,
    library: Path,
    threads: int = 1,
    dtype: Dtype = "i4",
    out: Path | None = None,
    memory: int | None = None,
) -> np.ndarray:
    """X X', (n, n), of the dosages 0, 1, 2 of n individuals; a missing call counts 0. Exact, symmetric.

    library: gram.so, as `bench.build.build("gram", target, folder)` makes it. threads: the result does not
    depend on them. out: .npy file for a matrix that is larger than the memory; it is whole or absent, and the
    result is a read-only map of it. memory: bytes that may be used, by default what is free (`gram_bytes`).
    BenchError: not enough memory or disk, a library that is none or not for this processor.
    """
    if threads < 1:
        raise BenchError(f"gram: asked for {threads} threads, at least 1 is needed")
    lib = load(library, "gram", SIGNATURES, prefix="gram", build="bench build gram")
    need = gram_bytes(packed.n_samples, in_file=True)
    return products(packed, lambda G: _fill(G, packed, lib, threads), need=need, dtype=dtype, out=out, memory=memory)


def products(
    packed: PackedGenotypes,
    fill: Callable[[np.ndarray], None],
    *,
    need: int,
    dtype: Dtype,
    out: Path | None,
    memory: int | None,
) -> np.ndarray:
    """X X', (n, n), which `fill` computes in sums of int32 and writes to the array that it is given.

    need: bytes of memory besides the matrix. BenchError and the rest: `gram`.
    """
    n, m = packed.shape
    if 4 * m > LARGEST:
        raise BenchError(f"{packed.path or 'genotypes'}: {m} SNPs; a product of more than {LARGEST // 4} has no room")
    if dtype not in get_args(Dtype):
        wide = ", ".join(get_args(Dtype))
        raise BenchError(f"gram: {dtype} does not hold every product exactly; {wide} do")
    need += 0 if out else np.dtype(dtype).itemsize * n**2
    free = memory_available() if memory is None else memory
    if need > free:
        hint = "" if out else "; name a file (out=...) to have it written there"
        raise BenchError(
            f"gram: {n} x {n} products need {need / 1e9:.3g} GB of memory, {free / 1e9:.3g} GB can be used{hint}"
        )
    if out is None:
        G = np.empty((n, n), dtype)
        fill(G)
        return G
    with atomic_path(out) as tmp:
        G = np.lib.format.open_memmap(tmp, "w+", np.dtype(dtype), (n, n))
        with tmp.open("rb+") as file:  # a full disk is an error now, not a signal at some later page
            os.posix_fallocate(file.fileno(), 0, tmp.stat().st_size)
        fill(G)
        G.flush()
        del G
    return np.load(out, mmap_mode="r")


def gram_bytes(n_samples: int, dtype: str = "i4", *, in_file: bool = False) -> int:
    """The most memory that `gram` allocates: the matrix, unless it is in a file, a tile, the codes of its sides."""
    side = min(TILE, -(-n_samples // 256) * 256)
    whole = 0 if in_file else np.dtype(dtype).itemsize * n_samples**2
    return whole + 9 * side * side + 2 * side * (CODES + 4) + (1 << 20)


def _fill(G: np.ndarray, packed: PackedGenotypes, lib: ct.CDLL, threads: int) -> None:
    """Compute the tiles on and below the diagonal; each is written to both its places."""
    n, m = packed.shape
    codes = packed.contiguous_rows()
    lower = np.tri(min(TILE, n), dtype=bool)
    scratch = np.empty((min(TILE, n), min(TILE, n)), np.int32)
    for row in range(0, n, TILE):
        rows = min(TILE, n - row)
        for column in range(0, row + 1, TILE):
            columns = min(TILE, n - column)
            # fmt: off
            if lib.gram_tile(
                codes.ctypes.data, codes.strides[0], n, m, row, rows, column, columns, threads,
                scratch.ctypes.data, scratch.shape[1],
            ):
                raise MemoryError(f"no memory for the codes of {rows} + {columns} individuals")
            # fmt: on
            tile = scratch[:rows, :columns]
            if row == column:
                tile = np.where(lower[:rows, :rows], tile, tile.T)
            G[row : row + rows, column : column + columns] = tile
            if row != column:
                G[column : column + columns, row : row + rows] = tile.T
