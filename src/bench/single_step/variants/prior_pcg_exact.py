"""prior-PCG on the genotyped animals alone: all other effects are eliminated by an exact sparse Cholesky factor.

With x the effects that are not genotyped animals', C_xx x + C_xg u_g = b_x is solved exactly in each product, so that
PCG sees the Schur complement alone, and needs the fewest steps. The factor comes from the optional package cvxopt;
where contemporary groups fill it in, its symbolic count says so before anything is factored.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from bench.errors import BenchError
from bench.single_step.elimination import elimination_order
from bench.single_step.problem import Problem
from bench.single_step.variants import Cost, Options, Size, Variant
from bench.single_step.variants.prior_pcg import Partition
from bench.solvers.sparse_cholesky import SparseCholesky, choose


class ReducedSystem:
    """u_g and, carried along, (Gw⁻¹ ⊗ G₀⁻¹)u_g: C_gg − C_gx C_xx⁻¹ C_xg + (Gw⁻¹ − A_gg⁻¹) ⊗ G₀⁻¹."""

    def __init__(self, problem: Problem, memory: float):
        if problem.fixed_groups:
            raise BenchError(
                "prior-PCG with an exact factor: fixed unknown-parent groups are confounded with other effects, so "
                "that there is none; use prior_pcg, or random groups"
            )
        # AMD takes 65 s for a million animals where herd-years come first, 13 s where they come last.
        order = np.roll(elimination_order(problem.equations), -problem.equations.others)
        self.problem, c = problem, Partition(problem, order)
        self._partition = c
        method, reason = choose(c.own, memory, library=problem.library)
        if method != "cholesky":
            raise BenchError(f"prior-PCG with an exact factor: {reason}; use prior_pcg, which needs none")
        self.reason = reason
        self._factor = SparseCholesky(c.own)
        self._own = sparse.csr_array(problem.equations.matrix[problem.places][:, problem.places])
        size = len(problem.places)
        self.shape = (size, 2 * size)
        b = problem.equations.rhs[:, None]
        self.rhs = b[problem.places] - c.coupling_transposed @ self._factor.solve(b[c.rest])

    def matmul(self, V: np.ndarray) -> np.ndarray:
        p, c = self.problem, self._partition
        u, carried = np.split(V, 2)
        out = self._own @ u + carried
        solved = p.genomic.numerator.solve(u.reshape(len(p.genomic.rows), -1))
        out -= p.scaled(solved, p.precision).reshape(out.shape)
        out -= c.coupling_transposed @ self._factor.solve(c.coupling @ u)
        return out

    def precondition(self, R: np.ndarray) -> np.ndarray:
        """(Gw ⊗ G₀)R, and R itself, which is (Gw⁻¹ ⊗ G₀⁻¹) times that."""
        p = self.problem
        z = p.scaled(p.genomic.matmul(R.reshape(len(p.genomic.rows), -1)), p.equations.genetic_covariance)
        return np.concatenate([z.reshape(R.shape), R])

    def effects(self, V: np.ndarray) -> np.ndarray:
        p, c, u = self.problem, self._partition, V[: self.shape[0]]
        out = np.empty((p.equations.size, V.shape[1]))
        out[p.places] = u
        out[c.rest] = self._factor.solve(p.equations.rhs[c.rest, None] - c.coupling @ u)
        return out

    def carried(self, V: np.ndarray) -> np.ndarray:
        return V[self.shape[0] :]

    def state(self, effects: np.ndarray, carried: np.ndarray) -> np.ndarray:
        return np.concatenate([effects[self.problem.places], carried])


def prepare(problem: Problem, options: Options) -> ReducedSystem:
    """options: factor_gb, what the factor may take."""
    return ReducedSystem(problem, 1e9 * options["factor_gb"])


def cost(size: Size) -> Cost:
    """Without the factor, whose size its symbolic count tells when the variant is set up."""
    vectors = 8 * (size.unknowns + size.genotyped * size.components)
    return Cost(flops=20.0 * size.nonzeros, peak=10 * vectors + 40 * size.nonzeros, held=24 * size.nonzeros)


VARIANT = Variant(
    name="prior_pcg_exact",
    title="prior-PCG, exact factor",
    source="this suite",
    singular=True,
    cost=cost,
    prepare=prepare,
    preconditioners=("prior",),
    options={"factor_gb": 4.0},
)
