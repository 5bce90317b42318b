"""A small livestock population on disk, model files of it, and their BLUP by dense matrices: the same formulas,
no code of the package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from bench.genotypes.livestock import simulate
from bench.genotypes.spec import Livestock, RecordedTrait

SPEC = {
    "kind": "livestock", "animals": 300, "genotyped": 90, "n_snps": 150, "cohorts": 6, "herds": 3, "sires": 8,
    "genotype_sires": True, "chromosomes": 2, "chromosome_length": 30_000_000, "founders": 40, "n_qtl": 40,
    "unknown_parents": 0.1, "groups": 2, "polygenic": 0.1, "repeats": 2, "weights": True, "seed": 11,
    "genetic_correlations": ((1, 0.5), (0.5, 1)), "residual_correlations": ((1, 0.3), (0.3, 1)),
    "traits": (
        RecordedTrait(name="milk", h2=0.35, mean=30, pe=0.1),
        RecordedTrait(name="fat", h2=0.2, mean=5, missing=0.4),
    ),
}  # fmt: skip
ONE = {"genetic": 0.35, "residual": 0.55}
TWO = {"genetic": [[0.35, 0.13], [0.13, 0.2]], "residual": [[0.55, 0.2], [0.2, 0.8]]}
GAMMA = [[0.7, 0.3], [0.3, 0.9]]
GROUPS = ("G1", "G2")


def make_population(folder: Path, library: Path) -> Path:
    """The data set, plain.tsv (its pedigree without groups) and gamma.txt (Γ of the groups)."""
    simulate(Livestock(**SPEC), folder, name="farm", library=library, jobs=1, note=lambda text: None)
    pedigree = pd.read_csv(folder / "pedigree.tsv", sep="\t", dtype=str)
    pedigree.replace({"sire": dict.fromkeys(GROUPS, "0"), "dam": dict.fromkeys(GROUPS, "0")}).to_csv(
        folder / "plain.tsv", sep="\t", index=False
    )
    rows = [f"{name} {' '.join(map(str, row))}" for name, row in zip(GROUPS, GAMMA, strict=True)]
    (folder / "gamma.txt").write_text("\n".join([f"id {' '.join(GROUPS)}", *rows]) + "\n")
    return folder


def model_of(folder: Path, path: Path, **keys) -> Path:
    """A model file at `path`, whose data are in `folder`; a key that is None is left out."""
    model = {
        "records": str(folder / "records.tsv"), "traits": ["milk"],
        "fixed": {"herd_year": "class", "age": "covariate"}, "pedigree": {"file": str(folder / "plain.tsv")},
        "genotypes": {"plink": str(folder / "genotypes")}, "variances": ONE,
        "single_step": {"polygenic": 0.1, "tolerance": 1e-12},
    } | keys  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({key: value for key, value in model.items() if value is not None}))
    return path


def read_bed(prefix: Path, n: int, m: int) -> np.ndarray:
    """(n, m) dosages of allele 2, NaN where missing."""
    codes = np.frombuffer(prefix.with_suffix(".bed").read_bytes()[3:], np.uint8).reshape(m, -1)
    calls = (codes[:, :, None] >> (2 * np.arange(4))) & 3
    return np.array([0, np.nan, 1, 2])[calls.reshape(m, -1)[:, :n]].T


class Oracle:
    """BLUP of a model file by V. ids: (n,) animals; ebv: (n + G, q); H: of the animals' deviations; pev: (n, q)."""

    def __init__(self, path: Path):
        model = yaml.safe_load(path.read_text())
        self.groups = model["pedigree"].get("groups", ())
        self.gamma = GAMMA if "metafounders" in model["pedigree"] else None
        pedigree = pd.read_csv(model["pedigree"]["file"], sep="\t", dtype=str)
        self.ids = pedigree["id"].tolist()
        self._pedigree(pedigree)
        if "genotypes" in model:
            self._genotypes(Path(model["genotypes"]["plink"]), model["single_step"])
        self._model, self._records = model, pd.read_csv(model["records"], sep="\t", dtype={"id": str})
        self._blup(model, self._records)

    def likelihood_at(self, variances: dict) -> float:
        """The restricted log-likelihood at other variances; the solutions are then those, too."""
        self._blup(self._model | {"variances": variances}, self._records)
        return self.log_likelihood

    def _pedigree(self, pedigree: pd.DataFrame) -> None:
        """A of the animals (A^Γ with metafounders), Q, and K of animals and groups."""
        n, named = len(pedigree), GROUPS if self.gamma is not None else self.groups
        place = {name: i for i, name in enumerate([*self.ids, *named])}
        order = [*range(n, n + len(named)), *range(n)]  # all parents stand before their offspring in this file
        A, Q = np.zeros((n + len(named),) * 2), np.zeros((n + len(named), len(named)))
        Q[n:] = np.eye(len(named))
        if self.gamma is not None:
            A[n:, n:] = self.gamma
        for at, i in enumerate(order[len(named) :], start=len(named)):
            before = order[:at]
            parents = [place.get(p, -1) for p in pedigree.loc[i, ["sire", "dam"]]]
            for p in parents:
                if p >= 0:
                    A[i, before] += A[p, before] / 2
                    Q[i] += Q[p] / 2
            A[before, i] = A[i, before]
            A[i, i] = 1 + (A[parents[0], parents[1]] / 2 if min(parents) >= 0 else 0)
        self.A, self.H, self.Q = A, A.copy(), Q
        if self.gamma is None:
            self.A = self.H = A[:n, :n]  # groups have no relationships of their own

    def _genotypes(self, prefix: Path, wanted: dict) -> None:
        fam = pd.read_csv(prefix.with_suffix(".fam"), sep=r"\s+", header=None, dtype=str)
        m = len(prefix.with_suffix(".bim").read_text().splitlines())
        self.genotyped = g = np.array([self.ids.index(name) for name in fam[1]])
        X = read_bed(prefix, len(fam), m)
        p = X.mean(axis=0) / 2
        kept = np.minimum(p, 1 - p) >= 0.01
        M, c = (X - 2 * p)[:, kept], 2 * (p * (1 - p))[kept].sum()
        if self.gamma is not None:
            M, c = (X - 1)[:, kept], kept.sum() / 2
        A, w = self.A[np.ix_(g, g)], wanted["polygenic"]
        self.Gw = tuned(M @ M.T / c, A, w, wanted.get("tuning", "none"))
        P = self.A[:, g] @ np.linalg.inv(A)
        self.H = self.A + P @ (self.Gw - A) @ P.T

    def _blup(self, model: dict, records: pd.DataFrame) -> None:
        traits, n = model["traits"], len(self.ids)
        t, matrix = len(traits), lambda name: np.atleast_2d(model["variances"][name])
        rows = [(i, j) for i in range(len(records)) for j in range(t) if not np.isnan(records[traits[j]].iloc[i])]
        record, trait = np.array(rows).T
        animal = np.array([self.ids.index(name) for name in records["id"]])[record]
        y = np.array([records[traits[j]].iloc[i] for i, j in rows])
        X = [(trait == j) * records["age"].to_numpy()[record] for j in range(t)]
        herds = records["herd_year"].to_numpy()[record]
        X += [(trait == j) & (herds == h) for j in range(t) for h in np.unique(herds)]
        X = np.array(X, float).T
        G0 = matrix("genetic")
        q, levels = len(G0), len(self.H)
        Z = np.zeros((len(y), levels, q))
        Z[np.arange(len(y)), animal, trait] = 1
        if "maternal" in model:
            dams = pd.read_csv(model["pedigree"]["file"], sep="\t", dtype=str)["dam"]
            dam = np.array([self.ids.index(d) if d in self.ids else -1 for d in dams])[animal]
            Z[np.flatnonzero(dam >= 0), dam[dam >= 0], t + trait[dam >= 0]] = 1
        weight = np.ones(len(y)) if "weights" not in model else records[model["weights"]].to_numpy()[record]
        same = record[:, None] == record
        V = same * matrix("residual")[trait[:, None], trait] / np.sqrt(weight[:, None] * weight)
        if model.get("permanent"):
            V = V + (animal[:, None] == animal) * matrix("permanent")[trait[:, None], trait]
        fixed = self.groups and model["pedigree"].get("group_effect") != "random"
        own, K = Z[:, :n].reshape(len(y), -1), self.H
        if self.groups:  # the EBVs are those of Qγ + a, and of γ
            Z = np.concatenate([Z, np.zeros((len(y), len(self.groups), q))], axis=1)
            T = np.block([[np.eye(n), self.Q[:n]], [np.zeros((len(self.groups), n)), np.eye(len(self.groups))]])
            G = np.eye(len(self.groups)) * (not fixed)
            K = np.block([[self.H, np.zeros((n, len(G)))], [np.zeros((len(G), n)), G]])
            K = T @ K @ T.T
        Z = Z.reshape(len(y), -1)
        if fixed:
            X = np.column_stack([X, Z @ np.kron(T[:, n:], np.eye(q))])
        K = np.kron(K, G0)
        V = V + Z @ K @ Z.T
        Vi = np.linalg.inv(V)
        P = Vi - Vi @ X @ np.linalg.pinv(X.T @ Vi @ X, rcond=1e-11, hermitian=True) @ X.T @ Vi
        u = K @ Z.T @ P @ y
        if fixed:
            b = np.linalg.pinv(X.T @ Vi @ X, rcond=1e-11, hermitian=True) @ X.T @ Vi @ y
            u = u + np.kron(T[:, n:], np.eye(q)) @ b[-len(self.groups) * q :]
        self.ebv = u.reshape(-1, q)
        K = np.kron(self.H[:n, :n], G0)  # of deviations from groups
        self.pev = (K - K @ own.T @ P @ own @ K).diagonal().reshape(-1, q)
        self.reliability = 1 - self.pev / (self.H.diagonal()[:n, None] * G0.diagonal())
        r = np.linalg.matrix_rank(X)
        fitted = X @ np.linalg.lstsq(X, y, rcond=None)[0]
        values = np.linalg.eigvalsh(X.T @ Vi @ X)[-r:]
        self.log_likelihood = -0.5 * (
            np.linalg.slogdet(V)[1] + np.log(values).sum() + (y - fitted) @ P @ (y - fitted)
        )


def tuned(G: np.ndarray, A: np.ndarray, w: float, tuning: str) -> np.ndarray:
    """Gw (docs/genomic-relationship.md)."""
    if tuning == "blupf90":
        return matched((1 - w) * G + w * A, A)
    if tuning == "vitezica":
        a = A.mean() - G.mean()
        G = a + (1 - a / 2) * G
    elif tuning == "chen":
        G = matched(G, A)
    elif tuning == "vanraden":
        slope, intercept = np.polyfit(A.ravel(), G.ravel(), 1)
        G = (G - intercept) / slope
    return (1 - w) * G + w * A


def matched(G: np.ndarray, A: np.ndarray) -> np.ndarray:
    """a + bG with the means of A's diagonal and of its other elements."""
    off = ~np.eye(len(A), dtype=bool)
    b = (np.diag(A).mean() - A[off].mean()) / (np.diag(G).mean() - G[off].mean())
    return A[off].mean() - b * G[off].mean() + b * G
