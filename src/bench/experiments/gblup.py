"""GBLUP on a data set: once exactly, without a kernel (the reference), then by PCG through each kernel (a solve).

The reference's λ, EBVs and marker effects go into an .npz; a solve uses the λ and is checked against the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from bench import measure
from bench.errors import BenchError
from bench.experiments import products
from bench.experiments.products import Inputs
from bench.genotypes.dataset import Dataset
from bench.genotypes.packed import PackedGenotypes
from bench.machine import memory_available
from bench.measure import CLOCK, Clock
from bench.models import gblup, validation
from bench.models.gblup import Records
from bench.models.reml import Spectrum, estimate
from bench.provenance import collect_provenance
from bench.record import Document, atomic_path
from bench.relationships.genomic import (
    RELATIONSHIPS,
    BlockCentred,
    Centred,
    Coding,
    Gram,
    dense_grm,
    dense_grm_bytes,
    grm_diagonal,
    missing_calls,
)
from bench.solvers.operator import Dense

VERSION = 1
EBV_TOLERANCE = 1e-8  # of the largest EBV; a solve that differs by more is wrong
FOLD_SEED = 20_251
T = TypeVar("T")


@dataclass(frozen=True)
class Options:
    """What a case may set besides its axes; sizes are numbers of individuals (records for REML and folds).

    Above eigen_max_n λ is not estimated; above inverse_max_n reliabilities are not computed; above
    cholesky_max_n there is no exact solution to compare with; above cv_reml_max_n all folds share one λ.
    """

    folds: int = 5
    rtol: float = 1e-12
    max_steps: int = 5000
    repeats: int = 3
    eigen_max_n: int = 6000
    inverse_max_n: int = 6000
    cholesky_max_n: int = 20_000
    cv_reml_max_n: int = 2000

    @classmethod
    def of(cls, case: dict[str, Any]) -> Options:
        return cls(**{f.name: case[f.name] for f in fields(cls) if f.name in case})

    @classmethod
    def without(cls, case: dict[str, Any]) -> dict[str, Any]:
        """The case's axes: what identifies its rows."""
        return {key: value for key, value in case.items() if key not in {f.name for f in fields(cls)}}


@dataclass(frozen=True)
class Reference:
    """The exact solution. reason: why there is none; the arrays are then empty.

    b: (p,). ebv, reliability (NaN where not computed): (n,). effects: (m,) on the scale of W.
    """

    lam: float
    b: np.ndarray
    ebv: np.ndarray
    effects: np.ndarray
    reliability: np.ndarray
    reason: str = ""

    @classmethod
    def refused(cls, reason: str) -> Reference:
        none = np.empty(0)
        return cls(float("nan"), none, none, none, none, reason)

    def write(self, path: Path) -> None:
        with atomic_path(path) as tmp, tmp.open("wb") as file:
            np.savez(file, allow_pickle=False, **{name: np.asarray(value) for name, value in vars(self).items()})

    @classmethod
    def read(cls, path: Path) -> Reference:
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {f.name: file[f.name] for f in fields(cls)}
        except (OSError, KeyError, ValueError, EOFError) as error:
            raise BenchError(f"{path}: not a GBLUP reference ({error}); delete it and run again") from None
        return cls(**arrays | {"lam": float(arrays["lam"]), "reason": str(arrays["reason"])})


@dataclass(frozen=True)
class Session:
    """What the steps of a reference share."""

    doc: Document
    case: dict[str, Any]
    options: Options
    dataset: Dataset
    packed: PackedGenotypes
    records: Records
    clock: Clock

    def timed(self, metric: str, phase: str, call: Callable[[], T]) -> T:
        """Run a step; its wall time is a row."""
        made: list[T] = []
        took = measure.once(lambda: made.append(call()), self.clock)
        self.doc.add(metric, took.wall, "s", phase=phase)
        return made[0]

    def number(self, metric: str, value: float, phase: str, **place: Any) -> None:
        self.doc.add(metric, value, "1", phase=phase, **place)

    def skipped(self, metric: str, phase: str, reason: str) -> None:
        """A row that says why a step was not done."""
        self.doc.add(metric, float("nan"), "s", phase=phase, status="refused", reason=reason)


