"""The salmon genotypes of ASRgenomics, which come as text: `,SNP,SNP,…`, then id and a dosage or NA per SNP."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

DATA = Path(os.environ.get("BENCH_DATA", "absent"))


def read_salmon() -> tuple[list[str], np.ndarray]:
    """Ids (1481) and dosages (1481, 17156), −1 where missing; skips the test where BENCH_DATA has none."""
    path = DATA / "salmon" / "geno.csv.gz"
    if not path.exists():
        pytest.skip("BENCH_DATA has no salmon")
    ids, rows = [], []
    with gzip.open(path, "rt") as file:
        next(file)
        for line in file:
            name, _, calls = line.rstrip("\n").partition(",")
            digits = np.frombuffer(calls.replace("NA", "5").encode(), np.uint8)[::2] - ord("0")  # commas between
            ids.append(name)
            rows.append(np.where(digits == 5, -1, digits).astype(np.int8))
    return ids, np.array(rows)


def reference_file(name: str) -> Path:
    """A file of solutions by other programs, which lie beside BENCH_DATA; skips the test where there is none."""
    path = DATA.parent / "reference" / name
    if not path.exists():
        pytest.skip(f"there is no reference/{name} beside BENCH_DATA")
    return path
