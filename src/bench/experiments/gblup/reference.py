"""The reference of a GBLUP case: λ by REML, exact EBVs by Cholesky, reliabilities, cross-validation. No kernel."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench import experiments, measure, surroundings
from bench.build import Build
from bench.errors import BenchError
from bench.experiments import Files, products
from bench.experiments.gblup import ReferenceOptions
from bench.experiments.gblup.session import Reference, Session, records_of, relative
from bench.genotypes.dataset import Dataset
from bench.machine import memory_available
from bench.models import gblup, validation
from bench.models.gblup import Records
from bench.models.reml import Spectrum, estimate
from bench.plan import Case
from bench.provenance import collect_provenance
from bench.record import Document
from bench.relationships.genomic import RELATIONSHIPS, BlockCentred, dense_grm, dense_grm_bytes
from bench.solvers.operator import Dense

FOLD_SEED = 20_251


def run(case: Case, files: Files, out: Path, *, version: int) -> Document:
    """λ by REML, exact EBVs, marker effects, reliabilities, cross-validation; `out` takes the Reference.

    What cannot be done is a row with its reason; what fails altogether, a refused document.
    """
    data, options = Dataset.read(files.dataset), ReferenceOptions(**case["options"])
    build = products.read_build(files.build)  # of gram: where it could not be compiled, numpy multiplies
    told = products.code_provenance("gram", build) if build else {}
    provenance = collect_provenance(version=version, dataset_hash=data.bed_sha256, **told)
    doc = Document(identity=experiments.identity(case), provenance=provenance)
    reason = data.reason or "the data set was refused" if data.status != "ok" else None
    if reason is None:
        doc.identity |= {"n": data.n_samples, "m": data.n_snps, "missing_rate": data.missing_rate}
        doc.identity |= {"seed": data.source.get("seed")}
        reason = _too_large(data.n_samples, options, files.memory)
    reference = Reference.refused(reason) if reason else _attempt(doc, case, data, options, build)
    if reference.reason:
        doc.refuse(reference.reason)
    reference.write(out)
    return doc


def bytes_needed(n_samples: int, options: ReferenceOptions) -> int:
    """The most memory that a reference allocates beside the .bed: the vectors and work space of an
    eigendecomposition, or G alone, factored in place.
    """
    small = n_samples <= max(options.eigen_max_n, options.inverse_max_n)
    return dense_grm_bytes(n_samples) + (5 * 8 * n_samples**2 if small else 0)


def _too_large(n_samples: int, options: ReferenceOptions, memory: int | None) -> str | None:
    if n_samples > (limit := options.cholesky_max_n):
        return f"{n_samples} individuals are more than cholesky_max_n = {limit}: no exact solution"
    need, free = bytes_needed(n_samples, options), min(memory_available(), memory or memory_available())
    if need > free:
        return f"the dense solution needs {need / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB can be used"
    return None


def _attempt(doc: Document, case: Case, data: Dataset, options: ReferenceOptions, build: Build | None) -> Reference:
    """The reference, or why its data do not allow one."""
    try:
        packed, records = data.packed(), records_of(data, case["trait"])
        with measure.exclusive(), surroundings.watched(doc, case["threads"]):
            reference = _solve_exactly(Session(doc, case, data, packed, records), options, build and build.library)
    except BenchError as error:
        return Reference.refused(str(error))
    doc.add("peak_rss", measure.peak_rss(), "B", phase="memory")
    return reference


def _solve_exactly(s: Session, options: ReferenceOptions, library: Path | None) -> Reference:
    """G is used up step by step: first what needs it whole, last the factor that overwrites it."""
    records = s.records
    coding = s.timed("coding_time", "grm", lambda: RELATIONSHIPS[s.case["relationship"]](s.packed))
    everybody = records.complete or s.packed.n_samples <= options.inverse_max_n
    rows = slice(None) if everybody else records.index
    how = {"library": library, "threads": s.case["threads"]}
    G = s.timed("grm_time", "grm", lambda: dense_grm(s.packed, coding, rows, **how))
    s.number("n_records", records.index.size, "grm")
    among = G[np.ix_(records.index, records.index)] if everybody and not records.complete else G
    lam = _variance_ratio(s, among, options)
    _cross_validation(s, among, lam, options)
    reliability = _reliability(s, G, lam, options)
    fit = s.timed("solve_time", "cholesky", lambda: gblup.fit_cholesky(among, records, lam))
    centred = BlockCentred(s.packed, coding)
    effects = gblup.marker_effects(centred, coding.divisor, records, fit)
    ebv = gblup.breeding_values(centred, effects)
    # Among the records Gα = (V − λI)α: their EBVs without the marker effects.
    direct = records.y - records.X @ fit.b - lam * fit.alpha
    s.number("ebv_error", relative(ebv[records.index], direct), "cholesky", note="EBVs as marker effects")
    _accuracy(s, ebv)
    return Reference(lam, fit.b, ebv, effects, reliability)


def _reliability(s: Session, G: np.ndarray, lam: float, options: ReferenceOptions) -> np.ndarray:
    n, phase = s.packed.n_samples, "reliability"
    if n > (limit := options.inverse_max_n):
        s.skipped("reliability_time", phase, f"{n} individuals are more than inverse_max_n = {limit}: no inverse")
        return np.full(n, np.nan)
    pev = s.timed("reliability_time", phase, lambda: gblup.prediction_error_variance(G, s.records, lam))
    values = gblup.reliability(np.diagonal(G), pev)
    for name, of in (("min", np.nanmin), ("mean", np.nanmean), ("max", np.nanmax)):
        s.number(f"reliability_{name}", float(of(values)), phase)
    return values


def _variance_ratio(s: Session, G: np.ndarray, options: ReferenceOptions) -> float:
    """λ by REML; where that is too large, from the simulated breeding values."""
    records, phase = s.records, "reml"
    if records.index.size > options.eigen_max_n:
        reason = f"{records.index.size} records are more than eigen_max_n = {options.eigen_max_n}: no REML"
        s.skipped("reml_time", phase, reason)
        truth = _breeding_values(s)
        if truth is None:
            raise BenchError(f"{reason}, and {s.dataset.name} has no simulated breeding values to take λ from")
        lam = simulated_variance_ratio(G, records, truth[records.index])
        s.number("variance_ratio", lam, phase, note="assumed: from the simulated breeding values")
        return lam
    found = s.timed("reml_time", phase, lambda: estimate(Spectrum.of(G), records.y, records.X))
    note = f"at its {found.bound} bound" if found.bound else "REML"
    s.number("variance_ratio", found.lam, phase, note=note)
    s.number("variance_u", found.Vu, phase)
    s.number("variance_e", found.Ve, phase)
    s.number("h2", found.h2, phase)
    s.number("log_likelihood", found.log_likelihood, phase)
    s.number("variance_ratio_at_bound", found.bound is not None, phase)
    return found.lam


def simulated_variance_ratio(G: np.ndarray, records: Records, truth: np.ndarray) -> float:
    """λ from true breeding values, (r,): var(y − u)/var(u), times what a σu² of 1 gives as variance of u.

    That variance is tr(G)/r − mean(G) among the r individuals with records.
    """
    if not np.var(truth) > 0:
        raise BenchError("the simulated breeding values do not vary; no variance ratio follows from them")
    spread = float(np.diagonal(G).mean() - G.mean())
    return float(np.var(records.y - truth) / np.var(truth)) * spread


def _cross_validation(s: Session, G: np.ndarray, lam: float, options: ReferenceOptions) -> None:
    records, phase, r = s.records, "cv", s.records.index.size
    given = s.dataset.folds()
    if given is None:
        folds, source = validation.random_folds(r, min(options.folds, r), seed=FOLD_SEED), "random folds"
    else:
        folds, source = given.to_numpy(int)[records.index], "the data set's folds"
    refit = r <= options.cv_reml_max_n
    source += ", λ by REML in each training set" if refit else ", λ of all records"

    def work() -> validation.CrossValidation:
        if refit:
            return validation.cross_validate_reml(G, records, folds)
        return validation.cross_validate_fixed(Dense(G), records, folds, lam, diagonal=np.diagonal(G))

    found = s.timed("cv_time", phase, work)
    s.number("predictive_ability", found.pooled, phase, note=source)
    s.number("predictive_ability_u", found.pooled_u, phase)
    s.number("prediction_slope", found.slope, phase)
    s.number("mean_squared_error", found.mean_squared_error, phase)
    s.number("variance_ratio_mean", found.lams.mean(), phase, note=source)
    for fold, value in enumerate(found.per_fold):
        s.number("predictive_ability_fold", value, phase, repeat=fold)


def _breeding_values(s: Session) -> np.ndarray | None:
    table = s.dataset.breeding_values()
    trait = s.case["trait"]
    return None if table is None or trait not in table else table[trait].to_numpy(float)


def _accuracy(s: Session, ebv: np.ndarray) -> None:
    """Correlation of EBVs with true breeding values: of all, and of those without a record."""
    truth = _breeding_values(s)
    if truth is None:
        return
    s.number("accuracy", validation.correlation(ebv, truth), "accuracy")
    unrecorded = np.setdiff1d(np.arange(ebv.size), s.records.index)
    if unrecorded.size > 2:
        value = validation.correlation(ebv[unrecorded], truth[unrecorded])
        s.number("accuracy_unrecorded", value, "accuracy")