def bytes_needed(n_samples: int, options: Options) -> int:
    """The most memory that a reference allocates beside the .bed: the vectors and work space of an
    eigendecomposition, or G alone, factored in place.
    """
    small = n_samples <= max(options.eigen_max_n, options.inverse_max_n)
    return dense_grm_bytes(n_samples) + (5 * 8 * n_samples**2 if small else 0)


def run_reference(
    case: dict[str, Any], dataset: Dataset, *, out_npz: Path, memory: int | None = None, clock: Clock = CLOCK
) -> Document:
    """λ by REML, exact EBVs, marker effects, reliabilities, cross-validation; writes the Reference.

    memory: bytes that may be used, None for what is free. What cannot be done is a row with its reason.
    """
    doc = Document(
        identity=Options.without(case) | {"solver": "cholesky", "dtype": "f8"},
        provenance=collect_provenance(version=VERSION, dataset_hash=dataset.bed_sha256),
    )
    reference = Reference.refused(dataset.reason or "the data set was refused")
    if dataset.status == "ok":
        n, options = dataset.n_samples, Options.of(case)
        doc.identity |= {
            "n": n,
            "m": dataset.n_snps,
            "missing_rate": dataset.missing_rate,
            "seed": dataset.seed,
        }
        free = min(memory_available(), memory or memory_available())
        if n > options.cholesky_max_n:
            reference = Reference.refused(
                f"{n} individuals are more than cholesky_max_n = {options.cholesky_max_n}: no exact solution"
            )
        elif (need := bytes_needed(n, options)) > free:
            reference = Reference.refused(
                f"the dense solution needs {need / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB can be used"
            )
        else:
            with measure.exclusive():
                reference = _reference(doc, case, dataset, options, clock)
    if reference.reason:
        doc.refuse(reference.reason)
    doc.add("peak_rss", measure.peak_rss(), "B", phase="memory")
    reference.write(out_npz)
    return doc


def _reference(doc: Document, case: dict[str, Any], dataset: Dataset, options: Options, clock: Clock) -> Reference:
    packed = dataset.packed()
    try:
        records = _records(dataset, case["trait"])
        session = Session(doc, case, options, dataset, packed, records, clock)
        return _solve_exactly(session)
    except BenchError as error:
        return Reference.refused(str(error))


def _records(dataset: Dataset, trait: str) -> Records:
    table = dataset.phenotypes()
    if trait not in table:
        raise BenchError(f"{dataset.name}: there is no trait {trait!r}; there are {', '.join(table.columns)}")
    return Records.of(table[trait].to_numpy(float), name=f"{dataset.name}, trait {trait}")


def _solve_exactly(s: Session) -> Reference:
    """G is used up step by step: first what needs it whole, last the factor that overwrites it."""
    n, records = s.packed.n_samples, s.records
    coding = s.timed("coding_time", "grm", lambda: RELATIONSHIPS[s.case["relationship"]](s.packed))
    whole = n <= s.options.inverse_max_n
    rows = slice(None) if whole or records.complete else records.index
    G = s.timed("grm_time", "grm", lambda: dense_grm(s.packed, coding, rows))
    s.number("n_records", records.index.size, "grm")
    reliability = _reliability_step(s, coding) if not whole else None
    among = G[np.ix_(records.index, records.index)] if whole and not records.complete else G
    lam = _variance_ratio(s, among)
    _cross_validation(s, among, lam)
    if reliability is None:
        pev = s.timed(
            "reliability_time",
            "reliability",
            lambda: gblup.prediction_error_variance(G, records, lam),
        )
        reliability = gblup.reliability(np.diagonal(G), pev)
        for name, value in zip(("min", "mean", "max"), _spread(reliability), strict=True):
            s.number(f"reliability_{name}", value, "reliability")
    fit = s.timed("solve_time", "cholesky", lambda: gblup.fit_cholesky(among, records, lam))
    centred = BlockCentred(s.packed, coding)
    effects = gblup.marker_effects(centred, coding.divisor, records, fit)
    ebv = gblup.breeding_values(centred, effects)
    # Among the records Gα = (V − λI)α: the EBVs without the marker effects.
    direct = records.y - records.X @ fit.b - lam * fit.alpha
    s.number("snp_effect_error", _relative(ebv[records.index], direct), "cholesky")
    _accuracy(s, ebv)
    return Reference(lam, fit.b, ebv, effects, reliability)


