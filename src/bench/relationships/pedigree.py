"""Pedigrees: read, checked, in order, and pruned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from bench.errors import BenchError
from bench.genotypes.bim_fam import read_lines

UNKNOWN = {"", "0", ".", "na", "nan"}  # in lower case: a parent that is not recorded
NAMES = {
    "id": ("id", "animal", "iid", "individual"),
    "sire": ("sire", "sire_id", "father", "father_id", "pat", "pid"),
    "dam": ("dam", "dam_id", "mother", "mother_id", "mat", "mid"),
    "sex": ("sex",),
    "born": ("born", "birth", "birthdate", "year", "generation"),
}
SEXES = {"1": "m", "m": "m", "male": "m", "2": "f", "f": "f", "female": "f"}
NONE = -1  # an unknown parent, where rows are given


@dataclass(frozen=True)
class Pedigree:
    """Animals in order: parents stand before their offspring.

    ids: (n,) text. sire, dam: (n,) int32 rows, −1 where unknown. added: how many parents had no line of their own
    and were made founders.
    """

    ids: np.ndarray
    sire: np.ndarray
    dam: np.ndarray
    added: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def index(self) -> pd.Index:
        """Looks rows up by id."""
        return pd.Index(self.ids)

    def rows(self, ids: Sequence[str], *, of: str) -> np.ndarray:
        """The rows of `ids`; `of` says whose they are, should one not be here."""
        found = self.index.get_indexer(pd.Index(ids, dtype=str))
        if (absent := np.flatnonzero(found < 0)).size:
            named = ", ".join(repr(str(ids[i])) for i in absent[:3])
            raise BenchError(f"{of}: {absent.size} of {len(found)} animals are not in the pedigree, such as {named}")
        return found

    def ancestors(self, rows: np.ndarray) -> np.ndarray:
        """(n,) whether an animal is one of `rows` or an ancestor of one."""
        among = np.zeros(len(self), bool)
        reached = np.unique(rows)
        while reached.size:
            among[reached] = True
            parents = np.unique(np.concatenate([self.sire[reached], self.dam[reached]]))
            reached = parents[parents >= 0]
            reached = reached[~among[reached]]
        return among

    def pruned(self, rows: np.ndarray) -> tuple[Pedigree, np.ndarray]:
        """The pedigree of `rows` and their ancestors only, and the rows here of its animals."""
        kept = np.flatnonzero(self.ancestors(rows))
        new = np.full(len(self) + 1, NONE, np.int32)  # the last is what −1 points to
        new[kept] = np.arange(kept.size)
        return replace(self, ids=self.ids[kept], sire=new[self.sire[kept]], dam=new[self.dam[kept]], added=0), kept


def read_pedigree(path: Path | str, *, selfing: bool = False) -> Pedigree:
    """The pedigree of a text file: id, sire and dam of each animal, in any order.

    Columns are separated by tabs, commas, semicolons or blanks, whichever the first line uses first in this order. A
    header names them (id, sire, dam, and if there are any sex and born, year or generation); without one, which its
    first field tells, the first three are id, sire and dam. Unknown is 0, ., NA or empty. selfing: an animal may be
    both a sire and a dam, as plants are. BenchError names the line or the animals that cannot be.
    """
    path = Path(path)
    table = _table(path)
    try:
        return from_table(table, selfing=selfing)
    except BenchError as error:
        raise BenchError(f"{path}: {error}") from None


def from_table(table: pd.DataFrame, *, selfing: bool = False) -> Pedigree:
    """The pedigree of a table with the columns id, sire and dam (text), and if there are any sex and born."""
    ids, sires, dams = (table[name].astype(str).tolist() for name in ("id", "sire", "dam"))
    _check_ids(ids)
    known = set(ids)
    absent = list(dict.fromkeys(p for p in (*sires, *dams) if p not in known and p.lower() not in UNKNOWN))
    everyone = np.array([*absent, *ids], dtype=object)
    place = {animal: row for row, animal in enumerate(everyone)}
    sire, dam = (
        np.array([NONE] * len(absent) + [place.get(p, NONE) for p in parents], np.int64) for parents in (sires, dams)
    )
    if not selfing:
        _check_sexes(everyone, sire, dam)
    if "sex" in table:
        _check_stated_sexes(everyone, sire, dam, np.concatenate([[""] * len(absent), table["sex"].astype(str)]))
    if "born" in table:
        born = pd.to_numeric(table["born"], errors="coerce").to_numpy(float)
        _check_births(everyone, sire, dam, np.concatenate([np.full(len(absent), np.nan), born]))
    order = _order(everyone, sire, dam)
    new = np.full(len(order) + 1, NONE, np.int32)
    new[order] = np.arange(len(order))
    return Pedigree(everyone[order], new[sire[order]], new[dam[order]], added=len(absent))


def _table(path: Path) -> pd.DataFrame:
    """The columns of the file that are of use, by the names of NAMES, as text."""
    lines = read_lines(path)
    if not lines:
        raise BenchError(f"{path}: the file is empty, a line per animal was needed")
    separator = next((s for s in "\t,;" if s in lines[0]), None)
    rows = [[field.strip() for field in line.split(separator)] for line in lines]
    header = [field.lower().lstrip("#") for field in rows[0]]
    if header[0] in NAMES["id"]:
        at = {name: next((header.index(h) for h in spelled if h in header), None) for name, spelled in NAMES.items()}
        first = 1
    else:
        at, first = {"id": 0, "sire": 1, "dam": 2, "sex": None, "born": None}, 0
    if missing := [name for name in ("id", "sire", "dam") if at[name] is None]:
        raise BenchError(f"{path}: the header has no column {' and no column '.join(missing)}; it has {rows[0]}")
    needed = max(place for place in at.values() if place is not None) + 1
    for number, row in enumerate(rows[first:], start=first + 1):
        if len(row) < needed:
            raise BenchError(f"{path}: line {number} has {len(row)} columns, needed {needed} (id, sire, dam)")
    if len(rows) == first:
        raise BenchError(f"{path}: there is no animal below the header")
    return pd.DataFrame(
        {name: [row[place] for row in rows[first:]] for name, place in at.items() if place is not None}
    )


def _check_ids(ids: list[str]) -> None:
    for number, animal in enumerate(ids, start=1):
        if animal.lower() in UNKNOWN:
            raise BenchError(f"animal {number} has the id {animal!r}, which stands for an unknown parent")
    if twice := [animal for animal, times in Counter(ids).items() if times > 1]:
        raise BenchError(f"{len(twice)} animals stand there twice, such as {twice[0]!r}; each must have one line")


def _check_sexes(ids: np.ndarray, sire: np.ndarray, dam: np.ndarray) -> None:
    both = np.intersect1d(sire[sire >= 0], dam[dam >= 0])
    if both.size:
        animal = both[0]
        raise BenchError(
            f"{both.size} animals are sire and dam, such as {ids[animal]!r}: sire of {ids[sire == animal][0]!r}, "
            f"dam of {ids[dam == animal][0]!r}"
        )


def _check_stated_sexes(ids: np.ndarray, sire: np.ndarray, dam: np.ndarray, sexes: np.ndarray) -> None:
    stated = np.array([SEXES.get(str(sex).lower(), "") for sex in sexes])
    for parent, role, wrong in ((sire, "sire", "f"), (dam, "dam", "m")):
        conflict = np.flatnonzero((parent >= 0) & (stated[parent] == wrong))
        if conflict.size:
            animal = conflict[0]
            raise BenchError(
                f"{conflict.size} animals have a {role} of the other sex, such as {ids[animal]!r}, whose {role} "
                f"{ids[parent[animal]]!r} is {'female' if wrong == 'f' else 'male'}"
            )


def _check_births(ids: np.ndarray, sire: np.ndarray, dam: np.ndarray, born: np.ndarray) -> None:
    for parent, role in ((sire, "sire"), (dam, "dam")):
        too_young = np.flatnonzero((parent >= 0) & (born[parent] >= born))  # NaN compares as false
        if too_young.size:
            animal = too_young[0]
            raise BenchError(
                f"{too_young.size} animals are not younger than their {role}, such as {ids[animal]!r} (born "
                f"{born[animal]:g}) and its {role} {ids[parent[animal]]!r} (born {born[parent[animal]]:g})"
            )


def _order(ids: np.ndarray, sire: np.ndarray, dam: np.ndarray) -> np.ndarray:
    """Rows so that parents come before offspring; as they are where that is so already."""
    rows = np.arange(len(ids))
    if (sire < rows).all() and (dam < rows).all():
        return rows
    open_parents = (sire >= 0).astype(int) + (dam >= 0)
    offspring = _offspring(sire, dam)
    placed = np.flatnonzero(open_parents == 0).tolist()
    for animal in placed:  # grows while it is walked (Kahn 1962)
        for child in offspring.get(animal, ()):
            open_parents[child] -= 1
            if open_parents[child] == 0:
                placed.append(child)
    if len(placed) < len(ids):
        raise BenchError(_loop(ids, sire, dam, open_parents > 0))
    return np.array(placed)


def _offspring(sire: np.ndarray, dam: np.ndarray) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for parent in (sire, dam):
        for child in np.flatnonzero(parent >= 0):
            found.setdefault(int(parent[child]), []).append(int(child))
    return found


def _loop(ids: np.ndarray, sire: np.ndarray, dam: np.ndarray, unplaced: np.ndarray) -> str:
    """The sentence that names a loop: up from an animal that could not be placed until one is met again."""
    way: list[int] = []
    animal = int(np.flatnonzero(unplaced)[0])
    while animal not in way:
        way.append(animal)
        animal = int(sire[animal] if sire[animal] >= 0 and unplaced[sire[animal]] else dam[animal])
    loop = [*way[way.index(animal) :], animal]
    return f"a loop: {' ← '.join(repr(str(ids[i])) for i in loop)} (each a parent of the one before it)"
