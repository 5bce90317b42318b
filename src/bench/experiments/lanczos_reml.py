"""The variance ratio by REML from one block-Lanczos run: its time against that of the kernel's own products, its
passes over the genotypes, memory, and both its errors; where n allows, beside the eigendecomposition.

Records are drawn around the true breeding values of a simulated data set, with the heritabilities of the stanza.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from bench import config, measure, surroundings
from bench.build import installed
from bench.errors import BenchError, DeviceLost
from bench.experiments import Files, products
from bench.genotypes.dataset import Dataset
from bench.genotypes.packed import PackedGenotypes
from bench.kernels import GenotypeOperator
from bench.memory import memory_available
from bench.models.criteria import Optimum
from bench.models.lanczos_reml import BOUNDS, PROBES, LanczosEstimate, LanczosRun, estimate
from bench.models.reml import Spectrum
from bench.models.reml import estimate as by_eigen
from bench.models.whitened import WhitenedRecords
from bench.plan import Case, expand, thread_counts, variants
from bench.record import Document
from bench.relationships.genomic import Centred, Coding, Gram, dense_grm, dense_grm_bytes, grm_trace, vanraden1
from bench.relationships.missing import missing_of

VERSION = 1
REPEATS = 3  # of the kernel's own products, before the run and after it
TRUNCATION_STEPS = 3  # times as many steps as were needed: what the run would have found


class Stanza(config.Stanza):
    """Keys of the experiment in the configuration. samples: of the individuals, evenly spread; null is all. h2: of
    the records. eigen_max_n: up to which n the eigendecomposition, and a longer run, are computed beside it."""

    datasets: config.Names
    samples: config.Counts | None = None
    h2: Annotated[list[Annotated[float, Field(gt=0, lt=1)]], Field(min_length=1)] = [0.3]
    probes: config.Count = PROBES
    kernels: list[str] = ["auto"]
    threads: config.ThreadCounts = ["all"]
    eigen_max_n: Annotated[int, Field(ge=0)] = 5000


def cases(stanza: Stanza, config: config.Config) -> dict[str, Case]:
    """A run per data set × samples × heritability × kernel × target × threads, in float64."""
    found = expand(
        "lanczos_reml",
        {
            "dataset": stanza.datasets,
            "samples": stanza.samples or [None],
            "trait": [f"h2={h2:g}" for h2 in stanza.h2],
            "kernel,target": variants(stanza.kernels, config.targets),
            "threads": thread_counts(stanza.threads),
        },
        dtype="f8",
        k=[1 + stanza.probes],
        options={"eigen_max_n": stanza.eigen_max_n},
    )
    return {name: {key: value for key, value in case.items() if value is not None} for name, case in found.items()}


def run(case: Case, files: Files) -> Document:
    """Estimate, and time the kernel's own products before and after."""
    data, build = Dataset.read(files.dataset), products.read_build(files.build)
    doc = products.begin(case, files, build, data, version=VERSION)
    if doc.status != "ok":
        return doc
    truth = data.breeding_values()
    if truth is None:
        return doc.refuse(f"data set {data.name} knows no true breeding values to draw records around")
    n, packed = doc.identity["n"], data.packed()
    rows = np.linspace(0, data.n_samples - 1, n).astype(int)
    if n < data.n_samples:
        packed = packed.take(rows)
    y = _records(truth.iloc[rows, 0].to_numpy(float), float(case["trait"].removeprefix("h2=")))
    with measure.exclusive():
        try:
            operator = products.prepare(doc, case, packed, build)
            with surroundings.watched(doc, case["threads"]):
                _time_products(doc, case, operator, 0)
                found, run = _timed_run(doc, case, packed, operator, y)
                _time_products(doc, case, operator, REPEATS)
        except (MemoryError, DeviceLost) as error:
            return doc.broken(error)
        doc.add("peak_rss", measure.peak_rss(), "B", phase="memory")
        if wrong := _verify(doc, packed, operator):
            return doc.wrong(wrong)
        if n <= case["options"]["eigen_max_n"] and dense_grm_bytes(n) + 24 * n * n < memory_available():
            _beside(doc, packed, y, found, run)
    operator.close()
    return doc


def _records(truth: np.ndarray, h2: float) -> np.ndarray:
    """Records of variance 1 around the true values, of which these explain h2."""
    if not truth.std() > 0:
        raise BenchError("the true breeding values do not vary")
    noise = np.random.default_rng([7, truth.size]).standard_normal(truth.size)
    return np.sqrt(h2) * (truth - truth.mean()) / truth.std() + np.sqrt(1 - h2) * noise


