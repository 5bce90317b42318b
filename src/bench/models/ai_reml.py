"""Variance components by average information REML on dense mixed model equations, for small data.

For a covariance matrix Σ the slope of the log-likelihood is ½ tr(D ∂Σ), D = Q − T: Q from the quadratics y'P V_i P y,
T from the traces tr(P V_i). The average information ½ (V_i P y)'P(V_j P y) takes one more solve for each parameter
(Gilmour, Thompson & Cullis 1995; Johnson & Thompson 1995). Steps are made in the Cholesky factors L of the matrices
(Groeneveld 1994), which cannot leave the parameter space; their curvature is J'(AI)J − I ⊗ D, J = ∂Σ/∂L, damped as
Levenberg and Marquardt do. Where no damping raises the likelihood, a step of EM is made: Σ + Σ D Σ/m, with m levels
(Dempster, Laird & Rubin 1977).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import scipy.linalg

from bench.errors import BenchError
from bench.models.design import Design
from bench.models.reml_covariance import CovarianceFit
from bench.models.reml_fit import EquationsFit, Fit, Matrices, parameters
from bench.models.variances import Variances

MOST_EQUATIONS = 6000
BOUNDARY = 1e-4  # share of the total variance below which a direction counts as without variance
FLOOR = 1e-6  # the share that it keeps, so that equations can be factored
FLAT = 10  # damped steps without a rise, as at the boundary, where an undamped one may not go
DAMPING = (0.0, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0)


@dataclass(frozen=True)
class Step:
    """log_likelihood: before the step, up to a constant of the data. kind: "AI" or "EM"."""

    log_likelihood: float
    kind: str
    variances: Variances


@dataclass(frozen=True)
class Estimates:
    """errors: standard errors of the numbers in `variances`, NaN where the information is singular.

    parameters: (p,) matrix, row and column of each number, of the lower triangles. covariance: (p, p) of their
    errors.
    log_likelihood: restricted, up to a constant of the data. status: "converged"; "boundary", where a matrix is
    singular to BOUNDARY and its errors mean nothing; "not converged".
    """

    variances: Variances
    errors: Variances
    parameters: tuple[tuple[str, int, int], ...]
    covariance: np.ndarray
    log_likelihood: float
    steps: tuple[Step, ...]
    status: str


@dataclass(frozen=True)
class Climb:
    """What the search goes on from: the variances after the steps."""

    variances: Variances
    steps: tuple[Step, ...]

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it: (steps + 1, q, q) of each matrix, and (steps,) likelihoods and kinds."""
        at = [*(step.variances for step in self.steps), self.variances]
        matrices = {f"of {name}": np.array([of.others[name] for of in at]) for name in self.variances.others}
        return matrices | {
            "genetic": np.array([of.genetic for of in at]),
            "residual": np.array([of.residual for of in at]),
            "log_likelihood": np.array([step.log_likelihood for step in self.steps]),
            "kind": np.array([step.kind for step in self.steps]),
        }

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> Climb:
        names = [name for name in arrays if name.startswith("of ")]
        at = [
            Variances(*pair, {name.removeprefix("of "): arrays[name][j] for name in names})
            for j, pair in enumerate(zip(arrays["genetic"], arrays["residual"], strict=True))
        ]
        kinds = zip(arrays["log_likelihood"], arrays["kind"], at[:-1], strict=True)
        return cls(at[-1], tuple(Step(float(height), str(kind), of) for height, kind, of in kinds))


def bytes_needed(design: Design, levels: int) -> int:
    """Memory of `ai_reml` with so many genetic levels: equations, factor and inverse, K⁻¹, W times the inverse."""
    size = design.others + levels * len(design.components)
    return 8 * size * (4 * size + design.records.y.size) + 8 * levels**2


def ai_reml(
    design: Design,
    inverse: np.ndarray,
    start: Variances,
    *,
    tolerance: float = 1e-9,
    most: int = 200,
    progress: Callable[[int, Step], None] | None = None,
    keep: Callable[[Climb], None] | None = None,
    resume: Climb | None = None,
) -> Estimates:
    """REML estimates of all covariance matrices of a model.

    inverse: K⁻¹, (levels, levels), dense and positive definite: A⁻¹ or H⁻¹. start: where to begin. It ends with a
    step that raises the log-likelihood by less than `tolerance`. progress: called with each step and its number.
    keep: with what a later search can `resume`, whose progress hears of the earlier steps too. BenchError for more
    than MOST_EQUATIONS equations or records, and for equations that are singular.
    """
    size = design.others + len(inverse) * len(design.components)
    if max(size, design.records.y.size) > MOST_EQUATIONS:
        raise BenchError(
            f"AI-REML: {size} equations and {design.records.y.size} records × traits, of which it takes up to "
            f"{MOST_EQUATIONS} (these would need {bytes_needed(design, len(inverse)) / 1e9:.1f} GB)"
        )
    try:
        scipy.linalg.cholesky(inverse)
    except np.linalg.LinAlgError:
        raise BenchError("AI-REML: the inverse relationship matrix is not positive definite") from None
    fit = EquationsFit(design, inverse, resume.variances if resume else start)
    if not np.isfinite(fit.log_likelihood):
        raise BenchError("AI-REML: the mixed model equations are not positive definite at the starting values")
    return _climb(fit, tolerance, most, progress, keep, resume)


