"""Records: the table that a model file names, read and checked."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from bench.errors import BenchError, meant
from bench.genotypes.bim_fam import read_lines
from bench.models.model_file import Effect, Model
from bench.relationships.pedigree import UNKNOWN, Pedigree

MISSING = {"", "na", "nan", "."}  # in lower case; 0 and -999 are values like any other
NONE = -1  # the level of a record that has none


@dataclass(frozen=True)
class Factor:
    """A class effect's levels. codes: (R,) int32, NONE for none; levels: (l,) their names, sorted."""

    codes: np.ndarray
    levels: np.ndarray


@dataclass(frozen=True)
class Records:
    """R records of t traits. A record without any trait is not among them.

    animal: (R,) rows in the pedigree. y: (R, t), NaN where a trait is missing. weights: (R, t), 1 where the model has
    none. factors: by column. covariates: (R,) by column, as they are in the file; NaN only where no trait needs them.
    dam: (R,) rows in the pedigree of who brought the animal up, NONE if unknown; None without maternal effects.
    notes: what was left out or looks odd, in sentences. labels: (R,) text of a column that is no part of the model.
    """

    traits: tuple[str, ...]
    animal: np.ndarray
    y: np.ndarray
    weights: np.ndarray
    factors: dict[str, Factor]
    covariates: dict[str, np.ndarray]
    dam: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    labels: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.animal)

    @property
    def observed(self) -> np.ndarray:
        """(R, t) whether a trait was recorded."""
        return ~np.isnan(self.y)

    def of_animals(self, rows: np.ndarray, animals: np.ndarray) -> Records:
        """The records `rows` (bool, or places), whose animals are those of a pedigree of the sorted `animals`; levels
        keep their numbers. There must be no maternal effects."""
        if self.dam is not None:
            raise ValueError("records with maternal effects cannot be taken apart")
        return replace(
            self,
            animal=np.searchsorted(animals, self.animal[rows]).astype(np.int32),
            y=self.y[rows],
            weights=self.weights[rows],
            factors={name: Factor(factor.codes[rows], factor.levels) for name, factor in self.factors.items()},
            covariates={name: values[rows] for name, values in self.covariates.items()},
            notes=(),
            labels=None if self.labels is None else self.labels[rows],
        )


def read_records(model: Model, pedigree: Pedigree, *, label: str | None = None) -> Records:
    """The records of `model.records`, whose animals are those of `pedigree`.

    The file has a header and a line a record; columns are separated by tabs, commas, semicolons or blanks, whichever
    the header uses first in this order. Empty, NA, nan and . are missing, whatever the case. BenchError names the
    column, the line or the animals that cannot be used. label: a further column, which every record needs.
    """
    path = model.records
    table = _table(path, list(_columns(model) | ({label: None} if label else {})))
    y = np.column_stack([_numbers(path, table[trait], missing=True) for trait in model.traits])
    for trait, column in zip(model.traits, y.T, strict=True):
        if np.isnan(column).all():
            raise BenchError(f"{path}: trait {trait!r} has no records; take it off `traits`")
    kept = np.flatnonzero((~np.isnan(y)).any(axis=1))
    left_out = len(table) - kept.size
    table, y = table.iloc[kept], y[kept]
    if model.pedigree is None:
        _check_genotyped(model, table[model.animal], pedigree)
    animal = _animals(path, table[model.animal], pedigree, of=model.animal)
    weights = np.ones(y.shape)
    for j, trait in enumerate(model.traits):
        if (column := model.weight_column(trait)) is not None:
            weights[:, j] = _weights(path, table[column], ~np.isnan(y[:, j]))
    needs = _needs(model, ~np.isnan(y))
    factors = {name: _factor(path, table[name], needed) for (name, kind), needed in needs.items() if kind == "class"}
    covariates = {
        name: _numbers(path, table[name], missing=~needed)
        for (name, kind), needed in needs.items()
        if kind == "covariate"
    }
    notes = [f"{left_out} records without any trait were left out"] if left_out else []
    if same := int(table.duplicated().sum()):
        notes.append(f"{same} records are the same as another in all that the model reads; they are kept")
    repeated = np.unique(animal, return_counts=True)[1]
    if not model.permanent and (repeated > 1).any():
        notes.append(f"{(repeated > 1).sum()} animals have more than one record, and the model has no `permanent`")
    dam = None
    if model.maternal:
        dam = _dams(path, table, model.maternal.dam, pedigree, animal)
        if (unknown := int((dam < 0).sum())) == len(dam):
            raise BenchError(f"{path}: a maternal effect is asked for, and no record has a known dam")
        if unknown:
            notes.append(f"{unknown} records have an unknown dam, and no maternal effect")
    labels = None
    if label is not None:
        labels = table[label].to_numpy(object)
        _refuse(path, table[label], table[label].str.lower().isin(MISSING).to_numpy(), "every record needs one")
    return Records(model.traits, animal, y, weights, factors, covariates, dam, tuple(notes), labels)


def _columns(model: Model) -> dict[str, None]:
    """The columns that the model reads, each once, in the order of the model."""
    effects = [effect for trait in model.traits for effect in model.effects(trait)]
    named = [
        model.animal,
        *model.traits,
        *(column for effect in effects for column in (effect.column, effect.within)),
        *model.random,
        model.maternal.dam if model.maternal else None,
        *(model.weight_column(trait) for trait in model.traits),
    ]
    return dict.fromkeys(column for column in named if column is not None)