def _reliability_step(s: Session, coding: Coding) -> np.ndarray:
    n, limit = s.packed.n_samples, s.options.inverse_max_n
    reason = f"{n} individuals are more than inverse_max_n = {limit}: no inverse for {coding.name} reliabilities"
    s.skipped("reliability_time", "reliability", reason)
    return np.full(n, np.nan)


def _variance_ratio(s: Session, G: np.ndarray) -> float:
    """λ by REML; where that is too large, from the simulated breeding values."""
    records, phase = s.records, "reml"
    if records.index.size <= s.options.eigen_max_n:
        found = s.timed("reml_time", phase, lambda: estimate(Spectrum.of(G), records.y, records.X))
        for metric, value in (("variance_u", found.Vu), ("variance_e", found.Ve), ("h2", found.h2)):
            s.number(metric, value, phase)
        s.number("log_likelihood", found.log_likelihood, phase)
        s.number("lambda_at_bound", found.bound is not None, phase)
        note = {"reason": f"λ is at its {found.bound} bound"} if found.bound else {}
        s.number("variance_ratio", found.lam, phase, **note)
        return found.lam
    reason = f"{records.index.size} records are more than eigen_max_n = {s.options.eigen_max_n}: no REML"
    s.skipped("reml_time", phase, reason)
    truth = _breeding_values(s)
    if truth is None:
        raise BenchError(f"{reason}, and {s.dataset.name} has no simulated breeding values to take λ from")
    lam = simulated_variance_ratio(G, records, truth[records.index])
    s.number("variance_ratio", lam, phase, reason=f"{reason}; λ assumed from the simulated breeding values")
    return lam


def simulated_variance_ratio(G: np.ndarray, records: Records, truth: np.ndarray) -> float:
    """λ from true breeding values, (r,): var(y − u)/var(u), times what a σu² of 1 gives as variance of u.

    That variance is tr(G)/r − mean(G) among the r individuals with records.
    """
    if not np.var(truth) > 0:
        raise BenchError("the simulated breeding values do not vary; no variance ratio follows from them")
    spread = float(np.diagonal(G).mean() - G.mean())
    return float(np.var(records.y - truth) / np.var(truth)) * spread


def _cross_validation(s: Session, G: np.ndarray, lam: float) -> None:
    records, phase, r = s.records, "cv", s.records.index.size
    folds = validation.random_folds(r, min(s.options.folds, r), seed=FOLD_SEED)
    refit = r <= s.options.cv_reml_max_n

    def work() -> validation.CrossValidation:
        if refit:
            return validation.cross_validate_reml(G, records, folds)
        return validation.cross_validate_fixed(Dense(G), records, folds, lam, diagonal=np.diagonal(G))

    found = s.timed("cv_time", phase, work)
    s.number("predictive_ability", found.pooled, phase)
    s.number("predictive_ability_u", found.pooled_u, phase)
    s.number("prediction_slope", found.slope, phase)
    s.number("mean_squared_error", found.mean_squared_error, phase)
    note = {} if refit else {"reason": f"all folds share the λ of all records: above cv_reml_max_n, {r} records"}
    s.number("variance_ratio_mean", float(found.lams.mean()), phase, **note)
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


