"""Which fixed effects the records cannot tell apart, found before anything is solved.

Weights and other traits do not change the rank of a trait's X: each is checked for itself, by X'X of its records. The
largest class effect is eliminated exactly (its block is diagonal), what is left by Cholesky with pivoting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from scipy import sparse
from scipy.linalg.lapack import dpstrf  # pyright: ignore[reportAttributeAccessIssue]

from bench.errors import BenchError
from bench.models.terms import Term

MOST_COLUMNS = 3000  # beside the largest class effect: 72 MB, and seconds
DEPENDENT = 1e-10  # of a column's square, what is left when the columns before it are fitted
STAGES = ("class", "covariate", "nested")  # a covariate is refused, so the levels give way first


@dataclass(frozen=True)
class Constraint:
    """A level of a fixed effect that is set to 0, because `others` say the same."""

    trait: str
    effect: str
    level: str
    others: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"fixed effects of {self.trait}: level {self.level} of {self.effect} is confounded with "
            f"{' and '.join(self.others)}; it is set to 0"
        )


@dataclass(frozen=True)
class Estimable:
    """kept: for each term (levels, traits) whether a level has an equation; the others have no records or are
    confounded. constraints: the confounded. unchecked: traits with too many columns to look at.
    """

    kept: list[np.ndarray]
    constraints: list[Constraint]
    unchecked: list[str]

    def notes(self, most: int = 3) -> list[str]:
        """A sentence for each constraint, up to `most` for an effect of a trait, and how many more there are."""
        found = []
        for (trait, effect), group in groupby(self.constraints, key=lambda c: (c.trait, c.effect)):
            constraints = list(group)
            found += map(str, constraints[:most])
            if more := len(constraints[most:]):
                found.append(f"fixed effects of {trait}: {more} more levels of {effect} are set to 0")
        return found


def estimable(terms: Sequence[Term], observed: np.ndarray, traits: Sequence[str]) -> Estimable:
    """Which levels of the fixed effects can be estimated. observed: (R, t) whether a trait was recorded.

    A level that is confounded gives way, whichever of the effects involved has fewer levels. BenchError for a
    covariate that the other effects determine: nothing could be said about it.
    """
    found = Estimable([np.zeros((len(term.levels), len(term.traits)), bool) for term in terms], [], [])
    for j, trait in enumerate(traits):
        having = [k for k, term in enumerate(terms) if j in term.traits]
        blocks = [terms[k].columns(j, observed[:, j]) for k in having]
        present = [np.flatnonzero(block.power(2).sum(axis=0) > 0) for block in blocks]
        for k, levels in zip(having, present, strict=True):
            found.kept[k][levels, terms[k].traits.index(j)] = True
        for k, levels in zip(having, present, strict=True):
            if terms[k].kind == "covariate" and not levels.size:
                raise BenchError(f"fixed effects of {trait}: covariate {terms[k].name} is 0 in all records")
        classes = [k for k in range(len(having)) if terms[having[k]].kind == "class"]
        largest = max(classes, key=lambda k: len(present[k]))
        beside = sum(map(len, present)) - len(present[largest])
        if beside > MOST_COLUMNS:
            found.unchecked.append(trait)
        if not 0 < beside <= MOST_COLUMNS:
            continue
        columns = _Columns.of([terms[k] for k in having], blocks, present, largest, trait)
        for term, level, others in columns.dependent():
            k = having[term]
            found.kept[k][level, terms[k].traits.index(j)] = False
            names = tuple(
                f"other levels of {terms[k].name}" if having[other] == k else terms[having[other]].name
                for other in others
            )
            found.constraints.append(Constraint(trait, terms[k].name, str(terms[k].levels[level]), names))
    return found


@dataclass(frozen=True)
class _Columns:
    """A trait's columns beside its largest class effect C, of unit length. term, level: (p,) where each is from."""

    terms: list[Term]
    largest: int
    counts: np.ndarray
    with_largest: sparse.csr_array
    left: np.ndarray
    term: np.ndarray
    level: np.ndarray
    trait: str

    @classmethod
    def of(
        cls, terms: list[Term], blocks: list[sparse.csr_array], present: list[np.ndarray], largest: int, trait: str
    ) -> _Columns:
        """blocks: (rows, levels) of each term; present: its levels that have records."""
        others = [k for k in range(len(terms)) if k != largest]
        term = np.concatenate([np.full(len(present[k]), k) for k in others])
        level = np.concatenate([present[k] for k in others])
        C = blocks[largest][:, present[largest]]
        counts = C.sum(axis=0)
        O = sparse.hstack([_centred(terms[k], blocks[k][:, present[k]], trait) for k in others], format="csr")
        O = O @ sparse.diags_array(1 / np.sqrt(O.power(2).sum(axis=0)))
        B = sparse.csr_array(C.T @ O)
        left = (
            sparse.csr_array(O.T @ O).toarray() - sparse.csr_array(B.T @ (B.multiply(1 / counts[:, None]))).toarray()
        )
        return cls(terms, largest, counts, B, left, term, level, trait)

    def dependent(self) -> list[tuple[int, int, list[int]]]:
        """(term, level, terms that it is confounded with) of each column that gives way."""
        kinds = np.array([self.terms[k].kind for k in self.term])
        kept, found = np.empty(0, int), []
        for stage in STAGES:
            at = np.flatnonzero(kinds == stage)
            if not at.size:
                continue
            S = self.left[np.ix_(at, at)]
            if kept.size:
                S = S - self.left[np.ix_(at, kept)] @ self._solve(kept, self.left[np.ix_(kept, at)])
            _, pivots, rank, _ = dpstrf(S, tol=DEPENDENT)
            if S.diagonal().max() <= DEPENDENT:  # LAPACK takes the first pivot whatever it is
                rank = 0
            kept = np.concatenate([kept, at[pivots[:rank] - 1]])
            dropped = np.sort(at[pivots[rank:] - 1])
            if dropped.size:
                found += self._explained(dropped, kept)
            if dropped.size and stage == "covariate":
                term, _, others = found[-1]
                names = " and ".join(self.terms[k].name for k in others)
                raise BenchError(
                    f"fixed effects of {self.trait}: covariate {self.terms[term].name} is confounded with {names}: "
                    "they say the same of every record; take one off `fixed`"
                )
        return found

    def _solve(self, kept: np.ndarray, rhs: np.ndarray) -> np.ndarray:
        return np.linalg.solve(self.left[np.ix_(kept, kept)], rhs)

    def _explained(self, dropped: np.ndarray, kept: np.ndarray) -> list[tuple[int, int, list[int]]]:
        """Which terms have a part in the combination of columns that equals a dropped one."""
        weights = self._solve(kept, self.left[np.ix_(kept, dropped)]) if kept.size else np.empty((0, dropped.size))
        weights[np.abs(weights) < 1e-12] = 0
        B = self.with_largest
        left = sparse.csr_array(B[:, dropped] - B[:, kept] @ sparse.csr_array(weights))
        of_largest = abs(left.multiply(1 / self.counts[:, None])).max(axis=0).toarray().ravel()
        found = []
        for i, column in enumerate(dropped):
            others = set(self.term[kept[np.abs(weights[:, i]) > 1e-6]].tolist())
            if of_largest[i] > 1e-9:
                others.add(self.largest)
            found.append((int(self.term[column]), int(self.level[column]), sorted(others)))
        return found


def _centred(term: Term, block: sparse.csr_array, trait: str) -> sparse.csr_array:
    """A covariate less its mean, which some class effect holds anyway: dates would lose their digits otherwise."""
    if term.kind != "covariate":
        return block
    values = block.toarray()
    left = values - values.mean(axis=0)
    if np.linalg.norm(left) <= 1e-12 * max(np.linalg.norm(values), 1e-300):
        raise BenchError(f"fixed effects of {trait}: covariate {term.name} is the same in all records")
    return sparse.csr_array(left)
