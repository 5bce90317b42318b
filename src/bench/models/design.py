"""From records to the mixed model equations: several traits, missing records, weights.

Rows are records × traits, a record's traits side by side. R_i⁻¹ is the inverse over the traits that were recorded and
0 elsewhere; weights scale R_i's entries to r_jk/√(w_j w_k) (Henderson 1984; Mrode 2014, chapter 5).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.sparse.linalg import lsmr

from bench.models.confounding import Estimable, estimable
from bench.models.equations import Equations
from bench.models.model_file import Model
from bench.models.records import Records
from bench.models.terms import Term, fixed_terms, random_terms
from bench.models.variances import Variances, inverted
from bench.relationships.pedigree import Pedigree


@dataclass(frozen=True)
class Design:
    """y = W v + e of a model and its records: fixed effects, independent random effects, genetic effects.

    incidence: W, (R·t, others + animals·q). fixed: how many fixed effects have an equation; others: those and the
    levels of the random effects. animals: n of the pedigree. components: q names. estimable: what became of the
    fixed effects.
    """

    records: Records
    fixed_terms: list[Term]
    random_terms: list[Term]
    estimable: Estimable
    incidence: sparse.csr_array
    animals: int
    components: tuple[str, ...]

    @classmethod
    def of(cls, model: Model, pedigree: Pedigree, records: Records) -> Design:
        """BenchError if a covariate is confounded."""
        fixed, random = fixed_terms(model, records), random_terms(model, records, pedigree.ids)
        checked = estimable(fixed, records.observed, model.traits)
        W = _incidence(fixed, random, checked, records, len(pedigree), len(model.components))
        return cls(records, fixed, random, checked, W, len(pedigree), model.components)

    @property
    def fixed(self) -> int:
        return int(sum(kept.sum() for kept in self.estimable.kept))

    @property
    def others(self) -> int:
        return self.fixed + sum(term.size for term in self.random_terms)

    @property
    def columns(self) -> int:
        """Of the incidence: the others and the animals' components."""
        return self.others + self.animals * len(self.components)

    @property
    def notes(self) -> list[str]:
        """What a log should say: about the records, and about fixed effects that were set to 0 or not checked."""
        unchecked = [
            f"fixed effects of {trait}: too many to be checked for confounding" for trait in self.estimable.unchecked
        ]
        return [*self.records.notes, *self.estimable.notes(), *unchecked]

    def labels(self) -> pd.DataFrame:
        """effect, kind ("fixed" or "random"), level and trait of each of the `others`, in their order."""
        traits = np.array(self.records.traits, object)
        parts = []
        for term, kept in self._terms():
            level, place = np.nonzero(kept)  # row by row: a level's traits side by side
            kind = "random" if term.kind == "random" else "fixed"
            named = {"level": term.levels[level], "trait": traits[np.array(term.traits)[place]]}
            parts.append(pd.DataFrame({"effect": term.name, "kind": kind, **named}))
        return pd.concat(parts, ignore_index=True)

    def _terms(self) -> Iterator[tuple[Term, np.ndarray]]:
        """Each term with the mask of its (level, trait) that have an equation."""
        yield from zip(self.fixed_terms, self.estimable.kept, strict=True)
        for term in self.random_terms:
            yield term, np.ones((len(term.levels), len(term.traits)), bool)

    def less_fixed(self) -> tuple[Design, np.ndarray]:
        """The same design for records less a quick fit Xb of their fixed effects, and b, (fixed,).

        Genetic effects do not depend on what is taken off, and b is added to the fixed ones. PCG's stopping rule
        does: it is relative to the right-hand side, which means of 30 and sums over a covariate made 4·10⁴ times
        larger than what is left; EBVs were then wrong by 2e-4 standard deviations at ‖r‖/‖b‖ = 1e-9.
        """
        X = self.incidence[:, : self.fixed]
        length = np.sqrt(np.asarray(X.multiply(X).sum(axis=0)).ravel())
        length[length == 0] = 1.0
        scaled = sparse.csr_array(X @ sparse.diags_array(1 / length))
        b = lsmr(scaled, self._rows(self.records.y), atol=1e-10, btol=1e-10, maxiter=500)[0] / length
        y = self.records.y - (X @ b).reshape(self.records.y.shape)
        return replace(self, records=replace(self.records, y=y)), b

    def assemble(self, inverse: sparse.csr_array, variances: Variances) -> Equations:
        """The mixed model equations. inverse: A⁻¹ (or H⁻¹), (n + G, n + G) with any groups after the animals."""
        levels, others = len(inverse.indptr) - 1, self.others
        if levels < self.animals:
            raise ValueError(f"the inverse has {levels} rows, the pedigree {self.animals} animals")
        weighted = sparse.csr_array(self.precision(variances) @ self.incidence)
        matrix = sparse.csr_array(self.incidence.T @ weighted)
        if variances.residual.size > 1:
            matrix.eliminate_zeros()  # of traits that were not recorded
        matrix.sort_indices()
        size = others + levels * len(self.components)
        matrix = _placed(matrix, 0, size) + self._penalty(variances, size)
        genetic = kron(inverse, inverted(variances.genetic))
        matrix = matrix + _placed(genetic, others, size)
        rhs = np.zeros(size)
        rhs[: self.columns] = weighted.T @ self._rows(self.records.y)
        return Equations(
            sparse.csr_array(matrix),
            rhs,
            others,
            self.animals,
            levels - self.animals,
            self.components,
            variances.genetic,
        )

    def _penalty(self, variances: Variances, size: int) -> sparse.csr_array:
        """blkdiag(0, I ⊗ P⁻¹, 0)."""
        found, start = sparse.csr_array((size, size)), self.fixed
        for term in self.random_terms:
            inverse = inverted(variances.others[term.name])
            found = found + _placed(kron(sparse.csr_array(sparse.eye_array(len(term.levels))), inverse), start, size)
            start += term.size
        return sparse.csr_array(found)

    def precision(self, variances: Variances) -> sparse.bsr_array:
        """R⁻¹, (R·t, R·t), a t × t block for each record."""
        records, observed = self.records, self.records.observed
        n, t = observed.shape
        blocks = np.zeros((n, t, t))
        pattern = observed @ (1 << np.arange(t))
        for code in np.unique(pattern):
            rows = pattern == code
            seen = np.flatnonzero(observed[np.flatnonzero(rows)[0]])
            inverse = np.zeros((t, t))
            inverse[np.ix_(seen, seen)] = inverted(variances.residual[np.ix_(seen, seen)])
            root = np.sqrt(records.weights[rows])
            blocks[rows] = inverse * root[:, :, None] * root[:, None, :]
        return sparse.bsr_array((blocks, *_narrow(n * t * t, np.arange(n), np.arange(n + 1))), shape=(n * t, n * t))

    def rhs(self, Y: np.ndarray, variances: Variances, *, groups: int = 0) -> np.ndarray:
        """W'R⁻¹y of other records of the same animals. Y: (R, t) → (size,), or (R, t, k) → (size, k).

        Entries of Y whose trait was not recorded are not read.
        """
        weighted = self.incidence.T @ (self.precision(variances) @ self._rows(Y))
        below = np.zeros((groups * len(self.components), *weighted.shape[1:]))
        return np.concatenate([weighted, below])

    def fitted(self, v: np.ndarray) -> np.ndarray:
        """W v. v: (size,) → (R, t), or (size, k) → (R, t, k); recorded or not."""
        values = self.incidence @ v[: self.columns]
        return values.reshape(*self.records.y.shape, *v.shape[1:])

    def projected(self, v: np.ndarray, variances: Variances, Y: np.ndarray | None = None) -> np.ndarray:
        """R⁻¹(y − W v), which is P y at the solution v; (R, t) or (R, t, k) as `fitted`, 0 where not recorded."""
        Y = self.records.y if Y is None else Y
        left = self._rows(Y) - self._rows(self.fitted(v))
        return (self.precision(variances) @ left).reshape(Y.shape)

    def residual_quadratic(self, v: np.ndarray, variances: Variances, Y: np.ndarray | None = None) -> np.ndarray:
        """Q, (t, t) or (t, t, k), with y'P(∂V/∂r_jk)P y = tr(Q ∂R₀/∂r_jk): Σ_i z_i z_i', z = (P y)/√w.

        One trait: y'P D P y, the quadratic of the residual variance with D = diag(1/w).
        """
        z = self.projected(v, variances, Y)
        z = z / np.sqrt(self.records.weights).reshape(*self.records.y.shape, *[1] * (z.ndim - 2))
        return np.einsum("ij...,ik...->jk...", z, z)

    def simulate(self, rng: np.random.Generator, u: np.ndarray, variances: Variances) -> np.ndarray:
        """Records drawn from the model with fixed effects of 0. u: (n or more, q) → (R, t); (…, q, k) → (R, t, k).

        u: genetic effects, the animals first. NaN where a trait was not recorded.
        """
        more = u.shape[2:]
        drawn = [np.zeros((self.fixed, *more))]
        for term in self.random_terms:
            effects = _normal(rng, variances.others[term.name], len(term.levels), more)
            drawn.append(effects.reshape(-1, *more))
        v = np.concatenate([*drawn, u[: self.animals].reshape(-1, *more)])
        n, t = self.records.y.shape
        roots = np.sqrt(self.records.weights).reshape(n, t, *[1] * len(more))
        Y = self.fitted(v) + _normal(rng, variances.residual, n, more) / roots
        Y[~self.records.observed] = np.nan
        return Y

    def _rows(self, Y: np.ndarray) -> np.ndarray:
        """(R, t) → (R·t,), (R, t, k) → (R·t, k); 0 where a trait was not recorded."""
        n, t = self.records.y.shape
        observed = self.records.observed.reshape(n, t, *[1] * (Y.ndim - 2))
        return np.where(observed, Y, 0.0).reshape(n * t, *Y.shape[2:])


