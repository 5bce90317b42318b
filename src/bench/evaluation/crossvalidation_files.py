"""The files of a cross-validation: predictions, the folds, all of them together, LR, and the figure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bench import figures, tables
from bench.evaluation.results import write_table
from bench.figures import _crossvalidation
from bench.models.predictive_ability import NAMES, Measured, PredictiveAbility
from bench.statistics import NOTHING, Interval
from bench.tables import _cells, _page

if TYPE_CHECKING:
    from bench.evaluation.folds import Fold

PREDICTIONS = ("animal", "trait", "repeat", "fold", "records", "y", "fixed", "ebv")
MEASURES = (
    "Ability: correlation of û with y − Xb; phenotype: of Xb + û with y. Slope of y − Xb on û: 1 is right, below 1 û "
    "spreads too far. Bias: mean(Xb + û − y), to be 0. û, Xb, allele frequencies, scaling and the choice of SNPs are "
    "of the training animals alone; y is a held-out animal's record, or the mean of several. 95 % bootstrap "
    "intervals over animals."
)
CAPTION = (
    f"{MEASURES} Pooled: all held-out animals of a repeat together, the mean of the repeats; within folds: the mean "
    "of the folds' own values, in which differences between folds take no part."
)
CAPTION_LR = (
    "Tested animals' EBVs without their records (p) against those with (w), in the coding of the training animals "
    "and with the same variances: bias, mean(p) − mean(w), is to be 0; dispersion, the slope of w on p, 1; the ratio "
    "of accuracies is their correlation; the ratio of reliabilities the slope of p on w (Legarra & Reverter 2018)."
)
Found = dict[str, tuple[Measured, list[int]]]  # by trait, and which folds its by_fold are of


def write(out: Path, folds: list[Fold], measured: Found, traits: tuple[str, ...], *, forward: bool) -> dict[str, Any]:
    """All files of folder `out`; what of them belongs into the summary."""
    for path in out.glob("lr.*"):
        path.unlink()  # of an earlier run, which was forward
    predictions = pd.concat([fold.predictions for fold in folds if fold.outcome], ignore_index=True)
    write_table(out / "predictions", predictions.assign(prediction=predictions["fixed"] + predictions["ebv"]))
    of_all, of_each = together(folds, measured), by_fold(folds, measured, traits)
    for name, table, title, caption in (
        ("crossvalidation", of_all, "Cross-validation", CAPTION),
        ("folds", of_each, "Cross-validation, fold by fold", MEASURES),
        *([("lr", lr(folds), "Validation by linear regression", CAPTION_LR)] if forward else []),
    ):
        tables.save(table, name, title, caption, out)
        write_table(out / name, table)
    figures.save(_crossvalidation.draw(predictions, of_each, of_all), "crossvalidation", out)
    return {
        "folds": len(folds),
        "refused": sum(fold.outcome is None for fold in folds),
        "without_fixed_part": int(predictions["fixed"].isna().sum()),
    }


def together(folds: list[Fold], measured: Found) -> pd.DataFrame:
    """trait, over ("pooled", "within folds"), folds, animals, and the measures with bounds."""
    rows, found = [], []
    for trait, (of, places) in measured.items():
        animals = len({name for place in places for name in _measurable(folds[place], trait)["animal"]})
        for name, measures in (("pooled", of.pooled), ("within folds", of.within)):
            rows.append((trait, name, len(places), animals))
            found.append(measures)
    return _spread(pd.DataFrame(rows, columns=pd.Index(["trait", "over", "folds", "held_out"])), found)


def by_fold(folds: list[Fold], measured: Found, traits: tuple[str, ...]) -> pd.DataFrame:
    """trait, repeat, fold, training, held_out, steps, genetic_share, the measures with bounds, status, note."""
    rows, found = [], []
    for j, trait in enumerate(traits):
        own = {}
        if trait in measured:
            own = dict(zip(measured[trait][1], measured[trait][0].by_fold, strict=True))
        for place, fold in enumerate(folds):
            outcome, split = fold.outcome, fold.split
            sizes = (0, 0, 0, np.nan) if outcome is None else (
                outcome.training, len(_measurable(fold, trait)), outcome.steps, outcome.shares[j]
            )  # fmt: skip
            rows.append((trait, split.repeat, split.fold, *sizes, fold.status, fold.reason))
            found.append(own.get(place, PredictiveAbility(*[NOTHING] * len(NAMES))))
    names = ["trait", "repeat", "fold", "training", "held_out", "steps", "genetic_share", "status", "note"]
    made = _spread(pd.DataFrame(rows, columns=pd.Index(names)), found)
    last = ["status", "note"]
    return made[[*(name for name in made if name not in last), *last]]


def lr(folds: list[Fold]) -> pd.DataFrame:
    """trait, fold, individuals, and the measures of LR with bounds."""
    rows, found = [], []
    for fold in folds:
        for trait, of in fold.lr.items():
            rows.append((trait, fold.split.fold, of.individuals))
            found.append(of)
    made = pd.DataFrame(rows, columns=pd.Index(["trait", "fold", "individuals"]))
    named = {"bias": "bias", "dispersion": "dispersion", "consistency": "accuracy_ratio"}
    for name, column in (named | {"reliability_ratio": "reliability_ratio"}).items():
        _cells.spread(made, column, [getattr(of, name) for of in found])
    return made


def lines(folds: list[Fold], measured: Found) -> list[str]:
    """The table of all folds together, for the terminal."""
    return _page.to_lines(together(folds, measured))


def _spread(made: pd.DataFrame, found: list[PredictiveAbility]) -> pd.DataFrame:
    for name in NAMES:
        intervals: list[Interval] = [getattr(of, name) for of in found]
        _cells.spread(made, name, intervals)
    return made


def _measurable(fold: Fold, trait: str) -> pd.DataFrame:
    rows = fold.predictions
    return rows[(rows["trait"] == trait) & rows["fixed"].notna()]
