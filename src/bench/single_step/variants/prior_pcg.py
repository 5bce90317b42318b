"""The prior as the preconditioner: one pass Z, one pass Z' and one Colleau product a step, no inverse of G at all.

The system is S + (Gw⁻¹ − A_gg⁻¹) ⊗ G₀⁻¹, as in the H-form, but Gw⁻¹ is never applied: the preconditioner's answer for
the genotyped is z = (Gw ⊗ G₀)s, so (Gw⁻¹ ⊗ G₀⁻¹)z = s is known, and the iteration carries it along (see solvers.pcg).
All other unknowns x are coupled by a block LDL' with a factor of their own equations C_xx:

    x = C_xx⁻¹ r_x;  s = r_g − C_gx x;  z = (Gw ⊗ G₀)s;  x ← x − C_xx⁻¹ C_xg z.

Here C_xx⁻¹ is an incomplete Cholesky factor. The singular G and a polygenic share of 0 are allowed.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from bench.single_step.elimination import elimination_order, with_fill
from bench.single_step.problem import Problem
from bench.single_step.variants import Cost, Options, Size, Variant
from bench.solvers.incomplete import IncompleteCholesky


class Partition:
    """The unknowns x that are not genotyped animals', in an order that fills little in, and C's blocks.

    rest: (n_x,) where they stand. own: C_xx in that order; pattern: with the fill that its factor keeps. coupling:
    C_xg.
    """

    def __init__(self, problem: Problem):
        equations = problem.equations
        genotyped = np.zeros(equations.size, bool)
        genotyped[problem.places] = True
        order, dense = elimination_order(equations)
        self.rest = order[~genotyped[order]]
        rows = sparse.csr_array(equations.matrix[self.rest])
        self.own = sparse.csr_array(rows[:, self.rest])
        self.pattern = with_fill(self.own, dense)
        self.coupling = sparse.csr_array(rows[:, problem.places])
        self.coupling_transposed = sparse.csr_array(self.coupling.T)


class PriorSystem:
    """(b, u) and, carried along, (Gw⁻¹ ⊗ G₀⁻¹)u_g."""

    def __init__(self, problem: Problem):
        self.problem, self._partition = problem, Partition(problem)
        pattern = self._partition.pattern
        self._factor = IncompleteCholesky(pattern, np.arange(self._partition.rest.size), library=problem.library)
        size = problem.equations.size
        self.shape = (size, size + len(problem.places))
        self.rhs = problem.equations.rhs[:, None]

    def matmul(self, V: np.ndarray) -> np.ndarray:
        p, size = self.problem, self.shape[0]
        out = p.equations.matrix @ V[:size]
        p.put(-p.scaled(p.genomic.numerator.solve(p.take(V)), p.precision), out)
        out[p.places] += V[size:]
        return out

    def precondition(self, R: np.ndarray) -> np.ndarray:
        """The block LDL' above, (size, k) → (size + carried, k)."""
        p, c = self.problem, self._partition
        x = self._factor.solve_factor(R[c.rest])
        s = R[p.places] - c.coupling_transposed @ x
        z = p.scaled(p.genomic.matmul(s.reshape(len(p.genomic.rows), -1)), p.equations.genetic_covariance)
        z = z.reshape(s.shape)
        out = np.empty((self.shape[1], R.shape[1]))
        out[c.rest] = x - self._factor.solve_factor(c.coupling @ z)
        out[p.places] = z
        out[self.shape[0] :] = s
        return out

    def effects(self, V: np.ndarray) -> np.ndarray:
        return V[: self.shape[0]]

    def carried(self, V: np.ndarray) -> np.ndarray:
        return V[self.shape[0] :]

    def state(self, effects: np.ndarray, carried: np.ndarray) -> np.ndarray:
        return np.concatenate([effects, carried])


def prepare(problem: Problem, options: Options) -> PriorSystem:
    return PriorSystem(problem)


def cost(size: Size) -> Cost:
    vectors = 8 * (size.unknowns + size.genotyped * size.components)
    return Cost(flops=20.0 * size.nonzeros, peak=10 * vectors + 40 * size.nonzeros, held=24 * size.nonzeros)


VARIANT = Variant(
    name="prior_pcg",
    title="prior-PCG",
    source="this suite",
    singular=True,
    cost=cost,
    prepare=prepare,
    preconditioners=("prior",),
)
