"""Variance components by average information REML on dense mixed model equations, for small data.

For a covariance matrix Σ the slope of the log-likelihood is ½ tr(D ∂Σ), D = Q − T: Q from the quadratics y'P V_i P y,
T from the traces tr(P V_i). The average information ½ (V_i P y)'P(V_j P y) takes one more solve for each parameter
(Gilmour, Thompson & Cullis 1995; Johnson & Thompson 1995). Steps are made in the Cholesky factors L of the matrices
(Groeneveld 1994), which cannot leave the parameter space; their curvature is J'(AI)J − I ⊗ D, J = ∂Σ/∂L, damped as
Levenberg and Marquardt do. Where no damping raises the likelihood, a step of EM is made: Σ + Σ D Σ/m, with m levels
(Dempster, Laird & Rubin 1977).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import scipy.linalg
from scipy import sparse

from bench.errors import BenchError
from bench.models.design import Design
from bench.models.variances import Variances, inverted

MOST_EQUATIONS = 6000
BOUNDARY = 1e-4  # share of the total variance below which a direction counts as without variance
FLOOR = 1e-6  # the share that it keeps, so that equations can be factored
DAMPING = (0.0, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0)
Matrices = dict[str, np.ndarray]


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
) -> Estimates:
    """REML estimates of all covariance matrices of a model.

    inverse: K⁻¹, (levels, levels), dense and positive definite: A⁻¹ or H⁻¹. start: where to begin. It ends with a
    step that raises the log-likelihood by less than `tolerance`. progress: called with each step and its number.
    BenchError for more than MOST_EQUATIONS equations or records, and for equations that are singular.
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
    fit = _Fit(design, inverse, start)
    if not np.isfinite(fit.log_likelihood):
        raise BenchError("AI-REML: the mixed model equations are not positive definite at the starting values")
    steps: list[Step] = []
    for number in range(most):
        better, damping = _by_average_information(fit, tolerance)
        if better is None:
            better = _Fit(design, inverse, _variances(_floored(fit.expectation_maximised(), fit.total)))
        steps.append(Step(fit.log_likelihood, "EM" if damping is None else "AI", fit.variances))
        if progress:
            progress(number, steps[-1])
        rise = better.log_likelihood - fit.log_likelihood
        fit = better if rise > 0 else fit
        if rise < tolerance and damping in (None, 0.0):
            return _estimates(fit, tuple(steps), tolerance)
    return replace(_estimates(fit, tuple(steps), tolerance), status="not converged")


def _estimates(fit: _Fit, steps: tuple[Step, ...], tolerance: float) -> Estimates:
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
        tuple(_parameters(fit.matrices)),
        covariance,
        fit.log_likelihood,
        steps,
        status,
    )


def _by_average_information(fit: _Fit, tolerance: float) -> tuple[_Fit | None, float | None]:
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
        candidate = _Fit(fit.design, fit.inverse, _variances(_floored(found, fit.total)))
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


