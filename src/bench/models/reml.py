"""Variance components of y = Xb + u + e, u ~ N(0, Gσu²), e ~ N(0, Iσe²), by one eigendecomposition of G.

With G = UDU' the likelihood of a variance ratio λ = σe²/σu² costs O(n p²) once U'y and U'X are known.
Kang et al. (2008) and rrBLUP's mixed.solve decompose SGS, S the projection off X, for the same function;
decomposing G (Lippert et al. 2011) serves REML, ML and the EBVs at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.linalg
from scipy.optimize import minimize_scalar

from bench.errors import BenchError

Method = Literal["REML", "ML"]
BOUNDS = (1e-9, 1e9)  # of λ, as in rrBLUP's mixed.solve
GRID = 91  # points of log λ, five to a decade: every local maximum is bracketed and refined


@dataclass(frozen=True)
class VarianceComponents:
    """lam = Ve/Vu. bound: "lower" or "upper" where the maximum lies at a bound of λ (Ve → 0, Vu → 0)."""

    method: Method
    lam: float
    Vu: float
    Ve: float
    log_likelihood: float
    bound: str | None

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
    method: Method = "REML",
    bounds: tuple[float, float] = BOUNDS,
) -> VarianceComponents:
    """Maximise the profiled (restricted) likelihood over λ. y: (n,), X: (n, p) of full column rank."""
    n, p = X.shape
    if n < p + 2:
        raise BenchError(f"REML: {n} records and {p} fixed effects; at least {p + 2} records are needed")
    profile = _Profile(spectrum.values, spectrum.vectors.T @ y, spectrum.vectors.T @ X, method)
    residual = y - X @ np.linalg.lstsq(X, y, rcond=None)[0]
    if np.linalg.norm(residual) <= 1e-12 * np.linalg.norm(y):
        raise BenchError("REML: the phenotypes do not vary around their fixed effects; there is nothing to estimate")
    low, high = float(np.log(bounds[0])), float(np.log(bounds[1]))
    grid = np.linspace(low, high, GRID)
    heights = [profile.log_likelihood(t) for t in grid]
    peaks = [i for i in range(GRID) if heights[i] == max(heights[max(i - 1, 0) : i + 2])]
    found = [_refine(profile, grid[max(i - 1, 0)], grid[min(i + 1, GRID - 1)]) for i in peaks]
    best, log_likelihood = max([*found, *((grid[i], heights[i]) for i in peaks)], key=lambda at: at[1])
    # Brent's method stays off the ends of its interval: a maximum within a tenth of them is at the bound.
    bound = "lower" if best < low + 0.1 else "upper" if best > high - 0.1 else None
    Vu = profile.scale(best)
    return VarianceComponents(method, float(np.exp(best)), Vu, Vu * float(np.exp(best)), log_likelihood, bound)


def _refine(profile: _Profile, low: float, high: float) -> tuple[float, float]:
    """Brent's bounded search for the maximum between two grid points."""
    options = {"xatol": 1e-10}
    found = minimize_scalar(
        lambda t: -profile.log_likelihood(t), bounds=(low, high), method="bounded", options=options
    )
    return float(found.x), -float(found.fun)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class _Profile:
    """The likelihood as a function of log λ, σu² at its maximum. Uy: (n,), UX: (n, p) rotated by U'."""

    values: np.ndarray
    Uy: np.ndarray
    UX: np.ndarray
    method: Method

    @property
    def _freedom(self) -> int:
        n, p = self.UX.shape
        return n - p if self.method == "REML" else n

    def _whitened(self, log_lam: float) -> tuple[float, float, np.ndarray]:
        """(y − Xb)'V⁻¹(y − Xb), log|V| and the R of V^-½X = QR, with V = G + λI."""
        V = self.values + np.exp(log_lam)
        root = np.sqrt(V)
        Q, R = np.linalg.qr(self.UX / root[:, None])
        y = self.Uy / root
        y = y - Q @ (Q.T @ y)
        return float(y @ y), float(np.log(V).sum()), R

    def scale(self, log_lam: float) -> float:
        """The maximising σu²."""
        return self._whitened(log_lam)[0] / self._freedom

    def log_likelihood(self, log_lam: float) -> float:
        """With the constants of rrBLUP: the REML one counts −½log|X'V⁻¹X| + ½log|X'X|."""
        quadratic, log_det, R = self._whitened(log_lam)
        df = self._freedom
        twice = df * (np.log(2 * np.pi * quadratic / df) + 1) + log_det
        if self.method == "REML":
            R0 = np.linalg.qr(self.UX).R
            twice += 2 * float(np.log(np.abs(np.diagonal(R) / np.diagonal(R0))).sum())
        return -0.5 * float(twice)
