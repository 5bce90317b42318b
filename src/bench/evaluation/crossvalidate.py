"""`bench crossvalidate`: what a model file without a pedigree predicts of animals that it has not seen.

Folds of animals at random, a level of a column at a time (families), or forward in time. In each fold everything is
learned from the training animals (`training`). Forward, the method LR compares the breeding values of the tested
animals with those that they have once their own records are in.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bench.build import installed
from bench.errors import BenchError
from bench.evaluation import crossvalidation_files as files
from bench.evaluation import results
from bench.evaluation.checkpoint import Checkpoint
from bench.evaluation.folds import Fold, KeptFolds, Outcome
from bench.evaluation.inputs import check_solver, chosen_threads
from bench.evaluation.journal import Journal, minutes
from bench.evaluation.kept import problem_of
from bench.evaluation.training import Fitted, Whole, fit
from bench.evaluation.variances import Settings as VarianceSettings
from bench.genotypes.bim_fam import read_bim
from bench.genotypes.packed import PackedGenotypes
from bench.measure import CLOCK, Clock, peak_rss
from bench.models.folds import Split, forward_splits, random_splits, splits_by_level
from bench.models.linear_regression import LinearRegression, linear_regression
from bench.models.load import load_data
from bench.models.model_file import Model, read_model
from bench.models.predictive_ability import measure
from bench.models.variances import Variances
from bench.models.variation import check_variation
from bench.provenance import git_state

SUMMARY = "crossvalidation.json"
OF_A_RUN = ("threads", "resume")  # settings that change no result


@dataclass(frozen=True)
class Settings:
    """One of folds, by and forward. by, forward: columns of the records. reml: variances estimated in each fold,
    otherwise those of the model file. max_steps: of PCG. threads: None for all cores. resume: take the
    folds that an interrupted run had finished."""

    folds: int | None = None
    repeats: int = 1
    seed: int = 1
    by: str | None = None
    forward: str | None = None
    rolling: bool = False
    reml: bool = False
    max_steps: int = 10_000
    threads: int | None = None
    resume: bool = False


def crossvalidate(path: Path, out: Path, settings: Settings, *, clock: Clock = CLOCK) -> bool:
    """Write predictions, a table of the folds and one of all together, a figure, a summary and a log to `out`.

    True if the solver and the estimates of variances converged in all folds; where they did not, the fold's
    predictions are those of the last step and its status says so. BenchError: what cannot be, in a sentence.
    """
    threads = chosen_threads(settings.threads)
    _check(settings)
    with Journal(out / "log.txt", append=settings.resume or (out / SUMMARY).exists(), clock=clock) as journal:
        whole = _read(path, settings, threads, journal)
        splits = _splits(settings, whole)
        journal.say(
            f"{len(splits)} folds, {'variances by REML in each' if settings.reml else 'variances of the model'}"
        )
        with journal.step("hashes of all files, to keep folds"):
            options = {name: value for name, value in vars(settings).items() if name not in OF_A_RUN}
            problem = problem_of(path, whole.model, threads=threads, task="crossvalidate", **options)
            kept = KeptFolds(out, problem, journal, resume=settings.resume)
        folds = []
        with journal.step("folds"):
            for fold in _fitted(whole, splits, settings, kept):
                folds.append(fold)
                _tell(fold, len(folds), len(splits), journal)
        if all(fold.outcome is None for fold in folds):
            raise BenchError(f"{path}: no fold could be fitted; of the first: {folds[0].reason}")
        with journal.step("write"), results.whole(out, SUMMARY) as summary:
            measured = _measured(folds, whole.model, settings.seed)
            summary |= files.write(out, folds, measured, whole.model.traits, forward=settings.forward is not None)
            commit, changed = git_state()
            summary |= {
                "settings": options,
                "converged": _converged(folds),
                "seconds": {what: round(seconds, 3) for what, seconds in journal.seconds.items()},
                "peak_bytes": peak_rss(),
                "commit": commit,
                "uncommitted_changes": changed,
            }
        kept.remove()
        for line in files.lines(folds, measured):
            journal.say(line)
        for trait in whole.model.traits:
            if trait not in measured:
                journal.say(f"{trait}: nothing is measured, because no held-out record has a fixed part")
        journal.say(f"{out}/crossvalidation.html, {out}/predictions.parquet")
    return _converged(folds)


def _converged(folds: list[Fold]) -> bool:
    return all("not converged" not in fold.status for fold in folds)


def _check(settings: Settings) -> None:
    asked = [name for name in ("folds", "by", "forward") if getattr(settings, name) is not None]
    if len(asked) != 1:
        named = " and ".join(f"--{name}" for name in asked) or "none of them"
        raise BenchError(f"give one of --folds, --by and --forward; {named} was given")
    for name, of in (("repeats", "folds"), ("rolling", "forward")):
        if getattr(settings, name) != getattr(Settings, name) and asked != [of]:
            raise BenchError(f"--{name} goes with --{of}, here it is --{asked[0]}")
    if settings.seed < 0:
        raise BenchError(f"--seed: {settings.seed} was given; 0 or more was needed")
    if settings.max_steps < 1:
        raise BenchError(f"--max-steps: {settings.max_steps} was given; at least 1 was needed")


def _read(path: Path, settings: Settings, threads: int, journal: Journal) -> Whole:
    journal.say(f"model {path}")
    model = read_model(path)
    try:
        _check_model(model)
        check_solver(model)
    except BenchError as error:
        raise BenchError(f"{path}: {error}") from None
    library = installed("pedigree").library
    if library is None:
        raise BenchError(f"the equations' factor is compiled: {installed('pedigree').reason}")
    with journal.step("read"):
        animals, records, design = load_data(model, label=settings.by or settings.forward)
        check_variation(design, design.less_fixed()[0])
        assert model.genotypes is not None
        prefix = model.genotypes.plink
        snps = read_bim(Path(f"{prefix}.bim"))["snp"].to_numpy()
        packed = PackedGenotypes.open(Path(f"{prefix}.bed"), n_samples=len(animals), n_snps=snps.size)
    recorded = np.unique(records.animal).size
    journal.say(f"{recorded} of {len(animals)} genotyped animals have {len(records)} records; {snps.size} SNPs")
    for note in design.notes:
        journal.say(note)
    return Whole(path, model, animals, records, packed, snps, library, threads)


def _check_model(model: Model) -> None:
    if model.pedigree is not None:
        raise BenchError(
            "it has a pedigree, and cross-validation is of models without; leave records out in a second model file, "
            "and compare the two by `bench validate`"
        )
    if model.maternal is not None:
        raise BenchError(
            "cross-validation takes no maternal effects: animals that are left out may be dams of others"
        )


def _splits(settings: Settings, whole: Whole) -> list[Split]:
    records = whole.records
    if settings.folds is not None:
        return random_splits(records.animal, settings.folds, repeats=settings.repeats, seed=settings.seed)
    assert records.labels is not None
    if settings.by is not None:
        return splits_by_level(records.animal, records.labels, ids=whole.pedigree.ids, column=settings.by)
    values = pd.to_numeric(pd.Series(records.labels), errors="coerce").to_numpy(float)
    if (wrong := np.flatnonzero(~np.isfinite(values))).size:
        raise BenchError(
            f"--forward: {settings.forward!r} is {str(records.labels[wrong[0]])!r} in a record; numbers such as "
            "years or generations were needed"
        )
    return forward_splits(records.animal, values, column=str(settings.forward), rolling=settings.rolling)


def _fitted(whole: Whole, splits: list[Split], settings: Settings, kept: KeptFolds) -> Iterator[Fold]:
    """The folds, one after the other; one that cannot be fitted says why. What was kept is not fitted again."""
    reml = VarianceSettings(threads=settings.threads, seed=settings.seed) if settings.reml else None
    for number, split in enumerate(splits, start=1):
        if earlier := kept.read(number, split):
            yield earlier
            continue
        try:
            checkpoint = kept.checkpoint(number, "partial")
            fitted = fit(whole, split.training, reml=reml, max_steps=settings.max_steps, checkpoint=checkpoint)
            predictions = _predictions(whole, split, fitted)
            lr = {}
            if settings.forward is not None:
                lr = _linear_regression(whole, split, fitted, predictions, settings, kept.checkpoint(number, "later"))
            fold = Fold(split, _outcome(whole, fitted), predictions, lr)
        except BenchError as error:
            fold = Fold(split, None, pd.DataFrame(columns=pd.Index(files.PREDICTIONS)), {}, str(error))
        kept.write(number, fold)
        yield fold


def _outcome(whole: Whole, fitted: Fitted) -> Outcome:
    return Outcome(
        fitted.animals.size,
        fitted.steps,
        tuple(_share(fitted.variances, j) for j in range(len(whole.model.traits))),
        fitted.status,
    )


def _share(of: Variances, trait: int) -> float:
    """The genetic share of a trait's variance."""
    total = of.genetic[trait, trait] + of.residual[trait, trait] + sum(m[trait, trait] for m in of.others.values())
    return float(of.genetic[trait, trait] / total)


