"""What the studies share: the document of a case, genotypes as a training set sees them, a model of a method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench import experiments, measure
from bench.dblup import GBLUP, BlockWeights, Data, Dense, DenseOperator, EqualWeights, Fitted, Link, fit
from bench.errors import BenchError
from bench.experiments import Files
from bench.experiments.dblup import traits
from bench.genotypes.bim_fam import read_fam
from bench.genotypes.dataset import Dataset
from bench.genotypes.packed import PackedGenotypes
from bench.machine import memory_available
from bench.plan import Case
from bench.provenance import collect_provenance
from bench.record import Document
from bench.relationships.genomic import vanraden1

LAM = 1.0  # where every objective starts
STEPS, TOLERANCE = 60, 1e-5  # of L-BFGS; at 1e-7 no correlation changes in the third digit
DRAW_SEED = 20_265  # which individuals stay where fewer are asked for


def studied(
    case: Case, files: Files, version: int, study: Callable[[Document, Case, Dataset, Files], None]
) -> Document:
    """Run a study, which times nothing, on the case's data set; what its data do not allow is a refused document."""
    doc, data = begin(case, files, version)
    if doc.status == "ok":
        try:
            study(doc, case, data, files)
        except BenchError as error:
            return doc.refuse(str(error))
        doc.add("peak_rss", measure.peak_rss(), "B", phase="memory")
    return doc


def begin(case: Case, files: Files, version: int) -> tuple[Document, Dataset]:
    """The document of a case, refused where its data set is, and the data set."""
    data = Dataset.read(files.dataset)
    doc = Document(experiments.identity(case), collect_provenance(version=version, dataset_hash=data.bed_sha256))
    if data.status != "ok":
        return doc.refuse(data.reason or "the data set was refused"), data
    doc.identity |= {
        "n": min(case.get("samples", data.n_samples), data.n_samples),
        "m": data.n_snps,
        "missing_rate": data.missing_rate,
    }
    doc.identity |= {"seed": data.source.get("seed")}
    return doc, data


def genotypes(case: Case, data: Dataset, files: Files, *, copies: float) -> tuple[PackedGenotypes, np.ndarray]:
    """The individuals of a case, and their rows of the data set. copies: of W in float64 that the study holds."""
    packed, n = data.packed(), min(case.get("samples", data.n_samples), data.n_samples)
    need, free = copies * 8 * n * data.n_snps, min(memory_available(), files.memory or memory_available())
    if need > free:
        raise BenchError(f"the study needs {need / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB can be used")
    if n == data.n_samples:
        return packed, np.arange(n)
    rows = np.sort(np.random.default_rng([DRAW_SEED, data.n_samples]).permutation(data.n_samples)[:n])
    return packed.take(rows), rows


def phenotypes(data: Dataset, trait: str, rows: np.ndarray) -> np.ndarray:
    """(rows,) records of a trait, NaN where there is none."""
    table = data.phenotypes()
    if trait not in table:
        raise BenchError(f"{data.name}: there is no trait {trait!r}; there are {', '.join(table.columns)}")
    return table[trait].to_numpy(float)[rows]


def fixed_effects(data: Dataset, rows: np.ndarray, *, sex: bool) -> np.ndarray:
    """(rows, p): the intercept, and where it is wanted and the .fam tells it of everybody, sex."""
    told = read_fam(data.fam)["sex"].to_numpy(int)[rows] if data.fam else np.zeros(rows.size, int)
    both = np.isin(told, (1, 2)).all() and np.unique(told).size == 2
    ones = np.ones((rows.size, 1))
    return np.column_stack([ones, told == 1]) if sex and both else ones


def only(rows: np.ndarray, y: np.ndarray) -> np.ndarray:
    """y with the records of these rows alone."""
    masked = np.full(y.size, np.nan)
    masked[rows] = y[rows]
    return masked


@dataclass(frozen=True)
class Genomic:
    """W of everybody, (n, m), with the allele frequencies of a training set; G = W diag(w) W'/divisor."""

    operator: DenseOperator
    divisor: float

    @classmethod
    def of(cls, packed: PackedGenotypes, training: np.ndarray) -> Genomic:
        """training: rows whose allele frequencies centre all, and whose heterozygosity scales G."""
        import jax.numpy as jnp

        coding = vanraden1(packed.take(training))
        return cls(DenseOperator(jnp.asarray(coding.block(packed, slice(0, packed.n_snps)))), coding.divisor)

    def backend(self, weights: Any) -> Dense:
        """The dense backend of weights of this kind, which models with other objectives can share."""
        return Dense.of(self.operator, Link.of(LAM, weights), self.divisor)

    def model(self, objective: str, weights: Any, *, ridge: float = 0.0, backend: Dense | None = None) -> GBLUP:
        return GBLUP.of(
            self.operator,
            Link.of(LAM, weights),
            objective,
            divisor=self.divisor,
            ridge=ridge,
            backend=backend or self.backend(weights),
        )


def fit_methods(
    genomic: Genomic, data: Data, methods: list[str], blocks: int, ridge: float
) -> dict[str, tuple[Fitted, np.ndarray]]:
    """{method: the fitted model and everybody's EBVs}. A method is an objective, with +w where the weights of
    contiguous blocks are learned too, and +ridge with a normal prior of precision `ridge` on their logarithms."""
    m = genomic.operator.shape[1]
    weights = {
        False: EqualWeights.of(m),
        True: BlockWeights.of(traits.contiguous_blocks(m, blocks)),
    }
    shared = {weighted: genomic.backend(weights[weighted]) for weighted in {"+w" in name for name in methods}}
    found = {}
    for method in methods:
        objective, _, more = method.partition("+")
        weighted = bool(more)
        penalty = ridge * blocks * _unit(objective, data) if "ridge" in more else 0.0
        model = genomic.model(objective, weights[weighted], ridge=penalty, backend=shared[weighted])
        fitted = fit(model, data, steps=STEPS, tolerance=TOLERANCE)
        found[method] = (fitted, np.asarray(fitted.model.breeding_values(data)))
    return found


def _unit(objective: str, data: Data) -> float:
    """What −2 log of a prior is multiplied with: −2 log-likelihoods count as they are, a squared error on the scale
    of r·log(error), which is a −2 log-likelihood up to constants."""
    return 1.0 if objective == "reml" else float(np.var(np.asarray(data.y))) / data.y.size


def effective(fitted: Fitted) -> float:
    """The effective number of blocks, (Σw)²/Σw²: all of them where their weights are equal."""
    w = np.asarray(fitted.model.link.unit_weights)
    return float(w.sum() ** 2 / (w**2).sum())
