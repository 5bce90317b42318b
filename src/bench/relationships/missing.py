"""Missing calls as lists, and their products: what mean imputation adds to a kernel's products."""

from __future__ import annotations

import ctypes as ct
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from scipy import sparse

from bench.genotypes.packed import MISSING, PackedGenotypes
from bench.memory import memory_available
from bench.shared_library import INT, POINTER, SIZE, address, load
from bench.solvers.operator import Operator

MISSING_CODE = 1  # the column of `PackedGenotypes.code_counts` that counts missing calls
BLOCK_BYTES = 32 << 20  # of decoded genotypes at a time
CALL_BYTES = 30  # that listing a missing call takes, measured; 4 are kept
INPUTS = 4096  # of a block: 16 columns of them are 512 KB, half of a second-level cache
PRODUCT = (INT, [POINTER, POINTER, SIZE, POINTER])
SIGNATURES = {
    "missing_gather": (INT, [POINTER, POINTER, SIZE, SIZE, SIZE, POINTER, SIZE, POINTER, INT]),
    "missing_matmul": PRODUCT,
    "missing_rmatmul": PRODUCT,
    "missing_scan": (INT, [POINTER, SIZE, SIZE, SIZE, POINTER, SIZE, POINTER, INT, INT]),
}


NOT_ITSELF: Any = object()


@dataclass(frozen=True)
class Lists:
    """A 0/1 matrix (rows, columns) as lists of each row's columns, cut by blocks of INPUTS columns.

    first: int64, where the list of (block, row) begins at block·rows + row; inputs: uint16, columns within their
    block, ascending.
    """

    shape: tuple[int, int]
    first: np.ndarray
    inputs: np.ndarray

    @classmethod
    def of(cls, matrix: sparse.csc_array, rows: int, columns: int) -> Lists:
        """The lists of the nonzeros of a (rows, columns) matrix."""
        blocks = [matrix[:, c : c + INPUTS].tocsr() for c in range(0, columns, INPUTS)]
        counts = np.concatenate([[0], *(np.diff(block.indptr) for block in blocks)])
        inputs = np.concatenate([block.indices.astype(np.uint16) for block in blocks])
        return cls((rows, columns), np.cumsum(counts, dtype=np.int64), inputs)

    def csr(self) -> sparse.csr_array:
        """The same matrix in scipy."""
        rows, columns = self.shape
        blocks = []
        for b, c in enumerate(range(0, columns, INPUTS)):
            first = self.first[b * rows : (b + 1) * rows + 1]
            inputs = self.inputs[first[0] : first[-1]].astype(np.int32)
            width = min(INPUTS, columns - c)
            blocks.append(sparse.csr_array((np.ones(inputs.size), inputs, first - first[0]), shape=(rows, width)))
        return sparse.csr_array(sparse.hstack(blocks, format="csr"))

    @property
    def nbytes(self) -> int:
        return self.first.nbytes + self.inputs.nbytes


Pair, Sizes = POINTER * 2, SIZE * 2


class _InC(ct.Structure):
    """struct MissingCalls of _missing/missing.cc."""

    _fields_ = (("first", Pair), ("inputs", Pair), ("sizes", Sizes), ("block", SIZE), ("threads", INT))


def check_sums(out: np.ndarray) -> None:
    """ValueError unless compiled code can add to `out` where it lies."""
    if out.dtype != np.float64 or not out.flags.c_contiguous:
        raise ValueError(f"out: a C-contiguous float64 array was needed, found {out.dtype} of strides {out.strides}")


@dataclass(frozen=True)
class MissingCalls:
    """Miss, the (n, m) indicator of missing calls: 4 B a call, and 8 B per row of each block.

    library: the compiled _missing/missing.cc; without it products are scipy's, on one thread.
    """

    by_individual: Lists
    by_snp: Lists
    threads: int = 1
    library: Path | None = field(default=None, compare=False)
    dtype = np.dtype("f8")

    @property
    def shape(self) -> tuple[int, int]:
        return self.by_individual.shape

    def matmul(self, V: np.ndarray) -> np.ndarray:
        """Miss V, (m, k) → (n, k) float64."""
        out = np.zeros((self.shape[0], V.shape[1]))
        self.add_matmul(V, out)
        return out

    def add_matmul(self, X: np.ndarray, out: np.ndarray) -> None:
        """out (n, k) += Miss X, X (m, k). ValueError: out is not float64 and C-contiguous."""
        check_sums(out)
        self._add(self.by_individual, X, out)

    def rmatmul(self, U: np.ndarray) -> np.ndarray:
        """Miss'U, (n, k) → (m, k) float64."""
        out = np.zeros((self.by_snp.shape[0], U.shape[1]))
        self._add(self.by_snp, U, out)
        return out

    def _add(self, lists: Lists, X: np.ndarray, out: np.ndarray) -> None:
        if self._lib is None:
            out += lists.csr() @ X
            return
        X = np.require(X, "f8", ["C", "ALIGNED"])
        sizes = (*lists.shape, INPUTS, X.ctypes.data, X.shape[1], out.ctypes.data, self.threads)
        if self._lib.missing_gather(lists.first.ctypes.data, lists.inputs.ctypes.data, *sizes):
            raise MemoryError("no memory for the sums at missing calls")

    def addresses(self) -> tuple[int, int, int] | None:
        """These calls, their matmul and their rmatmul, for a caller in C (gmk.h); None without the library."""
        if self._lib is None:
            return None
        return ct.addressof(self._in_c), address(self._lib.missing_matmul), address(self._lib.missing_rmatmul)

    def before_closing(self, call: Callable[[], object]) -> None:
        """Have `call` called when the addresses are about to become invalid: when this object goes."""
        weakref.finalize(self, call)

    @cached_property
    def _in_c(self) -> _InC:
        both = (self.by_individual, self.by_snp)
        first, inputs = (Pair(*(getattr(one, name).ctypes.data for one in both)) for name in ("first", "inputs"))
        return _InC(first, inputs, Sizes(*self.shape), INPUTS, self.threads)

    @cached_property
    def _lib(self) -> ct.CDLL | None:
        if self.library is None:
            return None
        return _library(self.library)


