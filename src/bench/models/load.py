"""From a model file to what is solved."""

from __future__ import annotations

from pathlib import Path

from bench.models.design import Design
from bench.models.model_file import Model, read_model
from bench.models.records import Records, read_records
from bench.relationships.pedigree import Pedigree, read_pedigree


def load(path: Path | str) -> tuple[Model, Pedigree, Records, Design]:
    """Everything that a model file names, read and checked; BenchError says what cannot be.

    The equations are `design.assemble(inverse, model.covariances)` with A⁻¹ of the pedigree.
    """
    model = read_model(path)
    pedigree = read_pedigree(model.pedigree.file, selfing=model.pedigree.selfing)
    records = read_records(model, pedigree)
    return model, pedigree, records, Design.of(model, pedigree, records)
