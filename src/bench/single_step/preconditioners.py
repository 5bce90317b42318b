"""Preconditioners of the published single-step systems; prior_pcg has its own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import sparse

from bench.errors import BenchError
from bench.single_step.system import Blocked, MarkerSystem
from bench.solvers.direct import Cholesky
from bench.solvers.pcg import Preconditioner

WHOLE = 2000  # effects that are not genetic up to which their block is factored whole
WIDTH = 5  # SNPs of a subdomain of deflation
SECOND_LEVEL = 10.0  # by which SNP rows are scaled down; of 1, 10, 100 and 1000 the best in a dairy population


def jacobi(system: Blocked) -> Preconditioner:
    """The diagonal."""
    inverse = 1 / _positive(_diagonal(system))[:, None]
    return lambda R: inverse * R


def second_level(system: Blocked, k: float = SECOND_LEVEL) -> Preconditioner:
    """The diagonal, its inverse divided by k for SNP effects (Vandenplas et al. 2019)."""
    inverse = 1 / _positive(_diagonal(system))[:, None]
    if system.markers:
        inverse[-system.markers * system.problem.components :] /= k
    return lambda R: inverse * R


def block(system: Blocked) -> Preconditioner:
    """A block of all components for each animal and SNP, and the whole block of the other effects where it is small.

    Several traits differ most in their residual covariances, which such blocks hold (Strandén & Lidauer 1999).
    """
    blocks = np.linalg.inv(_checked(system.blocks()))
    others = system.problem.equations.others
    whole = _others(system)

    def apply(R: np.ndarray) -> np.ndarray:
        k = R.shape[1]
        rest = R[others:].reshape(len(blocks), -1, k)
        return np.concatenate([whole(R[:others]), np.einsum("rab,rbk->rak", blocks, rest).reshape(-1, k)])

    return apply


def _others(system: Blocked) -> Preconditioner:
    """(C_bb)⁻¹, or its diagonal's."""
    others = system.problem.equations.others
    own = sparse.csr_array(system.problem.equations.matrix[:others][:, :others])
    if 0 < others <= WHOLE:
        return Cholesky(np.asfortranarray(own.toarray())).solve
    inverse = 1 / _positive(own.diagonal())[:, None]
    return lambda R: inverse * R


def _diagonal(system: Blocked) -> np.ndarray:
    """(rows,) of the matrix."""
    equations = system.problem.equations
    blocks = system.blocks()
    return np.concatenate([equations.matrix.diagonal()[: equations.others], np.einsum("raa->ra", blocks).ravel()])


def _positive(diagonal: np.ndarray) -> np.ndarray:
    if not np.all(diagonal > 0):
        raise BenchError(
            f"{int((~(diagonal > 0)).sum())} of {diagonal.size} diagonal elements are not positive: the equations "
            "are singular, or the variances are not those of this model"
        )
    return diagonal


def _checked(blocks: np.ndarray) -> np.ndarray:
    _positive(np.einsum("raa->ra", blocks).ravel())
    return blocks


def deflation_bytes(system: Blocked) -> int:
    """Memory at the peak of setting `Deflated` up: CV and the blocks that it is joined from, and E."""
    domains = -(-system.markers // WIDTH) * system.problem.components
    return 16 * domains * (system.shape[0] + domains)


class Deflated:
    """PC x̃ = Pb with P = I − CV E⁻¹V', E = V'CV: DPCG (Vandenplas et al. 2018).

    V's columns say which SNPs, of one component, make a subdomain: WIDTH neighbours. CV is held, 8 bytes an unknown
    and subdomain.
    """

    def __init__(self, system: Blocked):
        if not system.markers:
            raise BenchError("deflation needs a system with SNP effects, such as sssnpblup")
        q = system.problem.components
        self.problem, self.markers, self.shape, self._system = system.problem, system.markers, system.shape, system
        first = system.shape[0] - system.markers * q
        unknown = np.arange(system.markers * q)
        domain = unknown // q // WIDTH * q + unknown % q
        shape = (system.shape[0], int(domain.max()) + 1)
        self._domains = sparse.csr_array((np.ones(unknown.size), (first + unknown, domain)), shape=shape)
        self._image = np.concatenate(
            [system.matmul(self._domains[:, at : at + 64].toarray()) for at in range(0, shape[1], 64)], axis=1
        )
        self._coarse = Cholesky(np.asfortranarray(self._domains.T @ self._image))
        self.rhs = self._project(system.rhs)
        self._start = self._domains @ self._coarse.solve(self._domains.T @ system.rhs)

    def _project(self, X: np.ndarray) -> np.ndarray:
        return X - self._image @ self._coarse.solve(self._domains.T @ X)

    def matmul(self, V: np.ndarray) -> np.ndarray:
        return self._project(self._system.matmul(V))

    def blocks(self) -> np.ndarray:
        return self._system.blocks()

    def whole(self, V: np.ndarray) -> np.ndarray:
        """A solution of the system itself, for its one right-hand side."""
        return self._start + V - self._domains @ self._coarse.solve(self._image.T @ V)

    def effects(self, V: np.ndarray) -> np.ndarray:
        return self._system.effects(self.whole(V))

    def marker_effects(self, v: np.ndarray) -> np.ndarray:
        assert isinstance(self._system, MarkerSystem)
        return self._system.marker_effects(self.whole(v))


MADE: dict[str, Callable[[Blocked], Preconditioner]] = {
    "jacobi": jacobi,
    "second_level": second_level,
    "block": block,
    "deflation": jacobi,
}
