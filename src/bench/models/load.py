"""From a model file to what is solved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import sparse

from bench.errors import BenchError
from bench.genotypes.bim_fam import read_fam
from bench.models.design import Design
from bench.models.model_file import Model, PedigreeFile, read_model
from bench.models.records import Records, read_records
from bench.relationships.metafounders import read_gamma
from bench.relationships.numerator import Numerator
from bench.relationships.pedigree import Pedigree, founders, read_pedigree


def load(path: Path | str) -> tuple[Model, Pedigree, Records, Design]:
    """Everything that a model file names, read and checked; BenchError says what cannot be.

    The equations are `design.assemble(inverse, model.covariances)` with the `inverse` below.
    """
    model = read_model(path)
    return model, *load_data(model)


def load_data(model: Model, *, label: str | None = None) -> tuple[Pedigree, Records, Design]:
    """What a checked model names; BenchError says what cannot be. label: a further column of the records."""
    pedigree = _genotyped_founders(model) if model.pedigree is None else _read_pedigree(model.pedigree)
    records = read_records(model, pedigree, label=label)
    return pedigree, records, Design.of(model, pedigree, records)


def _genotyped_founders(model: Model) -> Pedigree:
    """Without a pedigree the animals are the genotyped, in the order of the .fam file."""
    assert model.genotypes is not None
    return founders(read_fam(Path(f"{model.genotypes.plink}.fam"))["id"].tolist())


def _read_pedigree(file: PedigreeFile) -> Pedigree:
    groups = read_gamma(file.metafounders)[0] if file.metafounders else file.groups
    pedigree = read_pedigree(file.file, selfing=file.selfing, groups=groups)
    _check_fixed_groups(file, pedigree)
    return pedigree


def _check_fixed_groups(file: PedigreeFile, pedigree: Pedigree) -> None:
    """A fixed group that nobody descends from has an equation of zeros."""
    of = (pedigree.sire_group, pedigree.dam_group)
    used = np.unique(np.concatenate([group[group >= 0] for group in of if group is not None] or [np.empty(0, int)]))
    if file.groups and file.group_effect == "fixed" and used.size < len(pedigree.groups):
        absent = [name for k, name in enumerate(pedigree.groups) if k not in used]
        raise BenchError(
            f"{file.file}: no unknown parent is of the group {absent[0]!r}; take it off pedigree.groups, "
            "or let group_effect be random"
        )


def gamma(model: Model) -> np.ndarray | None:
    """Γ of the model's metafounders, (G, G), if it has any."""
    file = model.pedigree.metafounders if model.pedigree else None
    return read_gamma(file)[1] if file else None


def inverse(model: Model, pedigree: Pedigree, *, library: Path, threads: int = 1) -> sparse.csr_array:
    """A⁻¹ as the model wants it, (n + G, n + G): with groups as fixed effects, as random ones, or as metafounders.

    Random groups have the genetic variance, and are independent. With fixed groups the matrix is singular: their
    level is not told from that of the fixed effects, and differences of solutions are what is estimated.
    library: as of Numerator. Without a pedigree, the identity.
    """
    if model.pedigree is None:
        return sparse.csr_array(sparse.eye_array(len(pedigree), format="csr"))
    found = Numerator(pedigree, library=library, gamma=gamma(model), threads=threads).inverse()
    if model.pedigree.group_effect == "random" and pedigree.groups:
        ones = np.r_[np.zeros(len(pedigree)), np.ones(len(pedigree.groups))]
        found = sparse.csr_array(found + sparse.diags_array(ones))
    return found
