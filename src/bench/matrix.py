"""The genotype matrix as a library user gets it: a scipy LinearOperator over the kernel that fits the machine."""

from __future__ import annotations

import ctypes as ct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse.linalg import LinearOperator

from bench import kernels
from bench.build import installed
from bench.errors import BenchError
from bench.genotypes.bim_fam import read_bim, read_fam
from bench.genotypes.packed import PackedGenotypes
from bench.kernels import GenotypeOperator, Problem
from bench.machine import memory_available, this_machine
from bench.memory import bytes_of
from bench.relationships.genomic import RELATIONSHIPS, Centred, Coding, dense_grm, dense_grm_bytes
from bench.relationships.gram import Dtype, gram
from bench.relationships.missing import missing_of
from bench.relationships.streamed import StreamedCentred
from bench.shared_library import INT, SIZE, load
from bench.solvers.operator import Operator, Swapped
from bench.streamed import Source, StreamedMatrix, chunk_snps, streamable

if TYPE_CHECKING:
    from bench.bridges import jax as bridge

K = 32  # columns that a matrix's memory is planned with
FALLBACK = ("numba_unpack", "numba")  # where there is no C++ compiler


@dataclass(frozen=True)
class Choice:
    """What `best` chose. scheme: direction → the scheme that a product of k columns goes through."""

    kernel: str
    target: str
    scheme: dict[str, str]
    reason: str


def best(n: int, m: int, k: int = 10, *, threads: int | None = None, dtype: str = "f8") -> Choice:
    """The kernel and target for products of an (n, m) matrix with k columns on this machine.

    That is `auto` in the widest build that the processor runs, compiled at the first use; without a C++
    compiler the numba kernel. `auto` chooses its scheme at each product, from k, the values' type and the build
    (kernels/auto/auto.cc), and its block sizes from n, m, k, the threads and the second-level cache.
    """
    problem = Problem(n, m, k, dtype, this_machine().cores if threads is None else threads)
    made = installed("auto")
    if made.library is None:
        name, target = FALLBACK
        return Choice(name, target, dict.fromkeys(("matmul", "rmatmul"), name), made.reason or "auto was not built")
    scheme = _scheme(made.library)
    schemes = {direction: scheme(problem, direction == "rmatmul") for direction in ("matmul", "rmatmul")}
    return Choice("auto", made.target, schemes, f"{made.target} is the widest build that {this_machine().cpu} runs")


def _scheme(library: Path) -> Callable[[Problem, bool], str]:
    signatures = {"auto_scheme": (ct.c_char_p, [SIZE, INT, INT])}
    function = load(library, "kernel", signatures, prefix="gmk", build="bench build auto").auto_scheme
    return lambda problem, transposed: function(problem.k, problem.itemsize, transposed).decode()


def _real(X: np.ndarray) -> np.ndarray:
    """X; BenchError if it is complex, where a cast to the matrix's dtype would lose half of it."""
    if np.iscomplexobj(X):
        raise BenchError(f"real numbers were needed, found {X.dtype}; multiply X.real and X.imag one after the other")
    return X


class _Real(LinearOperator):
    """A LinearOperator over `products`, whose transpose copies nothing: scipy's own conjugates every operand."""

    products: Operator

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        return self.products.matmul(_real(X))

    def _rmatmat(self, X: np.ndarray) -> np.ndarray:
        return self.products.rmatmul(_real(X))

    def _matvec(self, x: np.ndarray) -> np.ndarray:
        return self._matmat(x.reshape(-1, 1))

    def _rmatvec(self, x: np.ndarray) -> np.ndarray:
        return self._rmatmat(x.reshape(-1, 1))

    def _adjoint(self) -> Any:
        return _Transposed(self)

    def _transpose(self) -> Any:
        return _Transposed(self)


class _Transposed(_Real):
    """Another operator's transpose."""

    def __init__(self, of: _Real):
        super().__init__(of.dtype, of.shape[::-1])
        self.products = Swapped(of.products)


