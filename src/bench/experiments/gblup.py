"""GBLUP on a data set: once exactly, without a kernel (the reference), then by PCG through each kernel (a solve).

The reference's λ, EBVs and marker effects go into an .npz; a solve uses the λ and is checked against the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from pydantic import Field, field_validator

from bench import config, experiments, kernels, measure, surroundings
from bench.build import Build, installed
from bench.errors import BenchError, DeviceLost
from bench.experiments import Files, products
from bench.genotypes.dataset import Dataset
from bench.genotypes.packed import PackedGenotypes
from bench.genotypes.spec import DatasetSpec, Fetched, Livestock, Simulated
from bench.machine import memory_available
from bench.measure import CLOCK, Clock
from bench.models import gblup, validation
from bench.models.gblup import Records
from bench.models.reml import Spectrum, estimate
from bench.plan import Case, case_id, expand, thread_counts, variants
from bench.provenance import collect_provenance
from bench.record import Document, atomic_path
from bench.relationships.genomic import (
    RELATIONSHIPS,
    BlockCentred,
    Centred,
    Gram,
    dense_grm,
    dense_grm_bytes,
    grm_diagonal,
)
from bench.relationships.missing import missing_of
from bench.solvers.operator import Dense
from bench.solvers.pcg import Solution

VERSION = 2
EBV_TOLERANCE = 1e-8  # of the largest EBV; a solve that differs by more is wrong
FOLD_SEED = 20_251
# Traits of the public data that are analysed where the configuration names none.
DEFAULT_TRAITS = {"wheat": ("env1", "env2", "env4", "env5"), "mice": ("Obesity.BMI",)}
T = TypeVar("T")


@dataclass(frozen=True)
class ReferenceOptions:
    """Limits are numbers of individuals (of records for REML and folds).

    Above eigen_max_n λ is not estimated; above inverse_max_n reliabilities are not computed; above
    cholesky_max_n there is no exact solution to compare with; above cv_reml_max_n all folds share one λ.
    """

    folds: int = 5
    eigen_max_n: int = 6000
    inverse_max_n: int = 6000
    cholesky_max_n: int = 20_000
    cv_reml_max_n: int = 2000


@dataclass(frozen=True)
class SolveOptions:
    """rtol: of ‖r‖/‖b‖ in every column. snp_blup: whether the marker equations are solved as well."""

    rtol: float = 1e-12
    max_steps: int = 5000
    repeats: int = 3
    snp_blup: bool = True


class Stanza(config.Stanza):
    """Keys of the experiment in the configuration; see ReferenceOptions and SolveOptions.

    traits: of every data set; by default all simulated ones, all columns of a user's phenotype table.
    snp_blup: the kernels through which the marker equations are solved as well; by default all.
    """

    datasets: config.Names
    traits: list[str] | None = None
    relationships: list[Literal["vanraden1", "standardised"]] = ["vanraden1"]
    threads: config.ThreadCounts = ["all"]
    folds: Annotated[int, Field(ge=2)] = ReferenceOptions.folds
    eigen_max_n: config.Count = ReferenceOptions.eigen_max_n
    inverse_max_n: config.Count = ReferenceOptions.inverse_max_n
    cholesky_max_n: config.Count = ReferenceOptions.cholesky_max_n
    cv_reml_max_n: config.Count = ReferenceOptions.cv_reml_max_n
    rtol: Annotated[float, Field(gt=0, lt=1)] = SolveOptions.rtol
    max_steps: config.Count = SolveOptions.max_steps
    repeats: config.Count = SolveOptions.repeats
    snp_blup: list[str] | None = None

    def options(self, kind: type[ReferenceOptions] | type[SolveOptions]) -> dict[str, Any]:
        """The keys that go into one kind of case: the other kind's do not make it run again."""
        return {f.name: getattr(self, f.name) for f in fields(kind) if f.name != "snp_blup"}

    @field_validator("snp_blup")
    @classmethod
    def _exist(cls, names: list[str] | None) -> list[str] | None:
        for name in names or []:
            config.known("kernel", name, kernels.names())
        return names


def cases(stanza: Stanza, config: config.Config) -> dict[str, Case]:
    """A reference per data set × trait × relationship; for each a solve per kernel × target × threads."""
    studied = [(name, trait) for name in stanza.datasets for trait in _traits(stanza, config.datasets[name])]
    axes: dict[str, Any] = {"dataset,trait": studied, "relationship": stanza.relationships}
    threads = thread_counts(stanza.threads)
    references = expand(
        "gblup",
        axes,
        solver="cholesky",
        dtype="f8",
        threads=thread_counts(["all"])[0],
        options=stanza.options(ReferenceOptions),
    )
    solves = expand(
        "gblup",
        axes | {"kernel,target": variants(config.kernels, config.targets), "threads": threads},
        solver="pcg",
        dtype="f8",
        k=[2],  # the intercept and the phenotypes are solved for together
        options=stanza.options(SolveOptions),
    )
    for case in solves.values():
        case["options"] = case["options"] | {"snp_blup": stanza.snp_blup is None or case["kernel"] in stanza.snp_blup}
    return references | {case_id(case): case for case in solves.values()}


