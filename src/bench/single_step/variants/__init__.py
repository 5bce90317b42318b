"""Single-step variants. The folder is the registry: a module per variant.

A module `bench.single_step.variants.<name>` defines `VARIANT`, a `Variant`, and what its `prepare` needs. Nothing
else needs editing: `bench solve` and the single-step experiment find it by its name.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.single_step.problem import Problem
from bench.single_step.system import System

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Size:
    """What a variant's cost depends on.

    unknowns: of pedigree BLUP's equations; genotyped g; markers m; components q; nonzeros: of the equations' matrix.
    """

    unknowns: int
    genotyped: int
    markers: int
    components: int
    nonzeros: int

    @classmethod
    def of(cls, problem: Problem) -> Size:
        g, m = problem.genomic.markers.shape
        return cls(problem.equations.size, g, m, problem.components, problem.equations.matrix.nnz)


@dataclass(frozen=True)
class Cost:
    """Of setting a variant up: flops, bytes at the peak, and bytes held while it is solved; the genotypes, the
    equations and A_gg are not counted, since every variant has them."""

    flops: float
    peak: int
    held: int


@dataclass(frozen=True)
class Variant:
    """A way to solve single-step BLUP.

    title, source: as papers call it, and which. exact: whether its EBVs are those of H. singular: whether the
    polygenic share may be 0. cost: before anything is computed. prepare: problem, options → its system.
    preconditioners: by name, the first is the default. options: what `prepare` takes, with defaults.
    """

    name: str
    title: str
    source: str
    cost: Callable[[Size], Cost]
    prepare: Callable[[Problem, Options], System]
    exact: bool = True
    singular: bool = False
    preconditioners: tuple[str, ...] = ("jacobi", "block")
    options: Mapping[str, Any] = field(default_factory=dict)

    def refuses(self, problem: Problem, memory: int) -> str | None:
        """Why this problem cannot be solved this way in `memory` bytes; None if it can."""
        if not self.singular and problem.genomic.polygenic <= 0:
            return (
                f"{self.title} needs a polygenic share above 0, which makes the genomic relationships invertible; "
                "fernando and prior_pcg take 0"
            )
        need = self.cost(Size.of(problem)).peak
        if need > memory:
            return f"{self.title} needs {need / 1e9:.3g} GB of memory, {memory / 1e9:.3g} GB can be used"
        return None

    def chosen(self, options: Options) -> dict[str, Any]:
        """The options with their defaults; BenchError names one that there is not."""
        if unknown := set(options) - set(self.options):
            known = ", ".join(self.options) or "none"
            raise BenchError(f"{self.name} has no option {sorted(unknown)[0]!r}; it has {known}")
        return {**self.options, **options}


def names() -> list[str]:
    """Every variant in the folder."""
    return sorted(i.name for i in pkgutil.iter_modules([str(Path(__file__).parent)]) if i.name[0] != "_")


def load(name: str) -> Variant:
    """The declaration of variant `name`."""
    if name not in names():
        raise BenchError(f"there is no single-step variant {name!r}; there are {', '.join(names())}")
    return importlib.import_module(f"bench.single_step.variants.{name}").VARIANT
