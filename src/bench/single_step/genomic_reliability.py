"""Exact reliabilities of GBLUP, whose G may be singular.

With K = Gw ⊗ G₀ = TT' and the data's part S of the equations after all other effects have been absorbed, the
prediction error variance is diag T(I + T'ST)⁻¹T': K is not inverted, and what is factored has no eigenvalue below 1.
"""

from __future__ import annotations

import numpy as np

from bench.errors import BenchError
from bench.single_step.problem import Problem
from bench.single_step.reliability import Reliabilities, absorbed
from bench.single_step.system import subtract_relationships
from bench.solvers.direct import Cholesky, semidefinite_root


def gblup_bytes(problem: Problem) -> int:
    """Memory that `exact_gblup` takes: S, T, T'ST and a product."""
    return 8 * 4 * len(problem.places) ** 2


def check_gblup(problem: Problem, memory: int) -> None:
    """BenchError if `exact_gblup` has too little memory."""
    if (need := gblup_bytes(problem)) > memory:
        raise BenchError(
            f"exact reliabilities of {len(problem.genomic.rows)} animals × {problem.components} traits need "
            f"{need / 1e9:.3g} GB of memory, {memory / 1e9:.3g} GB can be used; sample them"
        )


def exact_gblup(problem: Problem, *, memory: int) -> Reliabilities:
    """Reliabilities of the animals of a problem in which all are genotyped; NaN where G_ii is 0.

    Work: 3 (animals · components)³ multiply-adds. BenchError: too little memory, or fixed effects are confounded.
    """
    check_gblup(problem, memory)
    G, own = problem.genomic.dense(), problem.equations.genetic_covariance
    relationship = G.diagonal().copy()
    T = np.kron(semidefinite_root(G), np.linalg.cholesky(own))
    del G
    S = absorbed(subtract_relationships(problem), problem.places)
    B = T.T @ (S @ T)
    del S
    B[np.diag_indices_from(B)] += 1
    half = Cholesky(np.asfortranarray(B)).half_solve(np.asfortranarray(T.T))
    pev = np.einsum("ij,ij->j", half, half).reshape(-1, problem.components)
    variances = relationship[:, None] * own.diagonal()
    missed = np.divide(pev, variances, out=np.full_like(pev, np.nan), where=variances > 0)
    return Reliabilities(1 - missed, pev, relationship)
