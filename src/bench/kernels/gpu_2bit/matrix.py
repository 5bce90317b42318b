"""The genotype matrix on one or several GPUs, whole or streamed from the host."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.genotypes.packed import PackedGenotypes
from bench.kernels import Problem
from bench.kernels._cuda.architectures import architecture, padded
from bench.kernels._cuda.arrays import received, returned
from bench.kernels._cuda.gpu import Gpu, gpus
from bench.kernels._cuda.missing_calls import MissingCalls
from bench.kernels._cuda.panels import Panels, blocks, resident
from bench.kernels._cuda.stream import Stream, chunk_of
from bench.kernels._operands import CLOSED, check_rows
from bench.kernels.gpu_2bit import device_bytes, slices_of
from bench.kernels.gpu_2bit.sums import CALLED_DOSAGES, DOSAGES, MISSING_CALLS, Multiplier, Sums


@dataclass(frozen=True)
class Part:
    """The individuals of one GPU."""

    gpu: Gpu
    by: Multiplier
    individuals: slice

    @property
    def count(self) -> int:
        return self.individuals.stop - self.individuals.start


class GpuMatrix:
    """Z (n, m) of raw dosages, a missing call counting 0.

    Individuals are divided among the GPUs. What does not fit their memory stays in the host's, and passes by in
    chunks of SNPs at every product. Vectors may be numpy's, CuPy's or of another library that speaks DLPack; the
    result is of the same kind, and where it is on a GPU it is ready when the current stream has come so far. A
    product uses work space of the matrix: one at a time.
    """

    def __init__(self, packed: PackedGenotypes, *, dtype: str, target: str, threads: int, splits: int | None = None):
        """threads: of the host; not used. splits: of every product, for tests."""
        self.shape, self.dtype = packed.shape, np.dtype(dtype)
        devices = gpus(target)
        per_gpu = padded(-(-packed.n_samples // len(devices)))
        ranges = list(blocks(packed.n_samples, per_gpu))  # a small matrix may leave GPUs without any
        slices = slices_of(target)
        self._parts = [
            Part(g, Multiplier(g, slices, splits=splits), r) for g, r in zip(devices, ranges, strict=False)
        ]
        self._home = self._parts[0]
        self._held: list[Panels] | None = None
        self._streams: list[Stream] | None = None
        if self._fits(packed):
            self._held = [resident(part.gpu, packed, part.individuals) for part in self._parts]
            missing = any(panels.missing for panels in self._held)
            self.bytes_held = sum(panels.nbytes for panels in self._held)
        else:
            # All GPUs are at the same SNPs at a time: Z'U is a sum over them.
            size = min(chunk_of(part.gpu, part.count) for part in self._parts)
            self._streams = [Stream(part.gpu, packed, part.individuals, size) for part in self._parts]
            missing = bool(packed.code_counts()[:, 1].any())
            self.bytes_held = sum(stream.nbytes for stream in self._streams)
        self._count(missing)

    @classmethod
    def of_panels(cls, panels: Panels, *, target: str, dtype: str = "f8", splits: int | None = None) -> GpuMatrix:
        """Of genotypes that are on a GPU already; they are shared, not copied."""
        gpu, made = Gpu(panels.gpu.number, architecture(target)), cls.__new__(cls)
        made.shape, made.dtype = (panels.n, panels.m), np.dtype(dtype)
        made._home = Part(gpu, Multiplier(gpu, slices_of(target), splits=splits), slice(0, panels.n))
        made._parts, made._held, made._streams = [made._home], [panels], None
        made.bytes_held = panels.nbytes
        made._count(panels.missing)
        return made

    def _count(self, missing: bool) -> None:
        """What codes count as, if a call is missing and if none is."""
        self._decode = CALLED_DOSAGES if missing else DOSAGES
        self.missing = MissingCalls(self) if missing else None

    def _fits(self, packed: PackedGenotypes) -> bool:
        """Whether every GPU holds its individuals whole beside the work space of ten columns."""
        for part in self._parts:
            if device_bytes(Problem(part.count, packed.n_snps, 10)) > part.gpu.free_memory():
                return False
        return True

    @property
    def gpu(self) -> Gpu:
        """The first GPU, where vectors lie."""
        return self._home.gpu

    @property
    def streamed(self) -> bool:
        """Whether the genotypes stay in the host's memory."""
        return self._streams is not None

    def matmul(self, V: Any) -> Any:
        """Z V, (m, k) → (n, k)."""
        return self._product(V, transposed=False)

    def rmatmul(self, U: Any) -> Any:
        """Z'U, (n, k) → (m, k)."""
        return self._product(U, transposed=True)

    def through(self, U: Any, between: Callable[[slice, Any], Any]) -> Any:
        """Z between(Z'U), (n, k) → (n, k), with one passage of the genotypes where they are streamed.

        between(snps, T): what becomes of T = Z'U of these SNPs, an array of the first GPU.
        """
        n = self.shape[0]
        return self._answer(U, (n, n), lambda X: self._through(X, between))

    def place(self, array: np.ndarray) -> Any:
        """A copy on the first GPU, for vectors that stay there."""
        with self._home.gpu.used():
            return self._home.gpu.cupy.asarray(array)

    def _product(self, X: Any, *, transposed: bool, missing: bool = False) -> Any:
        """The dosages, or the indicator of missing calls, times X."""
        n, m = self.shape
        decode = MISSING_CALLS if missing else self._decode
        multiply = self._transposed_times if transposed else self._times
        return self._answer(X, (n, m) if transposed else (m, n), lambda there: multiply(there, decode))

    def _answer(self, X: Any, rows: tuple[int, int], multiply: Callable[[Any], Any]) -> Any:
        """Take X to the first GPU, multiply, and give the result back as what X is. rows: of X and of the result."""
        check_rows(X, rows[0])
        if self._held is None and self._streams is None:
            raise ValueError(CLOSED)
        gpu = self._home.gpu
        with gpu.used():
            there = received(gpu.cupy, X)
            out = multiply(there) if X.shape[1] else gpu.cupy.empty((rows[1], 0))
            return returned(gpu.cupy, out, X, self.dtype)

    def _chunks(self) -> Iterator[tuple[slice, list[Panels]]]:
        """(SNPs, the panels of every part)."""
        if self._held is not None:
            yield slice(0, self.shape[1]), self._held
            return
        assert self._streams is not None
        for panels in zip(*(stream.chunks() for stream in self._streams), strict=True):
            yield panels[0][0], [made for _, made in panels]

    def _await_home(self) -> None:
        """Before other GPUs copy from the first: a copy waits for what its own GPU does, not for the source's."""
        if len(self._parts) > 1:
            with self._home.gpu.used():
                self._home.gpu.cupy.cuda.get_current_stream().synchronize()

    def _times(self, V: Any, decode: int) -> Any:
        """Z V, V (m, k) on the first GPU: each GPU's individuals, and of a streamed matrix a sum over the chunks."""
        home = self._home.gpu.cupy
        largest = self._home.by.largest(V, transposed=False)
        self._await_home()
        sums = []
        for part in self._parts:
            with part.gpu.used():
                out = home.empty((part.count, V.shape[1]))
                sums.append(Sums(part.by, out, home.asarray(largest), shared=self.streamed))
        for snps, panels in self._chunks():
            for part, own, sum_ in zip(self._parts, panels, sums, strict=True):
                with part.gpu.used():
                    sum_.add(own, home.asarray(V[snps]), transposed=False, decode=decode)
        return self._gathered(sums)

    def _gathered(self, sums: list[Sums]) -> Any:
        """The rows of all GPUs on the first."""
        outs = []
        for part, sum_ in zip(self._parts, sums, strict=True):
            with part.gpu.used():
                outs.append(sum_.finish())
                if len(sums) > 1:
                    part.gpu.cupy.cuda.get_current_stream().synchronize()
        if len(outs) == 1:
            return outs[0]
        xp = self._home.gpu.cupy
        return xp.concatenate([xp.asarray(out) for out in outs])

    def _transposed_times(self, U: Any, decode: int) -> Any:
        """Z'U, U (n, k) on the first GPU."""
        largest = self._home.by.largest(U, transposed=True)
        out = self._home.gpu.cupy.empty((self.shape[1], U.shape[1]))
        shares = self._shares(U)
        for snps, panels in self._chunks():
            out[snps] = self._chunk_transposed(panels, shares, largest, decode)
        return out

    def _shares(self, U: Any) -> list[Any]:
        """Each GPU's individuals' rows of U."""
        self._await_home()
        shares = []
        for part in self._parts:
            with part.gpu.used():
                shares.append(part.gpu.cupy.asarray(U[part.individuals]))
        return shares

    def _chunk_transposed(self, panels: list[Panels], shares: list[Any], largest: Any, decode: int) -> Any:
        """Z'U of one chunk of SNPs, on the first GPU: the integers of all GPUs are added before they are rounded."""
        sums = []
        for part, own, U in zip(self._parts, panels, shares, strict=True):
            with part.gpu.used():
                xp = part.gpu.cupy
                out = xp.empty((own.m, U.shape[1]))
                sum_ = Sums(part.by, out, xp.asarray(largest), shared=len(panels) > 1)
                sum_.add(own, U, transposed=True, decode=decode)
                sums.append(sum_)
        if len(sums) > 1:  # all GPUs have begun: now each is waited for
            for part in self._parts:
                with part.gpu.used():
                    part.gpu.cupy.cuda.get_current_stream().synchronize()
        for other in sums[1:]:
            sums[0].absorb(other)
        return sums[0].finish()

    def _through(self, U: Any, between: Callable[[slice, Any], Any]) -> Any:
        """Chunks have digits of their own for `between`, so they are added as doubles."""
        xp = self._home.gpu.cupy
        largest, shares, total = self._home.by.largest(U, transposed=True), self._shares(U), None
        for snps, panels in self._chunks():
            T = xp.ascontiguousarray(between(snps, self._chunk_transposed(panels, shares, largest, self._decode)))
            scale = self._home.by.largest(T, transposed=False)
            self._await_home()
            sums = []
            for part, own in zip(self._parts, panels, strict=True):
                with part.gpu.used():
                    out = xp.empty((own.n, T.shape[1]))
                    sums.append(Sums(part.by, out, xp.asarray(scale), shared=False))
                    sums[-1].add(own, xp.asarray(T), transposed=False, decode=self._decode)
            rows = self._gathered(sums)
            total = rows if total is None else total + rows
        return total

    def close(self) -> None:
        """Give the memory of all GPUs back, and what the host's pool has pinned for them."""
        for part in self._parts if self._streams else ():
            with part.gpu.used():  # a product may still be fetching from the host's memory
                part.gpu.cupy.cuda.get_current_stream().synchronize()
        self._held = self._streams = None
        for part in self._parts:
            part.by.close()
            with part.gpu.used():
                part.gpu.cupy.get_default_memory_pool().free_all_blocks()
                part.gpu.cupy.get_default_pinned_memory_pool().free_all_blocks()
