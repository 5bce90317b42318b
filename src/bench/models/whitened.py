"""One trait's records with weights, several of an individual or none, as records of equal residual variance.

y = Xb + Zu + e, u ~ N(0, Gσu²), e_r ~ N(0, σe²/w_r): multiplied by √w, the residuals have the covariance Iσe² and the
records V = K + λI in units of σu², K = w^½ Z G Z' w^½. λ = σe²/σu² stays what it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from bench.errors import BenchError
from bench.solvers.operator import SymmetricOperator

DEPENDENT = 1e-10


@dataclass(frozen=True)
class WhitenedRecords:
    """y: (r,), X: (r, p) of full column rank, both multiplied by `root`, (r,), the roots of the weights.

    individual: (r,) whose record it is, rows among the n_individuals that G relates.
    """

    y: np.ndarray
    X: np.ndarray
    individual: np.ndarray
    root: np.ndarray
    n_individuals: int

    @classmethod
    def of(
        cls,
        y: np.ndarray,
        X: np.ndarray | None = None,
        *,
        individual: np.ndarray | None = None,
        weights: np.ndarray | None = None,
        n_individuals: int | None = None,
        name: str = "records",
    ) -> WhitenedRecords:
        """y: (r,), NaN where a record is missing: it is left out. X: (r, p), the intercept by default.

        individual: (r,), by default 0, 1, …: a record each. weights: (r,), positive, by default 1. BenchError: values
        that cannot be, dependent fixed effects, no more records than fixed effects and one, no variance.
        """
        y = np.asarray(y, float)
        X = np.ones((y.size, 1)) if X is None else np.asarray(X, float)
        whose = np.arange(y.size) if individual is None else np.asarray(individual)
        w = np.ones(y.size) if weights is None else np.asarray(weights, float)
        n = n_individuals or (int(whose.max(initial=-1)) + 1)
        if y.ndim != 1 or X.shape != (y.size, X.shape[-1]) or whose.shape != y.shape or w.shape != y.shape:
            raise ValueError(f"{name}: {y.shape} y, {X.shape} X, {whose.shape} individuals, {w.shape} weights")
        kept = np.flatnonzero(~np.isnan(y))
        y, X, whose, w = y[kept], X[kept], whose[kept], w[kept]
        if not np.isfinite(y).all():
            raise BenchError(f"{name}: infinite phenotypes; they must be numbers, or NaN where there is no record")
        if not (np.isfinite(w) & (w > 0)).all():
            raise BenchError(
                f"{name}: {int((~(w > 0)).sum())} weights are not positive numbers; leave such records out"
            )
        if kept.size and not (whose.min() >= 0 and whose.max() < n):
            raise BenchError(f"{name}: records of individual {whose.max()}, there are {n}")
        if kept.size < (p := X.shape[1]) + 2:
            raise BenchError(
                f"{name}: {kept.size} records and {p} fixed effects; at least {p + 2} records are needed"
            )
        root = np.sqrt(w)
        found = cls(root * y, root[:, None] * X, whose, root, n)
        if not np.isfinite(X).all() or found._dependent():
            raise BenchError(f"{name}: the {p} fixed effects are linearly dependent or hold NaN; drop some")
        if np.linalg.norm(found.project(found.y[:, None])) <= 1e-12 * np.linalg.norm(found.y):
            raise BenchError(
                f"{name}: the phenotypes do not vary around their fixed effects; there is nothing to estimate"
            )
        return found

    def _dependent(self) -> bool:
        """Whether a column of X is what those before it span, to DEPENDENT of its length."""
        beyond = np.abs(np.diagonal(self._orthogonal[1]))
        return bool(np.any(beyond <= DEPENDENT * np.linalg.norm(self.X, axis=0)))

    @property
    def freedom(self) -> int:
        """Records less fixed effects."""
        return self.y.size - self.X.shape[1]

    @cached_property
    def _orthogonal(self) -> tuple[np.ndarray, np.ndarray]:
        """X = QR: Q (r, p), R (p, p)."""
        Q, R = np.linalg.qr(self.X)
        return Q, R

    @property
    def Q(self) -> np.ndarray:
        """(r, p), an orthonormal basis of X's columns."""
        return self._orthogonal[0]

    def project(self, U: np.ndarray) -> np.ndarray:
        """M U = U − QQ'U, (r, k): what X does not explain."""
        return U - self.Q @ (self.Q.T @ U)

    def effects(self, explained: np.ndarray) -> np.ndarray:
        """b of Xb = QQ'·explained, (r,) → (p,)."""
        Q, R = self._orthogonal
        return np.linalg.solve(R, Q.T @ explained)

    @cached_property
    def plain(self) -> bool:
        """One record of each individual, in order, of weight 1."""
        return bool(
            self.y.size == self.n_individuals
            and np.array_equal(self.individual, np.arange(self.n_individuals))
            and np.all(self.root == 1)
        )

    @cached_property
    def _incidence(self) -> sparse.csr_array:
        """Z'w^½, (n_individuals, r)."""
        place = (self.individual, np.arange(self.y.size))
        return sparse.csr_array((self.root, place), shape=(self.n_individuals, self.y.size))

    def expand(self, U: np.ndarray) -> np.ndarray:
        """Z'w^½U, (r, k) → (n_individuals, k)."""
        return U if self.plain else self._incidence @ U

    def collect(self, V: np.ndarray) -> np.ndarray:
        """w^½Z V, (n_individuals, k) → (r, k)."""
        return V if self.plain else self.root[:, None] * V[self.individual]

    def dense(self, G: np.ndarray) -> np.ndarray:
        """K, (r, r), of G (n_individuals, n_individuals)."""
        return self.root[:, None] * G[np.ix_(self.individual, self.individual)] * self.root

    def trace(self, diagonal: np.ndarray) -> float:
        """tr K, from diag(G), (n_individuals,)."""
        return float(np.sum(self.root**2 * diagonal[self.individual]))


@dataclass(frozen=True)
class ProjectedRelationship:
    """S = M K M, (r, r), which keeps what is orthogonal to X there; there P is the inverse of S + λI.

    With A an orthonormal basis of it, P = A(A'VA)⁻¹A' (Patterson & Thompson 1971; Searle et al. 1992, M.4f).
    """

    gram: SymmetricOperator
    records: WhitenedRecords

    @property
    def shape(self) -> tuple[int, int]:
        return self.records.y.size, self.records.y.size

    def matmul(self, V: np.ndarray) -> np.ndarray:
        """S V, (r, k) → (r, k)."""
        return self.records.project(relationship_times(self.gram, self.records, self.records.project(V)))


def relationship_times(gram: SymmetricOperator, records: WhitenedRecords, V: np.ndarray) -> np.ndarray:
    """K V, (r, k) → (r, k)."""
    return records.collect(gram.matmul(np.ascontiguousarray(records.expand(V))))