def _predictions(whole: Whole, split: Split, fitted: Fitted) -> pd.DataFrame:
    """A row per tested animal and trait: weighted means over its records, which have one û and Xb each."""
    rows = np.flatnonzero(split.test)
    tested, place = np.unique(whole.records.animal[rows], return_inverse=True)
    u = fitted.breeding_values(whole, tested)
    X = fitted.fixed_part(whole, split.test)
    parts = []
    for j, trait in enumerate(whole.model.traits):
        y, weight = whole.records.y[rows, j], whole.records.weights[rows, j]
        seen = ~np.isnan(y)
        count, total = (np.bincount(place[seen], minlength=tested.size, weights=w) for w in (None, weight[seen]))
        means = [
            np.bincount(place[seen], weights=weight[seen] * of[seen], minlength=tested.size) for of in (y, X[:, j])
        ]
        has = count > 0
        parts.append(
            pd.DataFrame(
                {
                    "animal": whole.pedigree.ids[tested[has]],
                    "trait": trait,
                    "repeat": split.repeat,
                    "fold": split.fold,
                    "records": count[has].astype(int),
                    "y": means[0][has] / total[has],
                    "fixed": means[1][has] / total[has],
                    "ebv": u[has, j],
                }
            )
        )
    return pd.concat(parts, ignore_index=True)[list(files.PREDICTIONS)]


