"""The effects of a model other than the genetic ones, as columns of levels × traits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from bench.models.model_file import Effect, Model
from bench.models.records import Records
from bench.models.variances import MATERNAL_PERMANENT, PERMANENT

INTERCEPT = Effect(column="intercept", kind="class")


@dataclass(frozen=True)
class Term:
    """An effect of some traits, a level's traits side by side.

    traits: their places among the model's. codes: (R,) the level of each record, −1 for none. levels: (l,) names.
    values: (R,) of a covariate, None for a class. kind: "class", "covariate", "nested" (a covariate within a class)
    or "random".
    """

    name: str
    kind: str
    traits: tuple[int, ...]
    codes: np.ndarray
    levels: np.ndarray
    values: np.ndarray | None = None

    @property
    def size(self) -> int:
        return len(self.levels) * len(self.traits)

    def columns(self, trait: int, rows: np.ndarray) -> sparse.csr_array:
        """(rows, levels) incidence of one trait's records. rows: (R,) whether it was recorded."""
        at = np.flatnonzero(rows)
        has = self.codes[at] >= 0
        values = np.ones(at.size) if self.values is None else self.values[at]
        places = (np.flatnonzero(has), self.codes[at][has])
        return sparse.csr_array((values[has], places), shape=(at.size, len(self.levels)))


def fixed_terms(model: Model, records: Records) -> list[Term]:
    """The fixed effects, each with the traits that have it; an intercept for the traits without a class effect."""
    having: dict[Effect, list[int]] = {}
    for j, trait in enumerate(model.traits):
        effects = model.effects(trait)
        if not any(effect.kind == "class" for effect in effects):
            effects = (INTERCEPT, *effects)
        for effect in effects:
            having.setdefault(effect, []).append(j)
    return [_fixed(effect, tuple(traits), records) for effect, traits in having.items()]


def _fixed(effect: Effect, traits: tuple[int, ...], records: Records) -> Term:
    one = np.zeros(len(records), np.int32), np.array([""], object)
    if effect is INTERCEPT:
        return Term(effect.name, "class", traits, *one)
    if effect.kind == "class":
        factor = records.factors[effect.column]
        return Term(effect.name, "class", traits, factor.codes, factor.levels)
    values = records.covariates[effect.column]
    if effect.within is None:
        return Term(effect.name, "covariate", traits, *one, values)
    factor = records.factors[effect.within]
    return Term(effect.name, "nested", traits, factor.codes, factor.levels, values)


def random_terms(model: Model, records: Records, ids: np.ndarray) -> list[Term]:
    """The independent random effects, then the permanent environments. ids: (n,) of the pedigree."""
    everyone = tuple(range(len(model.traits)))
    found = [
        Term(name, "random", everyone, records.factors[name].codes, records.factors[name].levels)
        for name in model.random
    ]
    if model.permanent:
        found.append(_of_animals(PERMANENT, everyone, records.animal, ids))
    if model.maternal and model.maternal.permanent:
        assert records.dam is not None
        found.append(_of_animals(MATERNAL_PERMANENT, everyone, records.dam, ids))
    return found


def _of_animals(name: str, traits: tuple[int, ...], rows: np.ndarray, ids: np.ndarray) -> Term:
    """An effect of the animals that have records (or offspring with records), in the pedigree's order."""
    animals = np.unique(rows[rows >= 0])
    codes = np.where(rows >= 0, np.searchsorted(animals, rows), -1).astype(np.int32)
    return Term(name, "random", traits, codes, ids[animals])
