"""Single-step BLUP by every variant: set-up, rounds, time by part, and the distance from a reference at each round.

A case is a solve by PCG (`pcg`), a solve that starts from an earlier evaluation's solution (`warm`), or what solves
are compared with (`reference`), which also says how well young animals are predicted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from bench import PACKAGE, config, kernels
from bench.errors import BenchError
from bench.experiments import Files
from bench.genotypes.spec import Livestock
from bench.plan import Case, case_id, expand, thread_counts
from bench.plan import variants as builds
from bench.record import Document
from bench.single_step import variants

VERSION = 1
SAME = ("dataset", "samples", "trait", "polygenic", "tuning")  # what a solve shares with its reference


class View(config.Stanza):
    """Solves that are made for one question. Cases that two views share are made once.

    traits: for each solve how many of the data set's, or their names. samples: how many of the genotyped; null
    is all. variants, preconditioners: "all" is every one, "default" the first that a variant names. start: "zero", or
    "last", the solution of an evaluation with fewer records and genotypes.
    """

    datasets: config.Names
    traits: Annotated[list[config.Count | list[str]], Field(min_length=1)] = [1]
    samples: config.Counts | None = None
    variants: list[str] | Literal["all"] = ["prior_pcg"]
    preconditioners: list[str] | Literal["all", "default"] = "default"
    kernels: list[str] = ["auto"]
    threads: config.ThreadCounts = ["all"]
    polygenic: Annotated[float, Field(ge=0, lt=1)] = 0.05
    tuning: Literal["none", "vitezica", "chen", "vanraden", "blupf90"] = "none"
    start: Literal["zero", "last"] = "zero"
    rtol: Annotated[float, Field(gt=0, lt=1)] = 1e-11
    max_steps: config.Count = 5000

    @field_validator("variants")
    @classmethod
    def _variants_exist(cls, names: list[str] | str) -> list[str] | str:
        for name in names if isinstance(names, list) else []:
            config.known("single-step variant", name, variants.names())
        return names

    @field_validator("kernels")
    @classmethod
    def _kernels_exist(cls, names: list[str]) -> list[str]:
        for name in names:
            config.known("kernel", name, kernels.names())
        return names

    def solvers(self) -> list[tuple[str, str]]:
        """(variant, preconditioner) of every solve."""
        chosen = []
        for name in variants.names() if self.variants == "all" else self.variants:
            if self.variants == "all" and name == "fernando" and self.polygenic:
                continue  # which has no polygenic effect
            there = variants.load(name).preconditioners
            if self.preconditioners == "default":
                there = there[:1]
            elif self.preconditioners != "all":
                there = tuple(p for p in there if p in self.preconditioners)
            chosen += [(name, preconditioner) for preconditioner in there]
        return chosen


class Stanza(config.Stanza):
    """Keys of the experiment in the configuration: views by names of their own; null leaves one out."""

    views: dict[str, View | None]

    @property
    def datasets(self) -> list[str]:
        return list(dict.fromkeys(name for view in self.views.values() if view for name in view.datasets))


def cases(stanza: Stanza, config: config.Config) -> dict[str, Case]:
    """The solves of all views, and a reference for each data set, number of genotyped and set of traits."""
    solves, references = {}, {}
    for view in stanza.views.values():
        solves |= _solves(view, config) if view else {}
    for case in solves.values():
        same = {key: case[key] for key in SAME if key in case}
        reference = {"experiment": "single_step", "solver": "reference", "threads": case["threads"], **same}
        references[case_id(reference)] = reference
    return references | solves


def _solves(view: View, config: config.Config) -> dict[str, Case]:
    studied = [
        (name, trait)
        for name in view.datasets
        for trait in dict.fromkeys(_traits(name, config.datasets[name], wanted) for wanted in view.traits)
    ]
    found = expand(
        "single_step",
        {
            "dataset,trait": studied,
            "samples": view.samples or [None],
            "variant,preconditioner": view.solvers(),
            "kernel,target": builds(view.kernels, config.targets),
            "threads": thread_counts(view.threads),
        },
        solver="warm" if view.start == "last" else "pcg",
        dtype="f8",
        polygenic=view.polygenic,
        tuning=view.tuning,
        options={"rtol": view.rtol, "max_steps": view.max_steps},
    )
    made = [case | {"k": [len(case["trait"].split("+"))]} for case in found.values()]
    made = [{key: value for key, value in case.items() if value is not None} for case in made]
    return {case_id(case): case for case in made}


def _traits(name: str, spec: Any, wanted: int | list[str]) -> str:
    """The names of the traits of a solve, with + between them; fewer where the data set has fewer."""
    if not isinstance(spec, Livestock):
        raise BenchError(
            f"single_step: data set {name!r} is of the kind {spec.kind!r}; it needs `livestock`, whose pedigree and "
            "records have animals without genotypes"
        )
    there = [trait.name for trait in spec.traits]
    return "+".join(there[:wanted] if isinstance(wanted, int) else wanted)


def reference_of(case: Case, among: Mapping[str, Case]) -> str:
    """The id of the reference that a solve is compared with."""
    return next(
        name
        for name, other in among.items()
        if other["solver"] == "reference" and all(other.get(key) == case.get(key) for key in (*SAME, "threads"))
    )


def sources(variant: str) -> list[str]:
    """The files a change to which must repeat a solve by `variant`."""
    folder = PACKAGE / "single_step"
    files = [*folder.glob("*.py"), folder / "variants" / f"{variant}.py", *(PACKAGE / "solvers").glob("*.py")]
    return sorted(map(str, files))


def run(case: Case, files: Files) -> Document:
    """One case; a reference writes `files.reference`, a solve reads it."""
    from bench.experiments.single_step import references, solves  # the plan need not load scipy

    if files.reference is None:
        raise BenchError("a single-step case needs the path of its reference (--reference)")
    how = references.run if case["solver"] == "reference" else solves.run
    return how(case, files, files.reference, version=VERSION)