class GenotypeMatrix(_Real):
    """Z (n, m): dosages 0, 1, 2 of each SNP's counted allele (the second of the .bim), a missing call 0.

    `Z @ L` multiplies (m,) or (m, k), `Z.T @ R` (n,) or (n, k); results are of the matrix's dtype. Memory: one
    copy at 2 bits a genotype, and during a product at most 3.5 MB a thread or, for one or two columns, 6 bytes for
    each number that is multiplied and 160 KB a thread.
    """

    def __init__(
        self,
        packed: PackedGenotypes,
        *,
        kernel: str = "auto",
        dtype: str = "f8",
        threads: int | None = None,
        memory: int | str | None = None,
        individuals: np.ndarray | None = None,
        snps: np.ndarray | None = None,
    ):
        """kernel: any of `bench kernels`; threads: None takes all cores that this process may use.

        memory: that the matrix and products with K columns may take, in bytes or such as "800MB". Where it does not
        hold the matrix, a mapped .bed is read anew at each product, in chunks of SNPs (`streamed`).
        BenchError: no such kernel, too little memory (said before it is taken), no build, no thread or more
        threads than cores.
        """
        threads = this_machine().cores if threads is None else threads
        super().__init__(np.dtype(dtype), packed.shape)
        self.packed, self.threads = packed, threads
        self.individuals, self.snps = individuals, snps
        name, target, library = _executable(kernel)
        declared = kernels.load(name)
        problem = Problem(*packed.shape, K, np.dtype(dtype).str[1:], threads)
        if threads > this_machine().cores:
            raise BenchError(f"asked for {threads} threads, this machine has {this_machine().cores} cores")
        given = memory_available() if memory is None else min(memory_available(), bytes_of(memory))
        whole, can = declared.memory_needed(problem), streamable(declared, packed)
        self.streamed = memory is not None and can and whole > given
        if reason := declared.refuses(problem, target, this_machine(), memory=whole if self.streamed else given):
            more = "; give memory=… to read it in chunks" if memory is None and can and whole > given else ""
            raise BenchError(f"{packed.path or 'genotypes'} in kernel {name}: {reason}{more}")
        self.kernel, self.target = name, target
        source = Source(declared, target, problem.dtype, library, threads)
        self._held: GenotypeOperator = (
            StreamedMatrix(packed, source, chunk=chunk_snps(declared, problem, memory=given))
            if self.streamed
            else source.prepare(packed)
        )
        self.products = self._held
        self._gpu_gram = partial(_gram_on_gpu(), target=target) if declared.gpu else None

    @property
    def bytes_held(self) -> int:
        """Memory that the matrix keeps: of a streamed one its buffers and a chunk."""
        return self._held.bytes_held

    @classmethod
    def from_bed(cls, path: str | Path, **options: Any) -> GenotypeMatrix:
        """Pack PREFIX.bed, with PREFIX.bim and PREFIX.fam beside it; `path` is PREFIX or PREFIX.bed.

        The file is mapped, not read into memory first; with memory=…, it may be larger than that. Options as of the
        class. BenchError: files that are missing or do not fit each other, and what the class refuses.
        """
        bed = Path(path) if str(path).endswith(".bed") else Path(f"{path}.bed")
        fam, bim = read_fam(bed.with_suffix(".fam")), read_bim(bed.with_suffix(".bim"))
        packed = PackedGenotypes.open(bed, n_samples=len(fam), n_snps=len(bim))
        return cls(packed, individuals=fam["id"].to_numpy(), snps=bim["snp"].to_numpy(), **options)

    @classmethod
    def from_dosages(cls, dosages: np.ndarray, **options: Any) -> GenotypeMatrix:
        """Pack (n, m) integers 0, 1, 2 and −1 for a missing call."""
        dosages = np.asarray(dosages)
        if dosages.ndim != 2 or not dosages.size or not np.isin(dosages, (-1, 0, 1, 2)).all():
            raise BenchError("dosages: an (n, m) array of 0, 1, 2 and −1 (missing) was needed")
        return cls(PackedGenotypes.from_dosages(dosages.astype(np.int8)), **options)

    def centred(self, relationship: str = "vanraden1") -> CentredMatrix:
        """W (n, m): centred, for "standardised" scaled, missing calls imputed by their SNP's mean.

        BenchError: no such relationship, no SNP that varies, too little memory for the lists of missing calls.
        """
        if relationship not in RELATIONSHIPS:
            raise BenchError(f"there is no relationship {relationship!r}; there are {', '.join(RELATIONSHIPS)}")
        return CentredMatrix(self, relationship)

    def coded(self, coding: Coding) -> Centred | StreamedCentred:
        """W = (Z − 1c')·diag(s) of any coding of these SNPs, 0 where the call is missing.

        MemoryError: the lists of missing calls do not fit; a streamed matrix has none.
        """
        library = installed("missing").library
        if isinstance(self.products, StreamedMatrix):
            return StreamedCentred(self.products, coding, self.packed, library=library, threads=self.threads)
        missing = missing_of(self.products, self.packed, threads=self.threads, library=library)
        return Centred(self.products, coding, missing)

    def gram(self, *, dtype: Dtype = "i4", out: Path | None = None) -> np.ndarray:
        """X X', (n, n), of the dosages, exact in integers; a missing call counts 0.

        out: .npy file for a matrix that is larger than the memory; the result is then a read-only map of it. A
        kernel for GPUs has it computed on the GPU.
        BenchError: too little memory (said before it is taken) or disk, no C++ compiler.
        """
        if self._gpu_gram is not None:
            return self._gpu_gram(self.packed, dtype=dtype, out=out)
        made = installed("gram")
        if made.library is None:
            raise BenchError(f"gram: {made.reason}")
        return gram(self.packed, library=made.library, threads=self.threads, dtype=dtype, out=out)

    def jax(self) -> bridge.Products:
        """These products in JAX (docs/library.md), without a copy of the matrix."""
        from bench.bridges.jax import Products, hold  # JAX takes half a second to import

        return Products(hold(self.products, installed("jax").library))

    def close(self) -> None:
        """Give the memory back; products are a ValueError from then on."""
        self._held.close()


