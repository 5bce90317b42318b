"""Cross-validated predictive ability: phenotypes of held-out individuals against their prediction.

Relationships use everybody's allele frequencies, the held-out included: no phenotype enters them, and with
an intercept in the model centring changes no EBV contrast; the scale of G goes into λ.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.errors import BenchError
from bench.models.gblup import Records, generalised_least_squares
from bench.models.reml import Spectrum, estimate
from bench.solvers.operator import SymmetricOperator
from bench.solvers.pcg import jacobi, pcg


@dataclass(frozen=True)
class CrossValidation:
    """Each record predicted by a model that has not seen its fold. lams: λ of each fold's training set."""

    y: np.ndarray
    folds: np.ndarray
    predicted: np.ndarray  # x'b + u
    predicted_u: np.ndarray
    lams: np.ndarray

    @property
    def pooled(self) -> float:
        """Correlation of prediction and phenotype over all records."""
        return correlation(self.predicted, self.y)

    @property
    def pooled_u(self) -> float:
        """The same without the fixed effects."""
        return correlation(self.predicted_u, self.y)

    @property
    def per_fold(self) -> np.ndarray:
        """The correlation within each fold; NaN where a fold has too few records to have one."""
        inside = [self.folds == fold for fold in np.unique(self.folds)]
        return np.array([correlation(self.predicted[i], self.y[i]) for i in inside])

    @property
    def slope(self) -> float:
        """Of the regression of phenotype on prediction: 1 is right, below 1 predictions spread too far."""
        p = self.predicted - self.predicted.mean()
        return float(p @ self.y / (p @ p)) if p.any() else float("nan")

    @property
    def mean_squared_error(self) -> float:
        return float(np.mean((self.y - self.predicted) ** 2))


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's; NaN where either does not vary or there are fewer than three pairs."""
    a, b = a - a.mean(), b - b.mean()
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b / size) if a.size > 2 and size > 0 else float("nan")


def random_folds(n_records: int, folds: int, *, seed: int) -> np.ndarray:
    """Fold labels 0 … folds−1, (n_records,), of sizes that differ by at most one."""
    if not 2 <= folds <= n_records:
        raise BenchError(
            f"cross-validation: {folds} folds of {n_records} records; between 2 and {n_records} can be had"
        )
    return np.random.default_rng([seed, n_records, folds]).permutation(np.arange(n_records) % folds)


def cross_validate_reml(G: np.ndarray, records: Records, folds: np.ndarray) -> CrossValidation:
    """λ by REML in each training set, one eigendecomposition per fold. G: (r, r) among the records."""
    predicted, predicted_u, lams = np.empty(records.y.size), np.empty(records.y.size), []
    for fold in np.unique(folds):
        out, kept = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        training = _training(records, kept)
        spectrum = Spectrum.of(G[np.ix_(kept, kept)])
        lam = estimate(spectrum, training.y, training.X).lam
        fit = generalised_least_squares(training, spectrum.solve(training.right_hand_sides, lam), lam)
        predicted_u[out] = G[np.ix_(out, kept)] @ fit.alpha
        predicted[out] = records.X[out] @ fit.b + predicted_u[out]
        lams.append(lam)
    return CrossValidation(records.y, folds, predicted, predicted_u, np.array(lams))


def cross_validate_fixed(
    gram: SymmetricOperator,
    records: Records,
    folds: np.ndarray,
    lam: float,
    *,
    diagonal: np.ndarray,
    rtol: float = 1e-6,
    max_steps: int = 1000,
) -> CrossValidation:
    """λ held at `lam`, all folds in one PCG. gram: (r, r) among the records, diagonal: its (r,).

    rtol: a correlation over thousands of records does not see an error of 1e-6 in a prediction.
    """
    labels, fold_of = np.unique(folds, return_inverse=True)
    kept = fold_of != np.arange(labels.size)[:, None]
    rhs = kept[:, :, None] * records.right_hand_sides
    solution = pcg(
        _FoldVariances(gram, kept, lam),
        rhs.reshape(-1, rhs.shape[2]),
        preconditioner=jacobi(np.tile(diagonal + lam, labels.size)),
        rtol=rtol,
        max_steps=max_steps,
    )
    if not solution.converged.all():
        raise BenchError(
            f"cross-validation: PCG stopped after {solution.steps} steps above {rtol:.0e}; raise max_steps"
        )
    solved = solution.value.reshape(rhs.shape)
    alphas, fixed = np.zeros((records.y.size, labels.size)), np.empty(records.y.size)
    for i, inside in enumerate(kept):
        fit = generalised_least_squares(_training(records, np.flatnonzero(inside)), solved[i, inside], lam)
        alphas[inside, i] = fit.alpha
        fixed[~inside] = records.X[~inside] @ fit.b
    predicted_u = gram.matmul(alphas)[np.arange(folds.size), fold_of]
    return CrossValidation(records.y, folds, fixed + predicted_u, predicted_u, np.full(labels.size, lam))


@dataclass(frozen=True)
class _FoldVariances:
    """Block-diagonal: for each fold, V with the rows and columns of its held-out records masked.

    kept: (folds, r), true for the training records. All blocks share one product with G.
    """

    gram: SymmetricOperator
    kept: np.ndarray
    lam: float

    @property
    def shape(self) -> tuple[int, int]:
        return self.kept.size, self.kept.size

    def matmul(self, V: np.ndarray) -> np.ndarray:
        cube = V.reshape(*self.kept.shape, -1)
        side_by_side = (self.kept[:, :, None] * cube).transpose(1, 0, 2)
        products = self.gram.matmul(side_by_side.reshape(side_by_side.shape[0], -1))
        masked = self.kept[:, :, None] * products.reshape(side_by_side.shape).transpose(1, 0, 2)
        return masked.reshape(V.shape) + self.lam * V


def _training(records: Records, kept: np.ndarray) -> Records:
    """The records `kept`, numbered among themselves."""
    X = records.X[kept]
    if kept.size < X.shape[1] + 2 or np.linalg.matrix_rank(X) < X.shape[1]:
        raise BenchError(
            f"cross-validation: {kept.size} training records cannot estimate {X.shape[1]} fixed effects; "
            "use other folds"
        )
    return Records(np.arange(kept.size), records.y[kept], X, kept.size)
