"""Variance components of y = Xb + u + e, u ~ N(0, Gσu²), e ~ N(0, Iσe²), by one eigendecomposition of G.

With G = UDU' each criterion of a variance ratio λ = σe²/σu² costs O(n p²) once U'y and U'X are known, leave-one-out
O(n²). Kang et al. (2008) and rrBLUP's mixed.solve decompose SGS, S the projection off X, for the same function;
decomposing G (Lippert et al. 2011) serves every criterion, every X and the EBVs at once. Weights and several records
of an individual: with `WhitenedRecords`, whose K takes the place of G. Where n is too large: lanczos_reml.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np
import scipy.linalg

from bench.errors import BenchError
from bench.models.criteria import OF_MOMENTS, Criterion, Moments, minimise, reml

BOUNDS = (1e-9, 1e9)  # of λ, as in rrBLUP's mixed.solve


@dataclass(frozen=True)
class VarianceComponents:
    """lam = Ve/Vu. bound: "lower" or "upper" where the optimum lies at a bound of λ (Ve → 0, Vu → 0).

    value: of the criterion, −2ℓ for REML and ML. log_likelihood: of ML, else the restricted one. standard_error: of
    log λ, by the curvature of the likelihood; NaN at a bound, and for other criteria.
    """

    method: Criterion
    lam: float
    Vu: float
    Ve: float
    log_likelihood: float
    bound: str | None
    value: float = float("nan")
    standard_error: float = float("nan")

    @property
    def h2(self) -> float:
        """Vu/(Vu + Ve): a heritability if G's mean diagonal is 1."""
        return self.Vu / (self.Vu + self.Ve)


@dataclass(frozen=True)
class Spectrum:
    """G = U diag(values) U'. values: (n,), vectors: (n, n)."""

    values: np.ndarray
    vectors: np.ndarray

    @classmethod
    def of(cls, G: np.ndarray) -> Spectrum:
        """Decompose a symmetric positive semidefinite G, which is kept."""
        if not np.isfinite(G).all():
            raise BenchError("relationship matrix: it holds NaN or infinity")
        values, vectors = scipy.linalg.eigh(G, driver="evd")
        if values[0] < -1e-6 * max(values[-1], 1.0):
            raise BenchError(f"relationship matrix: not positive semidefinite, smallest eigenvalue {values[0]:.3g}")
        return cls(np.maximum(values, 0.0), vectors)

    def solve(self, rhs: np.ndarray, lam: float) -> np.ndarray:
        """(G + λI)⁻¹B, (n, k) → (n, k)."""
        return self.vectors @ ((self.vectors.T @ rhs) / (self.values + lam)[:, None])


def estimate(
    spectrum: Spectrum,
    y: np.ndarray,
    X: np.ndarray,
    *,
    method: Criterion = "REML",
    bounds: tuple[float, float] = BOUNDS,
) -> VarianceComponents:
    """Minimise a criterion over λ. y: (n,), X: (n, p) of full column rank. LOO: `Rotated.leave_one_out`."""
    n, p = X.shape
    if method not in (named := get_args(Criterion)):
        raise BenchError(f"there is no criterion {method!r}; there are {', '.join(named)}")
    if n != spectrum.values.size:
        raise BenchError(f"{method}: {n} records, and relationships of {spectrum.values.size}")
    if n < p + 2:
        raise BenchError(f"{method}: {n} records and {p} fixed effects; at least {p + 2} records are needed")
    if not (np.isfinite(y).all() and np.isfinite(X).all()):
        raise BenchError(f"{method}: the records hold NaN or infinity; drop those that are missing")
    if np.linalg.matrix_rank(X) < p:
        raise BenchError(f"{method}: the {p} fixed effects are linearly dependent; drop some")
    residual = y - X @ np.linalg.lstsq(X, y, rcond=None)[0]
    if np.linalg.norm(residual) <= 1e-12 * np.linalg.norm(y):
        raise BenchError(
            f"{method}: the phenotypes do not vary around their fixed effects; there is nothing to estimate"
        )
    rotated = Rotated.of(spectrum, y, X)
    best = minimise(lambda t: rotated.criterion(method, float(np.exp(t))), bounds)
    at = rotated.moments(best.lam)
    freedom = n if method == "ML" else n - p
    Vu = at.quadratics[0] / freedom
    likelihood = method in ("REML", "ML")
    log_likelihood = -0.5 * (best.value if likelihood else reml(at)[0])
    error = best.standard_error if likelihood else float("nan")
    return VarianceComponents(method, best.lam, Vu, Vu * best.lam, log_likelihood, best.bound, best.value, error)


