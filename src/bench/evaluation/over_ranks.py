"""An evaluation over several ranks: what they must agree upon, what cannot be had, and who writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench import __version__
from bench.build import installed
from bench.errors import BenchError
from bench.evaluation.checkpoint import Checkpoint
from bench.evaluation.journal import Journal
from bench.evaluation.kept import Kept
from bench.machine import memory_available
from bench.models.model_file import Model, read_model
from bench.ranks.agreement import agree, file_facts
from bench.ranks.communicator import Ranks
from bench.ranks.genotypes import Spread

VARIANTS = ("prior_pcg", "sssnpblup")  # that only multiply the genotypes: no rank forms a matrix of all
COMPILED = ("auto", "pedigree", "missing")


def check(path: Path, spread: Spread, settings: object, *, earlier: Sequence[Path] = ()) -> None:
    """BenchError, on every rank: a model that ranks cannot solve, or ranks that disagree. Rank 0 compiles.

    earlier: files that the solve goes on from, which every rank reads for itself."""
    ranks = spread.ranks
    same = {"blupbench": __version__, "numpy": np.__version__, "the command's options": str(settings)}
    agree(ranks, same | file_facts([path, *earlier]))
    model = read_model(path)
    agree(ranks, file_facts(_files(model)))
    if reason := _refuses(model):
        raise BenchError(f"{path}: {reason}")
    ranks.once(lambda: [installed(name).target for name in COMPILED])  # one writes the cache, the others find it


def _refuses(model: Model) -> str | None:
    if model.genotypes is None:
        return "without genotypes there is nothing to share among ranks; leave --ranks out"
    if not model.relationship.linear:
        return "the Gaussian kernel needs the distances of all pairs of animals in one memory; leave --ranks out"
    if model.single_step.variant not in VARIANTS:
        return f"single_step.variant is {model.single_step.variant!r}; over ranks there are {' and '.join(VARIANTS)}"
    if model.single_step.preconditioner == "deflation":
        return "deflation multiplies thousands of columns on every rank; over ranks take another preconditioner"
    if model.single_step.tuning == "vanraden":
        return "tuning 'vanraden' reads all genotypes on every rank; over ranks take another tuning"
    if model.output.reliability != "none":
        return f"output.reliability is {model.output.reliability!r}; over ranks there are none: take it off"
    return None


def _files(model: Model) -> list[Path]:
    """Every file that the model names."""
    genotypes = model.genotypes
    found = [model.records, *([model.pedigree.file] if model.pedigree else [])]
    if model.pedigree and model.pedigree.metafounders is not None:
        found.append(model.pedigree.metafounders)
    if genotypes is not None:
        found += [Path(f"{genotypes.plink}{suffix}") for suffix in (".bed", ".bim", ".fam")]
        found += [path for path in (genotypes.frequencies, genotypes.weights) if path is not None]
    return found


def memory_of_rank(ranks: Ranks) -> int:
    """Bytes that one rank may take: its part of what its node has left."""
    return min(ranks.on_node(memory_available())) // len(ranks.on_node(None))


class SharedCheckpoint(Checkpoint):
    """Rank 0 writes it for all: vectors are whole on every rank. A signal to one rank ends all after the same step,
    or those that have not heard it would wait in a sum for those that have, and rank 0 would write nothing."""

    def __init__(self, kept: Kept, journal: Journal, ranks: Ranks):
        super().__init__(kept, journal)
        self._ranks = ranks
        if not ranks.first:
            self.stopping_line = b""

    def stopping(self) -> bool:
        return bool(self._ranks.sum(np.array([self.asked_to_stop], int))[0])

    def write(self) -> None:
        if self._ranks.first:
            super().write()

    def remove(self) -> None:
        if self._ranks.first:
            super().remove()
