"""Genotype-matrix kernels. The folder is the registry: one module, or one folder, per kernel.

A module `bench.kernels.<name>` defines `KERNEL`, a `Kernel`. Nothing else needs editing; a config names
it to have it benchmarked. Declarations import nothing heavy: Snakemake reads them at every parse.
"""

from __future__ import annotations

import importlib
import pkgutil
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bench.errors import BenchError

if TYPE_CHECKING:
    import numpy as np

    from bench.genotypes.packed import PackedGenotypes
    from bench.machine import Machine
    from bench.matrix import CentredMatrix, Choice, GenotypeMatrix, best

__all__ = ["CentredMatrix", "Choice", "GenotypeMatrix", "Kernel", "Native", "Problem", "best", "load", "names"]

HERE = Path(__file__).parent
HEADERS = HERE / "gmk.h", HERE / "isa.h"  # that every native kernel includes


class GenotypeOperator(Protocol):
    """Z (n, m): dosages of the counted allele, a missing call counting as 0."""

    shape: tuple[int, int]
    bytes_held: int  # memory that the prepared matrix keeps, vectors not counted

    def matmul(self, V: np.ndarray) -> np.ndarray:
        """Z V, (m, k) → (n, k), C-contiguous, ready when it returns."""
        ...

    def rmatmul(self, U: np.ndarray) -> np.ndarray:
        """Z'U, (n, k) → (m, k), C-contiguous, ready when it returns."""
        ...

    def close(self) -> None:
        """Give the memory back; the operator cannot be used afterwards."""
        ...