def kron(A: sparse.csr_array, B: np.ndarray) -> sparse.csr_array:
    """A ⊗ B of a square A with a dense (q, q) B."""
    q, rows = len(B), len(A.indptr) - 1
    indices, indptr = _narrow(A.nnz * q * q, A.indices, A.indptr)
    if q == 1:
        return sparse.csr_array((A.data * B[0, 0], indices, indptr), shape=(rows, rows))
    blocks = sparse.bsr_array((A.data[:, None, None] * B, indices, indptr), shape=(rows * q, rows * q))
    return blocks.tocsr()


def _placed(block: sparse.csr_array, start: int, size: int) -> sparse.csr_array:
    """A (size, size) matrix that holds `block` from the diagonal entry `start` on; the numbers are shared."""
    rows = len(block.indptr) - 1
    indptr = np.full(size + 1, block.indptr[-1], block.indptr.dtype)
    indptr[: start + 1] = 0
    indptr[start : start + rows + 1] = block.indptr
    return sparse.csr_array((block.data, block.indices + start, indptr), shape=(size, size))


def _narrow(largest: int, *indices: np.ndarray) -> tuple[np.ndarray, ...]:
    """Indices at 4 bytes where they fit: a third less memory, and less to read in each product."""
    return tuple(i.astype(np.int32, copy=False) for i in indices) if largest < 2**31 else indices


