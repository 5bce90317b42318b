"""GBLUP: y = Xb + u + e, u ~ N(0, Gσu²), e ~ N(0, Iσe²), and its marker-effect twin SNP-BLUP.

Everything goes through V = G + λI among the individuals with a record, λ = σe²/σu²:
b by generalised least squares, α = V⁻¹(y − Xb), and u = G α for everybody genotyped.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bench.errors import BenchError
from bench.solvers.direct import Cholesky
from bench.solvers.operator import Beside, Operator, OverRanks, Place, SymmetricOperator, over_ranks, placement
from bench.solvers.pcg import Observer, Preconditioner, Solution, jacobi, pcg


@dataclass(frozen=True)
class Records:
    """Phenotypes that are there. index: (r,) positions among the n_samples genotyped; y: (r,); X: (r, p)."""

    index: np.ndarray
    y: np.ndarray
    X: np.ndarray
    n_samples: int

    @classmethod
    def of(cls, phenotypes: np.ndarray, fixed: np.ndarray | None = None, *, name: str = "phenotypes") -> Records:
        """phenotypes: (n,), NaN where there is no record. fixed: (n, p), the intercept by default."""
        phenotypes = np.asarray(phenotypes, float)
        n = phenotypes.size
        if np.isinf(phenotypes).any():
            raise BenchError(f"{name}: infinite phenotypes; they must be numbers, or NaN where there is no record")
        index = np.flatnonzero(~np.isnan(phenotypes))
        X = np.ones((n, 1)) if fixed is None else np.asarray(fixed, float)
        if X.shape != (n, X.shape[-1]):
            raise ValueError(f"expected ({n}, p) fixed effects, got {X.shape}")
        X, p = X[index], X.shape[1]
        if index.size < p + 2:
            raise BenchError(
                f"{name}: {index.size} of {n} individuals have a record; at least {p + 2} are needed "
                f"to estimate {p} fixed effect(s) and a variance"
            )
        if not np.isfinite(X).all() or np.linalg.matrix_rank(X) < p:
            raise BenchError(f"{name}: the {p} fixed effects are linearly dependent or hold NaN; drop some")
        return cls(index, phenotypes[index], X, n)

    @property
    def complete(self) -> bool:
        return self.index.size == self.n_samples

    @property
    def right_hand_sides(self) -> np.ndarray:
        """[X y], (r, p + 1): what V has to be solved for."""
        return np.column_stack([self.X, self.y])

    def scatter(self, values: np.ndarray) -> np.ndarray:
        """(r, k) → (n_samples, k), 0 for the individuals without a record."""
        if self.complete:
            return values
        out = np.zeros((self.n_samples, values.shape[1]), like=values)
        out[self._rows(values)] = values
        return out

    def gather(self, values: np.ndarray) -> np.ndarray:
        """(n_samples, k) → (r, k), those of the individuals with a record."""
        return values if self.complete else values[self._rows(values)]

    def share(self, rows: slice) -> Records:
        """Those of the individuals `rows`, counted from the first of these."""
        mine = (self.index >= rows.start) & (self.index < rows.stop)
        return Records(self.index[mine] - rows.start, self.y[mine], self.X[mine], rows.stop - rows.start)

    @cached_property
    def _rows(self) -> Beside:
        return Beside(self.index)


@dataclass(frozen=True)
class Fit:
    """b: (p,) GLS estimates. alpha: (r,) V⁻¹(y − Xb). covariance: (p, p) (X'V⁻¹X)⁻¹, of b in units of σu²."""

    lam: float
    b: np.ndarray
    alpha: np.ndarray
    covariance: np.ndarray


def generalised_least_squares(
    records: Records, solved: np.ndarray, lam: float, *, over_ranks: OverRanks | None = None
) -> Fit:
    """The fit, from solved = V⁻¹[X y], (r, p + 1). over_ranks: see solvers.operator."""
    ViX, Viy = solved[:, :-1], solved[:, -1]
    products = solved.T @ records.right_hand_sides
    if over_ranks is not None:
        products = over_ranks(products)
    covariance = np.linalg.inv(products[:-1, :-1].T)
    b = covariance @ products[:-1, -1]
    return Fit(lam, b, Viy - ViX @ b, covariance)


def fit_cholesky(G: np.ndarray, records: Records, lam: float) -> Fit:
    """Exact fit. G: (r, r) among the individuals with records; it is overwritten by the factor of V."""
    G[np.diag_indices_from(G)] += lam
    return generalised_least_squares(records, Cholesky(G).solve(records.right_hand_sides), lam)


@dataclass(frozen=True)
class RecordVariance:
    """V = G + λI among the individuals with records, G (n, n) an operator on everybody genotyped."""

    gram: SymmetricOperator
    records: Records
    lam: float

    @property
    def shape(self) -> tuple[int, int]:
        return self.records.index.size, self.records.index.size

    def matmul(self, V: np.ndarray) -> np.ndarray:
        return self.records.gather(self.gram.matmul(self.records.scatter(V))) + self.lam * V

    @property
    def place(self) -> Place | None:
        return placement(self.gram)


def fit_pcg(
    gram: SymmetricOperator,
    records: Records,
    lam: float,
    *,
    diagonal: np.ndarray,
    rtol: float,
    max_steps: int,
    observe: Observer | None = None,
) -> tuple[Fit, Solution]:
    """The fit through products with G only: V⁻¹[X y] by PCG, preconditioned by diag(V).

    diagonal: (n,) of G. It differs little between non-inbred animals, and then buys nothing; it pays where
    inbred lines and outbred animals, or well and badly called ones, are analysed together.
    """
    variance = RecordVariance(gram, records, lam)
    solution = pcg(
        variance,
        records.right_hand_sides,
        preconditioner=jacobi(diagonal[records.index] + lam),
        rtol=rtol,
        max_steps=max_steps,
        observe=observe,
        over_ranks=over_ranks(gram),
    )
    return generalised_least_squares(records, solution.value, lam, over_ranks=over_ranks(gram)), solution


def marker_effects(centred: Operator, divisor: float, records: Records, fit: Fit) -> np.ndarray:
    """g = W'α/d, (m,), on the scale of W, so that u = W g; times the coding's scale it is per allele."""
    return centred.rmatmul(records.scatter(fit.alpha[:, None]))[:, 0] / divisor


def breeding_values(centred: Operator, effects: np.ndarray) -> np.ndarray:
    """u = W g, (n,), for everybody genotyped."""
    return centred.matmul(effects[:, None])[:, 0]


@dataclass(frozen=True)
class MarkerSystem:
    """W'MW + λdI, (m, m): SNP-BLUP's equations, b absorbed by M = I − X(X'X)⁻¹X' among the records."""

    centred: Operator
    records: Records
    ridge: float

    @property
    def shape(self) -> tuple[int, int]:
        return self.centred.shape[1], self.centred.shape[1]

    def absorb(self, U: np.ndarray) -> np.ndarray:
        """W'M U, (r, k) → (m, k)."""
        Q = self._fixed(U)
        return self.centred.rmatmul(self.records.scatter(U - Q @ (Q.T @ U)))

    def matmul(self, V: np.ndarray) -> np.ndarray:
        return self.absorb(self.records.gather(self.centred.matmul(V))) + self.ridge * V

    @property
    def place(self) -> Place | None:
        return placement(self.centred)

    @cached_property
    def _fixed(self) -> Beside:
        """An orthonormal basis of the fixed effects' columns."""
        return Beside(np.linalg.qr(self.records.X)[0])


def fit_marker_effects(
    centred: Operator,
    divisor: float,
    records: Records,
    lam: float,
    *,
    rtol: float,
    max_steps: int,
    preconditioner: Preconditioner = np.copy,
) -> tuple[np.ndarray, np.ndarray, Solution]:
    """SNP-BLUP: marker effects (m,) on the scale of W and b (p,), by PCG on the m × m equations.

    g ~ N(0, Iσu²/d) makes it the same model as GBLUP: W g equals u, for any λ > 0.
    """
    system = MarkerSystem(centred, records, lam * divisor)
    rhs = system.absorb(records.y[:, None])
    solution = pcg(system, rhs, preconditioner=preconditioner, rtol=rtol, max_steps=max_steps)
    effects = solution.value[:, 0]
    rest = records.y - breeding_values(centred, effects)[records.index]
    return effects, np.linalg.lstsq(records.X, rest, rcond=None)[0], solution


def prediction_error_variance(G: np.ndarray, records: Records, lam: float) -> np.ndarray:
    """var(û − u)/σu², (n,), exactly, the estimation of b counted. G: (n, n), kept.

    C = G − G_·r P G_r·, P = V⁻¹ − V⁻¹X(X'V⁻¹X)⁻¹X'V⁻¹. Among the records G = V − λI turns its diagonal
    into λ − λ²diag(V⁻¹) + diag(KMK'), K = X − λV⁻¹X, M = (X'V⁻¹X)⁻¹; the others need a triangular solve each.
    """
    index, X = records.index, records.X
    others = np.setdiff1d(np.arange(records.n_samples), index)
    V = G[np.ix_(index, index)]
    V[np.diag_indices_from(V)] += lam
    cholesky = Cholesky(V)
    ViX = cholesky.solve(X)
    covariance = np.linalg.inv(X.T @ ViX)
    pev = np.empty(records.n_samples)
    if others.size:
        across = G[np.ix_(index, others)]
        K = across.T @ ViX
        half = cholesky.half_solve(across)
        pev[others] = (
            G[others, others] - np.einsum("ij,ij->j", half, half) + np.einsum("ij,jk,ik->i", K, covariance, K)
        )
    K = X - lam * ViX
    pev[index] = lam - lam**2 * cholesky.inverse_diagonal() + np.einsum("ij,jk,ik->i", K, covariance, K)
    return pev


def reliability(G_diagonal: np.ndarray, pev: np.ndarray) -> np.ndarray:
    """1 − PEV/(G_ii σu²), (n,); NaN for an individual without genomic variance. pev in units of σu²."""
    return 1 - np.divide(pev, G_diagonal, out=np.full_like(pev, np.nan), where=G_diagonal > 0)
