"""A small PLINK data set with records, such as a user has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from bench.genotypes.dataset import write_table
from bench.genotypes.packed import pack_dosages, write_bed


def write_plink(prefix: Path, *, n: int = 23, m: int = 57, seed: int = 3) -> Path:
    """Write PREFIX.bed, .bim, .fam and .tsv (records of one trait, the first one missing)."""
    rng = np.random.default_rng(seed)
    dosages = rng.binomial(2, rng.uniform(0.1, 0.9, m), (n, m)).astype(np.int8)
    dosages[rng.random((n, m)) < 0.03] = -1
    ids = [f"animal{i}" for i in range(n)]
    prefix.parent.mkdir(parents=True, exist_ok=True)
    write_bed(prefix.with_suffix(".bed"), [pack_dosages(dosages)])
    bim = pd.DataFrame({"chromosome": 1, "id": [f"snp{j}" for j in range(m)], "cm": 0, "bp": np.arange(m) + 1})
    write_table(prefix.with_suffix(".bim"), bim.assign(first="A", second="C"), header=False)
    fam = pd.DataFrame({"family": ids, "id": ids, "sire": 0, "dam": 0, "sex": 0, "phenotype": -9})
    write_table(prefix.with_suffix(".fam"), fam, header=False)
    weight = np.maximum(dosages, 0) @ rng.standard_normal(m) / np.sqrt(m) + rng.standard_normal(n)
    weight[0] = np.nan
    write_table(prefix.with_suffix(".tsv"), pd.DataFrame({"id": ids, "weight": weight}))
    return prefix