@dataclass(frozen=True)
class Rotated:
    """Uy = U'y, (n,), and UX = U'X, (n, p), in the eigenvectors of a Spectrum."""

    spectrum: Spectrum
    Uy: np.ndarray
    UX: np.ndarray

    @classmethod
    def of(cls, spectrum: Spectrum, y: np.ndarray, X: np.ndarray) -> Rotated:
        return cls(spectrum, spectrum.vectors.T @ y, spectrum.vectors.T @ X)

    def criterion(self, method: Criterion, lam: float) -> tuple[float, float]:
        """Its value and its derivative by log λ. The likelihoods have the constants of rrBLUP."""
        return self.leave_one_out(lam) if method == "LOO" else OF_MOMENTS[method](self.moments(lam))

    def _whitened(self, lam: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """v = D + λ, (n,), and Q, (n, p), R of v^-½U'X = QR: U'PU = v^-½(I − QQ')v^-½."""
        v = self.spectrum.values + lam
        Q, R = np.linalg.qr(self.UX / np.sqrt(v)[:, None])
        return v, Q, R

    def moments(self, lam: float) -> Moments:
        """O(n p²)."""
        v, Q, R = self._whitened(lam)
        n, p = self.UX.shape
        root = np.sqrt(v)

        def project(x: np.ndarray) -> np.ndarray:
            return x - Q @ (Q.T @ x)

        y = project(self.Uy / root)
        Py = y / root
        again = project(Py / root)
        leverage = np.einsum("ij,ij->i", Q, Q)
        inner = Q.T @ (Q / v[:, None])
        log_det_V = float(np.log(v).sum())
        fixed = 2 * float(np.log(np.abs(np.diagonal(R) / np.diagonal(np.linalg.qr(self.UX).R))).sum())
        return Moments(
            lam, n, p,
            quadratics=(float(y @ y), float(Py @ Py), float(again @ again)),
            traces=(float(((1 - leverage) / v).sum()), float(((1 - 2 * leverage) / v**2).sum() + np.sum(inner**2))),
            log_det=log_det_V + fixed, log_det_V=log_det_V, trace_V=float((1 / v).sum()),
        )  # fmt: skip

    def leave_one_out(self, lam: float) -> tuple[float, float]:
        """Mean squared error of the records, each predicted from all others; its derivative by log λ. O(n²).

        The error is [Py]_i/P_ii, exactly, b estimated anew without the record (Craven & Wahba 1979). With weights it
        is √w_i times that of the record itself.
        """
        v, Q, _ = self._whitened(lam)
        U, n = self.spectrum.vectors, len(v)
        E = U @ (Q / np.sqrt(v)[:, None])  # P = U v⁻¹ U' − EE'
        y = self.Uy / np.sqrt(v)
        Py = U @ ((y - Q @ (Q.T @ y)) / np.sqrt(v))
        squares = U**2
        diagonal = squares @ (1 / v) - np.einsum("ij,ij->i", E, E)
        cross = U @ (Q / v[:, None] ** 1.5)  # V⁻¹E
        of_square = (
            squares @ (1 / v**2) - 2 * np.einsum("ij,ij->i", cross, E) + np.einsum("ij,jk,ik->i", E, E.T @ E, E)
        )
        error = Py / diagonal
        weighted = 2 * error / diagonal / n
        P_Py = U @ ((U.T @ Py) / v) - E @ (E.T @ Py)
        return float(np.mean(error**2)), lam * float(-weighted @ P_Py + (weighted * error) @ of_square)


@dataclass(frozen=True)
class HeldOut:
    """Mean squared error of records that were held out, predicted from those that G among them is decomposed of.

    y: (n,), X: (n, p) of the others; across: (e, n) relationships with them; y_out: (e,), X_out: (e, p).
    """

    spectrum: Spectrum
    y: np.ndarray
    X: np.ndarray
    across: np.ndarray
    y_out: np.ndarray
    X_out: np.ndarray

    def __call__(self, log_lam: float) -> tuple[float, float]:
        """The error and its derivative by log λ: e = y_out − X_out b − K Py, de/dλ = X_out B Py + K P²y, where
        B = (X'V⁻¹X)⁻¹X'V⁻¹ and b = By."""
        lam = float(np.exp(log_lam))

        def solve(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            """Bx and Px."""
            Vix = self.spectrum.solve(x[:, None], lam)[:, 0]
            Bx = np.linalg.solve(self.X.T @ ViX, ViX.T @ x)
            return Bx, Vix - ViX @ Bx

        ViX = self.spectrum.solve(self.X, lam)
        b, Py = solve(self.y)
        b_slope, PPy = solve(Py)
        error = self.y_out - self.X_out @ b - self.across @ Py
        slope = self.X_out @ b_slope + self.across @ PPy
        return float(np.mean(error**2)), 2 * lam * float(np.mean(error * slope))
