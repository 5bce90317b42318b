"""A random model with its files and, dense, all the pieces that its equations are made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from bench.models.variances import MATERNAL_PERMANENT, PERMANENT


def tabular(sire: np.ndarray, dam: np.ndarray) -> np.ndarray:
    """A by the tabular method (Emik & Terrill 1949)."""
    A = np.zeros((len(sire), len(sire)))
    for i, parents in enumerate(zip(sire, dam, strict=True)):
        for p in parents:
            if p >= 0:
                A[i, :i] += A[p, :i] / 2
        A[:i, i] = A[i, :i]
        s, d = parents
        A[i, i] = 1 + (A[s, d] / 2 if s >= 0 and d >= 0 else 0)
    return A


def positive(rng: np.random.Generator, k: int) -> np.ndarray:
    F = rng.standard_normal((k, k + 2))
    return F @ F.T / k + 0.2 * np.eye(k)


class Case:
    """A random model, its files in `folder`, and its pieces dense, each row an observed (record, trait)."""

    def __init__(
        self, seed: int, folder: Path, *, n=14, R=40, traits=1, permanent=False, maternal=False, weights=False
    ):
        self.rng = rng = np.random.default_rng(seed)
        t = traits
        self.n, self.R, self.t, self.maternal = n, R, t, maternal
        sire, dam = (np.array([-1] * 4 + [int(rng.integers(0, i)) for i in range(4, n)]) for _ in "sd")
        self.A = tabular(sire, dam)
        names = [f"t{j}" for j in range(t)]
        animal = rng.integers(4 if maternal else 0, n, R)
        y = rng.standard_normal((R, t)) + 3
        y[rng.random((R, t)) < 0.3] = np.nan
        y[0] = 1.0
        self.w = rng.uniform(0.5, 3, (R, t)) if weights else np.ones((R, t))
        herd, litter, age = rng.integers(0, 3, R), rng.integers(0, 4, R), rng.uniform(1, 2, R)
        self.sire, self.dam = sire, dam
        self.y, self.herd, self.litter, self.age, self.animal = y, herd, litter, age, animal
        q = 2 * t if maternal else t
        self.G, self.R0, self.L = positive(rng, q), positive(rng, t), positive(rng, t)
        self.environment = {PERMANENT: positive(rng, t)} if permanent else {}
        if maternal and permanent:
            self.environment[MATERNAL_PERMANENT] = positive(rng, t)
        self.folder = folder
        self.write_records()
        of = lambda p: [f"a{i}" if i >= 0 else "0" for i in p]  # noqa: E731
        pedigree = pd.DataFrame({"id": of(range(n)), "sire": of(sire), "dam": of(dam)})
        pedigree.to_csv(folder / "pedigree.tsv", sep="\t", index=False)
        variances = {"genetic": self.G.tolist(), "residual": self.R0.tolist(), "litter": self.L.tolist()}
        variances |= {name: covariance.tolist() for name, covariance in self.environment.items()}
        self.file = {
            "records": "records.tsv", "traits": names, "fixed": {"herd": "class", "age": "covariate"},
            "random": {"litter": "class"}, "permanent": permanent, "variances": variances,
            "pedigree": {"file": "pedigree.tsv", "selfing": True},
        }  # fmt: skip
        if maternal:
            self.file["maternal"] = {"permanent": permanent}
        if weights:
            self.file["weights"] = {name: f"w{j}" for j, name in enumerate(names)}
        self.path = folder / "model.yaml"
        self.rewritten()

    def write_records(self) -> None:
        """The records' file, from what they are now."""
        table = pd.DataFrame({"id": [f"a{i}" for i in self.animal], "herd": [f"h{i}" for i in self.herd]})
        table = table.assign(litter=self.litter, age=self.age)
        table = table.assign(**{f"t{j}": self.y[:, j] for j in range(self.t)})
        table = table.assign(**{f"w{j}": self.w[:, j] for j in range(self.t)})
        table.to_csv(self.folder / "records.tsv", sep="\t", index=False, na_rep="NA", float_format="%.17g")

    def rewritten(self) -> Path:
        """The model file, written again from `file`."""
        self.path.write_text(yaml.safe_dump(self.file, sort_keys=False))
        return self.path

    def rows(self) -> list[tuple[int, int]]:
        return [(i, j) for i in range(self.R) for j in range(self.t) if not np.isnan(self.y[i, j])]

    def X(self) -> np.ndarray:
        """A column for each observed herd × trait, one for age × trait: by herd, then trait."""
        rows = self.rows()
        herds = [[(self.herd[i] == h) * (j == k) for h in range(3) for k in range(self.t)] for i, j in rows]
        ages = [[self.age[i] * (j == k) for k in range(self.t)] for i, j in rows]
        X = np.column_stack([np.array(herds, float), np.array(ages)])
        return X[:, (X != 0).any(axis=0)]

    def Z(self, levels: np.ndarray, n: int) -> np.ndarray:
        """(rows, n·t): a level's traits side by side."""
        Z = np.zeros((len(self.rows()), n * self.t))
        for row, (i, j) in enumerate(self.rows()):
            if levels[i] >= 0:
                Z[row, levels[i] * self.t + j] = 1
        return Z

    def genetic(self) -> tuple[np.ndarray, np.ndarray]:
        """Z and the covariance of the genetic effects."""
        direct = self.Z(self.animal, self.n)
        if not self.maternal:
            return direct, np.kron(self.A, self.G)
        both = np.zeros((len(direct), self.n, 2, self.t))
        both[:, :, 0] = direct.reshape(-1, self.n, self.t)
        both[:, :, 1] = self.Z(self.dam[self.animal], self.n).reshape(-1, self.n, self.t)
        return both.reshape(len(direct), -1), np.kron(self.A, self.G)

    def residual(self) -> np.ndarray:
        rows = self.rows()
        V = np.zeros((len(rows), len(rows)))
        for a, (i, j) in enumerate(rows):
            for b, (k, m) in enumerate(rows):
                if i == k:
                    V[a, b] = self.R0[j, m] / np.sqrt(self.w[i, j] * self.w[k, m])
        return V

    def environments(self) -> np.ndarray:
        Z = self.Z(self.litter, 4)
        V = Z @ np.kron(np.eye(4), self.L) @ Z.T
        for name, covariance in self.environment.items():
            Z = self.Z(self.animal if name == PERMANENT else self.dam[self.animal], self.n)
            V += Z @ np.kron(np.eye(self.n), covariance) @ Z.T
        return V

    def records(self) -> np.ndarray:
        return np.array([self.y[i, j] for i, j in self.rows()])