def _library(path: Path) -> ct.CDLL:
    return load(path, "missing", SIGNATURES, prefix="missing", build="bench build missing")


class MissingInRows:
    """Miss of some SNPs, found in their .bed rows at each product: no lists, for genotypes that are soon gone."""

    def __init__(self, packed: PackedGenotypes, library: Path, threads: int):
        """library: the compiled _missing/missing.cc."""
        self.shape = packed.shape
        self._codes, self._lib, self._threads = packed.contiguous_rows(), _library(library), threads

    def matmul(self, V: np.ndarray) -> np.ndarray:
        """Miss V, (m, k) → (n, k) float64."""
        out = np.zeros((self.shape[0], V.shape[1]))
        self._scan(V, out, transposed=False)
        return out

    def add_matmul(self, X: np.ndarray, out: np.ndarray) -> None:
        """out (n, k) += Miss X, X (m, k). ValueError: out is not float64 and C-contiguous."""
        check_sums(out)
        self._scan(X, out, transposed=False)

    def rmatmul(self, U: np.ndarray) -> np.ndarray:
        """Miss'U, (n, k) → (m, k) float64."""
        out = np.zeros((self.shape[1], U.shape[1]))
        self._scan(U, out, transposed=True)
        return out

    def _scan(self, X: np.ndarray, out: np.ndarray, *, transposed: bool) -> None:
        X = np.require(X, "f8", ["C", "ALIGNED"])
        rows = (self._codes.ctypes.data, self._codes.strides[0], *self.shape)
        if self._lib.missing_scan(*rows, X.ctypes.data, X.shape[1], out.ctypes.data, transposed, self._threads):
            raise MemoryError("no memory for the sums at missing calls")


class MissingProducts(Operator, Protocol):
    """The (n, m) indicator of missing calls, as lists or as a kernel multiplies it."""

    def add_matmul(self, X: np.ndarray, out: np.ndarray) -> None:
        """out (n, k) += Miss X, X (m, k)."""
        ...


def missing_of(
    operator: object, packed: PackedGenotypes, *, threads: int = 1, library: Path | None = None
) -> MissingProducts | None:
    """The missing calls of `packed`, as its kernel's `operator` multiplies them itself, or else as lists."""
    own = getattr(operator, "missing", NOT_ITSELF)
    return own if own is not NOT_ITSELF else missing_calls(packed, threads=threads, library=library)


def missing_calls(packed: PackedGenotypes, *, threads: int = 1, library: Path | None = None) -> MissingCalls | None:
    """The missing calls of `packed`; None when there are none. MemoryError: too many, said before they are listed."""
    per_snp = packed.code_counts()[:, MISSING_CODE]
    if not per_snp.any():
        return None
    calls, free = int(per_snp.sum()), memory_available()
    if (need := calls * CALL_BYTES) > free:
        raise MemoryError(
            f"{packed.path or 'genotypes'}: to list {calls} missing calls needs {need / 1e9:.3g} GB of memory, "
            f"{free / 1e9:.3g} GB can be used"
        )
    first = np.concatenate([[0], np.cumsum(per_snp)])
    individuals = np.empty(first[-1], np.int32)
    for block in packed.blocks(max(1, BLOCK_BYTES // packed.n_samples)):
        if per_snp[block].any():
            # Row-major over (SNP, individual): the order that compressed columns have.
            individuals[first[block.start] : first[block.stop]] = np.nonzero(packed.dosages(block).T == MISSING)[1]
    n, m = packed.shape
    # Starts of 64 bits would make scipy keep such indices too: twice the memory.
    first = first.astype(np.int32) if first[-1] < 2**31 else first
    miss = sparse.csc_array((np.ones(individuals.size, np.int8), individuals, first), shape=(n, m))
    by_individual = Lists.of(miss, n, m)
    transposed = sparse.csc_array(miss.tocsr().T)
    return MissingCalls(by_individual, Lists.of(transposed, m, n), threads, library)
