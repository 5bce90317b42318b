"""A genotype matrix that is larger than the memory: a kernel multiplies chunk after chunk of a .bed file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from bench.errors import BenchError
from bench.genotypes.bed_file import buffer_bytes
from bench.genotypes.bed_stream import BUFFERS, BedStream
from bench.genotypes.packed import PackedGenotypes
from bench.kernels import GenotypeOperator, Kernel, Problem
from bench.kernels._operands import CLOSED, check_rows

LEAST = 64  # SNPs of a chunk
CHUNK = 256 << 20  # bytes of a chunk of the file at the most: a larger one is not faster
PARTS = 2  # sums of a chunk, (n, k) each, beside the result: raw and centred


@runtime_checkable
class Refillable(Protocol):
    """A prepared matrix that can take other SNPs into its memory (kernels/_native.py)."""

    def refill(self, packed: PackedGenotypes) -> bool: ...


@dataclass(frozen=True)
class Source:
    """How a kernel prepares a chunk: the arguments of `Kernel.prepare`."""

    kernel: Kernel
    target: str
    dtype: str
    library: Path | None
    threads: int

    def prepare(self, packed: PackedGenotypes) -> GenotypeOperator:
        return self.kernel.prepare(
            packed, target=self.target, dtype=self.dtype, library=self.library, threads=self.threads
        )


def streamable(kernel: Kernel, packed: PackedGenotypes) -> bool:
    """Whether a kernel can take these genotypes in chunks: those of a .bed file, on the processor."""
    return packed.bed_file() is not None and not kernel.gpu


def chunk_bytes(kernel: Kernel, problem: Problem, snps: int) -> int:
    """Memory that products in chunks of so many SNPs take, vectors of problem.k columns included."""
    chunk = replace(problem, m=snps)
    stride = chunk.packed_bytes // snps
    prepared = kernel.bytes_needed(chunk) - chunk.packed_bytes  # its .bed bytes are those of a buffer
    parts = PARTS * problem.n * problem.k * problem.itemsize
    return prepared + BUFFERS * buffer_bytes(snps, stride) + problem.vector_bytes + parts


def chunk_snps(kernel: Kernel, problem: Problem, *, memory: int) -> int:
    """How many SNPs make a chunk so that products stay within `memory` bytes.

    BenchError: not even the smallest chunk does; it says how much that needs.
    """
    most = max(LEAST, CHUNK * problem.m // problem.packed_bytes)
    size = least = min(LEAST, problem.m)
    if (need := chunk_bytes(kernel, problem, least)) > memory:
        raise BenchError(
            f"to multiply {problem.n} × {problem.m} genotypes in chunks, kernel {kernel.name} needs at least "
            f"{need / 1e6:.4g} MB of memory ({least} SNPs at a time, {problem.k} columns), {memory / 1e6:.4g} MB "
            "were given"
        )
    step = 1 << min(most, problem.m).bit_length()
    while step := step // 2:  # the largest size that fits, bit by bit
        if size + step <= min(most, problem.m) and chunk_bytes(kernel, problem, size + step) <= memory:
            size += step
    return -(-problem.m // -(-problem.m // size))  # chunks of equal size


class StreamedMatrix:
    """Z (n, m): dosages of the counted allele, a missing call counting as 0, read anew at each product.

    One product at a time. Z'U is that of the whole matrix in the same kernel wherever a SNP's result does not depend
    on the others; Z V is a sum over chunks, rounded so.
    """

    streamed = True

    def __init__(self, packed: PackedGenotypes, source: Source, *, chunk: int):
        """chunk: SNPs that are held at a time. BenchError: genotypes that are no file."""
        self.shape, self.dtype, self.packed = packed.shape, np.dtype(source.dtype), packed
        self._source, self._stream = source, BedStream(packed, chunk)
        self._held: GenotypeOperator | None = None
        self._closed = False
        self.chunk = chunk
        self.bytes_held = self._stream.nbytes

    def chunks(self) -> Iterator[tuple[slice, GenotypeOperator, PackedGenotypes]]:
        """(SNPs, their products, their calls), in order; what is given may be used until the next is asked for."""
        if self._closed:
            raise ValueError(CLOSED)
        for snps, packed in self._stream.chunks():
            held = self._held
            if not (isinstance(held, Refillable) and held.refill(packed)):  # then every chunk is prepared anew
                if held is not None:
                    held.close()
                self._held = None
                self._held = held = self._source.prepare(packed)
                self.bytes_held = self._stream.nbytes + held.bytes_held
            yield snps, held, packed

    def matmul(self, V: np.ndarray) -> np.ndarray:
        """Z V, (m, k) → (n, k)."""
        check_rows(V, self.shape[1])
        out = np.zeros((self.shape[0], V.shape[1]), self.dtype)
        for snps, chunk, _ in self.chunks():
            out += chunk.matmul(V[snps])
        return out

    def rmatmul(self, U: np.ndarray) -> np.ndarray:
        """Z'U, (n, k) → (m, k)."""
        U = self._once(U)
        out = np.empty((self.shape[1], U.shape[1]), self.dtype)
        for snps, chunk, _ in self.chunks():
            out[snps] = chunk.rmatmul(U)
        return out

    def through(self, U: np.ndarray, between: Callable[[slice, np.ndarray], np.ndarray]) -> np.ndarray:
        """Z between(Z'U), (n, k) → (n, k), in one pass over the file.

        between(snps, T): what becomes of T = Z'U of these SNPs.
        """
        U = self._once(U)
        out = np.zeros((self.shape[0], U.shape[1]), self.dtype)
        for snps, chunk, _ in self.chunks():
            out += chunk.matmul(between(snps, chunk.rmatmul(U)))
        return out

    def _once(self, U: np.ndarray) -> np.ndarray:
        """U as a kernel takes it, so that not every chunk copies it."""
        check_rows(U, self.shape[0])
        return np.require(U, self.dtype, ["C", "ALIGNED"])

    def close(self) -> None:
        """Give the memory back; products are a ValueError from then on."""
        if self._held is not None:
            self._held.close()
        self._held, self._closed = None, True
        self._stream.close()
