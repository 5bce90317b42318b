"""The variance ratio λ by REML, ML or GCV from one block-Lanczos run: every λ at once, by products with G only.

With M = I − QQ' the projection off X and S = M K M, P is the inverse of S + λI in what is orthogonal to X. So a run
on S from [My | M z_1 … M z_s], z_i of random signs, gives y'P^k y by Gauss quadrature, and log|A'VA| and tr P^k by
the mean over probes (stochastic Lanczos quadrature: Bai, Fahey & Golub 1996; Ubaru, Chen & Saad 2017).

The probes' weights are scaled to add up to r − p, the trace of I. Where tr S is known too, the weights are calibrated
to it (Deville & Särndal 1992), which is the control variate tr S with the coefficient of least squares for
whatever is summed: log(θ + λ), 1/(θ + λ) and their derivatives stay consistent with each other.

ML needs log|V| = log|A'VA| − log|Q'V⁻¹Q|, and Q'V⁻¹Q is the inverse of Q'KQ + λI − B'(S + λI)⁻¹B, B = MKQ: p more
columns in the block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bench.errors import BenchError
from bench.models.criteria import OF_MOMENTS, Moments, Optimum, minimise
from bench.models.whitened import ProjectedRelationship, WhitenedRecords, relationship_times
from bench.solvers.lanczos import BlockLanczos, Quadrature
from bench.solvers.operator import SymmetricOperator

BOUNDS = (1e-4, 1e6)  # of λ; the smaller λ, the more steps
PROBES = 7  # with y 8 columns, a width that the kernels are fast at
TOLERANCE = 1e-3  # of log λ, between steps k and k − 2, and between k and k − 1
RESIDUAL_AT_BOUND = 1e-2  # of every column's solution: a space that is too small often has its optimum at a bound
MAX_STEPS = 120

Observer = Callable[[int, Optimum], None]


@dataclass(frozen=True)
class LanczosEstimate:
    """λ and what is known of it.

    standard_error: statistical, of log λ, by the curvature of the likelihood; NaN at a bound and for GCV.
    monte_carlo_error: standard error of log λ that the choice of random signs as probes leaves; NaN at a bound.
    residual: the largest of the block's relative residuals at λ, that of y among them. products: of G with the block.
    other_products: columns of G multiplied besides. path: log λ after each product of this search.
    status: "converged", "bound" or "steps" (the cap was reached; the value is the last one).
    """

    method: str
    lam: float
    Vu: float
    Ve: float
    log_likelihood: float
    bound: str | None
    standard_error: float
    monte_carlo_error: float
    residual: float
    status: str
    products: int
    other_products: int
    path: tuple[float, ...]

    @property
    def h2(self) -> float:
        """Vu/(Vu + Ve): a heritability if G's mean diagonal is 1."""
        return self.Vu / (self.Vu + self.Ve)


