"""Genotype-matrix kernels. The folder is the registry: one module, or one folder, per kernel.

A module `bench.kernels.<name>` defines `KERNEL`, a `Kernel`. Nothing else needs editing; a config names
it to have it benchmarked. Declarations import nothing heavy: Snakemake reads them at every parse.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from bench.errors import BenchError

if TYPE_CHECKING:
    import numpy as np

    from bench.genotypes.packed import PackedGenotypes
    from bench.machine import Machine

HERE = Path(__file__).parent
ABI = HERE / "gmk.h"


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


@dataclass(frozen=True)
class Native:
    """How to compile a kernel: one shared library per target, all with the C ABI of gmk.h.

    source: file in the kernel's folder.
    targets: name → compiler flags. A flag -mX is also the CPU flag X that the target needs
    (-march=, -mtune= and -mprefer- are not).
    """

    source: str
    targets: dict[str, tuple[str, ...]] = field(hash=False)

    def cpu_flags(self, target: str) -> tuple[str, ...]:
        """The CPU features, as /proc/cpuinfo spells them, that `target` needs."""
        options = [f[2:] for f in self.targets[target] if f.startswith("-m")]
        return tuple(o for o in options if not o.startswith(("arch=", "tune=", "prefer-")))


@dataclass(frozen=True)
class Kernel:
    """A declared kernel.

    open: "module:class", called as open(packed, dtype=..., threads=..., library=...) → GenotypeOperator for a
    native kernel, with target=... in place of library=... for another.
    bytes_needed: Problem → bytes of the prepared matrix and its work space, the .bed pages that it
    reads included, vectors (`Problem.vector_bytes`) not.
    bytes_read: Problem → bytes of the stored matrix that one product streams from memory, for the roofline; None
    where they depend on the genotypes: then they are all that the prepared matrix holds.
    targets: the builds or libraries that a non-native kernel can run on.
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
    gpu: bool = False
    requires: Callable[[str], str | None] = lambda target: None
    declines: Callable[[Problem], str | None] = lambda problem: None
    foreign: Callable[[], Path | None] = lambda: None
    cite: str = ""
    summary: str = ""

    @property
    def all_targets(self) -> tuple[str, ...]:
        return tuple(self.native.targets) if self.native else self.targets

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
        return self.requires(target)

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
        need = self.bytes_needed(problem) + problem.vector_bytes
        if need > memory:
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
        """Open the matrix for products; `library` is the compiled target of a native kernel."""
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
    kernel = getattr(importlib.import_module(f"bench.kernels.{name}"), "KERNEL", None)
    if not isinstance(kernel, Kernel):
        raise BenchError(f"{HERE / name}: it defines no KERNEL; docs/adding-a-kernel.md shows one")
    if kernel.name != name:
        raise BenchError(f"{HERE / name}: KERNEL.name is {kernel.name!r}, it must equal the file name {name!r}")
    return kernel


def sources(name: str) -> list[str]:
    """The files a change to which must rerun this kernel (and no other)."""
    folder = HERE / name
    if folder.is_dir():
        return sorted(str(f) for f in folder.rglob("*") if f.is_file() and "__pycache__" not in f.parts)
    foreign = load(name).foreign()
    return [str(HERE / f"{name}.py"), *([str(foreign)] if foreign else [])]
