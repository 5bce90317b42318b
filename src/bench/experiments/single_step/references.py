"""What solves are compared with: EBVs by a dense factor where that fits, by a tighter prior_pcg elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from bench import experiments, measure, surroundings
from bench.errors import BenchError
from bench.experiments import Files
from bench.experiments.single_step.evaluation import Evaluation, evaluation_of
from bench.experiments.single_step.problems import centred_problem, make_problem
from bench.experiments.single_step.young import prediction
from bench.genotypes.dataset import Dataset
from bench.matrix import GenotypeMatrix
from bench.plan import Case
from bench.provenance import collect_provenance
from bench.record import Document, atomic_path
from bench.relationships.genomic import BlockCentred, vanraden1
from bench.single_step.pedigree_blup import solve_pedigree
from bench.single_step.problem import Problem
from bench.single_step.solve import prepare, solve
from bench.solvers.direct import Cholesky

DENSE = 6000  # unknowns up to which the equations are solved by a dense factor: 0.3 GB, and seconds
PLAIN = 5e6  # genotypes up to which they are multiplied by numpy, apart from every kernel
TIGHT = 1e-13  # of ‖r‖/‖b‖; what PCG attains in float64 may lie above, and is a row


@dataclass(frozen=True)
class Reference:
    """ebv: (n, q) of all animals. reason: why there is none; the array is then empty."""

    ebv: np.ndarray
    reason: str = ""

    def write(self, path: Path) -> None:
        with atomic_path(path) as tmp, tmp.open("wb") as file:
            np.savez(file, allow_pickle=False, ebv=self.ebv, reason=np.asarray(self.reason))

    @classmethod
    def read(cls, path: Path) -> Reference:
        try:
            with np.load(path, allow_pickle=False) as file:
                found = {f.name: file[f.name] for f in fields(cls)}
        except (OSError, KeyError, ValueError, EOFError) as error:
            raise BenchError(f"{path}: not a single-step reference ({error}); delete it and run again") from None
        return cls(found["ebv"], str(found["reason"]))


def run(case: Case, files: Files, out: Path, *, version: int) -> Document:
    """The reference of a data set's traits, and how well it predicts young animals; `out` takes its EBVs."""
    data = Dataset.read(files.dataset)
    provenance = collect_provenance(version=version, dataset_hash=data.bed_sha256 or "")
    doc = Document(experiments.identity(case), provenance)
    try:
        reference = _attempt(doc, case, data)
    except BenchError as error:
        reference = Reference(np.empty((0, 0)), str(error))
    if reference.reason:
        doc.refuse(reference.reason)
    reference.write(out)
    return doc


def _attempt(doc: Document, case: Case, data: Dataset) -> Reference:
    if data.status != "ok":
        raise BenchError(data.reason or "the data set was refused")
    evaluation = evaluation_of(data, case["trait"].split("+"), genotyped=case.get("samples"))
    doc.identity |= {"n": len(evaluation.genotyped), "m": data.n_snps, "animals": len(evaluation.pedigree)}
    doc.identity |= {"missing_rate": data.missing_rate, "seed": data.source.get("seed")}
    with measure.exclusive(), surroundings.watched(doc, case["threads"]):
        problem = _problem(case, evaluation)
        ebv, how = _solved(doc, problem)
        _compare(doc, evaluation, {"single-step": ebv, "pedigree": pedigree_ebv(problem)})
    doc.add("n_records", len(evaluation.records), "1", phase="data")
    doc.add("unknowns", problem.equations.size, "1", phase="data", note=how)
    doc.add("peak_rss", measure.peak_rss(), "B", phase="memory")
    return Reference(ebv)


def _problem(case: Case, evaluation: Evaluation) -> Problem:
    packed = evaluation.packed
    if packed.n_samples * packed.n_snps <= PLAIN:
        coding = vanraden1(packed)
        return make_problem(case, evaluation, coding, BlockCentred(packed, coding))
    return centred_problem(case, evaluation, GenotypeMatrix(packed, threads=case["threads"]).products)


def _solved(doc: Document, problem: Problem) -> tuple[np.ndarray, str]:
    """(n, q) EBVs, and how they were found."""
    equations = problem.equations
    if equations.size <= DENSE:
        matrix = equations.matrix.toarray()
        prior = problem.genomic.dense()
        added = np.linalg.inv(prior) - np.linalg.inv(problem.genomic.dense_numerator())
        matrix[np.ix_(problem.places, problem.places)] += np.kron(added, problem.precision)
        effects = Cholesky(np.asfortranarray(matrix)).solve(equations.rhs[:, None])[:, 0]
        doc.add("true_residual_norm", 0.0, "1", phase="reference")
        return equations.genetic(effects)[: equations.animals], "dense Cholesky"
    found = solve(prepare("prior_pcg", problem, memory=1 << 60), rtol=TIGHT, max_steps=3000)
    doc.add("true_residual_norm", float(found.solution.true_residual_norms[0]), "1", phase="reference")
    return equations.genetic(found.effects)[: equations.animals], "prior_pcg"


def pedigree_ebv(problem: Problem) -> np.ndarray:
    """(n, q) EBVs without genotypes."""
    found = solve_pedigree(problem.equations, library=problem.library)
    return problem.equations.genetic(found.value[:, 0])[: problem.equations.animals]


def _compare(doc: Document, evaluation: Evaluation, methods: dict[str, np.ndarray]) -> None:
    """Rows of each method's prediction of the animals that were born last and have no records."""
    truth = evaluation.breeding_values()
    young = evaluation.born == evaluation.born.max()
    young[evaluation.records.animal] = False
    genotyped = np.zeros(len(young), bool)
    genotyped[evaluation.genotyped] = True
    sire = evaluation.pedigree.sire
    family = np.where(sire >= 0, sire, -1 - np.arange(len(sire)))  # an animal of unknown sire is its own
    for group, rows in (("young", young), ("young genotyped", young & genotyped)):
        if rows.sum() < 10:
            continue
        for j, trait in enumerate(evaluation.model.traits):
            for method, ebv in methods.items():
                found = prediction(ebv[rows, j], truth[rows, j], family[rows])
                place = {"phase": group, "trait": trait, "method": method}
                doc.add("accuracy", found.accuracy, "1", note=f"{int(rows.sum())} animals", **place)
                doc.add("slope", found.slope, "1", **place)
                for draw in range(len(found.slope_draws)):
                    doc.add("accuracy_draw", found.accuracy_draws[draw], "1", repeat=draw, **place)
                    doc.add("slope_draw", found.slope_draws[draw], "1", repeat=draw, **place)
