"""`bench variances` where one ratio is all there is: GBLUP of one trait without further random effects.

`eigen`: by one eigendecomposition of the records' relationships. `lanczos`: by one block-Lanczos run of products with
the genotypes, at sizes where no n × n matrix fits (docs/variance-ratio.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.errors import BenchError
from bench.evaluation.inputs import Inputs
from bench.evaluation.journal import Journal
from bench.models import lanczos_reml
from bench.models.criteria import Moments, Optimum, average_information, restricted_log_likelihood
from bench.models.reml import Rotated, Spectrum, estimate
from bench.models.whitened import WhitenedRecords
from bench.relationships.genomic import Gram, grm_trace
from bench.single_step.problem import Problem
from bench.solvers.lanczos import bytes_needed

METHODS = ("eigen", "lanczos")
MOST_EIGEN = 6000  # records: n³ operations, some minutes


@dataclass(frozen=True)
class Ratio:
    """variances, covariance: (genetic, residual), (2,) and (2, 2) of their errors. trace, facts: as of the verb."""

    variances: np.ndarray
    covariance: np.ndarray
    trace: list[dict[str, Any]]
    facts: dict[str, Any]


def refusal(inputs: Inputs) -> str | None:
    """Why the model has more than one ratio; None if it has one."""
    model = inputs.model
    if model.pedigree is not None:
        return "a single variance ratio is of models without a pedigree, and this one has one"
    if len(model.components) > 1 or inputs.design.random_terms:
        return "a single variance ratio is of one trait without further random effects, and this model has more"
    return None


def fitting(inputs: Inputs, memory: int) -> str:
    """`eigen` where its matrices fit and do not take long, else `lanczos`."""
    r, n = int(inputs.design.records.observed.sum()), inputs.levels
    return "eigen" if r <= MOST_EIGEN and 8 * (4 * r * r + 2 * n * n) <= memory else "lanczos"


def find(
    method: str, inputs: Inputs, problem: Problem, journal: Journal, *, seed: int, max_steps: int | None, memory: int
) -> Ratio:
    """The REML estimates. BenchError: too little memory, or records that have nothing to estimate."""
    design = inputs.design
    seen = design.records.observed[:, 0]
    X = design.incidence[:, : design.fixed].tocsr()[np.flatnonzero(seen)].toarray()
    records = WhitenedRecords.of(
        design.records.y[seen, 0],
        X,
        individual=design.records.animal[seen],
        weights=design.records.weights[seen, 0],
        n_individuals=inputs.levels,
        name=str(inputs.model.records),
    )
    if method == "eigen":
        return _eigen(inputs, problem, records, journal, memory)
    return _lanczos(inputs, problem, records, journal, seed=seed, max_steps=max_steps, memory=memory)


def _eigen(inputs: Inputs, problem: Problem, records: WhitenedRecords, journal: Journal, memory: int) -> Ratio:
    r, n = records.y.size, records.n_individuals
    if (need := 8 * (4 * r * r + 2 * n * n)) > memory:
        raise BenchError(
            f"the eigendecomposition of {r} records needs {need / 1e9:.3g} GB of memory, {memory / 1e9:.3g} GB can "
            "be used; --method lanczos needs less"
        )
    with journal.step("relationships"):
        K = records.dense(problem.genomic.dense())
    with journal.step("eigendecomposition"):
        spectrum = Spectrum.of(K)
    found = estimate(spectrum, records.y, records.X)
    rotated = Rotated.of(spectrum, records.y, records.X)
    at, start = rotated.moments(found.lam), inputs.model.covariances
    before = float(start.genetic[0, 0]), float(start.residual[0, 0])
    trace = [
        {
            "step": step,
            "log_likelihood": restricted_log_likelihood(rotated.moments(Ve / Vu), Vu),
            "h2": Vu / (Vu + Ve),
        }
        for step, (Vu, Ve) in enumerate([before, (found.Vu, found.Ve)])
    ]
    status = "boundary" if found.bound else "converged"
    facts = {"method": "eigen", "status": status, "steps": 1, "log_likelihood": found.log_likelihood}
    return Ratio(np.array([found.Vu, found.Ve]), _covariance(at, found.bound), trace, facts)


def _lanczos(
    inputs: Inputs,
    problem: Problem,
    records: WhitenedRecords,
    journal: Journal,
    *,
    seed: int,
    max_steps: int | None,
    memory: int,
) -> Ratio:
    genotyped, genomic = inputs.genotyped, problem.genomic
    assert genotyped is not None
    most, width = max_steps or lanczos_reml.MAX_STEPS, 1 + lanczos_reml.PROBES
    need = bytes_needed(records.y.size, width, most)
    journal.say(f"block Lanczos with {width} columns: at most {need / 1e9:.3g} GB of memory in {most} steps")
    with journal.step("trace of G"):
        if records.plain and inputs.model.relationship.linear:
            trace = grm_trace(genotyped.matrix.packed, genotyped.coding)
        else:
            trace = records.trace(genotyped.gram_diagonal() * genomic.marker_variance)
        genotyped.matrix.packed.forget()
    steps: list[dict[str, Any]] = []

    def tell(step: int, best: Optimum) -> None:
        h2 = 1 / (1 + best.lam)
        steps.append({"step": step, "log_variance_ratio": best.log_lam, "h2": h2, "bound": best.bound or ""})
        journal.say(f"step {step}: h² {h2:.4f}" + (f", at its {best.bound} bound" if best.bound else ""))

    with journal.step("block Lanczos"):
        gram = Gram(genomic.markers, 1 / genomic.marker_variance)
        run = lanczos_reml.LanczosRun(gram, records, trace=trace, seed=seed, max_steps=most, memory=memory)
        found = lanczos_reml.estimate(run, observe=tell)
    status = {"converged": "converged", "bound": "boundary", "steps": "not converged"}[found.status]
    journal.say(
        f"log variance ratio {np.log(found.lam):.5f}: statistical error {found.standard_error:.2g}, Monte Carlo "
        f"error {found.monte_carlo_error:.2g}; {found.products} products of G with {width} columns"
    )
    of_h2 = found.h2 * (1 - found.h2) * found.monte_carlo_error
    facts = {
        "method": "lanczos", "status": status, "steps": found.products, "log_likelihood": found.log_likelihood,
        "probes": lanczos_reml.PROBES, "simulation_error_of_h2": float(of_h2) if np.isfinite(of_h2) else None,
    }  # fmt: skip
    covariance = _covariance(run.density().moments(found.lam), found.bound)
    return Ratio(np.array([found.Vu, found.Ve]), covariance, steps, facts)


def _covariance(at: Moments, bound: str | None) -> np.ndarray:
    """(2, 2) of the errors of σu² and σe², by the average information; NaN at a bound."""
    return np.full((2, 2), np.nan) if bound else np.linalg.inv(average_information(at))
