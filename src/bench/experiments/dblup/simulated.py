"""Accuracy for traits of a known architecture on a data set's genotypes, a held-out fifth in each replicate."""

from __future__ import annotations

from bench.dblup import Data
from bench.experiments import Files
from bench.experiments.dblup import session, traits
from bench.genotypes.dataset import Dataset
from bench.models.validation import correlation
from bench.plan import Case
from bench.record import Document

STREAM = {"concentrated": 1, "polygenic": 2}


def run(case: Case, files: Files, *, version: int) -> Document:
    return session.studied(case, files, version, _study)


def _study(doc: Document, case: Case, data: Dataset, files: Files) -> None:
    options = case["options"]
    packed, _ = session.genotypes(case, data, files, copies=4)
    dosages = packed.dosages()
    for replicate in range(options["replicates"]):
        rng = traits.generator(STREAM[case["trait"]], replicate)
        trait = traits.simulated(dosages, case["trait"], n_qtl=options["n_qtl"], h2=options["h2"], rng=rng)
        kept, out = traits.split(len(trait.y), rng)
        genomic = session.Genomic.of(packed, kept)
        records = Data.of(session.only(kept, trait.y))
        found = session.fit_methods(genomic, records, options["methods"], options["blocks"], options["ridge"])
        for method, (fitted, ebv) in found.items():
            place = {"phase": "simulated", "method": method, "repeat": replicate}
            doc.add("accuracy", correlation(ebv[out], trait.u[out]), "1", **place)
            doc.add("predictive_ability", correlation(ebv[out], trait.y[out]), "1", **place)
            doc.add("variance_ratio", float(fitted.model.link.lam), "1", **place)
            if "+w" in method:
                doc.add("effective_blocks", session.effective(fitted), "1", **place)
