"""What a single-step solve spends its time on, seen from outside: operators that report to a stopwatch.

The variants know nothing of it. Parts: Z v and Z′u through the kernel, A_gg and A_gg⁻¹, S (the sparse equations),
`matrix` (what else a variant's own matrix does: dense blocks, scaling), `preconditioner` (what it does beside these:
triangular solves of prior_pcg, divisions of a diagonal), `rest` (the vectors of PCG).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy import sparse

from bench.measure import Stopwatch
from bench.single_step.problem import Problem, Relationships
from bench.single_step.solve import Prepared
from bench.solvers.operator import Operator

PARTS = ("Zv", "Ztu", "A", "A_inverse", "S", "matrix", "preconditioner", "rest")
OBSERVE = "observe"  # looking at the solution, which is no part of solving


@dataclass
class Instruments:
    """A stopwatch, and how often the genotypes were passed over: columns multiplied by Z or Z′."""

    watch: Stopwatch = field(default_factory=Stopwatch)
    columns: int = 0

    def fitted(self, problem: Problem) -> Problem:
        """The problem with instruments on its operators."""
        genomic, equations = problem.genomic, problem.equations
        markers = _Markers(genomic.markers, self)
        matrix = _Equations.of(equations.matrix, self.watch)
        return replace(
            problem,
            equations=replace(equations, matrix=matrix),
            genomic=replace(genomic, markers=markers, numerator=_Relationships(genomic.numerator, self.watch)),
        )

    def fitted_to(self, prepared: Prepared) -> Prepared:
        """The prepared variant with instruments on its matrix and its preconditioner."""
        own = prepared.preconditioner

        def preconditioner(R: np.ndarray) -> np.ndarray:
            with self.watch.part("preconditioner"):
                return own(R)

        return replace(prepared, system=_System(prepared.system, self.watch), preconditioner=preconditioner)

    def restart(self) -> None:
        """Count from now."""
        self.watch.seconds.clear()
        self.columns = 0

    @property
    def solving(self) -> float:
        """Seconds up to now, but for looking at the solution."""
        return self.watch.total(without=OBSERVE)


class _Markers:
    def __init__(self, of: Operator, instruments: Instruments):
        self._of, self._instruments, self.shape = of, instruments, of.shape

    def matmul(self, V: np.ndarray) -> np.ndarray:
        with self._instruments.watch.part("Zv"):
            self._count(V)
            return self._of.matmul(V)

    def rmatmul(self, U: np.ndarray) -> np.ndarray:
        with self._instruments.watch.part("Ztu"):
            self._count(U)
            return self._of.rmatmul(U)

    def _count(self, X: np.ndarray) -> None:
        if not self._instruments.watch.inside(OBSERVE):
            self._instruments.columns += X.shape[1]


class _Relationships:
    def __init__(self, of: Relationships, watch: Stopwatch):
        self._of, self._watch, self.shape, self.inbreeding = of, watch, of.shape, of.inbreeding

    def matmul(self, X: np.ndarray) -> np.ndarray:
        with self._watch.part("A"):
            return self._of.matmul(X)

    def draw(self, rngs: Sequence[np.random.Generator]) -> np.ndarray:
        return self._of.draw(rngs)

    def solve(self, X: np.ndarray) -> np.ndarray:
        with self._watch.part("A_inverse"):
            return self._of.solve(X)


class _Equations(sparse.csr_array):
    """S; what is cut out of it is not timed."""

    watch: Stopwatch | None = None

    @classmethod
    def of(cls, matrix: sparse.csr_array, watch: Stopwatch) -> _Equations:
        made = cls((matrix.data, matrix.indices, matrix.indptr), shape=matrix.shape)
        made.watch = watch
        return made

    def __matmul__(self, other: Any) -> Any:
        if self.watch is None:
            return super().__matmul__(other)
        with self.watch.part("S"):
            return super().__matmul__(other)


class _System:
    """A system whose products are timed, and whose looks at the solution are set apart."""

    def __init__(self, of: Any, watch: Stopwatch):
        self._of, self._watch = of, watch

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._of, name)
        if name not in ("marker_effects", "weights"):
            return found

        def looked(v: np.ndarray) -> np.ndarray:
            with self._watch.part(OBSERVE, whole=True):
                return found(v)

        return looked

    def matmul(self, V: np.ndarray) -> np.ndarray:
        with self._watch.part("matrix"):
            return self._of.matmul(V)

    def effects(self, V: np.ndarray) -> np.ndarray:
        with self._watch.part(OBSERVE, whole=True):
            return self._of.effects(V)
