"""λ under each objective against the suite's REML, and where the path of the training MSE leads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.dblup import Data, EqualWeights, fit
from bench.experiments import Files
from bench.experiments.dblup import session
from bench.genotypes.dataset import Dataset
from bench.models import gblup
from bench.models.gblup import Records
from bench.models.reml import Spectrum, estimate
from bench.models.validation import random_folds
from bench.plan import Case
from bench.record import Document
from bench.relationships.genomic import dense_grm, vanraden1

FOLDS = 5
FOLD_SEED = 20_267


def run(case: Case, files: Files, *, version: int) -> Document:
    return session.studied(case, files, version, _study)


def _study(doc: Document, case: Case, data: Dataset, files: Files) -> None:
    packed, rows = session.genotypes(case, data, files, copies=4)
    y = session.phenotypes(data, case["trait"], rows)
    X = session.fixed_effects(data, rows, sex=True)
    records = Records.of(y, X, name=f"{data.name}, trait {case['trait']}")
    labels = np.full(y.size, -1)
    labels[records.index] = random_folds(records.index.size, FOLDS, seed=FOLD_SEED)
    exact = _Exact.of(dense_grm(packed, vanraden1(packed)), records, labels[records.index])
    wanted = estimate(exact.spectrum, records.y, records.X)
    doc.add("variance_ratio", wanted.lam, "1", phase="reference", method="eigen")

    genomic, folded = session.Genomic.of(packed, np.arange(y.size)), Data.of(y, X, folds=labels)
    weights = EqualWeights.of(packed.n_snps)
    backend, variance = genomic.backend(weights), float(np.var(records.y))
    for objective in case["options"]["objectives"]:
        place = {"phase": "learned", "method": objective}
        model = genomic.model(objective, weights, backend=backend)
        fitted = fit(model, folded)
        lam = float(fitted.model.link.lam)
        ebv = np.asarray(fitted.model.breeding_values(folded))
        doc.add("variance_ratio", lam, "1", note=fitted.status, **place)
        doc.add("lambda_difference", abs(lam / wanted.lam - 1), "1", **place)
        doc.add("ebv_error", exact.ebv_error(ebv, wanted.lam), "1", **place)
        doc.add("iterations", len(fitted.history), "1", **place)
        doc.add("loo_mse", exact.loo_mse(lam) / variance, "1", **place)
        doc.add("cv_mse", exact.cv_mse(lam) / variance, "1", **place)
        for step in fitted.history:
            at = {"phase": "path", "method": objective, "step": step.number}
            doc.add("variance_ratio", step.lam, "1", **at)
            doc.add("objective", step.loss / variance if objective == "train" else step.loss, "1", **at)
            if objective == "train":
                doc.add("heldout_mse", exact.cv_mse(step.lam) / variance, "1", **at)


@dataclass(frozen=True)
class _Exact:
    """EBVs and errors of prediction at any λ by eigendecompositions, without the code that learns it."""

    G: np.ndarray
    records: Records
    spectrum: Spectrum
    folds: list[tuple[np.ndarray, np.ndarray, Spectrum]]

    @classmethod
    def of(cls, G: np.ndarray, records: Records, labels: np.ndarray) -> _Exact:
        """labels: (r,) the fold of each record."""
        among = G[np.ix_(records.index, records.index)]
        folds = []
        for fold in np.unique(labels):
            kept, out = np.flatnonzero(labels != fold), np.flatnonzero(labels == fold)
            folds.append((kept, out, Spectrum.of(among[np.ix_(kept, kept)])))
        return cls(G, records, Spectrum.of(among), folds)

    def ebv_error(self, ebv: np.ndarray, lam: float) -> float:
        """The largest difference from û at λ, relative to the largest |û|. ebv: (n,)."""
        among = self.G[np.ix_(self.records.index, self.records.index)]
        u = self.G[:, self.records.index] @ gblup.fit_cholesky(among, self.records, lam).alpha
        return float(np.abs(ebv - u).max() / np.abs(u).max())

    def loo_mse(self, lam: float) -> float:
        """Mean of ([Py]_i/P_ii)², fixed effects refitted without record i."""
        vectors, values, X = self.spectrum.vectors, self.spectrum.values, self.records.X
        ViX = self.spectrum.solve(X, lam)
        half = np.linalg.solve(X.T @ ViX, ViX.T)
        diagonal = (vectors**2 / (values + lam)).sum(axis=1) - (ViX * half.T).sum(axis=1)
        fit = gblup.generalised_least_squares(
            self.records, self.spectrum.solve(self.records.right_hand_sides, lam), lam
        )
        return float(np.mean((fit.alpha / diagonal) ** 2))

    def cv_mse(self, lam: float) -> float:
        """Of FOLDS folds, each predicted from the others."""
        y, X, index = self.records.y, self.records.X, self.records.index
        squares = 0.0
        for kept, out, spectrum in self.folds:
            training = Records(np.arange(kept.size), y[kept], X[kept], kept.size)
            fit = gblup.generalised_least_squares(training, spectrum.solve(training.right_hand_sides, lam), lam)
            error = y[out] - X[out] @ fit.b - self.G[np.ix_(index[out], index[kept])] @ fit.alpha
            squares += float(error @ error)
        return squares / y.size