def ai_reml_of_relationships(
    design: Design,
    relationships: np.ndarray,
    start: Variances,
    *,
    tolerance: float = 1e-9,
    most: int = 200,
    progress: Callable[[int, Step], None] | None = None,
    keep: Callable[[Climb], None] | None = None,
    resume: Climb | None = None,
) -> Estimates:
    """The same from K itself, (levels, levels), which may be singular, by the covariance matrix of the records.

    BenchError for more than MOST_EQUATIONS records × traits, and for fixed effects that are confounded.
    """
    if (count := int(design.records.observed.sum())) > MOST_EQUATIONS:
        raise BenchError(f"AI-REML: {count} records × traits, of which it takes up to {MOST_EQUATIONS}")
    fit = CovarianceFit.of(design, relationships, resume.variances if resume else start)
    if not np.isfinite(fit.log_likelihood):
        raise BenchError("AI-REML: the covariance matrix of the records is not positive definite at the start")
    return _climb(fit, tolerance, most, progress, keep, resume)


def _climb(
    fit: Fit,
    tolerance: float,
    most: int,
    progress: Callable[[int, Step], None] | None,
    keep: Callable[[Climb], None] | None,
    resume: Climb | None,
) -> Estimates:
    steps = list(resume.steps) if resume else []
    for number, step in enumerate(steps):
        if progress:
            progress(number, step)
    for number in range(len(steps), most):
        better, damping = _by_average_information(fit, tolerance)
        if better is None:
            better = fit.at(_variances(_floored(fit.expectation_maximised(), fit.total)))
        steps.append(Step(fit.log_likelihood, "EM" if damping is None else "AI", fit.variances))
        if progress:
            progress(number, steps[-1])
        rise = better.log_likelihood - fit.log_likelihood
        fit = better if rise > 0 else fit
        if keep:
            keep(Climb(fit.variances, tuple(steps)))
        flat = len(steps) >= FLAT and fit.log_likelihood - steps[-FLAT].log_likelihood < tolerance
        if flat or (rise < tolerance and damping in (None, 0.0)):
            return _estimates(fit, tuple(steps), tolerance)
    return replace(_estimates(fit, tuple(steps), tolerance), status="not converged")


def _estimates(fit: Fit, steps: tuple[Step, ...], tolerance: float) -> Estimates:
    slopes, curvature = fit.of_factors()
    left = slopes @ np.linalg.lstsq(curvature, slopes, rcond=None)[0] / 2
    status = "boundary" if fit.least_share() < BOUNDARY else "converged"
    if status == "converged" and abs(left) > 1000 * tolerance:
        status = "not converged"
    with np.errstate(all="ignore"):
        try:
            covariance = np.linalg.inv(fit.information)
        except np.linalg.LinAlgError:
            covariance = np.full((len(slopes), len(slopes)), np.nan)
        errors = np.sqrt(np.diag(covariance))
    zero = {name: np.zeros_like(matrix) for name, matrix in fit.matrices.items()}
    return Estimates(
        fit.variances,
        _variances(_added(zero, errors)),
        tuple(parameters(fit.matrices)),
        covariance,
        fit.log_likelihood,
        steps,
        status,
    )


def _by_average_information(fit: Fit, tolerance: float) -> tuple[Fit | None, float | None]:
    """After the least damped step that does not lower the likelihood, and its damping; None if all do."""
    slopes, curvature = fit.of_factors()
    scale = np.abs(np.diag(curvature)) + 1e-12 * np.abs(curvature).max()
    for damping in DAMPING:
        try:
            step = scipy.linalg.solve(curvature + damping * np.diag(scale), slopes, assume_a="pos")
        except np.linalg.LinAlgError:
            continue
        found, first = {}, 0
        for name, root in fit.roots.items():
            moved, at = root.copy(), np.tril_indices(len(root))
            moved[at] += step[first : first + len(at[0])]
            found[name], first = moved @ moved.T, first + len(at[0])
        candidate = fit.at(_variances(_floored(found, fit.total)))
        if candidate.log_likelihood >= fit.log_likelihood - tolerance / 10:
            return candidate, damping
    return None, None


def _floored(matrices: Matrices, total: Matrices) -> Matrices:
    """The same, with at least FLOOR of the total variance in every direction."""
    found = {}
    for name, matrix in matrices.items():
        scale = np.sqrt(total[name])
        values, vectors = np.linalg.eigh(matrix / np.outer(scale, scale))
        found[name] = matrix
        if values[0] < FLOOR:
            found[name] = (vectors * np.maximum(values, FLOOR)) @ vectors.T * np.outer(scale, scale)
    return found


def _added(matrices: Matrices, step: np.ndarray) -> Matrices:
    found = {name: matrix.copy() for name, matrix in matrices.items()}
    for (name, j, k), value in zip(parameters(matrices), step, strict=True):
        found[name][j, k] += value
        if j != k:
            found[name][k, j] += value
    return found


def _variances(matrices: Matrices) -> Variances:
    others = {name: matrix for name, matrix in matrices.items() if name not in ("genetic", "residual")}
    return Variances(matrices["genetic"], matrices["residual"], others)
