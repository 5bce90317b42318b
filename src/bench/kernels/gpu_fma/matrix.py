"""The genotype matrix on a GPU in two copies of 2 bits a genotype, multiplied in floating point."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.genotypes.packed import PackedGenotypes
from bench.kernels import Problem
from bench.kernels._cuda.architectures import ROWS
from bench.kernels._cuda.missing_calls import MissingCalls
from bench.kernels._cuda.one_gpu import OneGpuMatrix
from bench.kernels._cuda.panels import uploaded
from bench.kernels._cuda.rows import Rows
from bench.kernels.gpu_fma import WIDEST, device_bytes, splits_at_most

SOURCE = Path(__file__).parent / "fma.cu"
CHUNK, STAGES = 64, 2  # fma.cu
VECTOR = 16  # bytes


class GpuFma(OneGpuMatrix):
    """Z (n, m) of raw dosages, a missing call counting 0: a copy with a row an individual, one with a row a SNP."""

    def __init__(self, packed: PackedGenotypes, *, dtype: str, target: str, threads: int, splits: int | None = None):
        """threads: of the host; not used. splits: of every product, for tests. BenchError: too little memory."""
        need = device_bytes(Problem(*packed.shape, WIDEST, dtype))
        super().__init__(packed, dtype=dtype, target=target, need=need)
        self._splits = splits
        copies = [Rows(self.gpu, *packed.shape, of_individuals=of, marked=True) for of in (True, False)]
        with self.gpu.used():
            for snps, bed in uploaded(self.gpu, packed.codes[:, : -(-packed.n_samples // 4)]):
                for rows in copies:
                    rows.load(bed, snps.start)
            self.gpu.cupy.cuda.get_current_stream().synchronize()
        self._by_individual, self._by_snp = copies
        self.missing = MissingCalls(self) if self._by_snp.missing else None
        self.bytes_held = sum(rows.nbytes for rows in copies)

    def _multiply(self, X: Any, *, transposed: bool, missing: bool) -> Any:
        rows = self._by_snp if transposed else self._by_individual
        out = self.gpu.cupy.empty((rows.count, X.shape[1]), self.dtype)
        for first, width in tiles(X.shape[1]):
            self._tile(rows, X, first, width, out, missing)
        return out

    def _tile(self, rows: Rows, X: Any, first: int, width: int, out: Any, missing: bool) -> None:
        """Columns `first` … `first + width` of the product."""
        gpu, k, real = self.gpu, X.shape[1], self.dtype.itemsize
        blocks, chunks = -(-rows.count // ROWS), -(-rows.inputs // CHUNK)
        each = -(-chunks // (self._splits or splits_of(rows.count, chunks, gpu.multiprocessors)))
        splits = -(-chunks // each)
        macros = {"COLUMNS": width, "REAL_BYTES": real, "MISSING": int(missing)}
        parts = gpu.cupy.empty((splits, rows.count, width), self.dtype) if splits > 1 else None
        to = (out, k, first) if parts is None else (parts, width, 0)
        gpu.launch(
            gpu.kernel(SOURCE, "product", macros), (blocks * splits,), rows.codes, rows.pitch, X, k, first,
            rows.inputs, rows.count, blocks, chunks, each, *to, shared=shared_bytes(width, real),
        )  # fmt: skip
        if parts is not None:
            summed = gpu.kernel(SOURCE, "add_splits", macros)
            gpu.over(summed, rows.count * width, parts, splits, rows.count, out, k, first)

    def _release(self) -> None:
        del self._by_individual, self._by_snp


def tiles(k: int) -> list[tuple[int, int]]:
    """(first, width) of the tiles of k columns, as equal as can be."""
    count = -(-k // WIDEST)
    edges = [k * t // count for t in range(count + 1)]
    return [(a, b - a) for a, b in pairwise(edges)]


def shared_bytes(columns: int, real: int) -> int:
    """Shared memory of a block: at most 58 KB."""
    vector = 1 if columns == 1 else VECTOR // real
    return STAGES * (ROWS * CHUNK // 4 + CHUNK * -(-columns // vector) * vector * real)


def splits_of(outputs: int, chunks: int, multiprocessors: int) -> int:
    """The number of splits with which the last wave of blocks leaves the fewest multiprocessors idle."""
    blocks = -(-outputs // ROWS)

    def cost(splits: int) -> float:
        return -(-blocks * splits // multiprocessors) / splits * (1 + 0.01 * (splits - 1))

    return min(range(1, max(1, min(splits_at_most(outputs), chunks // 16)) + 1), key=cost)
