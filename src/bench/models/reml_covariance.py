"""The restricted likelihood by the covariance matrix of the records, V = Σ_i Σ_cd s_i,cd Z_ic K_i Z_id'.

No relationship matrix is inverted, so that a singular G has its place here. The residual is an effect like others:
its levels are the records, its incidence 1/√w. With P = V⁻¹ − V⁻¹X(X'V⁻¹X)⁻¹X'V⁻¹ the quadratics of (c, d) are
(Py)'Z_c K Z_d'(Py), the traces tr(P Z_c K Z_d') (Gilmour, Thompson & Cullis 1995).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from scipy import sparse
from scipy.linalg.lapack import dpotri  # pyright: ignore[reportAttributeAccessIssue]

from bench.errors import BenchError
from bench.models.design import Design
from bench.models.reml_fit import Fit, Matrices, parameters
from bench.models.variances import Variances
from bench.solvers.direct import Cholesky, semidefinite_root


@dataclass(frozen=True)
class _Effect:
    """rows: of each component, (k_c,) the observed values that it enters. between: (k_c, k_d) Z_c K Z_d'."""

    rows: list[np.ndarray]
    between: Mapping[tuple[int, int], np.ndarray | sparse.coo_array]

    @classmethod
    def of(cls, incidence: list[sparse.csr_array], K: np.ndarray | None) -> _Effect:
        """incidence: Z_c (values, levels) of each component. K: (levels, levels), None for I."""
        rows = [np.flatnonzero(np.diff(Z.indptr)) for Z in incidence]
        Z = [sparse.csr_array(whole[at]) for whole, at in zip(incidence, rows, strict=True)]
        if K is None:
            between = {(c, d): sparse.coo_array(Z[c] @ Z[d].T) for c in range(len(Z)) for d in range(c + 1)}
        else:
            between = {(c, d): Z[d] @ (Z[c] @ K).T for c in range(len(Z)) for d in range(c + 1)}
            between = {at: np.ascontiguousarray(block.T) for at, block in between.items()}
        return cls(rows, between)

    def add(self, V: np.ndarray, matrix: np.ndarray) -> None:
        """V += Σ matrix_cd Z_c K Z_d'."""
        for (c, d), block in self.between.items():
            dense = block if isinstance(block, np.ndarray) else block.toarray()
            V[np.ix_(self.rows[c], self.rows[d])] += matrix[c, d] * dense
            if c != d:
                V[np.ix_(self.rows[d], self.rows[c])] += matrix[c, d] * dense.T

    def traces(self, P: np.ndarray) -> np.ndarray:
        """(q, q) tr(P Z_c K Z_d')."""
        found = np.zeros((len(self.rows), len(self.rows)))
        for (c, d), block in self.between.items():
            if isinstance(block, np.ndarray):
                found[c, d] = np.einsum("ij,ij->", P[np.ix_(self.rows[c], self.rows[d])], block)
            else:
                found[c, d] = P[self.rows[c][block.row], self.rows[d][block.col]] @ block.data
            found[d, c] = found[c, d]
        return found

    def quadratics(self, Py: np.ndarray) -> np.ndarray:
        """(q, q) (Py)'Z_c K Z_d'(Py)."""
        found = np.zeros((len(self.rows), len(self.rows)))
        for (c, d), block in self.between.items():
            found[c, d] = found[d, c] = Py[self.rows[c]] @ (block @ Py[self.rows[d]])
        return found

    def working(self, Py: np.ndarray, c: int, d: int) -> np.ndarray:
        """V_i P y, (values,), of the parameter (c, d), d ≤ c."""
        out, block = np.zeros_like(Py), self.between[c, d]
        out[self.rows[c]] += block @ Py[self.rows[d]]
        if c != d:
            out[self.rows[d]] += block.T @ Py[self.rows[c]]
        return out


@dataclass(frozen=True)
class _Data:
    """What does not depend on the variances. y: (values,) that were observed; X: (values, p)."""

    y: np.ndarray
    X: np.ndarray
    effects: dict[str, _Effect]
    relationships: np.ndarray

    @classmethod
    def of(cls, design: Design, K: np.ndarray) -> _Data:
        observed = design.records.observed.ravel()
        W = sparse.csr_array(design.incidence[observed])
        q, t = len(design.components), len(design.records.traits)
        trait = np.flatnonzero(observed) % t
        effects = {"genetic": _Effect.of([_of(W, design.others + c, q) for c in range(q)], K)}
        scale = sparse.diags_array(1 / np.sqrt(design.records.weights.ravel()[observed]))
        record = np.flatnonzero(observed) // t
        own = sparse.csr_array((np.ones(trait.size), (np.arange(trait.size), record)))
        effects["residual"] = _Effect.of([scale @ _masked(own, trait == j) for j in range(t)], None)
        start = design.fixed
        for term in design.random_terms:
            part = sparse.csr_array(W[:, start : start + term.size])
            effects[term.name] = _Effect.of([_of(part, place, t) for place in range(t)], None)
            start += term.size
        return cls(design.records.y.ravel()[observed], W[:, : design.fixed].toarray(), effects, K)


def _of(W: sparse.csr_array, first: int, step: int) -> sparse.csr_array:
    """Every step-th column from the first on: those of a component."""
    return sparse.csr_array(W[:, first::step])


def _masked(Z: sparse.csr_array, rows: np.ndarray) -> sparse.csr_array:
    found = sparse.csr_array(sparse.diags_array(rows.astype(float)) @ Z)
    found.eliminate_zeros()
    return found


class CovarianceFit(Fit):
    """By V. Memory: five (values, values) arrays."""

    def __init__(self, design: Design, data: _Data, variances: Variances):
        super().__init__(design, variances)
        self._data = data
        V = np.zeros((data.y.size, data.y.size))
        for name, matrix in self.matrices.items():
            data.effects[name].add(V, matrix)
        try:
            cholesky = Cholesky(V)
        except BenchError:
            return
        twice = cholesky.log_determinant()
        ViX = cholesky.solve(data.X)
        try:
            inner = Cholesky(np.asfortranarray(data.X.T @ ViX))
        except BenchError:
            raise BenchError("AI-REML: the fixed effects are confounded: take one of them off the model") from None
        inverse = dpotri(cholesky.factor, lower=1, overwrite_c=1)[0]
        inverse = np.tril(inverse)
        inverse += np.tril(inverse, -1).T
        self.P = inverse - ViX @ inner.solve(np.asfortranarray(ViX.T))
        self.Py = self.P @ data.y
        self.log_likelihood = -0.5 * (twice + inner.log_determinant() + float(data.y @ self.Py))

    @classmethod
    def of(cls, design: Design, relationships: np.ndarray, variances: Variances) -> Self:
        """relationships: K, (levels, levels), positive semidefinite."""
        return cls(design, _Data.of(design, relationships), variances)

    def at(self, variances: Variances) -> Self:
        return type(self)(self.design, self._data, variances)

    @property
    def genetic_levels(self) -> int:
        return semidefinite_root(self._data.relationships.copy()).shape[1]

    @cached_property
    def curvature(self) -> Matrices:
        effects = self._data.effects
        return {name: effects[name].quadratics(self.Py) - effects[name].traces(self.P) for name in self.matrices}

    @cached_property
    def information(self) -> np.ndarray:
        effects = self._data.effects
        F = np.column_stack([effects[name].working(self.Py, j, k) for name, j, k in parameters(self.matrices)])
        return F.T @ self.P @ F / 2