class LanczosRun:
    """One run: extended a step at a time, it estimates and solves for any λ."""

    def __init__(
        self,
        gram: SymmetricOperator,
        records: WhitenedRecords,
        *,
        trace: float | None = None,
        trace_of_square: float | None = None,
        probes: int | np.ndarray = PROBES,
        seed: int = 1,
        ml: bool = False,
        max_steps: int = MAX_STEPS,
        memory: int | None = None,
    ):
        """trace: tr K, as `WhitenedRecords.trace` has it from diag(G); None goes without a control variate.
        trace_of_square: tr S², where somebody knows it. probes: how many are drawn, or (r, s) of them; if their outer
        products add up to a multiple of I, all traces are exact, as they are where there are no more records than
        probes to be drawn. ml: whether ML shall be available.

        Cost: with trace or ml a product of p columns with G. BenchError: too little memory, said before it is taken.
        """
        if gram.shape[0] != records.n_individuals:
            raise BenchError(
                f"REML by Lanczos: G relates {gram.shape[0]} individuals, the records are of "
                f"{records.n_individuals}; n_individuals of WhitenedRecords.of says how many there are"
            )
        if trace is not None and not np.isfinite(trace):
            raise BenchError(f"REML by Lanczos: a trace of {trace}; a number was needed")
        drawn = probes if isinstance(probes, np.ndarray) else _signs(probes, records, seed)
        self.gram, self.records, self.probes = gram, records, drawn.shape[1]
        self.other_products = 0
        self._KQ: np.ndarray | None = None
        if trace is not None or ml:
            self._KQ = relationship_times(gram, records, records.Q)
            self.other_products = records.Q.shape[1]
        self._known: list[float] = []  # tr S, tr S²
        if trace is not None:
            assert self._KQ is not None
            self._known.append(trace - float(np.sum(records.Q * self._KQ)))
            if trace_of_square is not None:
                self._known.append(trace_of_square)
        start = [records.y[:, None], drawn]
        if ml:
            assert self._KQ is not None
            start.append(self._KQ)
        block = records.project(np.hstack(start))
        self.ml, self._size = ml, np.maximum(np.linalg.norm(block, axis=0), np.finfo(float).tiny)
        self.lanczos = BlockLanczos(ProjectedRelationship(gram, records), block, max_steps=max_steps, memory=memory)

    def extend(self) -> bool:
        """One more step; False where the run is at its end."""
        return self.lanczos.step()

    def estimate(self, method: str = "REML", bounds: tuple[float, float] = BOUNDS) -> tuple[Optimum, Density]:
        """The best λ by what has been multiplied so far, and what it was computed from."""
        if method not in OF_MOMENTS:
            raise BenchError(f"there is no criterion {method!r} by Lanczos; there are {', '.join(OF_MOMENTS)}")
        if method == "ML" and not self.ml:
            raise ValueError("this run was started without ML")
        density = self.density()
        return minimise(lambda t: OF_MOMENTS[method](density.moments(float(np.exp(t)))), bounds), density

    def density(self) -> Density:
        """Of the steps so far."""
        quadrature = self.lanczos.quadrature()
        f, probes = self.records.freedom, slice(1, 1 + self.probes)
        weights = np.sum(quadrature.roots[:, probes] ** 2, axis=1)
        weights *= f / weights.sum()
        powers = np.vander(quadrature.nodes, 1 + len(self._known), increasing=True)
        weights = calibrated(weights, powers, np.array([f, *self._known]))
        fixed = None
        if self.ml:
            assert self._KQ is not None
            fixed = Fixed(self.records.Q.T @ self._KQ, quadrature.roots[:, 1 + self.probes :])
        return Density(quadrature, weights, powers, self.probes, self.records.y.size, self.records.X.shape[1], fixed)

    def solution(self, lam: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """α = Py, (r,), of the whitened records; b, (p,); u = G Z'w^½α, (n_individuals,).

        One product of one column with G.
        """
        records = self.records
        alpha = self.lanczos.solve(lam, slice(0, 1))
        u = self.gram.matmul(np.ascontiguousarray(records.expand(alpha)))
        b = records.effects(records.y - (records.collect(u) + lam * alpha)[:, 0])
        return alpha[:, 0], b, u[:, 0]

    def unsolved(self, lam: float) -> float:
        """The largest ‖b − (S + λI)x‖/‖b‖ of the block's columns."""
        return float((self.lanczos.residuals(lam) / self._size).max())

    def ritz(self, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The k largest Ritz values of S, their vectors and residuals: `BlockLanczos.ritz`."""
        return self.lanczos.ritz(k)


def _signs(probes: int, records: WhitenedRecords, seed: int) -> np.ndarray:
    """(r, probes) of ±1; I where that is no wider. BenchError: the fixed effects explain all of them."""
    r = records.y.size
    if probes < 1:
        raise BenchError(f"REML by Lanczos: {probes} probes; at least 1 is needed")
    if r <= probes:
        return np.eye(r)
    drawn = np.random.default_rng(seed).choice([-1.0, 1.0], (r, probes))
    if np.linalg.norm(records.project(drawn)) <= 1e-8 * np.linalg.norm(drawn):
        raise BenchError(
            f"REML by Lanczos: the fixed effects explain all {probes} probes of {r} records; take {r} probes"
        )
    return drawn


def calibrated(weights: np.ndarray, powers: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """Weights (K,) changed as little as possible, relatively and in least squares, so that powers'weights = moments.

    powers: (K, c), moments: (c,). As they are where the powers are linearly dependent, as of a K of a single value.
    """
    gram = powers.T @ (weights[:, None] * powers)
    size = np.sqrt(np.diagonal(gram))
    if not np.all(size > 0) or np.linalg.cond(gram / np.outer(size, size)) > 1e12:
        return weights
    return weights * (1 + powers @ np.linalg.solve(gram, moments - powers.T @ weights))


@dataclass(frozen=True)
class Fixed:
    """Of Q'V⁻¹Q: inner = Q'KQ, (p, p), and the roots of B = MKQ, (K, p)."""

    inner: np.ndarray
    roots: np.ndarray


@dataclass(frozen=True)
class Density:
    """The spectrum of S as nodes θ with weights: those of y in `quadrature`, those of the trace in `weights`, (K,).

    powers: (K, c) functions of θ whose traces are known. r records, p fixed effects.
    """

    quadrature: Quadrature
    weights: np.ndarray
    powers: np.ndarray
    probes: int
    r: int
    p: int
    fixed: Fixed | None = None

    def moments(self, lam: float) -> Moments:
        """What the criteria are made of at λ."""
        shifted = self.quadrature.nodes + lam
        inverse = 1 / shifted
        of_y, of_trace = self.quadrature.roots[:, 0] ** 2, self.weights
        q1, q2, q3 = (float(of_y @ inverse**k) for k in (1, 2, 3))
        t1, t2 = (float(of_trace @ inverse**k) for k in (1, 2))
        log_det = float(of_trace @ np.log(shifted))
        moments = Moments(lam, self.r, self.p, (q1, q2, q3), (t1, t2), log_det)
        return moments if self.fixed is None else self._with_ml(moments, self.fixed, inverse)

    def _with_ml(self, at: Moments, fixed: Fixed, inverse: np.ndarray) -> Moments:
        """log|V| and tr V⁻¹, its derivative by λ: d(Q'V⁻¹Q)⁻¹/dλ = I + B'(S + λI)⁻²B."""
        scaled = inverse[:, None] * fixed.roots
        schur = fixed.inner + at.lam * np.eye(self.p) - fixed.roots.T @ scaled
        slope = np.eye(self.p) + scaled.T @ scaled
        return Moments(
            at.lam, at.r, at.p, at.quadratics, at.traces, at.log_det,
            log_det_V=at.log_det + float(np.linalg.slogdet(schur)[1]),
            trace_V=at.traces[0] + float(np.trace(np.linalg.solve(schur, slope))),
        )  # fmt: skip

    def monte_carlo_error(self, method: str, best: Optimum) -> float:
        """Standard error of log λ̂ by the choice of probes.

        The criterion's slope depends on the probes through Σ τ h(θ), h its derivative by the weight of a node. A
        probe of random signs estimates tr h(S) with the variance 2(‖h(S)‖² − Σ h(S)_ii²) (Hutchinson 1990), of which
        what the known traces explain of h is taken off; the second term, small where no record stands alone, is not
        counted.
        """
        if not best.curvature > 0:
            return float("nan")
        at = self.moments(best.lam)
        inverse = 1 / (self.quadrature.nodes + at.lam)
        influence = at.lam * inverse
        if method == "GCV":
            (_, q2, q3), (t1, t2) = at.quadratics, at.traces
            by_t1 = -2 * (q3 / t1**3) + 3 * q2 * t2 / t1**4
            influence = -2 * at.r * at.lam * (by_t1 * inverse - q2 / t1**3 * inverse**2)
        root = np.sqrt(np.maximum(self.weights, 0))
        fit = np.linalg.lstsq(root[:, None] * self.powers, root * influence, rcond=None)[0]
        rest = float(self.weights @ (influence - self.powers @ fit) ** 2)
        return float(np.sqrt(2 * max(rest, 0.0) / self.probes) / best.curvature)


def estimate(
    run: LanczosRun,
    *,
    method: str = "REML",
    bounds: tuple[float, float] = BOUNDS,
    tolerance: float = TOLERANCE,
    observe: Observer | None = None,
) -> LanczosEstimate:
    """Extend `run`, from where it is, until the best λ stands: log λ(k) within `tolerance` of steps k − 1 and k − 2.

    At a bound only where all columns are solved for that λ, since a space that is too small often has its optimum
    there. observe: sees every step's number and optimum. Not converging is a status, not an error.
    """
    path: list[Optimum] = []
    status = "steps"
    more = run.lanczos.products > 0 or run.extend()
    if not more:
        raise BenchError("REML by Lanczos: no step was allowed; max_steps must be 1 or more")
    while more:
        best, _ = run.estimate(method, bounds)
        path.append(best)
        if observe:
            observe(run.lanczos.products, best)
        if run.lanczos.exhausted or _stands(run, path, tolerance):
            status = "bound" if best.bound else "converged"
            break
        more = run.extend()
    best = path[-1]
    density = run.density()
    at = density.moments(best.lam)
    freedom = at.r if method == "ML" else at.r - at.p
    Vu = at.quadratics[0] / freedom
    likelihood = OF_MOMENTS["ML" if method == "ML" else "REML"](at)[0]
    return LanczosEstimate(
        method, best.lam, Vu, Vu * best.lam, -0.5 * likelihood, best.bound,
        best.standard_error if method != "GCV" else float("nan"),
        density.monte_carlo_error(method, best),
        run.unsolved(best.lam), status, run.lanczos.products, run.other_products, tuple(at.log_lam for at in path),
    )  # fmt: skip


def _stands(run: LanczosRun, path: list[Optimum], tolerance: float) -> bool:
    """Whether the last steps agree, and are no artefact of a space that is too small."""
    last = [at.log_lam for at in path[-3:]]
    if len(last) < 3 or any(abs(at - last[-1]) > tolerance for at in last):
        return False
    return path[-1].bound is None or run.unsolved(path[-1].lam) <= RESIDUAL_AT_BOUND
