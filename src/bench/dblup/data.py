"""Records, fixed effects and folds as arrays that a compiled function takes."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from bench.errors import BenchError
from bench.models.gblup import Records


class Data(eqx.Module):
    """The r records of n genotyped individuals, an individual without one being masked, never imputed.

    y: (r,) phenotypes less what least squares fit of the effects takes of them, offset (p,): P is blind to it, and
    a tolerance relative to y would be one relative to the mean. basis, triangle: the QR of the fixed effects,
    X = basis·triangle, (r, p) and (p, p): P and the likelihood depend on X's column space alone. index: (r,)
    positions among the individuals. members: (K, s) positions among the records of the held-out records of K folds,
    r where a fold has fewer than s.
    """

    y: jax.Array
    offset: jax.Array
    basis: jax.Array
    triangle: jax.Array
    index: jax.Array
    members: jax.Array | None
    n: int = eqx.field(static=True)

    @classmethod
    def of(
        cls,
        phenotypes: np.ndarray,
        fixed: np.ndarray | None = None,
        *,
        folds: np.ndarray | None = None,
        name: str = "phenotypes",
    ) -> Data:
        """phenotypes: (n,), NaN where there is no record. fixed: (n, p), by default the intercept.

        folds: (n,) integers; the records of each fold 0, 1, … are held out in turn, those of a negative one are in
        every training set: a single split is 0 and −1. BenchError: too few records, dependent effects, a trait that
        does not vary, folds of others, a fold whose training set cannot estimate the effects.
        """
        records = Records.of(phenotypes, fixed, name=name)
        if folds is not None and np.shape(folds) != (records.n_samples,):
            raise BenchError(f"{name}: {records.n_samples} individuals need a fold each, found {np.shape(folds)}")
        basis, triangle = np.linalg.qr(records.X)
        residual = records.y - basis @ (basis.T @ records.y)
        if np.linalg.norm(residual) <= 1e-12 * np.linalg.norm(records.y):
            raise BenchError(f"{name}: they do not vary around their fixed effects; there is nothing to learn from")
        members = None if folds is None else _members(np.asarray(folds)[records.index], basis, name)
        return cls(
            jnp.asarray(residual),
            jnp.asarray(basis.T @ records.y),
            jnp.asarray(basis),
            jnp.asarray(triangle),
            jnp.asarray(records.index),
            None if members is None else jnp.asarray(members),
            records.n_samples,
        )

    @property
    def freedom(self) -> int:
        """r − p."""
        return self.basis.shape[0] - self.basis.shape[1]

    def scatter(self, values: jax.Array) -> jax.Array:
        """(r, k) → (n, k), 0 for the individuals without a record."""
        return jnp.zeros((self.n, values.shape[1])).at[self.index].set(values)


def _members(folds: np.ndarray, basis: np.ndarray, name: str) -> np.ndarray:
    """Positions of each fold's records, padded with r; (K, s)."""
    labels = np.unique(folds[folds >= 0])
    if not labels.size:
        raise BenchError(f"{name}: no record is in a fold that is held out; folds 0, 1, … were needed")
    r, p = basis.shape
    held = [np.flatnonzero(folds == label) for label in labels]
    for label, records in zip(labels, held, strict=True):
        if np.linalg.matrix_rank(np.delete(basis, records, axis=0)) < p:
            raise BenchError(
                f"{name}: without fold {label} the {r - records.size} records that are left cannot estimate "
                f"{p} fixed effect(s); make the fold smaller or drop an effect"
            )
    size = max(records.size for records in held)
    return np.stack([np.pad(records, (0, size - records.size), constant_values=r) for records in held])
