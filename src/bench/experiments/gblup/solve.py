"""A GBLUP solve: EBVs by PCG through one kernel, checked against the reference, then timed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bench import measure, surroundings
from bench.build import installed
from bench.errors import BenchError, DeviceLost
from bench.experiments import Files, products
from bench.experiments.gblup import SolveOptions
from bench.experiments.gblup.session import Reference, Session, records_of, relative
from bench.genotypes.dataset import Dataset
from bench.models import gblup
from bench.plan import Case
from bench.record import Document
from bench.relationships.genomic import RELATIONSHIPS, Centred, Gram, grm_diagonal
from bench.relationships.missing import missing_of
from bench.solvers.pcg import Solution

EBV_TOLERANCE = 1e-8  # of the largest EBV; a solve that differs by more is wrong


def run(case: Case, files: Files, reference: Path, *, version: int) -> Document:
    """EBVs by PCG through one kernel with the reference's λ, checked against its EBVs, then timed."""
    data, build, exact = Dataset.read(files.dataset), products.read_build(files.build), Reference.read(reference)
    doc = products.begin(case, files, build, data, version=version)
    if doc.status != "ok":
        return doc
    if exact.reason:
        return doc.refuse(f"there is no reference to compare with: {exact.reason}")
    if case["dtype"] != "f8":
        return doc.refuse(f"{case['dtype']} products cannot give EBVs to {EBV_TOLERANCE:.0e}")
    packed, records = data.packed(), records_of(data, case["trait"])
    session, options = Session(doc, case, data, packed, records), SolveOptions(**case["options"])
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
    samples = [measure.once(lambda: made.append(work())) for _ in range(options.repeats)]
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
    error = relative(ebv, exact.ebv)
    s.number("ebv_error", error, phase)
    s.number("snp_effect_error", relative(effects, exact.effects), phase)
    s.number("iterations", solution.steps, phase)
    s.number("converged", float(solution.converged.all()), phase)
    s.number("true_residual_norm", solution.true_residual_norms.max(), phase)
    if error <= EBV_TOLERANCE:
        return None
    return f"EBVs differ from the exact ones by {error:.2g} of the largest; {EBV_TOLERANCE:.0e} is allowed"
