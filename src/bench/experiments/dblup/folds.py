"""Predictive ability of a recorded trait: all that is learned is learned on the other folds."""

from __future__ import annotations

import numpy as np

from bench.dblup import Data
from bench.experiments import Files
from bench.experiments.dblup import session
from bench.genotypes.dataset import Dataset
from bench.models.validation import correlation, random_folds
from bench.plan import Case
from bench.record import Document

FOLD_SEED = 20_266


def run(case: Case, files: Files, *, version: int) -> Document:
    return session.studied(case, files, version, _study)


def _study(doc: Document, case: Case, data: Dataset, files: Files) -> None:
    options = case["options"]
    packed, rows = session.genotypes(case, data, files, copies=4)
    y = session.phenotypes(data, case["trait"], rows)
    X = session.fixed_effects(data, rows, sex=options["sex"])
    recorded = np.flatnonzero(~np.isnan(y))
    labels = random_folds(recorded.size, options["folds"], seed=FOLD_SEED)
    methods = options["methods"]
    predicted, corrected = ({method: np.full(y.size, np.nan) for method in methods} for _ in range(2))
    for fold in range(options["folds"]):
        out, kept = recorded[labels == fold], recorded[labels != fold]
        genomic, records = session.Genomic.of(packed, kept), Data.of(session.only(kept, y), X)
        found = session.fit_methods(genomic, records, methods, options["blocks"], options["ridge"])
        for method, (fitted, ebv) in found.items():
            place = {"phase": "folds", "method": method, "repeat": fold}
            # b̂, for X'(y − Xb̂ − ĝ) = λX'Py = 0.
            b = np.linalg.lstsq(X[kept], y[kept] - ebv[kept], rcond=None)[0]
            predicted[method][out], corrected[method][out] = ebv[out], y[out] - X[out] @ b
            doc.add("predictive_ability_fold", correlation(ebv[out], corrected[method][out]), "1", **place)
            doc.add("variance_ratio", float(fitted.model.link.lam), "1", **place)
            if "+w" in method:
                doc.add("effective_blocks", session.effective(fitted), "1", **place)
    for method in methods:
        pooled = correlation(predicted[method][recorded], corrected[method][recorded])
        doc.add("predictive_ability", pooled, "1", phase="folds", method=method, note="random folds")
