"""Genotyped animals without a pedigree on disk, model files of them, and their GBLUP by dense matrices: the formulas
again, no code of the package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from bench.genotypes.packed import pack_dosages, write_bed

ONE = {"genetic": 0.4, "residual": 0.6}
TWO = {"genetic": [[0.4, 0.15], [0.15, 0.3]], "residual": [[0.6, 0.1], [0.1, 0.7]]}
N, M = 60, 150


def write_genotypes(prefix: Path, dosages: np.ndarray, ids: list[str]) -> None:
    """PREFIX.bed, .bim and .fam of dosages (n, m), −1 where missing."""
    write_bed(prefix.with_suffix(".bed"), [pack_dosages(dosages.astype(np.int8))])
    m = dosages.shape[1]
    prefix.with_suffix(".bim").write_text("".join(f"1 s{j} 0 {j + 1} A C\n" for j in range(m)))
    prefix.with_suffix(".fam").write_text("".join(f"f {name} 0 0 0 -9\n" for name in ids))


def make_population(folder: Path, *, seed: int = 5, n: int = N, m: int = M) -> Path:
    """genotypes.bed and records.tsv: two traits with missing values and repeated records, in another order than the
    .fam; the last 8 animals have genotypes only. Families share haplotypes; generations are 1 to 4."""
    rng = np.random.default_rng(seed)
    family = np.arange(n) % 6
    p = rng.uniform(0.1, 0.9, m)
    of_family = rng.beta(2 * p, 2 * (1 - p), (6, m))
    X = rng.binomial(2, of_family[family]).astype(float)
    u = (X - X.mean(axis=0)) @ rng.standard_normal((m, 2)) / np.sqrt(m / 2)
    X[rng.random((n, m)) < 0.02] = -1
    ids = [f"a{i}" for i in range(n)]
    write_genotypes(folder / "genotypes", X, ids)
    with_records = np.concatenate([rng.permutation(n - 8), rng.integers(0, n - 8, 15)])
    animal = rng.permutation(with_records)
    R = animal.size
    y = np.column_stack([10 + u[animal, 0], 3 + u[animal, 1]]) + rng.standard_normal((R, 2)) * 0.8
    y[rng.random((R, 2)) < 0.2] = np.nan
    y[np.isnan(y).all(axis=1), 0] = 10.0
    table = pd.DataFrame(
        {
            "id": [ids[i] for i in animal],
            "herd": rng.integers(0, 3, R),
            "age": rng.uniform(1, 2, R).round(3),
            "litter": rng.integers(0, 12, R),
            "w": rng.uniform(0.5, 3, R).round(3),
            "family": [f"F{k}" for k in family[animal]],
            "generation": 1 + (animal * 4) // n,
            "milk": y[:, 0],
            "fat": y[:, 1],
        }
    )
    table.to_csv(folder / "records.tsv", sep="\t", index=False, na_rep="NA", float_format="%.17g")
    return folder


def model_of(folder: Path, path: Path, **keys) -> Path:
    """A model file at `path`, whose data are in `folder`; a key that is None is left out."""
    model = {
        "records": str(folder / "records.tsv"), "traits": ["milk"], "fixed": {"herd": "class", "age": "covariate"},
        "genotypes": {"plink": str(folder / "genotypes")}, "variances": ONE, "single_step": {"tolerance": 1e-13},
    } | keys  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({key: value for key, value in model.items() if value is not None}))
    return path


def read_dosages(prefix: Path) -> np.ndarray:
    """(n, m) dosages of allele 2, NaN where missing."""
    n = len(prefix.with_suffix(".fam").read_text().splitlines())
    m = len(prefix.with_suffix(".bim").read_text().splitlines())
    codes = np.frombuffer(prefix.with_suffix(".bed").read_bytes()[3:], np.uint8).reshape(m, -1)
    calls = (codes[:, :, None] >> (2 * np.arange(4))) & 3
    return np.array([0, np.nan, 1, 2])[calls.reshape(m, -1)[:, :n]].T


def coded(X: np.ndarray, model: dict, among: np.ndarray | None = None) -> np.ndarray:
    """W with G = WW', whose frequencies, spreads and SNPs are those of the rows `among`."""
    of = X if among is None else X[among]
    p = np.nanmean(of, axis=0) / 2
    kept = np.minimum(p, 1 - p) >= model["genotypes"].get("min_maf", 0.01)
    kind = model.get("relationship", {}).get("kind", "vanraden1")
    d = np.ones(X.shape[1])
    if "weights" in model["genotypes"]:
        d = np.array(
            [float(line.split()[1]) for line in Path(model["genotypes"]["weights"]).read_text().splitlines()]
        )
        kept &= d > 0
    W = np.where(np.isnan(X), 0, X - 2 * p)[:, kept] * np.sqrt(d[kept])
    if kind in ("vanraden1", "gaussian"):
        return W / np.sqrt(np.sum((d * 2 * p * (1 - p))[kept]))
    spread = np.sqrt(2 * p * (1 - p)) if kind == "vanraden2" else np.nanstd(of, axis=0, ddof=1)
    return W / spread[kept] / np.sqrt(d[kept].sum())


