"""Solve a single-step problem by one variant, and keep what a comparison needs of every step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bench.errors import BenchError
from bench.single_step import variants
from bench.single_step.preconditioners import MADE, Deflated, deflation_bytes
from bench.single_step.problem import Problem
from bench.single_step.system import Blocked, Carrying, MarkerSystem, OwnPreconditioner, System, Weighted
from bench.solvers.operator import over_ranks
from bench.solvers.pcg import Keeper, Preconditioner, Solution, State, pcg

# What papers stop at, as ‖r‖/‖b‖: Boerner & Johnston (2019); Freudenberg et al. (2023), whose rule is on squares.
PUBLISHED_RULES = {"Boerner & Johnston 2019": 2.68e-9, "Freudenberg et al. 2023": 1e-13**0.5}
Observer = Callable[[int, np.ndarray, float], None]


@dataclass(frozen=True)
class Prepared:
    """A variant that has been set up: its system and its preconditioner."""

    variant: variants.Variant
    preconditioner_name: str
    system: System
    preconditioner: Preconditioner


@dataclass(frozen=True)
class Estimates:
    """What was found.

    system: that was solved. effects: (size,) of the equations: others, then levels × components. solution: with the
    history; its norms are relative to ‖b‖ of the equations.
    """

    system: System
    effects: np.ndarray
    solution: Solution

    @cached_property
    def weights(self) -> np.ndarray | None:
        """Gw⁻¹û_g, (g, q); None where the polygenic share is 0 and the system does not know it.

        Where it has to be computed, û_g = Mĝ + 1τ1'w + λA_gg w with ĝ = νM'w is solved for w = Gw⁻¹û_g.
        """
        problem, system = self.system.problem, self.system
        if isinstance(system, Carrying):
            carried = system.carried(self.solution.value).reshape(len(problem.genomic.rows), -1)
            return problem.scaled(carried, problem.equations.genetic_covariance)
        if isinstance(system, Weighted):
            return system.weights(self.solution.value)
        return _weights(problem, self.effects, self.marker_effects) if problem.genomic.polygenic else None

    @cached_property
    def marker_effects(self) -> np.ndarray:
        """(m, q) effects of the SNPs as they are centred: unknowns of the system, or ĝ = ν M'Gw⁻¹û_g."""
        if isinstance(self.system, MarkerSystem):
            return self.system.marker_effects(self.solution.value)
        assert self.weights is not None, "a system has marker effects, or it knows Gw⁻¹u"
        genomic = self.system.problem.genomic
        return genomic.marker_variance * genomic.markers.rmatmul(self.weights)

    def steps_to(self, rule: float) -> int | None:
        """Steps until ‖r‖/‖b‖ was at most `rule`, None where it never was."""
        reached = np.flatnonzero(self.solution.residual_norms[:, 0] <= rule)
        return int(reached[0]) if reached.size else None


def _weights(problem: Problem, effects: np.ndarray, marker_effects: np.ndarray) -> np.ndarray:
    genomic = problem.genomic
    genotyped = problem.take(problem.deviations(effects)[:, None])
    rest = genomic.numerator.solve(genotyped - genomic.markers.matmul(marker_effects))
    if genomic.constant:
        one = genomic.numerator.solve(np.ones((len(genomic.rows), 1)))
        total = rest.sum(axis=0) / (genomic.polygenic + genomic.constant * one.sum())
        rest -= genomic.constant * total * one
    return rest / genomic.polygenic


def prepare(
    name: str,
    problem: Problem,
    *,
    memory: int,
    preconditioner: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Prepared:
    """Set a variant up. memory: bytes that it may take. BenchError: it does not fit, or cannot have this problem."""
    variant = variants.load(name)
    if reason := variant.refuses(problem, memory):
        raise BenchError(reason)
    chosen = preconditioner or variant.preconditioners[0]
    if chosen not in variant.preconditioners:
        raise BenchError(f"{name} has no preconditioner {chosen!r}; it has {', '.join(variant.preconditioners)}")
    system = variant.prepare(problem, variant.chosen(options or {}))
    if isinstance(system, OwnPreconditioner):
        return Prepared(variant, chosen, system, system.precondition)
    assert isinstance(system, Blocked), f"{name} has neither blocks nor a preconditioner of its own"
    if chosen == "deflation":
        if (need := deflation_bytes(system)) > memory:
            raise BenchError(f"deflation needs {need / 1e9:.3g} GB of memory, {memory / 1e9:.3g} GB can be used")
        system = Deflated(system)
    return Prepared(variant, chosen, system, MADE[chosen](system))


def solve(
    prepared: Prepared,
    *,
    rtol: float = 1e-10,
    max_steps: int = 10_000,
    start: np.ndarray | None = None,
    observe: Observer | None = None,
    progress: Callable[[int, float], None] | None = None,
    keep: Keeper | None = None,
    resume: State | None = None,
) -> Estimates:
    """Solve until ‖r‖ ≤ rtol·‖b‖, b the right-hand side of the equations.

    After each step: observe(step, effects, residual), effects (size,) a view or a new array, which some variants have
    to compute; progress(step, residual). keep, resume: as of pcg. Not converging is not an error: see
    `solution.converged`.
    """
    system = prepared.system
    size, own = float(np.linalg.norm(system.problem.equations.rhs)), float(np.linalg.norm(system.rhs))
    scale = own / size if size and own else 1.0

    def seen(step: int, X: np.ndarray, norms: np.ndarray) -> None:
        if observe:
            observe(step, system.effects(X)[:, 0], float(norms[0] * scale))
        if progress:
            progress(step, float(norms[0] * scale))

    found = pcg(
        system,
        system.rhs,
        preconditioner=prepared.preconditioner,
        start=None if start is None else start[:, None],
        rtol=rtol / scale,
        max_steps=max_steps,
        observe=seen,
        over_ranks=over_ranks(system.problem.genomic.markers),
        keep=keep,
        resume=resume,
    )
    effects = system.problem.animals_effects(system.effects(found.value)[:, 0])
    scaled = Solution(
        found.value,
        found.steps,
        found.checks,
        found.residual_norms * scale,
        found.preconditioned_norms,
        found.true_residual_norms * scale,
        found.converged,
    )
    return Estimates(system, effects, scaled)