def _traits(stanza: Stanza, spec: DatasetSpec) -> tuple[str, ...]:
    if stanza.traits is not None:
        return tuple(stanza.traits)
    if isinstance(spec, Simulated):
        return tuple(trait.name for trait in spec.traits)
    if isinstance(spec, Fetched):
        return DEFAULT_TRAITS[spec.reader]
    if isinstance(spec, Livestock):
        raise BenchError("gblup: a livestock data set has records of animals without genotypes; name another kind")
    from bench.genotypes.bim_fam import read_fam
    from bench.genotypes.phenotypes import read_phenotypes

    return tuple(read_phenotypes(spec.phenotypes, read_fam(spec.files()[2])["id"].tolist()).columns)


def reference_of(case: Case, among: Mapping[str, Case]) -> str:
    """The id of the reference that a solve is checked against."""
    same = ("dataset", "trait", "relationship")
    return next(
        name
        for name, other in among.items()
        if other["solver"] == "cholesky" and all(other[key] == case[key] for key in same)
    )


def run(case: Case, files: Files) -> Document:
    """One case; a reference writes `files.reference`, a solve reads it."""
    if files.reference is None:
        raise BenchError("a GBLUP case needs the path of its reference (--reference)")
    return (run_reference if case["solver"] == "cholesky" else run_solve)(case, files, files.reference)


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
    """What the steps of a case share."""

    doc: Document
    case: Case
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


def bytes_needed(n_samples: int, options: ReferenceOptions) -> int:
    """The most memory that a reference allocates beside the .bed: the vectors and work space of an
    eigendecomposition, or G alone, factored in place.
    """
    small = n_samples <= max(options.eigen_max_n, options.inverse_max_n)
    return dense_grm_bytes(n_samples) + (5 * 8 * n_samples**2 if small else 0)


def run_reference(case: Case, files: Files, out: Path, *, clock: Clock = CLOCK) -> Document:
    """λ by REML, exact EBVs, marker effects, reliabilities, cross-validation; `out` takes the Reference.

    What cannot be done is a row with its reason; what fails altogether, a refused document.
    """
    data, options = Dataset.read(files.dataset), ReferenceOptions(**case["options"])
    build = products.read_build(files.build)  # of gram: where it could not be compiled, numpy multiplies
    told = products.code_provenance("gram", build) if build else {}
    provenance = collect_provenance(version=VERSION, dataset_hash=data.bed_sha256, **told)
    doc = Document(identity=experiments.identity(case), provenance=provenance)
    reason = data.reason or "the data set was refused" if data.status != "ok" else None
    if reason is None:
        doc.identity |= {"n": data.n_samples, "m": data.n_snps, "missing_rate": data.missing_rate}
        doc.identity |= {"seed": data.source.get("seed")}
        reason = _too_large(data.n_samples, options, files.memory)
    reference = Reference.refused(reason) if reason else _attempt(doc, case, data, options, build, clock)
    if reference.reason:
        doc.refuse(reference.reason)
    reference.write(out)
    return doc


def _attempt(
    doc: Document, case: Case, data: Dataset, options: ReferenceOptions, build: Build | None, clock: Clock
) -> Reference:
    """The reference, or why its data do not allow one."""
    try:
        packed, records = data.packed(), _records(data, case["trait"])
        with measure.exclusive(), surroundings.watched(doc, case["threads"]):
            reference = _solve_exactly(
                Session(doc, case, data, packed, records, clock), options, build and build.library
            )
    except BenchError as error:
        return Reference.refused(str(error))
    doc.add("peak_rss", measure.peak_rss(), "B", phase="memory")
    return reference


def _too_large(n_samples: int, options: ReferenceOptions, memory: int | None) -> str | None:
    if n_samples > (limit := options.cholesky_max_n):
        return f"{n_samples} individuals are more than cholesky_max_n = {limit}: no exact solution"
    need, free = bytes_needed(n_samples, options), min(memory_available(), memory or memory_available())
    if need > free:
        return f"the dense solution needs {need / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB can be used"
    return None


def _records(dataset: Dataset, trait: str) -> Records:
    table = dataset.phenotypes()
    if trait not in table:
        raise BenchError(f"{dataset.name}: there is no trait {trait!r}; there are {', '.join(table.columns)}")
    return Records.of(table[trait].to_numpy(float), name=f"{dataset.name}, trait {trait}")


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
    s.number("ebv_error", _relative(ebv[records.index], direct), "cholesky", note="EBVs as marker effects")
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


