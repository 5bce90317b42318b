"""The restricted likelihood at some variances, its slopes and average information, from the mixed model equations.

What `ai_reml` climbs. reml_covariance.py has the same from the covariance matrix of the records.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cached_property
from typing import Self

import numpy as np
import scipy.linalg
from scipy import sparse

from bench.models.design import Design
from bench.models.variances import Variances, inverted

Matrices = dict[str, np.ndarray]


class Fit(ABC):
    """What both have. log_likelihood: up to a constant of the data, −∞ where the variances cannot be.

    curvature: D of each matrix: the slope of the log-likelihood is ½ tr(D ∂Σ). information: (p, p) the average
    information of the parameters. levels: m of each matrix, in the order of the parameters.
    """

    design: Design
    variances: Variances
    matrices: Matrices
    log_likelihood: float

    def __init__(self, design: Design, variances: Variances):
        self.design, self.variances = design, variances
        self.matrices = {"genetic": variances.genetic, "residual": variances.residual, **variances.others}
        self.log_likelihood = -np.inf

    @abstractmethod
    def at(self, variances: Variances) -> Self:
        """The same at other variances."""

    @cached_property
    @abstractmethod
    def curvature(self) -> Matrices: ...

    @cached_property
    @abstractmethod
    def information(self) -> np.ndarray: ...

    @property
    @abstractmethod
    def genetic_levels(self) -> int:
        """The rank of the relationship matrix."""

    @property
    def levels(self) -> dict[str, int]:
        """m of each matrix, in the order of the parameters."""
        random = {term.name: len(term.levels) for term in self.design.random_terms}
        return {"genetic": self.genetic_levels, "residual": len(self.design.records), **random}

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

    @property
    def roots(self) -> Matrices:
        """The Cholesky factors L of the matrices."""
        return {name: np.linalg.cholesky(matrix) for name, matrix in self.matrices.items()}

    def of_factors(self) -> tuple[np.ndarray, np.ndarray]:
        """Slopes of the log-likelihood in the lower triangles of the factors L, and −its curvature."""
        slopes, bends, jacobians = [], [], []
        for name, L in self.roots.items():
            D, at = self.curvature[name], np.tril_indices(len(L))
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

    def expectation_maximised(self) -> Matrices:
        """The matrices after a step of EM."""
        return {
            name: matrix + matrix @ self.curvature[name] @ matrix / self.levels[name]
            for name, matrix in self.matrices.items()
        }


class EquationsFit(Fit):
    """By the mixed model equations. inverse: K⁻¹, (levels, levels), dense."""

    def __init__(self, design: Design, inverse: np.ndarray, variances: Variances):
        super().__init__(design, variances)
        self.inverse = inverse
        levels = len(inverse)
        equations = design.assemble(sparse.csr_array((levels, levels)), variances)
        S, others = equations.matrix.toarray(), design.others
        S[others:, others:] += np.kron(inverse, inverted(variances.genetic))
        self.precision = design.precision(variances)
        try:
            self._factor = scipy.linalg.cho_factor(S, lower=True, overwrite_a=True)
        except np.linalg.LinAlgError:
            return
        self.v = scipy.linalg.cho_solve(self._factor, equations.rhs)
        self.projected = design.projected(self.v, variances)
        twice = 2 * np.log(np.diag(self._factor[0])).sum() + self._log_residual()
        for name, m in self.levels.items():
            if name != "residual":
                twice += m * np.linalg.slogdet(self.matrices[name])[1]
        self.log_likelihood = -0.5 * float(twice + np.nansum(design.records.y * self.projected))

    def at(self, variances: Variances) -> Self:
        return type(self)(self.design, self.inverse, variances)

    @property
    def genetic_levels(self) -> int:
        return len(self.inverse)

    def _log_residual(self) -> float:
        """log|R|, of what was recorded."""
        observed = self.design.records.observed
        missing = (~observed)[:, :, None] * np.eye(observed.shape[1])
        return -float(np.linalg.slogdet(self.precision.data + missing)[1].sum())

    def _effects(self) -> Iterator[tuple[str, slice, np.ndarray | None]]:
        """Name, equations and inverse relationship matrix (None for I) of each random effect."""
        start = self.design.fixed
        yield "genetic", slice(self.design.others, None), self.inverse
        for term in self.design.random_terms:
            yield term.name, slice(start, start + term.size), None
            start += term.size

    @cached_property
    def curvature(self) -> Matrices:
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

    @cached_property
    def information(self) -> np.ndarray:
        F = np.column_stack([self._working(*parameter) for parameter in parameters(self.matrices)])
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


def parameters(matrices: Matrices) -> Iterator[tuple[str, int, int]]:
    """Matrix, row and column of each parameter: the lower triangles."""
    for name, matrix in matrices.items():
        for j, k in zip(*np.tril_indices(len(matrix)), strict=True):
            yield name, int(j), int(k)
