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
    and were made founders. groups: the unknown-parent groups or metafounders; sire_group, dam_group: (n,) int32, the
    group of an unknown parent, −1 where the parent is known; None where there are no groups.
    """

    ids: np.ndarray
    sire: np.ndarray
    dam: np.ndarray
    added: int = 0
    groups: tuple[str, ...] = ()
    sire_group: np.ndarray | None = None
    dam_group: np.ndarray | None = None

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
        parents = {"sire": new[self.sire[kept]], "dam": new[self.dam[kept]]}
        groups = {
            name: of[kept]
            for name, of in (("sire_group", self.sire_group), ("dam_group", self.dam_group))
            if of is not None
        }
        return replace(self, ids=self.ids[kept], added=0, **parents, **groups), kept

    def without_groups(self) -> Pedigree:
        """The same animals with nothing known of their unknown parents."""
        return replace(self, groups=(), sire_group=None, dam_group=None)

    def parent_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Sire and dam, (n,) int32 each, where group k is row n + k; −1 where a parent has no group either."""

        def with_groups(parent: np.ndarray, group: np.ndarray | None) -> np.ndarray:
            rows = parent if group is None else np.where(group >= 0, len(self) + group, parent)
            return np.ascontiguousarray(rows, np.int32)

        return with_groups(self.sire, self.sire_group), with_groups(self.dam, self.dam_group)

    def group_shares(self) -> np.ndarray:
        """Q, (n, G) dense: the share of its genes that an animal is expected to have from each group.

        The mean of its parents' shares, a group being wholly itself (Quaas 1988). An animal with ancestors in several
        groups has a share of each, so that little of Q is zero after a few generations.
        """
        shares = np.zeros((len(self) + len(self.groups) + 1, len(self.groups)))  # the last row is what −1 points to
        shares[len(self) : -1] = np.eye(len(self.groups))
        sires, dams = (rows.tolist() for rows in self.parent_rows())
        for animal, (sire, dam) in enumerate(zip(sires, dams, strict=True)):
            shares[animal] = (shares[sire] + shares[dam]) / 2
        return shares[: len(self)]


def read_pedigree(path: Path | str, *, selfing: bool = False, groups: Sequence[str] = ()) -> Pedigree:
    """The pedigree of a text file: id, sire and dam of each animal, in any order.

    Columns are separated by tabs, commas, semicolons or blanks, whichever the first line uses first in this order. A
    header names them (id, sire, dam, and if there are any sex and born, year or generation); without one, which its
    first field tells, the first three are id, sire and dam. Unknown is 0, ., NA or empty. selfing: an animal may be
    both a sire and a dam, as plants are. groups: unknown-parent groups or metafounders, ids that stand for unknown
    parents and have no line of their own; with them every unknown parent needs one. BenchError names the line or the
    animals that cannot be.
    """
    path = Path(path)
    table = _table(path)
    try:
        return from_table(table, selfing=selfing, groups=groups)
    except BenchError as error:
        raise BenchError(f"{path}: {error}") from None


def founders(ids: Sequence[str]) -> Pedigree:
    """Animals of whom no parent is known, in this order. ids: unique."""
    unknown = np.full(len(ids), NONE, np.int32)
    return Pedigree(np.array(ids, object), unknown, unknown)


def from_table(table: pd.DataFrame, *, selfing: bool = False, groups: Sequence[str] = ()) -> Pedigree:
    """The pedigree of a table with the columns id, sire and dam (text), and if there are any sex and born.

    selfing, groups: as in read_pedigree.
    """
    ids, sires, dams = (table[name].astype(str).tolist() for name in ("id", "sire", "dam"))
    _check_ids(ids)
    known = {*ids, *groups}
    _check_groups(groups, ids)
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
    found = Pedigree(everyone[order], new[sire[order]], new[dam[order]], added=len(absent))
    return _with_groups(found, tuple(groups), (sires, dams), order, set(absent)) if groups else found


def _with_groups(
    pedigree: Pedigree,
    groups: tuple[str, ...],
    parents: tuple[list[str], list[str]],
    order: np.ndarray,
    absent: set[str],
) -> Pedigree:
    """`pedigree` with the group of each unknown parent; parents: the columns sire and dam; order: as _order."""
    number = {group: k for k, group in enumerate(groups)}
    sire_group, dam_group = (
        np.array([NONE] * len(absent) + [number.get(p, NONE) for p in of], np.int32)[order] for of in parents
    )
    lacking = ((pedigree.sire < 0) & (sire_group < 0)) | ((pedigree.dam < 0) & (dam_group < 0))
    if lacking.any():
        names = [str(animal) for animal in pedigree.ids[lacking]]
        shown = ", ".join(f"{name!r}{' (has no line of its own)' if name in absent else ''}" for name in names[:3])
        raise BenchError(
            f"{len(names)} animals have an unknown parent without a group, such as {shown}; where there are groups, "
            "every unknown parent needs one"
        )
    return replace(pedigree, groups=groups, sire_group=sire_group, dam_group=dam_group)


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


def _check_groups(groups: Sequence[str], ids: list[str]) -> None:
    if twice := [group for group, times in Counter(groups).items() if times > 1]:
        raise BenchError(f"group {twice[0]!r} is named twice")
    if unknown := [group for group in groups if group.lower() in UNKNOWN]:
        raise BenchError(f"group {unknown[0]!r} cannot be told from an unknown parent; give it another id")
    if animals := sorted(set(groups) & set(ids)):
        raise BenchError(
            f"{animals[0]!r} is a group and has a line of its own; a group stands for unknown parents only"
        )


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
