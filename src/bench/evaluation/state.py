"""Where a solve can start: the solution of an earlier evaluation."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bench.errors import BenchError
from bench.evaluation.genotyped import Genotyped
from bench.evaluation.inputs import Inputs
from bench.models.design import Design
from bench.record import atomic_path
from bench.single_step.problem import Problem
from bench.single_step.solve import Estimates
from bench.single_step.system import System
from bench.single_step.warm import start_from

FILE = "state.npz"


@dataclass(frozen=True)
class State:
    """A solution by names, so that another evaluation with other animals can start from it.

    labels: (others,) text of each effect that is not genetic; others: their solutions. animals: (levels,) ids;
    genetic: (levels, q). genotyped: (g,) ids; carried: (g, q) of (Gw⁻¹ ⊗ G₀⁻¹)u_g. snps: (m,) ids; markers: (m, q).
    components: (q,).
    """

    components: np.ndarray
    labels: np.ndarray
    others: np.ndarray
    animals: np.ndarray
    genetic: np.ndarray
    genotyped: np.ndarray
    carried: np.ndarray
    snps: np.ndarray
    markers: np.ndarray

    @classmethod
    def of(cls, inputs: Inputs, genotyped: Genotyped, problem: Problem, estimates: Estimates) -> State:
        equations = problem.equations
        return cls(
            _text(equations.components),
            _labels(inputs.design),
            inputs.whole(estimates.effects)[: equations.others],
            _text((*inputs.pedigree.ids, *inputs.pedigree.groups)),
            equations.genetic(estimates.effects),
            _text(genotyped.ids),
            _carried(problem, estimates),
            _markers(genotyped),
            estimates.marker_effects,
        )

    def write(self, folder: Path) -> None:
        with atomic_path(folder / FILE) as tmp, tmp.open("wb") as file:
            np.savez(file, **self.__dict__)

    @classmethod
    def read(cls, folder: Path) -> State:
        """Of an earlier evaluation's folder; BenchError if it has none."""
        names = tuple(cls.__dataclass_fields__)
        return cls(**_npz(folder / FILE, names, "the state of a single-step evaluation, which --start needs"))

    def start(self, system: System, inputs: Inputs, genotyped: Genotyped) -> tuple[np.ndarray, int]:
        """(columns,) a start for `system`, 0 for what is new, and how many animals of the pedigree are not."""
        equations = system.problem.equations
        if tuple(self.components) != equations.components:
            raise BenchError(
                f"--start: that evaluation is of {', '.join(self.components)}, this one of "
                f"{', '.join(equations.components)}"
            )
        effects = np.zeros(equations.size)
        labels = _labels(inputs.design)
        effects[: equations.others] = _matched(self.labels, self.others[:, None], labels)[0][:, 0]
        known_before = np.isin(labels[: inputs.fixed_fit.size], self.labels)
        effects[: inputs.fixed_fit.size] -= np.where(known_before, inputs.fixed_fit, 0.0)
        ids = _text((*inputs.pedigree.ids, *inputs.pedigree.groups))
        genetic, known = _matched(self.animals, self.genetic, ids)
        equations.genetic(effects)[:] = genetic
        effects = system.problem.deviations(effects)
        carried, _ = _matched(self.genotyped, self.carried, _text(genotyped.ids))
        markers, _ = _matched(self.snps, self.markers, _markers(genotyped))
        return start_from(system, effects, markers, carried), int(known[: len(inputs.pedigree)].sum())


def _carried(problem: Problem, estimates: Estimates) -> np.ndarray:
    """(Gw⁻¹ ⊗ G₀⁻¹)û_g, 0 where it is not known."""
    if estimates.weights is None:
        return np.zeros((len(problem.genomic.rows), problem.components))
    return problem.scaled(estimates.weights, problem.precision)


def _labels(design: Design) -> np.ndarray:
    """One text for each effect that is not genetic."""
    labels = design.labels()
    return _text(labels["effect"] + "\t" + labels["level"].astype(str) + "\t" + labels["trait"])


def _markers(genotyped: Genotyped) -> np.ndarray:
    """The names of the columns of M: SNPs, or of a root of the Gaussian kernel, which have none, numbers."""
    snps = genotyped.matrix.snps
    assert snps is not None
    return _text(snps if genotyped.width is None else range(genotyped.markers.shape[1]))


def _text(values: object) -> np.ndarray:
    return np.array(list(values), dtype=np.str_)  # pyright: ignore[reportArgumentType, reportCallIssue]


def _matched(names: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values of `wanted`, 0 where `names` has them not or not once, and (wanted,) which it has."""
    index = pd.Index(names)
    alone = np.flatnonzero(~index.duplicated(keep=False))  # as SNPs that are all called "." are not
    place = index[alone].get_indexer(pd.Index(wanted))
    known = place >= 0
    out = np.zeros((len(wanted), values.shape[1]))
    out[known] = values[alone[place[known]]]
    return out, known


def _npz(path: Path, names: tuple[str, ...], what: str) -> dict[str, np.ndarray]:
    try:
        with np.load(path) as found:
            return {name: found[name] for name in names}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
        raise BenchError(f"{path}: there is not {what} ({error})") from None
