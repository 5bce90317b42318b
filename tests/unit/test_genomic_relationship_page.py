"""What docs/genomic-relationship.md shows."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.__main__ import main
from bench.genotypes.dataset import write_table
from bench.genotypes.packed import pack_dosages, write_bed

PAGE = Path(__file__).resolve().parents[2] / "docs" / "genomic-relationship.md"


def herd(folder: Path, n: int = 60, m: int = 400) -> None:
    """herd.bed, .bim, .fam and .ped: genotypes dropped through a pedigree."""
    rng = np.random.default_rng(6)
    haplotypes = rng.random((n, 2, m)) < rng.uniform(0.1, 0.9, m)
    parents = np.full((n, 2), -1)
    for i in range(10, n):
        parents[i] = 2 * rng.integers(i // 2), 2 * rng.integers(i // 2) + 1
        for side, parent in enumerate(parents[i]):
            haplotypes[i, side] = np.where(rng.random(m) < 0.5, *haplotypes[parent])
    write_bed(folder / "herd.bed", [pack_dosages(haplotypes.sum(axis=1).astype(np.int8))])
    bim = pd.DataFrame({"chromosome": 1, "snp": [f"s{j}" for j in range(m)], "cm": 0, "bp": np.arange(m) + 1})
    write_table(folder / "herd.bim", bim.assign(first="A", second="C"), header=False)
    names = np.array([*(f"cow{i}" for i in range(n)), "0"])
    table = pd.DataFrame({"id": names[:n], "sire": names[parents[:, 0]], "dam": names[parents[:, 1]]})
    write_table(folder / "herd.ped", table)
    fam = table.assign(sex=0, phenotype=-9)
    fam.insert(0, "family", "f")
    write_table(folder / "herd.fam", fam, header=False)


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ on this machine")
def test_the_code_of_the_page_runs(tmp_path, monkeypatch):
    herd(tmp_path)
    shutil.copy(tmp_path / "herd.bed", tmp_path / "candidates.bed")
    shutil.copy(tmp_path / "herd.bim", tmp_path / "candidates.bim")
    shutil.copy(tmp_path / "herd.fam", tmp_path / "candidates.fam")
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 5
    exec(compile("\n".join(blocks), str(PAGE), "exec"), {})
    shells = re.findall(r"^```bash\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    commands = [line.split("#")[0].split() for block in shells for line in block.splitlines()]
    commands.insert(1, commands.pop(2))  # the SNP file is written before it is read
    assert [command[1] for command in commands] == ["check", "convert", "convert", "predict"]
    for command in commands:
        names = {"marker.txt": "herd.txt", "chrmap.txt": "herd.map"}
        assert main([names.get(word, word) for word in command[1:]]) == 0, command