@dataclass(frozen=True)
class Problem:
    """The size and kind of a session's products: all that a kernel may consult to refuse it."""

    n: int
    m: int
    k: int  # the largest number of columns
    dtype: str = "f8"
    threads: int = 1

    @property
    def itemsize(self) -> int:
        return int(self.dtype[1:])

    @property
    def packed_bytes(self) -> int:
        """The .bed payload: 2 bits a genotype, each SNP padded to a byte."""
        return self.m * -(-self.n // 4)

    @property
    def vector_bytes(self) -> int:
        """An input and an output of the wider direction."""
        return (self.n + self.m) * self.k * self.itemsize


# Compilers and /proc/cpuinfo spell these features differently.
CPU_FLAG_NAMES = {
    "avx512vnni": "avx512_vnni",
    "avx512vpopcntdq": "avx512_vpopcntdq",
    "avxvnni": "avx_vnni",
    "avx512vbmi2": "avx512_vbmi2",
    "avx512bitalg": "avx512_bitalg",
    "sse4.1": "sse4_1",
    "sse4.2": "sse4_2",
}
# The sets of CPU features that kernels are built for, the narrowest first.
AVX2 = ("-mavx2", "-mfma", "-mbmi2")
AVX512 = ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mprefer-vector-width=512", *AVX2)
AVX512VNNI = ("-mavx512vbmi", "-mavx512vnni", *AVX512)


@dataclass(frozen=True)
class Native:
    """How to compile a kernel: one shared library per target, all with the C ABI of gmk.h.

    source: file in the kernel's folder.
    targets: name → compiler flags. A flag -mX is also the CPU flag X that the target needs, but for its
    spelling (CPU_FLAG_NAMES); -march=, -mtune= and -mprefer- are not.
    shares: other folders, or files, below kernels/ that the source includes; a change there rebuilds this kernel too.
    headers: the folder of another package's headers, which the source includes as well.
    """

    source: str
    targets: dict[str, tuple[str, ...]] = field(hash=False)
    shares: tuple[str, ...] = ()
    headers: Callable[[], Path] | None = None

    def cpu_flags(self, target: str) -> tuple[str, ...]:
        """The CPU features, as /proc/cpuinfo spells them, that `target` needs."""
        options = [f[2:] for f in self.targets[target] if f.startswith("-m")]
        options = [o for o in options if not o.startswith(("arch=", "tune=", "prefer-"))]
        return tuple(CPU_FLAG_NAMES.get(o, o) for o in options)


TOLERANCE = {"f4": 1e-4, "f8": 1e-12}  # of the largest entry; a wrong product is off by far more

# What a product may use up, each with a measured limit (docs/limits.md): floating-point multiply-adds, lookups of
# table entries as wide as 1 to 12 doubles, 8-bit multiply-adds, bytes of the stored matrix read.
LOOKUP_COLUMNS = (1, 2, 4, 8, 12)
WORK = ("fma", *(f"lookups{columns}" for columns in LOOKUP_COLUMNS), "int8", "bytes")


@dataclass(frozen=True)
class Kernel:
    """A declared kernel.

    open: "module:class", called as open(packed, dtype=..., threads=..., library=...) → GenotypeOperator for a
    native kernel, with target=... in place of library=... for another.
    bytes_needed: Problem → bytes of the prepared matrix and its work space, the .bed pages that it
    reads included, vectors (`Problem.vector_bytes`) not.
    bytes_read: Problem → bytes of the stored matrix that one product streams from memory, for the roofline; None
    where they depend on the genotypes: then they are all that the prepared matrix holds.
    work: (Problem, direction, target) → {one of WORK: how much of it a product with k columns takes}, for the
    table of bounds. What the algorithm cannot do without: building tables, recoding and sums are left out.
    tolerance: (dtype, target) → the largest error, relative to the largest entry, that a product of normal deviates
    may have; None: `TOLERANCE` of the dtype.
    targets: the builds or libraries that a non-native kernel can run on.
    device_bytes: Problem → bytes of a GPU's memory, vectors and work space included; a kernel that can stream what
    does not fit has none.
    requires: target → why this machine lacks it, None if it does not.
    declines: Problem → why the kernel does not take it on any machine, None if it does.
    foreign: the file of somebody else's library that the kernel calls, None if there is none; a source of the
    kernel, whose change repeats its measurements.
    """

    name: str
    open: str
    bytes_needed: Callable[[Problem], int]
    native: Native | None = None
    targets: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ("f8",)
    bytes_read: Callable[[Problem], float] | None = lambda problem: problem.packed_bytes
    work: Callable[[Problem, str, str], dict[str, float]] | None = None
    tolerance: Callable[[str, str], float] | None = None
    gpu: bool = False
    device_bytes: Callable[[Problem], int] | None = None
    requires: Callable[[str], str | None] = lambda target: None
    declines: Callable[[Problem], str | None] = lambda problem: None
    foreign: Callable[[], Path | None] = lambda: None
    cite: str = ""
    summary: str = ""

    @property
    def all_targets(self) -> tuple[str, ...]:
        return tuple(self.native.targets) if self.native else self.targets

    def allowed_error(self, dtype: str, target: str) -> float:
        """The largest error of a product of normal deviates, relative to its largest entry: one above it is wrong."""
        return self.tolerance(dtype, target) if self.tolerance else TOLERANCE[dtype]

    def lacks(self, target: str, machine: Machine) -> str | None:
        """Why `machine` cannot run this kernel's `target` at all, in words; None if it can."""
        if target not in self.all_targets:
            return f"{self.name} has no target {target!r}; it has {', '.join(self.all_targets)}"
        if self.gpu and not machine.gpus:
            return "needs an NVIDIA GPU, this machine has none"
        if self.native:
            absent = [f for f in self.native.cpu_flags(target) if f not in machine.cpu_flags]
            if absent:
                return f"the {target} build needs the CPU features {', '.join(absent)}, which {machine.cpu} lacks"
        if self.gpu and machine.described:  # its driver and its GPU can be asked only there
            runs = f"{self.name}/{target}" in machine.gpu_builds
            return None if runs else f"the node that is planned for ({machine.gpus[0]}) does not run {target}"
        return self.requires(target)

    def memory_needed(self, problem: Problem) -> int:
        """Bytes: the prepared matrix and its work space, .bed pages and vectors included."""
        return self.bytes_needed(problem) + problem.vector_bytes

    def refuses(self, problem: Problem, target: str, machine: Machine, *, memory: int) -> str | None:
        """Why this kernel cannot run `problem` here, in words for the results table; None if it can.

        memory: bytes that may be used.
        """
        if reason := self.lacks(target, machine):
            return reason
        if problem.dtype not in self.dtypes:
            return f"{self.name} has no {problem.dtype} path; it has {', '.join(self.dtypes)}"
        if reason := self.declines(problem):
            return reason
        if self.device_bytes and (need := self.device_bytes(problem)) > machine.gpu_memory:
            has = f"{machine.gpus[0]} has {machine.gpu_memory / 1e9:.1f} GB"
            return f"needs {need / 1e9:.1f} GB of GPU memory, {has}"
        if (need := self.memory_needed(problem)) > memory:
            return f"needs {need / 1e9:.1f} GB of memory, {memory / 1e9:.1f} GB can be used"
        return None

    def prepare(
        self,
        packed: PackedGenotypes,
        *,
        target: str,
        dtype: str = "f8",
        library: Path | None = None,
        threads: int = 1,
    ) -> GenotypeOperator:
        """Open the matrix for products; `library` is the compiled target of a native kernel.

        BenchError: no individual, no SNP or no thread.
        """
        if 0 in packed.shape or threads < 1:
            raise BenchError(
                f"kernel {self.name}: {packed.shape[0]} individuals, {packed.shape[1]} SNPs and {threads} threads; "
                "at least one of each is needed"
            )
        module, _, attribute = self.open.partition(":")
        how = {"library": library} if self.native else {"target": target}
        return getattr(importlib.import_module(module), attribute)(packed, dtype=dtype, threads=threads, **how)


def names() -> list[str]:
    """Every kernel in the folder."""
    return sorted(i.name for i in pkgutil.iter_modules([str(HERE)]) if not i.name.startswith("_"))


def load(name: str) -> Kernel:
    """The declaration of kernel `name`."""
    if name not in names():
        raise BenchError(f"there is no kernel {name!r}; there are {', '.join(names())}")
    file = HERE / name / "__init__.py" if (HERE / name).is_dir() else HERE / f"{name}.py"
    try:
        kernel = getattr(importlib.import_module(f"bench.kernels.{name}"), "KERNEL", None)
    except SyntaxError as error:
        raise BenchError(f"{error.filename}: line {error.lineno}: {error.msg}; correct it and run again") from None
    except Exception as error:  # whatever a new file may raise
        frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith(str(HERE / name))]
        where = f"{frames[-1].filename}: line {frames[-1].lineno}" if frames else str(file)
        raise BenchError(f"{where}: {type(error).__name__}: {error}; correct it and run again") from None
    if not isinstance(kernel, Kernel):
        raise BenchError(f"{file}: it defines no KERNEL; docs/adding-a-kernel.md shows one")
    if kernel.name != name:
        raise BenchError(f"{file}: KERNEL.name is {kernel.name!r}, it must equal the file name {name!r}")
    return kernel


def sources(name: str) -> list[str]:
    """The files a change to which must rerun this kernel (and no other)."""
    kernel = load(name)
    shares = kernel.native.shares if kernel.native else ("_cuda",) if kernel.gpu else ()
    folders = [HERE / folder for folder in (name, *shares)]
    own = sorted(str(f) for d in folders for f in d.rglob("*") if f.is_file() and "__pycache__" not in f.parts)
    if (HERE / name).is_dir():
        return own
    foreign = kernel.foreign()
    return [str(HERE / f"{name}.py"), *([str(foreign)] if foreign else []), *own]


def __getattr__(name: str) -> Any:
    """The library's entry points, loaded when first used: declarations must import quickly."""
    if name in {"CentredMatrix", "Choice", "GenotypeMatrix", "best"}:
        return getattr(importlib.import_module("bench.matrix"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