def gaussian(X: np.ndarray, model: dict, among: np.ndarray | None = None) -> np.ndarray:
    """K (n, n), whose median distance is that of the rows `among`."""
    W = coded(X, model, among)
    D2 = ((W[:, None] - W) ** 2).sum(axis=2)
    of = D2 if among is None else D2[np.ix_(among, among)]
    return np.exp(-D2 / (model["relationship"].get("theta", 1.0) * np.median(of[np.triu_indices(len(of), 1)])))


class Oracle:
    """GBLUP of a model file by V. ids: (n,) of the .fam; ebv, pev, reliability: (n, q); b: fixed effects.

    rows: (R,) bool, records that are used; among: (n,) bool, animals whose frequencies are used.
    """

    def __init__(self, path: Path, *, rows: np.ndarray | None = None, among: np.ndarray | None = None):
        model = yaml.safe_load(path.read_text())
        prefix = Path(model["genotypes"]["plink"])
        self.ids = [line.split()[1] for line in prefix.with_suffix(".fam").read_text().splitlines()]
        X = read_dosages(prefix)
        if model.get("relationship", {}).get("kind") == "gaussian":
            self.G = gaussian(X, model, among)
        else:
            W = coded(X, model, among)
            self.G = W @ W.T
        self.model = model
        table = pd.read_csv(model["records"], sep="\t", dtype={"id": str})
        self.records = table if rows is None else table[rows].reset_index(drop=True)
        self.blup(model["variances"])

    def blup(self, variances: dict) -> float:
        """The restricted log-likelihood at these variances; solutions are then those."""
        model, records = self.model, self.records
        traits = model["traits"]
        t, matrix = len(traits), lambda name: np.atleast_2d(variances[name])
        place = [(i, j) for i in range(len(records)) for j in range(t) if not np.isnan(records[traits[j]].iloc[i])]
        record, trait = np.array(place).T
        animal = np.array([self.ids.index(name) for name in records["id"]])[record]
        y = np.array([records[traits[j]].iloc[i] for i, j in place])
        self.X = X = fixed_columns(model, records, record, trait)
        G0 = matrix("genetic")
        K = np.kron(self.G, G0)
        Z = np.zeros((len(y), len(K)))
        Z[np.arange(len(y)), animal * t + trait] = 1
        weight = np.ones(len(y)) if "weights" not in model else records[model["weights"]].to_numpy()[record]
        pairs = trait[:, None], trait
        V = Z @ K @ Z.T
        V += (record[:, None] == record) * matrix("residual")[pairs] / np.sqrt(weight[:, None] * weight)
        if model.get("permanent"):
            V += (animal[:, None] == animal) * matrix("permanent")[pairs]
        for name in model.get("random", {}):
            level = records[name].to_numpy()[record]
            V += (level[:, None] == level) * matrix(name)[pairs]
        Vi = np.linalg.inv(V)
        inner = X.T @ Vi @ X
        self.b = np.linalg.pinv(inner, rcond=1e-11, hermitian=True) @ X.T @ Vi @ y
        P = Vi - Vi @ X @ np.linalg.pinv(inner, rcond=1e-11, hermitian=True) @ X.T @ Vi
        self.ebv = (K @ Z.T @ P @ y).reshape(-1, t)
        self.pev = (K - K @ Z.T @ P @ Z @ K).diagonal().reshape(-1, t)
        self.reliability = 1 - self.pev / np.outer(self.G.diagonal(), G0.diagonal())
        values = np.linalg.eigvalsh(inner)[-np.linalg.matrix_rank(X) :]
        return -0.5 * float(np.linalg.slogdet(V)[1] + np.log(values).sum() + y @ P @ y)


def fixed_columns(model: dict, records: pd.DataFrame, record: np.ndarray, trait: np.ndarray) -> np.ndarray:
    """A column for each herd × trait and one for age × trait; an intercept where there is no herd."""
    columns = []
    for j in range(len(model["traits"])):
        own = (trait == j).astype(float)
        if "herd" in model["fixed"]:
            herds = records["herd"].to_numpy()[record]
            columns += [own * (herds == h) for h in np.unique(herds)]
        else:
            columns.append(own)
        if "age" in model["fixed"]:
            columns.append(own * records["age"].to_numpy()[record])
    return np.column_stack(columns)
