"""Random models with genotypes, their files, and their BLUP by generalised least squares with a dense H."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from bench.genotypes.packed import PackedGenotypes
from bench.single_step.problem import Problem
from model_case import Case
from single_step_chain import build


class GenotypedCase(Case):
    """A random model whose pedigree has unknown parents, in groups if there are any, and genotypes of some animals.

    kind: what `groups` groups are: "fixed", "random" or "metafounders". Levels are animals, then groups.
    """

    def __init__(self, seed: int, folder: Path, *, g: int, m: int, w: float, groups=0, kind="fixed", **options):
        super().__init__(seed, folder, **options)
        rng, n = self.rng, self.n
        self.share, self.groups, self.kind = w, groups, kind
        for parent in (self.sire, self.dam):
            parent[rng.random(n) < 0.15] = -1
        self.dam[self.animal[0]] = 0 if self.animal[0] else -1  # some record has a dam
        self.of = rng.integers(0, max(groups, 1), (n, 2))
        self.gamma = np.eye(groups) * 0.3 + 0.4
        self.genotyped = rng.permutation(n)[:g]
        self.dosages = rng.binomial(2, rng.uniform(0.2, 0.8, m), (g, m)).astype(np.int8)
        self.dosages[rng.random((g, m)) < 0.05] = -1
        self.dosages[:2, 0] = [0, 2][:g]
        self.ids = [f"a{i}" for i in self.genotyped]
        self.changed()

    def changed(self) -> None:
        """Files and relationships after the pedigree or records have been changed."""
        self.write_records()
        self._write(self.folder)
        self._relationships()

    def _write(self, folder: Path) -> None:
        def names(parent: np.ndarray, side: int) -> list[str]:
            unknown = [f"G{k}" if self.groups else "0" for k in self.of[:, side]]
            return [f"a{p}" if p >= 0 else unknown[i] for i, p in enumerate(parent)]

        table = {"id": [f"a{i}" for i in range(self.n)], "sire": names(self.sire, 0), "dam": names(self.dam, 1)}
        pd.DataFrame(table).to_csv(folder / "pedigree.tsv", sep="\t", index=False)
        labels = [f"G{k}" for k in range(self.groups)]
        if self.groups and self.kind == "metafounders":
            gamma = pd.DataFrame(self.gamma, index=labels, columns=labels)
            gamma.to_csv(folder / "gamma.tsv", sep="\t", index_label="id")
            self.file["pedigree"] |= {"metafounders": "gamma.tsv"}
        elif self.groups:
            self.file["pedigree"] |= {"groups": labels, "group_effect": self.kind}
        self.rewritten()

    def _relationships(self) -> None:
        """A of the levels by the tabular rules, and Q, the expected shares of the groups."""
        n, G = self.n, self.groups
        meta = G and self.kind == "metafounders"
        A = np.zeros((n + G, n + G))
        A[n:, n:] = self.gamma if meta else np.eye(G)
        Q = np.vstack([np.zeros((n, G)), np.eye(G)])
        for i in range(n):
            parents = [p if p >= 0 else n + self.of[i, side] for side, p in enumerate((self.sire[i], self.dam[i]))]
            Q[i] = sum((Q[p] for p in parents if G), np.zeros(G)) / 2
            known = parents if meta else [p for p in parents if p < n]
            done = [*range(i), *(range(n, n + G) if meta else ())]
            for p in known:
                A[i, done] += A[p, done] / 2
            A[done, i] = A[i, done]
            A[i, i] = 1 + (A[known[0], known[1]] / 2 if len(known) == 2 else 0)
        self.relationships, self.Q = A, Q

    def blended(self, tuning: str) -> tuple[float, np.ndarray]:
        """a 11' and Gw of the notation in relationships.tuning, each element as the papers have it."""
        A = self.relationships[np.ix_(self.genotyped, self.genotyped)]
        calls = np.ma.masked_less(self.dosages, 0)
        meta = self.groups and self.kind == "metafounders"
        p = np.full(calls.shape[1], 0.5) if meta else np.asarray(calls.mean(axis=0).filled(0.0)) / 2
        M = (calls - 2 * p).filled(0.0)
        G = M @ M.T / (2 * p * (1 - p)).sum()
        w = self.share
        if tuning == "blupf90":
            a, b = tuned((1 - w) * G + w * A, A, "chen")
            return a, a + b * ((1 - w) * G + w * A)
        a, b = tuned(G, A, tuning)
        return (1 - w) * a if b > 0 else -np.inf, (1 - w) * (a + b * G) + w * A

    def covariance(self, Gw: np.ndarray) -> np.ndarray:
        """H of all levels (Christensen & Lund 2010), in which random groups are counted: var(u + Qγ)."""
        A, g = self.relationships, self.genotyped
        P = A[:, g] @ np.linalg.inv(A[np.ix_(g, g)])
        H = A + P @ (Gw - A[np.ix_(g, g)]) @ P.T
        if self.groups and self.kind != "metafounders":
            H[self.n :, self.n :] = 0
            if self.kind == "random":
                H = H + self.Q @ self.Q.T
        return H

    def genetic_incidence(self) -> np.ndarray:
        """(rows, levels·q)."""
        Z, _ = self.genetic()
        return np.hstack([Z, np.zeros((len(Z), self.groups * len(self.G)))])

    def blup(self, Gw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """û (levels, q), and the values fitted (rows,) without random environments; of fixed groups û is u − Qγ."""
        Z, K = self.genetic_incidence(), np.kron(self.covariance(Gw), self.G)
        V = Z @ K @ Z.T + self.environments() + self.residual()
        X = self.X()
        if self.groups and self.kind == "fixed":
            X = np.hstack([X, Z @ np.kron(self.Q, np.eye(len(self.G)))])
        VX = np.linalg.solve(V, X)
        b = np.linalg.lstsq(X.T @ VX, VX.T @ self.records(), rcond=1e-11)[0]
        u = K @ Z.T @ np.linalg.solve(V, self.records() - X @ b)
        return u.reshape(-1, len(self.G)), X @ b + Z @ u

    def problem(self, tuning: str) -> Problem:
        return build(self.path, PackedGenotypes.from_dosages(self.dosages), self.ids, w=self.share, tuning=tuning)


def tuned(G: np.ndarray, A: np.ndarray, tuning: str) -> tuple[float, float]:
    """a and b of a 11' + b G."""
    if tuning == "vitezica":
        a = A.mean() - G.mean()
        return a, 1 - a / 2
    if tuning == "chen":
        off = ~np.eye(len(G), dtype=bool)
        b = (np.diag(A).mean() - A[off].mean()) / (np.diag(G).mean() - G[off].mean())
        return np.diag(A).mean() - b * np.diag(G).mean(), b
    if tuning == "vanraden":
        g1, g0 = np.polyfit(A.ravel(), G.ravel(), 1)
        return -g0 / g1, 1 / g1
    return 0.0, 1.0
