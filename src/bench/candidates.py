"""What a breeder does with a new .bed: check it against the pedigree, and predict its animals from SNP effects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from bench.build import installed
from bench.errors import BenchError
from bench.genotypes.bim_fam import read_bim, read_fam
from bench.genotypes.checks import GenotypeReport, check_genotypes, parent_pairs
from bench.genotypes.dataset import write_table
from bench.genotypes.packed import PackedGenotypes
from bench.matrix import GenotypeMatrix
from bench.models.prediction import predict, read_effects
from bench.record import atomic_path
from bench.relationships.missing import missing_of
from bench.relationships.pedigree import read_pedigree


def check_files(genotypes: Path | str, pedigree: Path | str | None = None) -> GenotypeReport:
    """The report (genotypes/checks.py) on PREFIX.bed, .bim and .fam. BenchError: a genotyped animal that is not in
    the pedigree, files that are missing or do not fit each other."""
    prefix = str(genotypes).removesuffix(".bed")
    bim, fam = read_bim(Path(f"{prefix}.bim")), read_fam(Path(f"{prefix}.fam"))
    packed = PackedGenotypes.open(Path(f"{prefix}.bed"), n_samples=len(fam), n_snps=len(bim))
    pairs, ids = None, fam["id"].to_numpy()
    if pedigree is not None:
        known = read_pedigree(pedigree)
        pairs = parent_pairs(known.sire, known.dam, known.rows(ids, of=f"{prefix}.fam"))
    return check_genotypes(packed, individuals=ids, snps=bim["snp"].to_numpy(), pairs=pairs)


def predict_candidates(
    genotypes: Path | str, effects: Path | str, out: Path | str, *, partial: bool = False, kernel: str = "auto"
) -> pd.DataFrame:
    """Write the table animal, trait, ebv, and return it. out: tab-separated text if it ends in .tsv, else parquet.

    genotypes: PREFIX of .bed, .bim and .fam. effects, partial: models/prediction.py. BenchError: files that are
    missing or do not fit each other.
    """
    known = read_effects(effects)
    Z = GenotypeMatrix.from_bed(genotypes, kernel=kernel)
    try:
        missing = missing_of(Z.products, Z.packed, threads=Z.threads, library=installed("missing").library)
    except MemoryError as error:
        raise BenchError(str(error)) from None
    bim = read_bim(Path(f"{str(genotypes).removesuffix('.bed')}.bim"))
    ebv = predict(known, bim, Z.products, missing, partial=partial)
    assert Z.individuals is not None
    table = pd.DataFrame(
        {
            "animal": np.repeat(Z.individuals, len(known.traits)),
            "trait": np.tile(np.array(known.traits, dtype=object), len(ebv)),
            "ebv": ebv.ravel(),
        }
    )
    if Path(out).suffix == ".tsv":
        write_table(Path(out), table)
    else:
        with atomic_path(out) as tmp:
            table.to_parquet(tmp, index=False)
    return table