def run_solve(case: Case, files: Files, reference: Path) -> Document:
    """EBVs by PCG through one kernel with the reference's λ, checked against its EBVs, then timed."""
    data, build, exact = Dataset.read(files.dataset), products.read_build(files.build), Reference.read(reference)
    doc = products.begin(case, files, build, data, version=VERSION)
    if doc.status != "ok":
        return doc
    if exact.reason:
        return doc.refuse(f"there is no reference to compare with: {exact.reason}")
    if case["dtype"] != "f8":
        return doc.refuse(f"{case['dtype']} products cannot give EBVs to {EBV_TOLERANCE:.0e}")
    packed, records = data.packed(), _records(data, case["trait"])
    session, options = Session(doc, case, data, packed, records, CLOCK), SolveOptions(**case["options"])
    with measure.exclusive():
        try:
            operator = products.prepare(doc, case, packed, build)
            coding = session.timed("coding_time", "prepare", lambda: RELATIONSHIPS[case["relationship"]](packed))
            how = {"threads": case["threads"], "library": installed("missing").library}
            missing = session.timed("missing_time", "prepare", lambda: missing_of(operator, packed, **how))
            diagonal = session.timed("diagonal_time", "prepare", lambda: grm_diagonal(packed, coding))
            centred = Centred(operator, coding, missing)
            with surroundings.watched(doc, case["threads"]):
                wrong = _solve_gblup(session, centred, diagonal, exact, options)
                if options.snp_blup:
                    wrong = wrong or _solve_snp_blup(session, centred, exact, options)
        except (MemoryError, DeviceLost) as error:
            return doc.broken(error)
        except BenchError as error:  # PCG broke down: the kernel's products are not those of a G
            return doc.wrong(str(error))
    doc.add("peak_rss", measure.peak_rss(), "B", phase="memory")
    operator.close()
    return doc.wrong(wrong) if wrong else doc


def _solve_gblup(
    s: Session, centred: Centred, diagonal: np.ndarray, exact: Reference, options: SolveOptions
) -> str | None:
    """V⁻¹[X y] and on to EBVs, `repeats` times; the sentence that says what is wrong, or None.

    The times become rows only once the EBVs have been found right.
    """
    divisor, control = centred.coding.divisor, _control(options)
    gram = Gram(centred, divisor)

    def work() -> tuple[Solution, np.ndarray, np.ndarray]:
        fit, solution = gblup.fit_pcg(gram, s.records, exact.lam, diagonal=diagonal, **control)
        effects = gblup.marker_effects(centred, divisor, s.records, fit)
        return solution, effects, gblup.breeding_values(centred, effects)

    gram.matmul(np.zeros((s.packed.n_samples, 2)))  # page faults and lazy initialisation, before the clock
    made: list[tuple[Solution, np.ndarray, np.ndarray]] = []
    samples = [measure.once(lambda: made.append(work()), s.clock) for _ in range(options.repeats)]
    for step, norm in enumerate(made[0][0].residual_norms.max(axis=1)):
        s.number("residual_norm", norm, "solve", step=step)
    s.number("residual_checks", made[0][0].checks, "solve")
    if wrong := _compare(s, "solve", *made[0], exact):
        return wrong
    for repeat, sample in enumerate(samples):
        s.doc.add("solve_time", sample.wall, "s", phase="solve", repeat=repeat)
        s.doc.add("solve_cpu", sample.cpu, "s", phase="solve", repeat=repeat)
    return None


def _solve_snp_blup(s: Session, centred: Centred, exact: Reference, options: SolveOptions) -> str | None:
    """The m × m marker equations through the same kernel must give the same marker effects and EBVs."""
    divisor, control = centred.coding.divisor, _control(options)
    effects, _, solution = s.timed(
        "solve_time",
        "snp_blup",
        lambda: gblup.fit_marker_effects(centred, divisor, s.records, exact.lam, **control),
    )
    ebv = gblup.breeding_values(centred, effects)
    wrong = _compare(s, "snp_blup", solution, effects, ebv, exact)
    return f"SNP-BLUP: {wrong}" if wrong else None


def _control(options: SolveOptions) -> dict[str, Any]:
    return {"rtol": options.rtol, "max_steps": options.max_steps}


def _compare(
    s: Session, phase: str, solution: Solution, effects: np.ndarray, ebv: np.ndarray, exact: Reference
) -> str | None:
    """Rows of how a solve went and how far it is from the reference; a sentence where that is too far."""
    error = _relative(ebv, exact.ebv)
    s.number("ebv_error", error, phase)
    s.number("snp_effect_error", _relative(effects, exact.effects), phase)
    s.number("iterations", solution.steps, phase)
    s.number("converged", float(solution.converged.all()), phase)
    s.number("true_residual_norm", solution.true_residual_norms.max(), phase)
    if error <= EBV_TOLERANCE:
        return None
    return f"EBVs differ from the exact ones by {error:.2g} of the largest; {EBV_TOLERANCE:.0e} is allowed"


def _relative(found: np.ndarray, wanted: np.ndarray) -> float:
    """The largest difference, relative to the largest wanted element."""
    return float(np.abs(found - wanted).max() / max(np.abs(wanted).max(), np.finfo(float).tiny))