def run_solve(case: dict[str, Any], inputs: Inputs, reference: Path) -> Document:
    """EBVs by PCG through one kernel with the reference's λ, timed and checked against its EBVs."""
    exact = Reference.read(reference)
    options = Options.of(case)
    axes = Options.without(case) | {"k": [max(exact.b.size, 1) + 1]}
    doc = products.begin(axes, inputs)
    doc.provenance["version"] = VERSION
    doc.identity["solver"] = "pcg"
    if doc.status != "ok":
        return doc
    if exact.reason:
        return doc.refuse(f"there is no reference to compare with: {exact.reason}")
    if case["dtype"] != "f8":
        return doc.refuse(f"{case['dtype']} products cannot give EBVs to {EBV_TOLERANCE:.0e}")
    packed = inputs.dataset.packed()
    records = _records(inputs.dataset, case["trait"])
    session = Session(doc, case, options, inputs.dataset, packed, records, CLOCK)
    with measure.exclusive():
        try:
            operator = products.prepare(doc, axes, packed, inputs.build)
            coding = session.timed("coding_time", "prepare", lambda: RELATIONSHIPS[case["relationship"]](packed))
            missing = session.timed("missing_time", "prepare", lambda: missing_calls(packed))
            diagonal = session.timed("diagonal_time", "prepare", lambda: grm_diagonal(packed, coding))
            centred = Centred(operator, coding, missing)
            wrong = _solve_gblup(session, centred, diagonal, exact) or _solve_snp_blup(session, centred, exact)
        except MemoryError as error:
            return doc.end("oom", f"out of memory: {error}")
    doc.add("peak_rss", measure.peak_rss(), "B", phase="memory")
    operator.close()
    return doc.wrong(wrong) if wrong else doc


def _solve_gblup(s: Session, centred: Centred, diagonal: np.ndarray, exact: Reference) -> str | None:
    """Solve V[X y] and back to EBVs, `repeats` times; the sentence that says what is wrong, or None."""
    gram = Gram(centred, centred.coding.divisor)

    def work():
        fit, solution = gblup.fit_pcg(
            gram,
            s.records,
            exact.lam,
            diagonal=diagonal,
            rtol=s.options.rtol,
            max_steps=s.options.max_steps,
        )
        effects = gblup.marker_effects(centred, centred.coding.divisor, s.records, fit)
        return solution, effects, gblup.breeding_values(centred, effects)

    solution, effects, ebv = work()  # checked before a clock starts; it warms up too
    error = _relative(ebv, exact.ebv)
    s.number("ebv_error", error, "solve")
    s.number("snp_effect_error", _relative(effects, exact.effects), "solve")
    s.number("iterations", solution.steps, "solve")
    s.number("residual_checks", solution.checks, "solve")
    s.number("converged", solution.converged.all(), "solve")
    s.number("true_residual_norm", solution.true_residual_norms.max(), "solve")
    for step, norm in enumerate(solution.residual_norms.max(axis=1)):
        s.number("residual_norm", norm, "solve", step=step)
    if not error <= EBV_TOLERANCE:
        return f"EBVs differ from the exact ones by {error:.2g} of the largest, {EBV_TOLERANCE:.0e} is allowed"
    for repeat in range(s.options.repeats):
        took = measure.once(work, s.clock)
        s.doc.add("solve_time", took.wall, "s", phase="solve", repeat=repeat)
        s.doc.add("solve_cpu", took.cpu, "s", phase="solve", repeat=repeat)
    return None


def _solve_snp_blup(s: Session, centred: Centred, exact: Reference) -> str | None:
    """The m × m marker equations through the same kernel: they must give the same marker effects and EBVs."""

    def work():
        return gblup.fit_marker_effects(
            centred,
            centred.coding.divisor,
            s.records,
            exact.lam,
            rtol=s.options.rtol,
            max_steps=s.options.max_steps,
        )

    effects, _, solution = s.timed("solve_time", "snp_blup", work)
    error = _relative(gblup.breeding_values(centred, effects), exact.ebv)
    s.number("ebv_error", error, "snp_blup")
    s.number("snp_effect_error", _relative(effects, exact.effects), "snp_blup")
    s.number("iterations", solution.steps, "snp_blup")
    s.number("converged", solution.converged.all(), "snp_blup")
    if not error <= EBV_TOLERANCE:
        return f"SNP-BLUP's EBVs differ from the exact ones by {error:.2g} of the largest, {EBV_TOLERANCE:.0e} is allowed"
    return None


def _relative(found: np.ndarray, wanted: np.ndarray) -> float:
    """The largest difference, relative to the largest wanted element."""
    return float(np.abs(found - wanted).max() / max(np.abs(wanted).max(), np.finfo(float).tiny))


def _spread(values: np.ndarray) -> tuple[float, float, float]:
    return float(np.nanmin(values)), float(np.nanmean(values)), float(np.nanmax(values))