class _Fit:
    """The likelihood, its slopes and its average information at some variances."""

    def __init__(self, design: Design, inverse: np.ndarray, variances: Variances):
        self.design, self.inverse, self.variances = design, inverse, variances
        self.matrices: Matrices = {"genetic": variances.genetic, "residual": variances.residual, **variances.others}
        levels = len(inverse)
        equations = design.assemble(sparse.csr_array((levels, levels)), variances)
        S, others = equations.matrix.toarray(), design.others
        S[others:, others:] += np.kron(inverse, inverted(variances.genetic))
        self.precision = design.precision(variances)
        try:
            self._factor = scipy.linalg.cho_factor(S, lower=True, overwrite_a=True)
        except np.linalg.LinAlgError:
            self.log_likelihood = -np.inf
            return
        self.v = scipy.linalg.cho_solve(self._factor, equations.rhs)
        self.projected = design.projected(self.v, variances)
        twice = 2 * np.log(np.diag(self._factor[0])).sum() + self._log_residual()
        for name, m in self.levels.items():
            if name != "residual":
                twice += m * np.linalg.slogdet(self.matrices[name])[1]
        self.log_likelihood = -0.5 * float(twice + np.nansum(design.records.y * self.projected))

    def _log_residual(self) -> float:
        """log|R|, of what was recorded."""
        observed = self.design.records.observed
        missing = (~observed)[:, :, None] * np.eye(observed.shape[1])
        return -float(np.linalg.slogdet(self.precision.data + missing)[1].sum())

    @property
    def levels(self) -> dict[str, int]:
        """m of each matrix, in the order of the parameters."""
        random = {term.name: len(term.levels) for term in self.design.random_terms}
        return {"genetic": len(self.inverse), "residual": len(self.design.records), **random}

    @property
    def total(self) -> Matrices:
        """The variance that the records of each matrix's traits have in all."""
        t = len(self.matrices["residual"])
        traits = sum(np.diag(matrix)[:t] for name, matrix in self.matrices.items())
        return {name: np.resize(traits, len(matrix)) for name, matrix in self.matrices.items()}

    def least_share(self) -> float:
        """The smallest variance in any direction of any matrix, as a share of the total."""
        scales = {name: np.sqrt(total) for name, total in self.total.items()}
        return min(
            float(np.linalg.eigvalsh(matrix / np.outer(scales[name], scales[name]))[0])
            for name, matrix in self.matrices.items()
        )

    def _effects(self) -> Iterator[tuple[str, slice, np.ndarray | None]]:
        """Name, equations and inverse relationship matrix (None for I) of each random effect."""
        start = self.design.fixed
        yield "genetic", slice(self.design.others, None), self.inverse
        for term in self.design.random_terms:
            yield term.name, slice(start, start + term.size), None
            start += term.size

    @cached_property
    def _curvature(self) -> Matrices:
        """D of each matrix: the slope of the log-likelihood is ½ tr(D ∂Σ)."""
        C = scipy.linalg.cho_solve(self._factor, np.eye(len(self.v)))
        found = {}
        for name, at, K in self._effects():
            q = len(self.matrices[name])
            U, block = self.v[at].reshape(-1, q), C[at, at].reshape(-1, q, self.levels[name], q)
            if K is None:
                expected = np.einsum("iaib->ab", block) + U.T @ U
            else:
                expected = np.einsum("ij,jaib->ab", K, block, optimize=True) + U.T @ (K @ U)
            inverse = inverted(self.matrices[name])
            found[name] = inverse @ expected @ inverse - self.levels[name] * inverse
        found["residual"] = self._of_residual(C)
        return {name: (found[name] + found[name].T) / 2 for name in self.matrices}

    def _of_residual(self, C: np.ndarray) -> np.ndarray:
        design = self.design
        n, t = design.records.y.shape
        W = design.incidence
        spread, blocks = W @ C[: design.columns, : design.columns], np.empty((n, t, t))
        for j in range(t):
            for k in range(t):
                blocks[:, j, k] = W[k::t].multiply(spread[j::t]).sum(axis=1)
        P = self.precision.data - self.precision.data @ blocks @ self.precision.data
        root = np.sqrt(design.records.weights)
        trace = (P / root[:, :, None] / root[:, None, :]).sum(axis=0)
        return design.residual_quadratic(self.v, self.variances) - trace

    @property
    def roots(self) -> Matrices:
        """The Cholesky factors L of the matrices."""
        return {name: np.linalg.cholesky(matrix) for name, matrix in self.matrices.items()}

    def of_factors(self) -> tuple[np.ndarray, np.ndarray]:
        """Slopes of the log-likelihood in the lower triangles of the factors L, and −its curvature."""
        slopes, bends, jacobians = [], [], []
        for name, L in self.roots.items():
            D, at = self._curvature[name], np.tril_indices(len(L))
            slopes.append((D @ L)[at])
            row, column = at
            bends.append(D[np.ix_(row, row)] * (column[:, None] == column))
            J = np.zeros((len(row), len(row)))  # of the lower triangle of Σ in that of L
            for b, (r, c) in enumerate(zip(row, column, strict=True)):
                E = np.zeros_like(L)
                E[r, c] = 1.0
                J[:, b] = (E @ L.T + L @ E.T)[at]
            jacobians.append(J)
        J = scipy.linalg.block_diag(*jacobians)
        return np.concatenate(slopes), J.T @ self.information @ J - scipy.linalg.block_diag(*bends)

    @cached_property
    def information(self) -> np.ndarray:
        """The average information of the parameters."""
        F = np.column_stack([self._working(*parameter) for parameter in _parameters(self.matrices)])
        weighted, W = self.precision @ F, self.design.incidence
        inside = np.zeros((len(self.v), F.shape[1]))
        inside[: self.design.columns] = W.T @ weighted
        return (F.T @ weighted - inside.T @ scipy.linalg.cho_solve(self._factor, inside)) / 2

    def _working(self, name: str, j: int, k: int) -> np.ndarray:
        """V_i P y, (R·t,), of the parameter (j, k) of a matrix."""
        matrix = self.matrices[name]
        E = np.zeros_like(matrix)
        E[j, k] = E[k, j] = 1.0
        if name == "residual":
            root = np.sqrt(self.design.records.weights)
            return np.where(self.design.records.observed, self.projected / root @ E / root, 0.0).ravel()
        at = next(at for other, at, _ in self._effects() if other == name)
        direction = np.zeros_like(self.v)
        direction[at] = (self.v[at].reshape(-1, len(matrix)) @ inverted(matrix) @ E).ravel()
        return self.design.fitted(direction).ravel()

    def expectation_maximised(self) -> Matrices:
        """The matrices after a step of EM."""
        return {
            name: matrix + matrix @ self._curvature[name] @ matrix / self.levels[name]
            for name, matrix in self.matrices.items()
        }


def _parameters(matrices: Matrices) -> Iterator[tuple[str, int, int]]:
    """Matrix, row and column of each parameter: the lower triangles."""
    for name, matrix in matrices.items():
        for j, k in zip(*np.tril_indices(len(matrix)), strict=True):
            yield name, int(j), int(k)


def _added(matrices: Matrices, step: np.ndarray) -> Matrices:
    found = {name: matrix.copy() for name, matrix in matrices.items()}
    for (name, j, k), value in zip(_parameters(matrices), step, strict=True):
        found[name][j, k] += value
        if j != k:
            found[name][k, j] += value
    return found


def _variances(matrices: Matrices) -> Variances:
    others = {name: matrix for name, matrix in matrices.items() if name not in ("genetic", "residual")}
    return Variances(matrices["genetic"], matrices["residual"], others)