def _time_products(doc: Document, case: Case, operator: GenotypeOperator, first: int) -> None:
    """The raw products of as many columns as the run has, what its rate is held against."""
    (k,), rng = case["k"], np.random.default_rng(1)
    for direction, rows in (("matmul", operator.shape[1]), ("rmatmul", operator.shape[0])):
        values = rng.standard_normal((rows, k))
        multiply = getattr(operator, direction)
        for repeat in range(REPEATS):
            sample = measure.once(lambda: multiply(values))  # noqa: B023
            products.add_sample(doc, sample, direction=direction, k=k, repeat=first + repeat)


def _timed_run(
    doc: Document, case: Case, packed: PackedGenotypes, operator: GenotypeOperator, y: np.ndarray
) -> tuple[LanczosEstimate, LanczosRun]:
    """From centred genotypes to λ and its errors, and to breeding values."""
    made: list[tuple[LanczosEstimate, LanczosRun]] = []
    codings: list[Coding] = []
    (k,), phase = case["k"], "reml"
    took = measure.once(lambda: codings.append(vanraden1(packed)))
    doc.add("coding_time", took.wall, "s", phase="prepare")
    coding = codings[0]
    missing = missing_of(operator, packed, threads=case["threads"], library=installed("missing").library)
    gram = Gram(Centred(operator, coding, missing), coding.divisor)

    def tell(step: int, best: Optimum) -> None:
        doc.add("log_variance_ratio", best.log_lam, "1", phase=phase, step=step)

    def whole() -> None:
        run = LanczosRun(gram, WhitenedRecords.of(y), trace=grm_trace(packed, coding), probes=k - 1)
        made.append((estimate(run, observe=tell), run))

    took = measure.once(whole)
    found, run = made[0]
    doc.add("reml_time", took.wall, "s", phase=phase)
    doc.add("reml_cpu", took.cpu, "s", phase=phase)
    solved = measure.once(lambda: run.solution(found.lam))
    doc.add("solve_time", solved.wall, "s", phase=phase, note="breeding values of all at λ")
    doc.add("products", found.products, "1", phase=phase)
    passes = 2 * found.products + 2 * found.other_products / k
    doc.add("passes", passes, "1", phase=phase, note="of k columns, with Z or Z′")
    note = f"REML, {found.status}" + (f" at its {found.bound}" if found.bound else "")
    doc.add("variance_ratio", found.lam, "1", phase=phase, note=note)
    doc.add("variance_ratio_at_bound", float(found.bound is not None), "1", phase=phase)
    doc.add("h2", found.h2, "1", phase=phase)
    doc.add("converged", float(found.status != "steps"), "1", phase=phase)
    doc.add("residual_norm", found.residual, "1", phase=phase)
    if found.bound is None:
        doc.add("log_variance_ratio_standard_error", found.standard_error, "1", phase=phase)
        doc.add("log_variance_ratio_monte_carlo_error", found.monte_carlo_error, "1", phase=phase)
    return found, run


def _verify(doc: Document, packed: PackedGenotypes, operator: GenotypeOperator) -> str | None:
    """Products of ones are counts of alleles, exactly, and both directions are adjoint; what is wrong, or None."""
    counts = packed.code_counts()
    ones = operator.rmatmul(np.ones((packed.n_samples, 1)))[:, 0]
    mismatches = int((ones != counts[:, 2] + 2 * counts[:, 3]).sum())
    doc.add("integer_mismatches", mismatches, "1", phase="verify")
    rng = np.random.default_rng(2)
    U, V = (rng.standard_normal((rows, 1)) for rows in operator.shape)
    left, right = float(np.sum(U * operator.matmul(V))), float(np.sum(operator.rmatmul(U) * V))
    error = abs(left - right) / float(np.linalg.norm(U) * np.linalg.norm(operator.matmul(V)))
    doc.add("rel_error", error, "1", phase="verify")
    if mismatches or not error <= 1e-12:
        return f"{mismatches} of {ones.size} counts of alleles differ, and the directions differ by {error:.2g}"
    return None


def _beside(doc: Document, packed: PackedGenotypes, y: np.ndarray, found: LanczosEstimate, run: LanczosRun) -> None:
    """λ by the eigendecomposition, and by the same run without an end."""
    while run.lanczos.products < TRUNCATION_STEPS * found.products and run.extend():
        pass
    longer = run.estimate()[0].log_lam
    doc.add("truncation_error", abs(longer - np.log(found.lam)), "1", phase="reml")
    exact = by_eigen(Spectrum.of(dense_grm(packed, vanraden1(packed))), y, np.ones((y.size, 1)), bounds=BOUNDS)
    doc.add("variance_ratio", exact.lam, "1", phase="eigen", note="REML")
    if np.isfinite(exact.standard_error):
        doc.add("log_variance_ratio_standard_error", exact.standard_error, "1", phase="eigen")
