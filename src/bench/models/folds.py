"""Which records a model is trained with, and which of them it is then held against.

An animal is in training or it is tested, never both: all its records go together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.errors import BenchError


@dataclass(frozen=True)
class Split:
    """training, test: (R,) of bool, records. A record of an animal that is in training already is in neither."""

    repeat: int
    fold: str
    training: np.ndarray
    test: np.ndarray


def random_splits(animal: np.ndarray, folds: int, *, repeats: int = 1, seed: int = 1) -> list[Split]:
    """Animals in folds of sizes that differ by at most one, drawn anew in each repeat. animal: (R,) whose record."""
    animals, place = np.unique(animal, return_inverse=True)
    if not 2 <= folds <= animals.size:
        raise BenchError(
            f"--folds: {folds} folds of {animals.size} animals with records; from 2 to {animals.size} can be"
        )
    if repeats < 1:
        raise BenchError(f"--repeats: {repeats} was given; at least 1 was needed")
    found = []
    for repeat in range(1, repeats + 1):
        rng = np.random.default_rng([seed, repeat, animals.size, folds])
        fold = rng.permutation(np.arange(animals.size) % folds)[place]
        found += [Split(repeat, str(k + 1), fold != k, fold == k) for k in range(folds)]
    return found


def splits_by_level(animal: np.ndarray, levels: np.ndarray, *, ids: np.ndarray, column: str) -> list[Split]:
    """Each level left out once, such as a family. levels: (R,) text; ids: of the animals, for messages.

    BenchError: an animal of two levels, or a single level.
    """
    names, code = np.unique(levels.astype(str), return_inverse=True)
    first = np.full(len(ids), -1)
    first[animal[::-1]] = code[::-1]
    if (two := np.flatnonzero(first[animal] != code)).size:
        at = two[0]
        one, other = str(names[first[animal[at]]]), str(names[code[at]])
        raise BenchError(
            f"--by: {np.unique(animal[two]).size} animals have records of two levels of {column!r}, such as "
            f"{str(ids[animal[at]])!r} of {one!r} and {other!r}; an animal can only be "
            "left out as a whole"
        )
    if names.size < 2:
        raise BenchError(f"--by: the column {column!r} has the one level {str(names[0])!r}; two or more were needed")
    return [Split(1, str(name), code != k, code == k) for k, name in enumerate(names)]


def forward_splits(animal: np.ndarray, values: np.ndarray, *, column: str, rolling: bool = False) -> list[Split]:
    """Training with the records of smaller values, such as years; the test is the last value, or with `rolling` each
    one after the first. Tested are animals that have no record in training. values: (R,) numbers."""
    at = np.unique(values)
    if at.size < 2:
        raise BenchError(f"--forward: all records have the same {column!r}; two values or more were needed")
    found = []
    for value in at[1:] if rolling else at[-1:]:
        training = values < value
        old = np.isin(animal, animal[training])
        test = (values == value) & ~old
        if test.any():
            found.append(Split(1, np.format_float_positional(value, trim="-"), training, test))
    if not found:
        raise BenchError(
            f"--forward: every animal with a record of the last {column!r} has an earlier one: none is left"
        )
    return found