def _table(path: Path, columns: list[str]) -> pd.DataFrame:
    """`columns` of the file as text, by line number."""
    lines = read_lines(path)
    if len(lines) < 2:
        raise BenchError(f"{path}: {len(lines)} lines; a header and a line per record were needed")
    separator = next((s for s in "\t,;" if s in lines[0]), None)
    names = [name.strip() for name in lines[0].lstrip("#").split(separator)]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise BenchError(f"{path}: the header names the column {twice[0]!r} more than once")
    for column in columns:
        if column not in names:
            raise BenchError(
                f"{path}: there is no column {column!r}; there are {', '.join(names)}{meant(column, names)}"
            )
    for number, line in enumerate(lines, start=1):
        found = line.count(separator) + 1 if separator else len(line.split())
        if found != len(names):
            raise BenchError(f"{path}: line {number} has {found} columns, the header has {len(names)}")
    table = pd.read_csv(
        io.StringIO("\n".join(lines[1:])),
        sep=separator or r"\s+",
        names=names,
        usecols=columns,
        dtype=str,
        keep_default_na=False,
        quoting=csv.QUOTE_NONE,
        index_col=False,
    )
    table.index = table.index + 2
    return table[columns].apply(lambda column: column.str.strip())


def _numbers(path: Path, texts: pd.Series, *, missing: np.ndarray | bool) -> np.ndarray:
    """(R,) float64. missing: where NaN may stand."""
    values = pd.to_numeric(texts, errors="coerce").to_numpy(float)
    absent = texts.str.lower().isin(MISSING).to_numpy()
    wrong = np.isinf(values) | (np.isnan(values) & ~absent)
    _refuse(path, texts, wrong, "needed a finite number, or NA where it is missing")
    _refuse(path, texts, absent & ~np.broadcast_to(missing, absent.shape), "a recorded trait needs a number there")
    return values


def _weights(path: Path, texts: pd.Series, needed: np.ndarray) -> np.ndarray:
    """(R,) weights, 1 where the trait is missing."""
    values = _numbers(path, texts, missing=~needed)
    _refuse(path, texts, needed & (values <= 0), "a weight must be above 0")
    return np.where(needed, values, 1.0)


def _factor(path: Path, texts: pd.Series, needed: np.ndarray) -> Factor:
    absent = texts.str.lower().isin(MISSING).to_numpy()
    _refuse(path, texts, absent & needed, "a recorded trait needs a level there")
    codes, levels = pd.factorize(texts.where(~absent).to_numpy(object), sort=True)
    return Factor(codes.astype(np.int32), np.asarray(levels, object))


def _refuse(path: Path, texts: pd.Series, wrong: np.ndarray, need: str) -> None:
    if (at := np.flatnonzero(wrong)).size:
        more = f" (and {at.size - 1} more lines)" if at.size > 1 else ""
        raise BenchError(
            f"{path}: line {texts.index[at[0]]}: {texts.name} is {str(texts.iloc[at[0]])!r}{more}; {need}"
        )


def _animals(path: Path, ids: pd.Series, pedigree: Pedigree, *, of: str) -> np.ndarray:
    return pedigree.rows(ids.to_numpy(object), of=f"{path}: column {of!r}").astype(np.int32)


def _check_genotyped(model: Model, ids: pd.Series, pedigree: Pedigree) -> None:
    """BenchError names animals with records that have no genotypes, where these are all that is known of them."""
    assert model.genotypes is not None
    known = ids.isin(pedigree.index)
    if not known.all():
        absent = ids[~known].drop_duplicates()
        named = ", ".join(map(repr, absent[:10])) + (", …" if len(absent) > 10 else "")
        raise BenchError(
            f"{model.records}: {len(absent)} of {ids.nunique()} animals with records are not in "
            f"{model.genotypes.plink}.fam: {named}; a model without a pedigree needs the genotypes of all: leave "
            "their records out, or name a pedigree"
        )


def _dams(path: Path, table: pd.DataFrame, column: str | None, pedigree: Pedigree, animal: np.ndarray) -> np.ndarray:
    if column is None:
        return pedigree.dam[animal]
    known = ~table[column].str.lower().isin(UNKNOWN).to_numpy()
    dam = np.full(len(table), NONE, np.int32)
    dam[known] = _animals(path, table[column][known], pedigree, of=column)
    return dam


def _needs(model: Model, observed: np.ndarray) -> dict[tuple[str, str], np.ndarray]:
    """(column, "class" or "covariate") → (R,) whether a recorded trait needs it."""
    found: dict[tuple[str, str], np.ndarray] = {}

    def add(column: str, kind: str, rows: np.ndarray) -> None:
        found[column, kind] = rows | found.get((column, kind), np.False_)

    for j, trait in enumerate(model.traits):
        for effect in model.effects(trait):
            for column, kind in _parts(effect):
                add(column, kind, observed[:, j])
    for column in model.random:
        add(column, "class", np.asarray(observed.any(axis=1)))
    return found


def _parts(effect: Effect) -> Iterable[tuple[str, str]]:
    yield effect.column, effect.kind
    if effect.within:
        yield effect.within, "class"
