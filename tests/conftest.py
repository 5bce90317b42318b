"""Fixtures that more than one folder of tests uses."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.genotypes.dataset import Dataset, import_plink, write_table
from bench.genotypes.packed import pack_dosages, write_bed


@pytest.fixture
def plink_files(tmp_path: Path) -> Path:
    """Prefix of a small PLINK data set of 23 × 57 with missing calls, and its PREFIX.tsv of records."""
    return write_plink(tmp_path / "own" / "sheep")


@pytest.fixture
def small_dataset(plink_files: Path, tmp_path: Path) -> Path:
    """The manifest of `plink_files`."""
    return write_manifest(plink_files, tmp_path / "data" / "sheep" / "dataset.json")


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


def write_manifest(prefix: Path, manifest: Path) -> Path:
    bed, bim, fam, tsv = (prefix.with_suffix(suffix) for suffix in (".bed", ".bim", ".fam", ".tsv"))
    import_plink("sheep", bed=bed, bim=bim, fam=fam, phenotypes=tsv).write(manifest)
    assert Dataset.read(manifest).status == "ok"
    return manifest


@pytest.fixture
def full_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk without a free byte."""
    with _mounted(tmp_path / "full", "size=64k") as folder:
        try:
            with (folder / "ballast").open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
        except OSError:
            pass
        yield folder


@pytest.fixture
def read_only_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that nobody, root included, can write to."""
    with _mounted(tmp_path / "read_only", "ro,size=64k") as folder:
        yield folder


class _mounted:
    """A tmpfs at `folder`; the test is skipped where this process may not mount one."""

    def __init__(self, folder: Path, options: str):
        self.folder, self.options = folder, options

    def __enter__(self) -> Path:
        self.folder.mkdir()
        if os.geteuid() != 0:
            pytest.skip("mounting a small disk needs root")
        command = ["mount", "-t", "tmpfs", "-o", self.options, "tmpfs", str(self.folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
        return self.folder

    def __exit__(self, *exception: object) -> None:
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)
