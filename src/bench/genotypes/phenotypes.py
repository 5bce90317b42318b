"""Traits drawn from QTL, and the tables of phenotypes that users bring."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from bench.errors import BenchError
from bench.genotypes.bim_fam import finite, read_lines
from bench.genotypes.pedigree import seed_for
from bench.genotypes.spec import Trait

NO_RECORD = {"", "na", "nan"}  # in lower case
TWO_COLUMNS = "two id columns are recognised only by the names FID IID"


def simulate_traits(qtl: np.ndarray, traits: Sequence[Trait], seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Breeding values and phenotypes, a row per individual and a column per trait.

    qtl: (n, q) dosages of all QTL candidates. A trait draws its n_qtl among them and normal effects of one
    substituted allele; its breeding values are centred and scaled to the variance h2 among these n
    individuals, and residuals have the expected variance 1 − h2.
    """
    breeding_values, phenotypes = {}, {}
    for trait in traits:
        rng = np.random.default_rng(seed_for(seed, "trait", trait.name))
        loci = np.sort(rng.choice(qtl.shape[1], trait.n_qtl, replace=False))
        effects = rng.standard_normal(trait.n_qtl)
        values = np.zeros(len(qtl))
        for locus, effect in zip(loci, effects, strict=True):
            values += qtl[:, locus] * effect  # unlike a BLAS product, the same bits on every machine
        spread = values.std()
        if spread == 0:
            raise BenchError(f"trait {trait.name!r}: its {trait.n_qtl} QTL do not vary; raise n_qtl or n_samples")
        values = (values - values.mean()) * (np.sqrt(trait.h2) / spread)
        records = values + np.sqrt(1 - trait.h2) * rng.standard_normal(len(values))
        records[rng.random(len(values)) < trait.missing_records] = np.nan
        breeding_values[trait.name], phenotypes[trait.name] = values, records
    return pd.DataFrame(breeding_values), pd.DataFrame(phenotypes)


def read_phenotypes(path: Path, ids: Sequence[str]) -> pd.DataFrame:
    """A table of records, a row for each of `ids` in their order and a float column per trait.

    The file has a header; columns are separated by tabs, commas, semicolons or blanks, whichever the header
    uses first in this order. The first column holds the ids, or the first two PLINK's FID and IID. Empty,
    NA and nan mean that there is no record, whatever the case; −9 is a value like any other. An individual
    without a line has no records. BenchError names the line, the ids or the trait that cannot be used.
    """
    path = Path(path)
    header, rows = _split(path)
    id_column = 1 if [h.upper().lstrip("#") for h in header[:2]] == ["FID", "IID"] else 0
    traits = header[id_column + 1 :]
    _check_header(path, header, traits, ids)
    if not traits:
        raise BenchError(f"{path}: the header names no trait after the id column")
    if len(set(traits)) < len(traits) or "" in traits:
        raise BenchError(
            f"{path}: the header must name every trait, each once; it has {', '.join(map(repr, traits))}"
        )
    names = [row[id_column] for row in rows]
    _check_ids(path, names, ids, hint=f"; {TWO_COLUMNS}" if id_column == 0 and len(traits) > 1 else "")
    values = [
        [_record(path, line, trait, text) for trait, text in zip(traits, row[id_column + 1 :], strict=True)]
        for line, row in enumerate(rows, start=2)
    ]
    table = pd.DataFrame(values, index=pd.Index(names, name="id", dtype=str), columns=traits, dtype=float)
    for trait in traits:
        _check_varies(path, trait, table[trait].to_numpy())
    return table.reindex(pd.Index(list(ids), name="id", dtype=str))


def _split(path: Path) -> tuple[list[str], list[list[str]]]:
    """The header's fields and those of the other lines, as many in each."""
    lines = read_lines(path)
    if len(lines) < 2:
        raise BenchError(f"{path}: {len(lines)} lines; a header and a line per individual with records were needed")
    separator = next((s for s in "\t,;" if s in lines[0]), None)
    fields = [_fields(path, number, line, separator) for number, line in enumerate(lines, start=1)]
    for number, row in enumerate(fields, start=1):
        if len(row) != len(fields[0]):
            raise BenchError(f"{path}: line {number} has {len(row)} columns, the header has {len(fields[0])}")
    return fields[0], fields[1:]


def _fields(path: Path, number: int, line: str, separator: str | None) -> list[str]:
    if separator is None:
        return line.split()
    try:
        return [field.strip() for row in csv.reader([line], delimiter=separator, strict=True) for field in row]
    except csv.Error as error:
        raise BenchError(f"{path}: line {number}: {error}") from None


def _check_header(path: Path, header: list[str], traits: list[str], ids: Sequence[str]) -> None:
    """Refuse a table without a header: its first record would be taken for names, and lost."""
    known = set(ids)
    data = [f"{name!r} is an individual of the .fam file" for name in header[:2] if name in known]
    data += [f"{name!r} is a number" for name in traits if finite(name) is not None]
    if data:
        raise BenchError(f"{path}: line 1 looks like data ({data[0]}); the table needs a header: id, then each trait")
    if traits and traits[0].lower() in ("id", "fid", "iid"):
        raise BenchError(f"{path}: the header begins with {' '.join(header[:2])}; {TWO_COLUMNS}")


def _check_ids(path: Path, names: list[str], ids: Sequence[str], *, hint: str) -> None:
    seen: set[str] = set()
    for line, name in enumerate(names, start=2):
        if name in seen:
            raise BenchError(f"{path}: line {line}: individual {name!r} has a line already; keep one line each{hint}")
        seen.add(name)
    known = set(ids)
    strange = [name for name in names if name not in known]
    if strange:
        raise BenchError(
            f"{path}: {len(strange)} of {len(names)} individuals are not in the .fam file "
            f"({', '.join(strange[:3])}{', …' if len(strange) > 3 else ''}); remove their lines, or check that "
            "the ids are those of column 2 of the .fam file"
        )


def _check_varies(path: Path, trait: str, records: np.ndarray) -> None:
    known = records[~np.isnan(records)]
    if not len(known):
        raise BenchError(f"{path}: trait {trait!r} has no record; fill the column or remove it")
    if (known == known[0]).all():
        raise BenchError(
            f"{path}: trait {trait!r} does not vary, all its {len(known)} records are {known[0]:g}; remove it"
        )


def _record(path: Path, line: int, trait: str, text: str) -> float:
    if text.lower() in NO_RECORD:
        return np.nan
    if (value := finite(text)) is None:
        raise BenchError(
            f"{path}: line {line}: {trait} is {text!r}; a finite number, or NA for no record, was needed"
        )
    return value
