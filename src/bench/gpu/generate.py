"""Genotypes that are made on the GPU: at the speed of its memory, with nothing to upload."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.genotypes.packed import PackedGenotypes
from bench.kernels._cuda.gpu import Gpu
from bench.kernels._cuda.panels import Panels, blocks

SOURCE = Path(__file__).parent / "generate.cu"
BLOCK = 512 << 20  # bytes of .bed rows that are made at a time
OF = 1 << 24  # what a missing rate is a share of


def _made(gpu: Gpu, n: int, m: int, seed: int, missing: float) -> Iterator[tuple[slice, Any]]:
    """(SNPs, their .bed rows on the GPU), block after block in one buffer."""
    stride = -(-n // 4)
    kernel = gpu.kernel(SOURCE, "generate")
    size = max(1, min(m, BLOCK // stride))
    with gpu.used():
        buffer = gpu.cupy.empty((size, stride), np.uint8)
        for snps in blocks(m, size):
            count = snps.stop - snps.start
            gpu.over(kernel, count * stride, seed, snps.start, count, stride, round(missing * OF), buffer)
            yield snps, buffer[:count]


def panels(gpu: Gpu, n: int, m: int, *, seed: int, missing: float = 0.0) -> Panels:
    """n individuals at m SNPs as kernels read them. missing: share of missing calls."""
    made = Panels(gpu, n, m)
    for snps, rows in _made(gpu, n, m, seed, missing):
        made.load(rows, snps.start)
    return made


def on_host(gpu: Gpu, n: int, m: int, *, seed: int, missing: float = 0.0) -> PackedGenotypes:
    """The same genotypes in the host's memory."""
    codes = np.empty((m, -(-n // 4)), np.uint8)
    for snps, rows in _made(gpu, n, m, seed, missing):
        codes[snps] = rows.get()
    return PackedGenotypes(codes, n)
