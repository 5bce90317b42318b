"""BLUPF90's text tables: pedigree, records and solutions, all blank-separated."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bench.errors import BenchError
from bench.genotypes.bim_fam import finite, read_lines
from bench.record import atomic_path

GROUP = re.compile(r"-(\d+)")  # an unknown parent's group
SOLUTIONS_HEADER = "trait/effect level  solution"
SOLUTIONS = ("trait", "effect", "level", "solution")


@dataclass(frozen=True)
class PedigreeFile:
    """table: id, sire, dam as text, 0 where unknown: what `relationships.pedigree.from_table` takes.

    sire_group, dam_group: (n,) k where the parent is unknown and its group is coded −k, 0 elsewhere.
    """

    table: pd.DataFrame
    sire_group: np.ndarray
    dam_group: np.ndarray


def read_pedigree_file(path: Path | str) -> PedigreeFile:
    """Id, sire and dam in the first three columns; 0 is unknown, −k unknown of group k. BenchError names the line."""
    path = Path(path)
    ids, parents, groups, seen = [], [], [], {}
    for number, fields in _rows(path, "animal"):
        if len(fields) < 3:
            raise BenchError(f"{path}: line {number} has {len(fields)} columns, needed 3 (id, sire, dam)")
        name = fields[0]
        if name == "0" or GROUP.fullmatch(name):
            raise BenchError(f"{path}: line {number}: {name!r} stands for an unknown parent, an id was needed")
        if name in seen:
            raise BenchError(f"{path}: line {number}: animal {name!r} stands already in line {seen[name]}")
        seen[name] = number
        ids.append(name)
        codes = [GROUP.fullmatch(parent) for parent in fields[1:3]]
        groups.append([int(code[1]) if code else 0 for code in codes])
        if max(groups[-1]) >= 2**31:
            raise BenchError(f"{path}: line {number}: a group of {max(groups[-1])} is no number of a group")
        parents.append(["0" if code else parent for code, parent in zip(codes, fields[1:3], strict=True)])
    table = pd.DataFrame({"id": ids, "sire": [p[0] for p in parents], "dam": [p[1] for p in parents]})
    of = np.array(groups, np.int64)
    return PedigreeFile(table, of[:, 0], of[:, 1])


def write_pedigree_file(path: Path | str, pedigree: PedigreeFile) -> None:
    """What `read_pedigree_file` reads."""
    table = pedigree.table
    of = [
        np.where(group > 0, np.char.add("-", group.astype(str)), table[name].to_numpy(str))
        for name, group in (("sire", pedigree.sire_group), ("dam", pedigree.dam_group))
    ]
    _write(path, (f"{animal} {sire} {dam}" for animal, sire, dam in zip(table["id"], *of, strict=True)))


def read_records(
    path: Path | str, columns: Sequence[str], *, traits: Collection[str], missing: float = 0
) -> pd.DataFrame:
    """A file of records without header: `columns` names its columns, `traits` those of them that are observations.

    Observations are floats, NaN where the file has the number `missing`; the others (levels of effects, ids) are text
    as it stands. BenchError names the line with another number of columns or an observation that is no number.
    """
    path = Path(path)
    if absent := [trait for trait in traits if trait not in columns]:
        raise BenchError(f"{path}: trait {absent[0]!r} is none of the columns {', '.join(columns)}")
    if len(set(columns)) < len(columns):
        raise BenchError(f"{path}: the columns {', '.join(columns)} are not all different")
    rows, first = [], True
    for number, fields in _rows(path, "record"):
        if len(fields) != len(columns):
            hint = f"; line 1 is {' '.join(fields)[:80]!r}" if first else ""
            raise BenchError(
                f"{path}: line {number} has {len(fields)} columns, {len(columns)} were named "
                f"({', '.join(columns)}){hint}"
            )
        rows.append(fields)
        first = False
    table = pd.DataFrame(rows, columns=list(columns), dtype=str)
    for trait in traits:
        values = [finite(text) for text in table[trait]]
        if None in values:
            line = values.index(None)
            raise BenchError(
                f"{path}: line {line + 1}: {trait} is {table[trait][line]!r}; a number was needed "
                f"({missing:g} where there is none)"
            )
        numbers = np.array(values, float)
        numbers[numbers == missing] = np.nan
        table[trait] = numbers
    return table


def write_records(path: Path | str, table: pd.DataFrame, *, traits: Collection[str], missing: float = 0) -> None:
    """What `read_records` reads; observations read back exactly.

    BenchError: an observation that equals `missing`, or another column with text that is empty or has blanks.
    """
    columns = []
    for column in table:
        values = table[column]
        if column in traits:
            if (values == missing).any():
                raise BenchError(
                    f"{path}: {column} has an observation of {missing:g}, which would be read as missing; choose "
                    "another code"
                )
            columns.append([repr(float(value)) for value in values.fillna(missing)])
            continue
        texts = [str(value) for value in values]
        if unfit := [text for text in texts if len(text.split()) != 1]:
            raise BenchError(f"{path}: {column} has {unfit[0]!r}, which is empty or has blanks")
        columns.append(texts)
    _write(path, (" ".join(row) for row in zip(*columns, strict=True)))


def read_solutions(path: Path | str) -> pd.DataFrame:
    """A solutions file: trait, effect (int), level (int64) and solution, with s.e. where the file has it (column se).

    BenchError names the line that is wrong.
    """
    path = Path(path)
    rows: list[list[float]] = []
    width = 0
    for number, fields in _rows(path, "solution"):
        if number == 1 and fields[:1] == ["trait/effect"]:
            continue
        width = width or len(fields)
        if len(fields) not in (4, 5) or len(fields) != width:
            raise BenchError(
                f"{path}: line {number} has {len(fields)} columns, needed {width if width in (4, 5) else 4} "
                "(trait, effect, level, solution)"
            )
        values = [finite(text) for text in fields]
        wrong = [i for i, v in enumerate(values) if v is None or (i < 3 and (v % 1 or not 0 <= v < 2**53))]
        if wrong:
            raise BenchError(
                f"{path}: line {number}: {(*SOLUTIONS, 'se')[wrong[0]]} is {fields[wrong[0]]!r}, "
                f"{'a whole number' if wrong[0] < 3 else 'a number'} was needed"
            )
        rows.append([v for v in values if v is not None])
    if not rows:
        raise BenchError(f"{path}: there is no solution below the header")
    table = pd.DataFrame(rows, columns=[*SOLUTIONS, "se"][:width])
    return table.astype({"trait": np.int64, "effect": np.int64, "level": np.int64})


def write_solutions(path: Path | str, table: pd.DataFrame) -> None:
    """Columns trait, effect, level, solution, and se if there is one; numbers read back exactly."""
    errors = table.get("se")
    lines = [SOLUTIONS_HEADER + ("        s.e." if errors is not None else "")]
    for i, (trait, effect, level, solution) in enumerate(zip(*(table[name] for name in SOLUTIONS), strict=True)):
        error = "" if errors is None else f" {float(errors.iloc[i]):#.17g}"
        lines.append(f"{trait:4d} {effect:3d} {level:9d} {float(solution):#.17g}{error}")
    _write(path, lines)


def _rows(path: Path, item: str) -> Iterator[tuple[int, list[str]]]:
    """Number and fields of each line; BenchError if there is none."""
    lines = read_lines(path)
    if not lines:
        raise BenchError(f"{path}: the file is empty, a line per {item} was needed")
    return ((number, line.split()) for number, line in enumerate(lines, start=1))


def _write(path: Path | str, lines: Iterable[str]) -> None:
    with atomic_path(path) as tmp, tmp.open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
