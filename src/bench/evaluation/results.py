"""The files of an evaluation: parquet for programs, text for people, and BLUPF90's solutions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.evaluation.genotyped import Genotyped
from bench.evaluation.journal import Journal
from bench.exchange import blupf90
from bench.genotypes.bim_fam import read_bim
from bench.measure import peak_rss
from bench.models.design import Design
from bench.models.model_file import Model
from bench.models.prediction import SnpEffects
from bench.provenance import git_state
from bench.record import atomic_path, write_json
from bench.relationships.pedigree import Pedigree
from bench.single_step.problem import Problem
from bench.single_step.reliability import Reliabilities
from bench.single_step.solve import Estimates
from bench.solvers.pcg import Solution


def write_table(path: Path, table: pd.DataFrame) -> None:
    """As .parquet and as tab-separated text with the suffix .tsv."""
    with atomic_path(path.with_suffix(".parquet")) as tmp:
        table.to_parquet(tmp, index=False)
    with atomic_path(path.with_suffix(".tsv")) as tmp:
        table.to_csv(tmp, sep="\t", index=False, na_rep="NA", lineterminator="\n", float_format="%.10g")


def write_solutions(
    out: Path, pedigree: Pedigree, components: tuple[str, ...], ebv: np.ndarray, found: Reliabilities | None
) -> None:
    """solutions: animal, trait, ebv, and reliability with its standard error where it was computed.

    ebv: (levels, q): animals, then groups, whose rows have the kind `group`.
    """
    ids = np.concatenate([pedigree.ids, np.array(pedigree.groups, object)])
    kinds = np.repeat(["animal", "group"], [len(pedigree.ids), len(pedigree.groups)])
    q = len(components)
    table = pd.DataFrame(
        {"animal": np.repeat(ids, q), "trait": np.tile(np.array(components, object), len(ids)), "ebv": ebv.ravel()}
    )
    if len(pedigree.groups):
        table.insert(1, "kind", np.repeat(kinds, q))
    if found is not None:
        n = len(pedigree.ids) * q
        columns = {"reliability": found.reliability, "reliability_error": found.errors, "pev": found.pev}
        for name, values in columns.items():
            if values is not None:
                table[name] = np.nan
                table.loc[: n - 1, name] = values.ravel()
    write_table(out / "solutions", table)


def write_effects(out: Path, design: Design, effects: np.ndarray) -> None:
    """effects: effect, kind (fixed or random), level, trait, solution."""
    write_table(out / "effects", design.labels().assign(solution=effects[: design.others]))


def write_snp_effects(out: Path, genotyped: Genotyped, problem: Problem, found: Estimates) -> None:
    """snp_effects.parquet, which `bench predict` takes: trait, snp, allele, frequency, effect, constant.

    The constant is what tuning adds to all breeding values of genotyped animals, τ 1'Gw⁻¹û_g.
    """
    genomic, weights = problem.genomic, found.weights
    if weights is None:  # without a polygenic share û_g = Mĝ + the constant
        rest = problem.take(problem.deviations(found.effects)[:, None]) - genomic.markers.matmul(found.marker_effects)
        constant = rest.mean(axis=0) if genomic.constant else np.zeros(problem.components)
    else:
        constant = genomic.constant * weights.sum(axis=0)
    bim = read_bim(Path(f"{genotyped.prefix}.bim"))
    effects = SnpEffects.of(
        genotyped.coding, found.marker_effects, bim, problem.equations.components, constants=constant
    )
    effects.write(out / "snp_effects.parquet")


def write_convergence(out: Path, history: list[tuple[int, float, float]], preconditioned: np.ndarray) -> None:
    """convergence: step, residual (‖r‖/‖b‖), preconditioned residual, and seconds since the first step."""
    table = pd.DataFrame(history, columns=["step", "residual", "seconds"])
    table.insert(2, "preconditioned_residual", preconditioned[: len(table)])
    write_table(out / "convergence", table)


EVALUATION = "evaluation.json"
# What not every evaluation writes.
SOME = ("snp_effects.parquet", "state.npz", "solutions", "solutions_levels.parquet", "solutions_levels.tsv")


@contextmanager
def whole(out: Path, name: str = EVALUATION) -> Iterator[dict[str, Any]]:
    """What the block puts into the summary becomes the file `name` once all other files are written.

    The one of an earlier evaluation goes first, and last what that one had and this one has not: a folder that has
    one is whole.
    """
    (out / name).unlink(missing_ok=True)
    earlier = {path: path.stat().st_ino for path in (out / file for file in SOME) if path.exists()}
    summary: dict[str, Any] = {}
    yield summary
    for path, inode in earlier.items():
        if name == EVALUATION and path.stat().st_ino == inode:  # not written anew
            path.unlink()
    write_json(out / name, summary)


def summary(model: Model, solution: Solution, journal: Journal) -> dict[str, Any]:
    """Whether it converged, and what it cost."""
    commit, changed = git_state()
    return {
        "converged": bool(solution.converged.all()),
        "equations": len(solution.value),
        "steps": solution.steps,
        "residual": float(solution.true_residual_norms[0]),
        "tolerance": model.single_step.tolerance,
        "seconds": {what: round(seconds, 3) for what, seconds in journal.seconds.items()},
        "peak_bytes": peak_rss(),
        "commit": commit,
        "uncommitted_changes": changed,
    }


def write_blupf90(
    out: Path, design: Design, pedigree: Pedigree, components: tuple[str, ...], effects: np.ndarray, ebv: np.ndarray
) -> None:
    """`solutions` in BLUPF90's format, with `solutions_levels` for what its numbers stand for.

    Effects are numbered as in the table of levels: the fixed and independent random ones, then the animals. Traits
    and levels count from 1.
    """
    labels = design.labels()
    traits = {name: number for number, name in enumerate(design.records.traits, start=1)}
    effect = labels.groupby("effect", sort=False).ngroup().to_numpy() + 1
    codes = [pd.factorize(group["level"])[0] + 1 for _, group in labels.groupby("effect", sort=False)]
    others = pd.DataFrame(
        {
            "trait": labels["trait"].map(traits),
            "effect": effect,
            "level": np.concatenate(codes) if codes else np.zeros(0, int),
            "solution": effects[: design.others],
            "name": labels["effect"],
            "id": labels["level"],
        }
    )
    first = int(effect.max(initial=0)) + 1
    t, animals = len(traits), np.arange(1, len(pedigree) + 1)
    parts = [
        pd.DataFrame(
            {
                "trait": c % t + 1,
                "effect": first + c // t,
                "level": animals,
                "solution": ebv[: len(pedigree), c],
                "name": "animal" if c < t else "maternal",
                "id": pedigree.ids,
            }
        )
        for c in range(len(components))
    ]
    table = pd.concat([others, *parts], ignore_index=True)
    blupf90.write_solutions(out / "solutions", table[["trait", "effect", "level", "solution"]])
    write_table(out / "solutions_levels", table[["effect", "name", "level", "id"]].drop_duplicates())
