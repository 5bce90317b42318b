"""From a model file to what is solved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import sparse

from bench.errors import BenchError
from bench.models.design import Design
from bench.models.model_file import Model, read_model
from bench.models.records import Records, read_records
from bench.relationships.metafounders import read_gamma
from bench.relationships.numerator import Numerator
from bench.relationships.pedigree import Pedigree, read_pedigree


def load(path: Path | str) -> tuple[Model, Pedigree, Records, Design]:
    """Everything that a model file names, read and checked; BenchError says what cannot be.

    The equations are `design.assemble(inverse, model.covariances)` with the `inverse` below.
    """
    model = read_model(path)
    return model, *load_data(model)


def load_data(model: Model) -> tuple[Pedigree, Records, Design]:
    """What a checked model names; BenchError says what cannot be."""
    file = model.pedigree
    groups = read_gamma(file.metafounders)[0] if file.metafounders else file.groups
    pedigree = read_pedigree(file.file, selfing=file.selfing, groups=groups)
    _check_fixed_groups(model, pedigree)
    records = read_records(model, pedigree)
    return pedigree, records, Design.of(model, pedigree, records)


def _check_fixed_groups(model: Model, pedigree: Pedigree) -> None:
    """A fixed group that nobody descends from has an equation of zeros."""
    of = (pedigree.sire_group, pedigree.dam_group)
    used = np.unique(np.concatenate([group[group >= 0] for group in of if group is not None] or [np.empty(0, int)]))
    if model.pedigree.groups and model.pedigree.group_effect == "fixed" and used.size < len(pedigree.groups):
        absent = [name for k, name in enumerate(pedigree.groups) if k not in used]
        raise BenchError(
            f"{model.pedigree.file}: no unknown parent is of the group {absent[0]!r}; take it off pedigree.groups, "
            "or let group_effect be random"
        )


def gamma(model: Model) -> np.ndarray | None:
    """Γ of the model's metafounders, (G, G), if it has any."""
    return read_gamma(model.pedigree.metafounders)[1] if model.pedigree.metafounders else None


def inverse(model: Model, pedigree: Pedigree, *, library: Path, threads: int = 1) -> sparse.csr_array:
    """A⁻¹ as the model wants it, (n + G, n + G): with groups as fixed effects, as random ones, or as metafounders.

    Random groups have the genetic variance, and are independent. With fixed groups the matrix is singular: their
    level is not told from that of the fixed effects, and differences of solutions are what is estimated.
    library: as of Numerator.
    """
    found = Numerator(pedigree, library=library, gamma=gamma(model), threads=threads).inverse()
    if model.pedigree.group_effect == "random" and pedigree.groups:
        ones = np.r_[np.zeros(len(pedigree)), np.ones(len(pedigree.groups))]
        found = sparse.csr_array(found + sparse.diags_array(ones))
    return found
