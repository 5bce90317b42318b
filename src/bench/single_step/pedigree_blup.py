"""Pedigree BLUP: the equations as they are, by PCG with their incomplete Cholesky factor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import sparse

from bench.models.equations import Equations
from bench.single_step.elimination import elimination_order
from bench.solvers.incomplete import IncompleteCholesky
from bench.solvers.pcg import Keeper, Solution, State, pcg


class _Equations:
    """S as an operator."""

    def __init__(self, matrix: sparse.csr_array):
        rows = len(matrix.indptr) - 1
        self._matrix, self.shape = matrix, (rows, rows)

    def matmul(self, V: np.ndarray) -> np.ndarray:
        return self._matrix @ V


def solve_pedigree(
    equations: Equations,
    *,
    library: Path,
    rtol: float = 1e-10,
    max_steps: int = 10_000,
    progress: Callable[[int, float], None] | None = None,
    keep: Keeper | None = None,
    resume: State | None = None,
) -> Solution:
    """Solve S v = b. progress(step, ‖r‖/‖b‖): after each step. keep, resume: as of pcg. library: the compiled
    pedigree."""
    factor = IncompleteCholesky(equations.matrix, elimination_order(equations), library=library)

    def seen(step: int, V: np.ndarray, norms: np.ndarray) -> None:
        if progress:
            progress(step, float(norms[0]))

    return pcg(
        _Equations(equations.matrix),
        equations.rhs[:, None],
        preconditioner=factor.solve_factor,
        rtol=rtol,
        max_steps=max_steps,
        observe=seen,
        keep=keep,
        resume=resume,
    )