def _normal(rng: np.random.Generator, covariance: np.ndarray, rows: int, more: tuple[int, ...]) -> np.ndarray:
    """(rows, t, …) with rows from N(0, covariance)."""
    z = rng.standard_normal((rows, len(covariance), *more))
    return np.einsum("jk,ik...->ij...", np.linalg.cholesky(covariance), z)


def _incidence(
    fixed: list[Term], random: list[Term], checked: Estimable, records: Records, animals: int, q: int
) -> sparse.csr_array:
    """W, (R·t, others + animals·q); the rows of traits that were not recorded are empty."""
    (n, t), observed = records.y.shape, records.observed
    rows, columns, values = [], [], []
    start = 0

    def add(trait: int, column: np.ndarray, of: np.ndarray | None) -> None:
        at = np.flatnonzero(observed[:, trait] & (column >= 0))
        rows.append(at * t + trait)
        columns.append(column[at])
        values.append(np.ones(at.size) if of is None else of[at])

    for k, term in enumerate([*fixed, *random]):
        kept = checked.kept[k] if k < len(fixed) else np.ones((len(term.levels), len(term.traits)), bool)
        equation = np.full((len(term.levels) + 1, len(term.traits)), -1)  # the last row is what code −1 points to
        equation[:-1][kept] = start + np.arange(kept.sum())
        start += int(kept.sum())
        for place, trait in enumerate(term.traits):
            add(trait, equation[term.codes, place], term.values)
    for trait in range(t):
        add(trait, start + records.animal.astype(np.int64) * q + trait, None)
        if records.dam is not None:
            dam = records.dam.astype(np.int64)
            add(trait, np.where(dam >= 0, start + dam * q + t + trait, -1), None)
    places = _narrow(max(n * t, start + animals * q), np.concatenate(rows), np.concatenate(columns))
    return sparse.csr_array((np.concatenate(values), places), shape=(n * t, start + animals * q))