def _linear_regression(
    whole: Whole, split: Split, partial: Fitted, predictions: pd.DataFrame, settings: Settings, checkpoint: Checkpoint
) -> dict[str, LinearRegression]:
    """LR of the tested animals by trait: with and without the records of the test, in the coding of the training
    animals and with their variances, so that both breeding values are on one scale."""
    later = fit(whole, split.training | split.test, like=partial, max_steps=settings.max_steps, checkpoint=checkpoint)
    found = {}
    for j, trait in enumerate(whole.model.traits):
        tested = predictions[predictions["trait"] == trait]
        at = np.searchsorted(later.animals, whole.pedigree.index.get_indexer(pd.Index(tested["animal"])))
        try:
            found[trait] = linear_regression(tested["ebv"].to_numpy(), later.ebv[at, j], seed=settings.seed)
        except BenchError:
            continue  # fewer than three animals
    return found


def _measured(folds: list[Fold], model: Model, seed: int) -> files.Found:
    """By trait, with the places of the folds that have animals to measure, in the order of Measured.by_fold."""
    found = {}
    for trait in model.traits:
        parts, of = [], []
        for place, fold in enumerate(folds):
            rows = fold.predictions[fold.predictions["trait"] == trait]
            rows = rows[rows["fixed"].notna()]
            if len(rows):
                parts.append(rows.assign(code=len(of)))
                of.append(place)
        if not parts:
            continue
        table = pd.concat(parts, ignore_index=True)
        columns = (table[name].to_numpy() for name in ("animal", "code", "repeat"))
        values = (table[name].to_numpy(float) for name in ("y", "fixed", "ebv"))
        found[trait] = measure(*columns, *values, seed=seed), of
    return found


def _tell(fold: Fold, number: int, count: int, journal: Journal) -> None:
    name = f"fold {number} of {count} ({fold.split.fold})"
    if fold.outcome is None:
        journal.say(f"{name}: refused: {fold.reason}")
        return
    left = journal.elapsed / number * (count - number)
    unknown = int(fold.predictions["fixed"].isna().sum())
    more = f", {unknown} predictions without a fixed part, which the training records leave open" if unknown else ""
    journal.say(
        f"{name}: {fold.outcome.training} animals in training, {fold.predictions['animal'].nunique()} tested, "
        f"{fold.outcome.steps} steps, {fold.status}{more}; about {minutes(left)} left"
    )
