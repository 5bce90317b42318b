"""Block Lanczos: products with a symmetric A and a block B give B'f(A)B for every function f at once.

After j products the basis V_1 … V_j of the Krylov space of A and B is orthonormal, and T = V'AV = UΘU' is small.
B'f(A)B ≈ C'f(Θ)C with C = U'V'B: block Gauss quadrature, exact for polynomials up to degree 2j − 1 (Golub & Meurant
2010, section 4.5). The space does not change when a multiple of I is added to A, so that one run serves quadratic
forms, traces, log-determinants and solutions of A + λI for every λ.

Every block is orthogonalised against all before it, twice (Golub & Underwood 1977; "twice is enough", Giraud et al.
2005): Ritz values do not repeat, and Ritz vectors can be used. That costs 8·n·j·b² operations in step j, in products
of matrices. The basis is float64: 8·n·b bytes a step, little beside what A takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg

from bench.errors import BenchError
from bench.memory import memory_available
from bench.solvers.operator import SymmetricOperator

PANEL = 512  # rows of a block that are factored at a time, in the cache
DEPENDENT = 1e-12  # of the size of A, or of a start: what is left of a column that the others span


@dataclass(frozen=True)
class Quadrature:
    """start'f(A)start ≈ roots' f(nodes) roots. nodes: (K,) ascending; roots: (K, b)."""

    nodes: np.ndarray
    roots: np.ndarray

    def of(self, values: np.ndarray) -> np.ndarray:
        """(b, b) from f at the nodes, (K,)."""
        return self.roots.T @ (values[:, None] * self.roots)


def bytes_needed(n: int, columns: int, max_steps: int) -> int:
    """The most memory that a run allocates: the basis, four blocks of work, the small matrices."""
    basis = min(n, columns * (max_steps + 1))
    return 8 * (n * (basis + 4 * columns) + 3 * basis * basis)


class BlockLanczos:
    """A run, a step at a time.

    products: how often A has been multiplied with a block. exhausted: the space is A's own, all results are exact.
    """

    def __init__(
        self, matrix: SymmetricOperator, start: np.ndarray, *, max_steps: int = 100, memory: int | None = None
    ):
        """start: (n, b), any rank from 1 on; a column that the others span is no trouble.

        memory: bytes that may be used, None for what is free. BenchError: too little of it, said before it is taken;
        a start of zeros, NaN or infinity.
        """
        n, columns = start.shape
        if n != matrix.shape[0]:
            raise ValueError(f"expected a ({matrix.shape[0]}, b) start, got {start.shape}")
        if not np.isfinite(start).all() or not start.any():
            raise BenchError("block Lanczos: the start holds NaN or infinity, or nothing but zeros")
        need, free = bytes_needed(n, columns, max_steps), memory_available() if memory is None else memory
        if need > free:
            raise BenchError(
                f"block Lanczos: {max_steps} steps of {columns} vectors of {n} need {need / 1e9:.3g} GB of memory, "
                f"{free / 1e9:.3g} GB can be used; allow fewer steps or columns"
            )
        self.matrix, self.max_steps, self.products, self.exhausted = matrix, max_steps, 0, False
        capacity = min(n, columns * (max_steps + 1))
        self._basis = np.empty((n, capacity), order="F")  # untouched pages take no memory
        self._T = np.zeros((capacity, capacity))
        size = np.linalg.norm(start, axis=0)
        size[size == 0] = 1.0
        first, self._start = _orthonormal(start / size)
        self._start = self._start * size
        self._ends = [first.shape[1]]  # of the blocks in the basis
        self._basis[:, : first.shape[1]] = first
        self._size = 0.0  # of A, as far as it has shown
        self._spectrum: Any = None

    @property
    def dimension(self) -> int:
        """Of the space that A has been projected on: all blocks that A has been multiplied with."""
        return self._ends[self.products - 1] if self.products else 0

    def step(self) -> bool:
        """One product; False, without one, where the space is exhausted or max_steps are made."""
        if self.exhausted or self.products >= self.max_steps:
            return False
        end = self._ends[-1]
        begin = self._ends[-2] if len(self._ends) > 1 else 0
        V = self._basis[:, :end]
        product = self.matrix.matmul(np.ascontiguousarray(self._basis[:, begin:end]))
        if not np.isfinite(product).all():
            raise BenchError(f"block Lanczos: product {self.products + 1} of the matrix holds NaN or infinity")
        self._size = max(self._size, float(np.linalg.norm(product, axis=0).max()))
        along = V.T @ product
        product -= (along.T @ V.T).T  # twice as fast as V @ along, whose result has few columns
        block, beyond = _orthonormal(product, self._size)
        again = V.T @ block
        block -= (again.T @ V.T).T
        along += again @ beyond
        block, last = _orthonormal(block)
        beyond = last @ beyond
        self._T[:end, begin:end] = along
        room = self._basis.shape[1] - end
        block, beyond = block[:, :room], beyond[:room]
        stop = end + block.shape[1]
        self._T[end:stop, begin:end] = beyond
        self._T[begin:end, end:stop] = beyond.T
        self._basis[:, end:stop] = block
        self.products += 1
        self._spectrum = None
        if block.shape[1] == 0:
            self.exhausted = True
        else:
            self._ends.append(stop)
        return True

    def _decomposed(self) -> tuple[np.ndarray, np.ndarray]:
        """Θ, U of T = UΘU' on the space so far."""
        if self.products == 0:
            raise ValueError("block Lanczos: no step has been made")
        if self._spectrum is None:
            T = self._T[: self.dimension, : self.dimension]
            self._spectrum = scipy.linalg.eigh((T + T.T) / 2, driver="evd", check_finite=False)
        return self._spectrum

    def quadrature(self) -> Quadrature:
        """Of the steps made so far, at least one."""
        values, U = self._decomposed()
        return Quadrature(values, U[: len(self._start)].T @ self._start)

    def _solved(self, lam: float, columns: slice) -> np.ndarray:
        """(T + λI)⁻¹ V'start[:, columns], (dimension, c)."""
        values, U = self._decomposed()
        return U @ ((U[: len(self._start)].T @ self._start[:, columns]) / (values + lam)[:, None])

    def solve(self, lam: float, columns: slice = slice(None)) -> np.ndarray:
        """X ≈ (A + λI)⁻¹ start[:, columns], (n, c), λ > 0 where A is positive semidefinite. It is the approximation
        of conjugate gradients, but from the space of all columns together."""
        return self._basis[:, : self.dimension] @ self._solved(lam, columns)

    def residuals(self, lam: float, columns: slice = slice(None)) -> np.ndarray:
        """‖start − (A + λI)X‖ of each column of `solve`, (c,), without forming X."""
        return np.linalg.norm(self._beyond(self._solved(lam, columns)), axis=0)

    def ritz(self, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The k largest Ritz values, (k,) descending, their vectors, (n, k) orthonormal, and ‖Av − θv‖ of each.

        Fewer where the space has fewer dimensions. For deflation and preconditioning; Saad (2011), chapter 6.
        """
        values, U = self._decomposed()
        chosen = np.argsort(values)[::-1][:k]
        vectors = self._basis[:, : self.dimension] @ U[:, chosen]
        return values[chosen], vectors, np.linalg.norm(self._beyond(U[:, chosen]), axis=0)

    def _beyond(self, small: np.ndarray) -> np.ndarray:
        """What A V small has outside the space, in coordinates of the next block."""
        begin = self._ends[self.products - 2] if self.products > 1 else 0
        end = self.dimension
        stop = self._ends[self.products] if len(self._ends) > self.products else end
        return self._T[end:stop, begin:end] @ small[begin:end]


def _orthonormal(block: np.ndarray, size: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """block = Q R: Q (n, r) orthonormal, R (r, b). r: the rank, counting what is above DEPENDENT·size, by default the
    largest column's norm."""
    panels, small = _panels(block)
    factors: Any = scipy.linalg.qr(small, mode="economic", pivoting=True, check_finite=False)
    Q, R, order = factors
    diagonal = np.abs(np.diagonal(R))
    largest = diagonal.max(initial=0.0) if size is None else size
    rank = int(np.sum(diagonal > DEPENDENT * largest))
    unpivoted = np.empty((rank, block.shape[1]))
    unpivoted[:, order] = R[:rank]
    Q = Q[:, :rank]
    if panels is not None:
        Q = (panels @ Q.reshape(len(panels), -1, rank)).reshape(-1, rank)[: len(block)]
    return Q, unpivoted


def _panels(block: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
    """Q of each PANEL rows, (panels, PANEL, b), and their R below each other; None and the block where it is short.

    LAPACK's own factors of a tall block are products of a matrix with a vector: seven times the time.
    """
    n, b = block.shape
    if n < 4 * PANEL or b > PANEL // 2:
        return None, block
    padded = np.zeros((-(-n // PANEL), PANEL, b))  # rows of zeros change no factor
    padded.reshape(-1, b)[:n] = block
    Q, R = np.linalg.qr(padded)
    return Q, R.reshape(-1, b)
