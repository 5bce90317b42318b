"""The prior as the preconditioner: one pass Z, one pass Z' and one Colleau product a step, no inverse of G at all.

The system is S + (Gw⁻¹ − A_gg⁻¹) ⊗ G₀⁻¹, as in the H-form, but Gw⁻¹ is never applied: the preconditioner's answer for
the genotyped is z = (Gw ⊗ G₀)s, so (Gw⁻¹ ⊗ G₀⁻¹)z = s is known, and the iteration carries it along (see solvers.pcg).
All other unknowns x are coupled by a block LDL' with a factor of their own equations C_xx:

    x = C_xx⁻¹ r_x;  s = r_g − C_gx x;  z = (Gw ⊗ G₀)s;  x ← x − C_xx⁻¹ C_xg z.

Here C_xx⁻¹ is an incomplete Cholesky factor. The singular G and a polygenic share of 0 are allowed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import sparse

from bench.single_step.elimination import elimination_order
from bench.single_step.problem import Problem
from bench.single_step.variants import Cost, Options, Size, Variant
from bench.solvers.incomplete import IncompleteCholesky

SHRUNK = 0.01  # share of rows without a positive pivot up to which an incomplete factor is taken as it is
DIAGONAL = (0.01, 0.1, 1.0)  # by which the diagonal is raised, one after the other


class Partition:
    """The unknowns x that are not genotyped animals', and C's blocks.

    order: (size,) of all unknowns, in which they are eliminated. rest: (n_x,) where they stand. own: C_xx in that
    order; factored: what is factored incompletely. coupling: C_xg.
    """

    def __init__(self, problem: Problem, order: np.ndarray):
        equations = problem.equations
        genotyped = np.zeros(equations.size, bool)
        genotyped[problem.places] = True
        self.rest = order[~genotyped[order]]
        rows = sparse.csr_array(equations.matrix[self.rest])
        self.own = sparse.csr_array(rows[:, self.rest])
        added = random_groups(problem)
        self.factored = self.own if added is None else sparse.csr_array(self.own + added[self.rest][:, self.rest])
        self.coupling = sparse.csr_array(rows[:, problem.places])
        self.coupling_transposed = sparse.csr_array(self.coupling.T)


def random_groups(problem: Problem) -> sparse.csr_array | None:
    """(size, size) what the equations have more where fixed groups are random ones; None without fixed groups.

    Fixed groups are confounded with the other effects, which makes C_xx singular, and a group may have no animals.
    """
    if not problem.fixed_groups:
        return None
    equations = problem.equations
    groups = sparse.kron(sparse.eye_array(equations.groups), problem.precision)
    before = equations.others + equations.animals * problem.components
    return sparse.csr_array(sparse.block_diag([sparse.csr_array((before, before)), groups], format="csr"))


def incomplete_factor(matrix: sparse.csr_array, library: Path) -> IncompleteCholesky:
    """The factor of the matrix, or where too many pivots are not positive more on its diagonal (Manteuffel 1980).

    Of 150 rows of a model with maternal effects and groups 29 had none: no solution in 2,000 steps, with a tenth more
    on the diagonal 82.
    """
    order = np.arange(len(matrix.indptr) - 1)
    found = IncompleteCholesky(matrix, order, library=library)
    for more in DIAGONAL:
        if found.shrunk <= SHRUNK * order.size:
            break
        shifted = matrix.copy()
        shifted.setdiag(matrix.diagonal() * (1 + more))
        found = IncompleteCholesky(shifted, order, library=library)
    return found


class PriorSystem:
    """(b, u) and, carried along, (Gw⁻¹ ⊗ G₀⁻¹)u_g."""

    def __init__(self, problem: Problem):
        self.problem, self._partition = problem, Partition(problem, elimination_order(problem.equations))
        self._factor = incomplete_factor(self._partition.factored, problem.library)
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
