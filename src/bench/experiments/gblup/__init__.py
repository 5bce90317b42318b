"""GBLUP on a data set: once exactly, without a kernel (the reference), then by PCG through each kernel (a solve).

The reference's λ, EBVs and marker effects go into an .npz; a solve uses the λ and is checked against the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from bench import config, kernels
from bench.errors import BenchError
from bench.experiments import Files
from bench.genotypes.spec import DatasetSpec, Fetched, Livestock, Simulated
from bench.plan import Case, case_id, expand, thread_counts, variants
from bench.record import Document

VERSION = 2
# Traits of the public data that are analysed where the configuration names none.
DEFAULT_TRAITS = {"wheat": ("env1", "env2", "env4", "env5"), "mice": ("Obesity.BMI",)}


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
    from bench.experiments.gblup import reference, solve  # scipy, which the plan does not need

    if files.reference is None:
        raise BenchError("a GBLUP case needs the path of its reference (--reference)")
    return (reference if case["solver"] == "cholesky" else solve).run(case, files, files.reference, version=VERSION)
