"""Random single-step cases, and their BLUP by generalised least squares with a dense H: nothing of the package."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class Case:
    """A pedigree in order, genotypes of some, records of some; q traits.

    X, Z: (r, p) and (r, n·q) of observed values; R: (r, r); y: (r,).
    """

    sire: np.ndarray
    dam: np.ndarray
    genotyped: np.ndarray
    dosages: np.ndarray
    share: float
    G0: np.ndarray
    X: np.ndarray
    Z: np.ndarray
    R: np.ndarray
    y: np.ndarray


def draw(seed, *, n=40, g=12, m=18, traits=1, share=0.1, missing=0.2, repeats=False, fixed=3):
    rng = np.random.default_rng(seed)
    sire, dam = np.full(n, -1), np.full(n, -1)
    for i in range(4, n):
        if rng.random() < 0.9:
            sire[i] = rng.integers(0, i)
        if rng.random() < 0.9:
            dam[i] = rng.integers(0, i)
    genotyped = rng.choice(n, g, replace=False)
    frequency = rng.uniform(0.1, 0.9, m)
    dosages = rng.binomial(2, frequency, (g, m))
    dosages[:2] = [[0], [2]]  # every SNP varies
    B = rng.standard_normal((traits, traits))
    G0 = B @ B.T / traits + np.eye(traits) * 0.3
    B = rng.standard_normal((traits, traits))
    R0 = B @ B.T / traits + np.eye(traits) * 0.5
    animals = np.concatenate([np.arange(n), rng.choice(n, n // 2)]) if repeats else rng.permutation(n)[: int(0.8 * n)]
    rows = [
        (record, animal, t) for record, animal in enumerate(animals) for t in range(traits) if rng.random() > missing
    ]
    herd, age = rng.integers(0, fixed, len(animals)), rng.standard_normal(len(animals))
    herd[:fixed] = np.arange(fixed)
    X, Z = np.zeros((len(rows), traits * (fixed + 1))), np.zeros((len(rows), n * traits))
    R = np.zeros((len(rows), len(rows)))
    for i, (record, animal, t) in enumerate(rows):
        X[i, t * (fixed + 1) + herd[record]] = 1
        X[i, t * (fixed + 1) + fixed] = age[record]
        Z[i, animal * traits + t] = 1
        for j, (other, _, s) in enumerate(rows):
            if other == record:
                R[i, j] = R0[t, s]
    X = X[:, X.any(axis=0)]
    y = rng.standard_normal(len(rows)) + X @ rng.standard_normal(X.shape[1])
    return Case(sire, dam, genotyped, dosages, share, G0, X, Z, R, y)


def tabular(sire, dam):
    """A by the tabular method."""
    n = len(sire)
    A = np.zeros((n, n))
    for i in range(n):
        for parent in (sire[i], dam[i]):
            if parent >= 0:
                A[i, :i] += A[parent, :i] / 2
        A[:i, i] = A[i, :i]
        A[i, i] = 1 + (A[sire[i], dam[i]] / 2 if sire[i] >= 0 and dam[i] >= 0 else 0)
    return A


def vanraden(case):
    """M, c."""
    p = case.dosages.mean(axis=0) / 2
    return case.dosages - 2 * p, float(2 * (p * (1 - p)).sum())


def relationships(case, constant=0.0, scale=1.0):
    """H of Christensen & Lund (2010), for a Gw that may be singular."""
    A = tabular(case.sire, case.dam)
    M, c = vanraden(case)
    g = case.genotyped
    Gw = scale * (1 - case.share) * M @ M.T / c + constant + scale * case.share * A[np.ix_(g, g)]
    P = A[:, g] @ np.linalg.inv(A[np.ix_(g, g)])
    H = A + P @ (Gw - A[np.ix_(g, g)]) @ P.T
    return H, Gw


def blup(case, H):
    """b̂ and û (n, q) by generalised least squares."""
    K = np.kron(H, case.G0)
    V = case.Z @ K @ case.Z.T + case.R
    VX, Vy = np.linalg.solve(V, case.X), np.linalg.solve(V, case.y)
    b = np.linalg.lstsq(case.X.T @ VX, case.X.T @ Vy, rcond=None)[0]
    u = K @ case.Z.T @ np.linalg.solve(V, case.y - case.X @ b)
    return b, u.reshape(len(case.sire), -1)
