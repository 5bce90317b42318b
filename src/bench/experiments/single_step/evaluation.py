"""A livestock data set as an evaluation: its model, records, pedigree and genotyped animals."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.errors import BenchError
from bench.genotypes.dataset import Dataset
from bench.genotypes.packed import PackedGenotypes
from bench.genotypes.records import covariance, genetic_covariance
from bench.genotypes.spec import Livestock
from bench.models.design import Design
from bench.models.model_file import Model
from bench.models.records import Factor, Records, read_records
from bench.relationships.pedigree import Pedigree, read_pedigree

SUBSET_SEED = 20_261  # which of the genotyped stay where fewer are asked for


@dataclass(frozen=True)
class Evaluation:
    """What is evaluated: records on a pedigree, of which some animals are genotyped.

    genotyped: (g,) rows of the pedigree, in the order of `packed`.
    """

    dataset: Dataset
    spec: Livestock
    model: Model
    pedigree: Pedigree
    records: Records
    genotyped: np.ndarray
    packed: PackedGenotypes

    @cached_property
    def design(self) -> Design:
        return Design.of(self.model, self.pedigree, self.records)

    @property
    def sd(self) -> np.ndarray:
        """(q,) genetic standard deviations."""
        return np.sqrt(np.diag(self.model.covariances.genetic))

    def keep_genotyped(self, rows: np.ndarray) -> Evaluation:
        """With the genotypes of `rows` of the genotyped alone."""
        return replace(self, genotyped=self.genotyped[rows], packed=self.packed.take(rows))

    def keep_records(self, rows: np.ndarray) -> Evaluation:
        """With the records `rows` alone."""
        r = self.records
        factors = {name: Factor(factor.codes[rows], factor.levels) for name, factor in r.factors.items()}
        covariates = {name: values[rows] for name, values in r.covariates.items()}
        kept = replace(
            r, animal=r.animal[rows], y=r.y[rows], weights=r.weights[rows], factors=factors, covariates=covariates
        )
        return replace(self, records=kept)

    @cached_property
    def born(self) -> np.ndarray:
        """(n,) cohort of each animal of the pedigree."""
        return self._of_animals(_table(self.dataset.pedigree_path, {"id": str}).set_index("id")["born"])

    def breeding_values(self) -> np.ndarray:
        """(n, q) true ones."""
        table = _table(self.dataset.breeding_values_path, {"id": str}).set_index("id")
        return self._of_animals(table[list(self.model.traits)])

    def _of_animals(self, table: Any) -> np.ndarray:
        return table.reindex(self.pedigree.ids).to_numpy()


def evaluation_of(data: Dataset, traits: list[str], *, genotyped: int | None = None) -> Evaluation:
    """The evaluation of some traits of a livestock data set, with the variances that it was simulated with.

    genotyped: so many of the genotyped, drawn at random; a smaller draw is part of a larger one.
    """
    spec = livestock(data)
    model = _model(data, spec, traits)
    assert model.pedigree is not None, "livestock has a pedigree"
    pedigree = read_pedigree(model.pedigree.file)
    rows = pedigree.rows(data.sample_ids(), of=f"{data.fam}")
    made = Evaluation(data, spec, model, pedigree, read_records(model, pedigree), rows, data.packed())
    if genotyped is None or genotyped == rows.size:
        return made
    drawn = np.random.default_rng(SUBSET_SEED).permutation(rows.size)[:genotyped]
    return made.keep_genotyped(np.sort(drawn))


def livestock(data: Dataset) -> Livestock:
    if data.source.get("kind") != "livestock":
        raise BenchError(
            f"data set {data.name!r} is of the kind {data.source.get('kind')!r}; the single-step experiment needs "
            "`livestock`, whose pedigree and records have animals without genotypes"
        )
    return Livestock.model_validate(data.source)


def _model(data: Dataset, spec: Livestock, traits: list[str]) -> Model:
    names = [trait.name for trait in spec.traits]
    if absent := [trait for trait in traits if trait not in names]:
        raise BenchError(f"{data.name}: there is no trait {absent[0]!r}; there are {', '.join(names)}")
    at = [names.index(trait) for trait in traits]
    chosen = [spec.traits[i] for i in at]
    residual = covariance([1 - t.h2 - t.pe for t in spec.traits], spec.residual_correlations)
    variances = {
        "genetic": genetic_covariance(spec)[np.ix_(at, at)].tolist(),
        "residual": residual[np.ix_(at, at)].tolist(),
    }
    permanent = all(trait.pe > 0 for trait in chosen)
    if permanent:
        variances["permanent"] = np.diag([trait.pe for trait in chosen]).tolist()
    return Model.model_validate(
        {
            "records": str(data.records_path),
            "traits": traits,
            "fixed": {"herd_year": "class", "age": "covariate"},
            "permanent": permanent,
            "weights": "weight" if spec.weights else None,
            "pedigree": {"file": str(data.pedigree_path)},
            "variances": variances,
        }
    )


def _table(path: Path | None, types: dict[str, Any]) -> pd.DataFrame:
    assert path is not None, "a livestock data set has it"
    return pd.read_csv(path, sep="\t", dtype=types)
