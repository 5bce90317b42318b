"""Criteria of a variance ratio λ, their derivatives, and the search for the best λ.

V = K + λI and P = V⁻¹ − V⁻¹X(X'V⁻¹X)⁻¹X'V⁻¹, so that dV/d log λ = λI and dP/d log λ = −λP²: REML, ML and GCV are
functions of a few numbers, whether an eigendecomposition gives them or quadrature.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import brentq

from bench.errors import BenchError

Criterion = Literal["REML", "ML", "GCV", "LOO"]
Function = Callable[[float], tuple[float, float]]  # of log λ: value and derivative
GRID = 91  # points of log λ, five to a decade of the usual bounds: every local minimum is bracketed and refined
FLAT = 1e-10  # of a criterion: what is no difference


@dataclass(frozen=True)
class Moments:
    """What the criteria are made of, at one λ. r records, p fixed effects.

    quadratics: y'Py, y'P²y, y'P³y. traces: tr P, tr P². log_det: log|A'VA|, A an orthonormal basis of what is
    orthogonal to X: log|V| + log|X'V⁻¹X| − log|X'X|. For ML log_det_V and trace_V, tr V⁻¹; NaN where not known.
    """

    lam: float
    r: int
    p: int
    quadratics: tuple[float, float, float]
    traces: tuple[float, float]
    log_det: float
    log_det_V: float = float("nan")
    trace_V: float = float("nan")


def reml(at: Moments) -> tuple[float, float]:
    """−2ℓ of the profiled restricted likelihood, and its derivative by log λ (Patterson & Thompson 1971).

    (r−p)(log(2πy'Py/(r−p)) + 1) + log|A'VA|; λ(tr P − (r−p)y'P²y/y'Py).
    """
    f, (q1, q2, _) = at.r - at.p, at.quadratics
    return _likelihood(f, q1) + at.log_det, at.lam * (at.traces[0] - f * q2 / q1)


def ml(at: Moments) -> tuple[float, float]:
    """−2ℓ of the profiled likelihood, and its derivative: r(log(2πy'Py/r) + 1) + log|V|; λ(tr V⁻¹ − r·y'P²y/y'Py)."""
    q1, q2, _ = at.quadratics
    return _likelihood(at.r, q1) + at.log_det_V, at.lam * (at.trace_V - at.r * q2 / q1)


def gcv(at: Moments) -> tuple[float, float]:
    """r·y'P²y/(tr P)², and its derivative −2rλ(y'P³y/(tr P)² − y'P²y·tr P²/(tr P)³) (Golub, Heath & Wahba 1979)."""
    (_, q2, q3), (t1, t2) = at.quadratics, at.traces
    return at.r * q2 / t1**2, -2 * at.r * at.lam * (q3 / t1**2 - q2 * t2 / t1**3)


def restricted_log_likelihood(at: Moments, Vu: float) -> float:
    """ℓ at σu² = Vu and σe² = λVu, with the constants of `reml`."""
    f = at.r - at.p
    return -0.5 * (f * float(np.log(2 * np.pi * Vu)) + at.log_det + at.quadratics[0] / Vu)


def average_information(at: Moments) -> np.ndarray:
    """(2, 2) ½y'PV_iPV_jPy of σu² and σe², V_u = K and V_e = I, at the σu² that maximises the restricted likelihood
    for λ (Gilmour, Thompson & Cullis 1995). With PK = I − λP in what X leaves, K needs not be at hand."""
    q1, q2, q3 = at.quadratics
    Vu, lam = q1 / (at.r - at.p), at.lam
    mixed = q2 - lam * q3
    return np.array([[q1 - 2 * lam * q2 + lam**2 * q3, mixed], [mixed, q3]]) / (2 * Vu**3)


def _likelihood(freedom: int, quadratic: float) -> float:
    return freedom * (float(np.log(2 * np.pi * quadratic / freedom)) + 1)


OF_MOMENTS: dict[str, Callable[[Moments], tuple[float, float]]] = {"REML": reml, "ML": ml, "GCV": gcv}


@dataclass(frozen=True)
class Optimum:
    """bound: "lower" or "upper" where no λ between the bounds is better than that bound; else None.

    curvature: second derivative by log λ, NaN at a bound.
    """

    log_lam: float
    value: float
    bound: str | None
    curvature: float

    @property
    def lam(self) -> float:
        return float(np.exp(self.log_lam))

    @property
    def standard_error(self) -> float:
        """Of log λ, where the criterion is −2ℓ: by the observed information. NaN at a bound."""
        return float(np.sqrt(2 / self.curvature)) if self.curvature > 0 else float("nan")


def minimise(function: Function, bounds: tuple[float, float]) -> Optimum:
    """The global minimum over log λ, as far as a grid of GRID points sees it. bounds: of λ.

    Between two points where the derivative turns from falling to rising its root is the minimum, to 1e-12.
    BenchError: bounds that are none; a criterion that is not finite.
    """
    if not 0 < bounds[0] < bounds[1] < np.inf:
        raise BenchError(f"bounds of λ: two positive numbers, the smaller one first, were needed, found {bounds}")
    low, high = np.log(bounds)
    grid = np.linspace(low, high, GRID)
    values, slopes = np.array([function(t) for t in grid]).T
    if not np.isfinite(values).all():
        raise BenchError(f"the criterion of λ is not finite at λ = {np.exp(grid[~np.isfinite(values)][0]):.3g}")
    found = [(values[0], low), (values[-1], high)]
    for i in np.flatnonzero((slopes[:-1] < 0) & (slopes[1:] >= 0)):
        at = float(brentq(lambda t: function(t)[1], grid[i], grid[i + 1], xtol=1e-12))  # type: ignore[arg-type]
        found.append((function(at)[0], at))
    value, best = min(found)
    # Where the criterion is flat towards a bound, rounding has minima of its own.
    for bound, of_bound, at in (("lower", values[0], low), ("upper", values[-1], high)):
        if of_bound - value <= FLAT * abs(value):
            return Optimum(float(at), float(of_bound), bound, float("nan"))
    h = 1e-4
    curvature = (function(best + h)[1] - function(best - h)[1]) / (2 * h)
    return Optimum(float(best), float(value), None, float(curvature))