class CentredMatrix(_Real):
    """W = (Z − 1c')·diag(s) of a GenotypeMatrix, 0 where the call is missing; float64. G = W W'/divisor.

    centre, scale: (m,).
    """

    def __init__(self, Z: GenotypeMatrix, relationship: str):
        super().__init__(np.dtype("f8"), Z.shape)
        coding = RELATIONSHIPS[relationship](Z.packed)
        self.centre, self.scale, self.divisor = coding.centre, coding.scale, coding.divisor
        try:
            self.products = self._centred = Z.coded(coding)
        except MemoryError as error:
            raise BenchError(str(error)) from None
        self._packed, self._coding, self._threads = Z.packed, coding, Z.threads
        self._gpu_gram = Z._gpu_gram

    def jax(self) -> bridge.Centred:
        """These products in JAX, with derivatives in centre and scale as well."""
        from bench.bridges.jax import centred

        if not isinstance(self._centred, Centred):
            raise BenchError(
                "jax: a streamed matrix has its raw products in JAX, not its centred ones; centre them there, or "
                "open the matrix without memory="
            )
        return centred(self._centred, installed("jax").library)

    def gram(self) -> np.ndarray:
        """G = W W'/divisor, (n, n) float64. BenchError: too little memory, said before it is taken."""
        need, free = dense_grm_bytes(self.shape[0]), memory_available()
        if need > free:
            raise BenchError(
                f"gram: the relationships of {self.shape[0]} individuals need {need / 1e9:.3g} GB of memory, "
                f"{free / 1e9:.3g} GB can be used"
            )
        if self._gpu_gram is not None:
            return dense_grm(self._packed, self._coding, products=partial(self._gpu_gram, dtype="f8"))
        return dense_grm(self._packed, self._coding, library=installed("gram").library, threads=self._threads)


def _gram_on_gpu() -> Callable[..., np.ndarray]:
    from bench.kernels._cuda.gram import gram  # a machine without a GPU has no use for it

    return gram


def _executable(kernel: str) -> tuple[str, str, Path | None]:
    """The kernel, the target and the library to run for `kernel`."""
    declared = kernels.load(kernel)
    if declared.native is None:
        lacks = {target: declared.lacks(target, this_machine()) for target in declared.all_targets}
        runs = [target for target, reason in lacks.items() if reason is None]
        if not runs:
            raise BenchError(f"kernel {kernel} cannot run here: {lacks[declared.all_targets[0]]}")
        return kernel, runs[0], None
    made = installed(kernel)
    if made.library is not None:
        return kernel, made.target, made.library
    if kernel == "auto":
        return (*FALLBACK, None)
    raise BenchError(f"kernel {kernel}: {made.reason}")
