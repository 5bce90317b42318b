"""Where a solve starts that has the solution of an earlier evaluation: fewer records, fewer genotyped animals."""

from __future__ import annotations

import numpy as np

from bench.errors import BenchError
from bench.single_step.system import Carrying, System


def start_from(system: System, effects: np.ndarray, marker_effects: np.ndarray, carried: np.ndarray) -> np.ndarray:
    """(columns,) a start for `system`, all in its order; what the earlier evaluation lacked is 0.

    effects: (size,) of the equations. marker_effects: (m, q). carried: (g, q), (Gw⁻¹ ⊗ G₀⁻¹)u_g, which says the same
    of the genotyped as their effects: where a system carries it along, these are made to fit it,
    u_g = (Gw ⊗ G₀)·carried.
    """
    problem, columns = system.problem, system.shape[1]
    size = problem.equations.size
    if isinstance(system, Carrying):
        return _fitting(system, effects, carried)
    markers = getattr(system, "markers", 0)
    if columns == size:
        return effects.copy()
    if columns == size + markers * problem.components:
        snps = np.zeros((markers, problem.components))
        snps[: len(marker_effects)] = marker_effects
        return np.concatenate([effects, snps.ravel()])
    raise BenchError(
        "this variant's unknowns are not breeding values and SNP effects alone; another can start from a solution"
    )


def resume_from(system: System, state: np.ndarray) -> np.ndarray:
    """(columns,) a start for `system` from a state of it that was kept.

    What is carried along fits the effects only as long as Gw is the same: where genotypes have been mended meanwhile,
    the iteration would end at breeding values that are wrong, at a small residual. So these are made to fit it again.
    """
    if not isinstance(system, Carrying):
        return state
    carried = system.carried(state[:, None]).reshape(len(system.problem.genomic.rows), -1)
    return _fitting(system, system.effects(state[:, None])[:, 0], carried)


def _fitting(system: Carrying, effects: np.ndarray, carried: np.ndarray) -> np.ndarray:
    """The state with u_g = (Gw ⊗ G₀)·carried."""
    problem = system.problem
    genotyped = problem.scaled(problem.genomic.matmul(carried), problem.equations.genetic_covariance)
    fitting = effects.copy()
    fitting[problem.places] = genotyped.ravel()
    return system.state(fitting, carried.ravel())
