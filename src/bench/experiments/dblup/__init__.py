"""D-BLUP: variance ratio and SNP weights learned through the BLUP solve (Dearden & Guhlin 2025,
doi:10.1101/2025.11.25.690542), against REML.

A case is one of five studies of a data set: `learned` (λ under each objective), `folds` (predictive ability of a real
trait inside nested folds), `simulated` (the same for traits of a known architecture), `steps` (what a gradient step
costs) and `annotations` (weights from SNP annotations through a network).
"""

from __future__ import annotations

import importlib
import os
from typing import Annotated, Literal

from pydantic import Field, model_validator

from bench import PACKAGE, config
from bench.errors import BenchError
from bench.experiments import Files
from bench.experiments.gblup import DEFAULT_TRAITS
from bench.genotypes.spec import DatasetSpec, Fetched, Simulated
from bench.plan import Case, case_id, expand, thread_counts
from bench.record import Document

VERSION = 2
ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"  # jax reads it when it is loaded
Objective = Literal["reml", "loo", "gcv", "heldout", "train"]
# What is learned: an objective alone learns λ; +w the weights of blocks of SNPs too; +ridge with a penalty on them.
Method = Literal["reml", "loo", "train", "reml+w", "loo+w", "train+w", "reml+w+ridge", "loo+w+ridge"]
METHODS: list[Method] = ["reml", "loo", "train", "reml+w", "loo+w", "train+w", "reml+w+ridge", "loo+w+ridge"]
OBJECTIVES: list[Objective] = ["reml", "loo", "gcv", "heldout", "train"]
Backend = Literal["dense", "dense_fixed", "matrix_free"]
Fraction = Annotated[float, Field(gt=0, lt=1)]


class Learned(config.Stanza):
    """λ under each objective, and where the path of the train MSE leads. traits: by default all simulated ones."""

    datasets: config.Names
    traits: list[str] | None = None
    objectives: Annotated[list[Objective], Field(min_length=1)] = OBJECTIVES


class Prediction(config.Stanza):
    """samples: at most so many individuals, drawn at random; null is all. blocks: of neighbouring SNPs, with a weight
    each. ridge: the precision of a normal prior on the log weights, where a method has one."""

    datasets: config.Names
    samples: config.Count | None = None
    methods: Annotated[list[Method], Field(min_length=1)] = METHODS
    blocks: config.Count = 20
    ridge: Annotated[float, Field(gt=0)] = 1.0


class Folds(Prediction):
    """Predictive ability of recorded traits: everything is learned on the other folds.

    sex: whether it is a fixed effect, where the .fam tells it of everybody.
    """

    traits: list[str] | None = None
    folds: Annotated[int, Field(ge=2)] = 10
    sex: bool = True


class Architectures(Prediction):
    """Accuracy of simulated traits, a held-out fifth in each replicate. concentrated: QTL in 3 of 20 blocks."""

    architectures: Annotated[list[Literal["concentrated", "polygenic"]], Field(min_length=1)] = [
        "concentrated",
        "polygenic",
    ]
    replicates: config.Count = 10
    h2: Fraction = 0.5
    n_qtl: config.Count = 60


class Steps(config.Stanza):
    """One gradient step of the weights of all SNPs and of λ, on the first `samples` individuals. dense_fixed: of λ
    alone, with G made beforehand, the least that a dense step can cost.

    variance_ratio: λ at which it is taken. probes: right-hand sides of the traces.
    """

    datasets: config.Names
    samples: config.Counts
    backends: Annotated[list[Backend], Field(min_length=1)] = ["dense", "dense_fixed", "matrix_free"]
    preconditioners: list[str] = ["none"]
    threads: config.ThreadCounts = ["all"]
    variance_ratio: Annotated[float, Field(gt=0)] = 2.0
    probes: config.Count = 8


class Annotations(config.Stanza):
    """SNP annotations → network → weights → BLUP → loss, on simulated traits whose QTL they tell of."""

    datasets: config.Names
    samples: config.Count | None = None
    replicates: config.Count = 5
    h2: Fraction = 0.5
    width: config.Count = 16
    steps: config.Count = 45


