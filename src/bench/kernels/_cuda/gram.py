"""X X' of raw dosages on a GPU, exact in integers, tile by tile to the host; docs/gram.md says how."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.genotypes.packed import PackedGenotypes
from bench.kernels._cuda.architectures import STAGES, rows_bytes
from bench.kernels._cuda.gpu import Gpu, gpus, pinned_exactly
from bench.kernels._cuda.one_gpu import check_memory
from bench.kernels._cuda.panels import uploaded
from bench.kernels._cuda.rows import Rows
from bench.relationships.gram import Dtype, products

SOURCE = Path(__file__).parent / "gram.cu"
TILE = 4096  # individuals a side: 64 MB, and 512 blocks
ROWS, COLUMNS, CHUNK_BYTES = 256, 128, 64  # of a block (gram.cu)
SHARED = 4 * (ROWS + COLUMNS) * CHUNK_BYTES  # bytes of shared memory of a block
TURNS = 2  # tiles under way


def gram(
    packed: PackedGenotypes,
    *,
    target: str,
    dtype: Dtype = "i4",
    out: Path | None = None,
    memory: int | None = None,
    tile: int = TILE,
) -> np.ndarray:
    """X X', (n, n), of the dosages 0, 1, 2 of n individuals; a missing call counts 0. Exact, symmetric.

    As bench.relationships.gram.gram, on the first GPU. target: as of a GPU kernel, "sm_90" for Hopper. memory: of
    the host. tile: individuals a side of what is computed at once, rounded up to 256s. BenchError: too little memory
    on the GPU, on the host, or on the disk (said before anything is computed), no GPU of this kind.
    """
    gpu = gpus(target)[0]
    n, m = packed.shape
    tile = -(-min(tile, n) // ROWS) * ROWS
    need = 2 * TURNS * 4 * tile**2 + STAGES  # of the host
    check_memory(gpu, packed, rows_bytes(n, m) + need)
    return products(packed, lambda G: _fill(G, gpu, packed, tile), need=need, dtype=dtype, out=out, memory=memory)


def _fill(G: np.ndarray, gpu: Gpu, packed: PackedGenotypes, tile: int) -> None:
    """Compute the tiles on and below the diagonal: while one is computed the other goes to the host."""
    with gpu.used():
        rows = Rows(gpu, *packed.shape, of_individuals=True, marked=False)
        for snps, bed in uploaded(gpu, packed.codes[:, : -(-packed.n_samples // 4)]):
            rows.load(bed, snps.start)
        gpu.cupy.cuda.get_current_stream().synchronize()
        turns = [_Turn(gpu, rows, tile) for _ in range(TURNS)]
        try:
            for number, at in enumerate(_tiles(packed.n_samples, tile)):
                turn = turns[number % TURNS]
                turn.finish(G)
                turn.start(*at)
            for turn in turns:
                turn.finish(G)
        finally:  # an interruption gives back no memory into which a tile is still copied
            for turn in turns:
                turn.wait()


def _tiles(n: int, side: int) -> Iterator[tuple[slice, slice]]:
    """(rows, columns) of the tiles on and below the diagonal."""
    for row in range(0, n, side):
        for column in range(0, row + 1, side):
            yield slice(row, min(row + side, n)), slice(column, min(column + side, n))


class _Turn:
    """A stream that computes a tile and brings it, and its transpose, to the host; one tile at a time."""

    def __init__(self, gpu: Gpu, rows: Rows, tile: int):
        self._gpu, self._rows = gpu, rows
        self._kernel = gpu.kernel(SOURCE, "gram")
        self._stream = gpu.cupy.cuda.Stream(non_blocking=True)
        self._there = gpu.cupy.empty((2, tile * tile), np.int32)
        self._here = pinned_exactly((2, tile * tile), np.int32)
        self._places: list[tuple[slice, slice]] = []  # in G: of the tile and, off the diagonal, of its transpose

    def _shaped(self, flat: Any) -> list[Any]:
        """As much of two flat arrays as the places need, in their shapes."""
        shapes = [(rows.stop - rows.start, columns.stop - columns.start) for rows, columns in self._places]
        return [flat[i][: rows * columns].reshape(rows, columns) for i, (rows, columns) in enumerate(shapes)]

    def start(self, rows: slice, columns: slice) -> None:
        self._places = [(rows, columns)] if rows == columns else [(rows, columns), (columns, rows)]
        there, here = self._shaped(self._there), self._shaped(self._here)
        high, wide = there[0].shape
        chunks = -(-self._rows.inputs // (4 * CHUNK_BYTES))
        with self._stream:
            self._gpu.launch(
                self._kernel, (-(-wide // COLUMNS), -(-high // ROWS)), self._rows.codes, self._rows.pitch, chunks,
                rows.start, columns.start, high, wide, there[0], there[-1], shared=SHARED,
            )  # fmt: skip
            for source, destination in zip(there, here, strict=True):
                source.get(out=destination, blocking=False)

    def wait(self) -> None:
        self._stream.synchronize()

    def finish(self, G: np.ndarray) -> None:
        """Wait for the tile under way, if there is one, and write it to its places in G."""
        if not self._places:
            return
        self.wait()
        for (rows, columns), tile in zip(self._places, self._shaped(self._here), strict=True):
            G[rows, columns] = tile
        self._places = []