class Stanza(config.Stanza):
    """Keys of the experiment in the configuration: studies, of which null leaves one out."""

    learned: Learned | None = None
    folds: Folds | None = None
    simulated: Architectures | None = None
    steps: Steps | None = None
    annotations: Annotations | None = None

    @model_validator(mode="after")
    def _some(self) -> Stanza:
        if not self.datasets:
            raise ValueError(
                "dblup: no study; name learned, folds, simulated, steps or annotations, with its datasets"
            )
        return self

    @property
    def datasets(self) -> list[str]:
        studies = (self.learned, self.folds, self.simulated, self.steps, self.annotations)
        return list(dict.fromkeys(name for study in studies if study for name in study.datasets))


def cases(stanza: Stanza, config: config.Config) -> dict[str, Case]:
    """The cases of all studies; `variant` names the study."""
    found: dict[str, Case] = {}
    if study := stanza.learned:
        found |= _cases("learned", {"dataset,trait": _traits(study, config)}, study, "datasets", "traits")
    if study := stanza.folds:
        axes = {"dataset,trait": _traits(study, config), "samples": [study.samples]}
        found |= _cases("folds", axes, study, "datasets", "traits", "samples")
    if study := stanza.simulated:
        axes = {"dataset": study.datasets, "trait": study.architectures, "samples": [study.samples]}
        found |= _cases("simulated", axes, study, "datasets", "architectures", "samples")
    if study := stanza.annotations:
        axes = {"dataset": study.datasets, "trait": ["annotated"], "samples": [study.samples]}
        found |= _cases("annotations", axes, study, "datasets", "samples")
    if study := stanza.steps:
        free = [("matrix_free", name) for name in study.preconditioners]
        solvers = [way for way in [("dense", "none"), ("dense_fixed", "none"), *free] if way[0] in study.backends]
        axes = {"dataset": study.datasets, "samples": study.samples, "method,preconditioner": solvers}
        axes["threads"] = thread_counts(study.threads)
        varied = ("datasets", "samples", "backends", "preconditioners", "threads")
        found |= _cases("steps", axes, study, *varied)
    return found


def _cases(name: str, axes: dict, study: config.Stanza, *varied: str) -> dict[str, Case]:
    """The cases of a study; what is not an axis goes along as `options`."""
    axes.setdefault("threads", [1])
    options = study.model_dump(exclude=set(varied))
    common = {"variant": name, "dtype": "f8", "options": options}
    made = [
        {key: value for key, value in case.items() if value is not None}
        for case in expand("dblup", axes, **common).values()
    ]
    return {case_id(case): case for case in made}


def _traits(study: Learned | Folds, config: config.Config) -> list[tuple[str, str]]:
    return [
        (name, trait) for name in study.datasets for trait in study.traits or _of_dataset(name, config.datasets[name])
    ]


def _of_dataset(name: str, spec: DatasetSpec) -> tuple[str, ...]:
    if isinstance(spec, Simulated):
        return tuple(trait.name for trait in spec.traits)
    if isinstance(spec, Fetched):
        return DEFAULT_TRAITS[spec.reader]
    raise BenchError(f"dblup: data set {name!r} is of the kind {spec.kind!r}; name its `traits`")


def sources(study: str) -> list[str]:
    """The files a change to which must repeat the cases of a study."""
    own = [PACKAGE / "experiments" / "dblup" / name for name in (f"{study}.py", "session.py", "traits.py")]
    return sorted(map(str, [*own, *(PACKAGE / "dblup").glob("*.py")]))


def run(case: Case, files: Files) -> Document:
    """One case, by the module of its study, which loads jax: the plan need not."""
    if case["threads"] == 1:
        os.environ.setdefault("XLA_FLAGS", ONE_THREAD)
    study = importlib.import_module(f"bench.experiments.dblup.{case['variant']}")
    return study.run(case, files, version=VERSION)
