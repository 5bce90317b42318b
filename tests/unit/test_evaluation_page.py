"""docs/evaluation.md: its commands run in their order, its files are those that are written."""

import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench import __main__ as cli
from bench.exchange.snp_file import from_plink, to_plink
from bench.genotypes.packed import PackedGenotypes, pack_dosages, write_bed
from bench.single_step import variants

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)\n(?:# (\S+)\n)?(.*?)^```$", re.MULTILINE | re.DOTALL)
SOLVED_ALREADY = "bench solve model.yaml --out spring --resume"


@pytest.fixture(scope="module")
def folder(farm, tmp_path_factory):
    """The files that the page speaks of."""
    here = tmp_path_factory.mktemp("page")
    (here / "pedigree.tsv").write_text((farm / "plain.tsv").read_text())
    records = pd.read_csv(farm / "records.tsv", sep="\t", dtype=str, keep_default_na=False)
    records.to_csv(here / "records.tsv", sep="\t", index=False)
    early = records["herd_year"].str[2].astype(int) < 4
    records[early].to_csv(here / "records_until_2023.tsv", sep="\t", index=False)
    young = sorted(set(records["id"][~early]) - set(records["id"][early]))
    (here / "young.txt").write_text("\n".join(young) + "\n")
    from_plink(farm / "genotypes", here / "snps")
    X = PackedGenotypes.open(farm / "genotypes.bed", n_samples=90, n_snps=150).dosages()[:5].astype(np.int8)
    write_bed(here / "calves.bed", [pack_dosages(X)])
    (here / "calves.bim").write_text((farm / "genotypes.bim").read_text())
    (here / "calves.fam").write_text("".join(f"0 calf{i} 0 0 0 -9\n" for i in range(5)))
    from_plink(here / "calves", here / "calves")  # with the alleles A and B, as the other genotypes of the page have
    to_plink(here / "calves.txt", here / "candidates", map_file=here / "calves.map")
    return here


@pytest.fixture(scope="module")
def done(folder):
    """The folder after all commands."""
    for kind, name, body in BLOCK.findall(TEXT):
        if kind == "yaml":
            (folder / name).write_text(body, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for kind, _, body in BLOCK.findall(TEXT):
            for line in body.splitlines() if kind == "bash" else ():
                program, *arguments = shlex.split(line)
                assert program == "bench"
                assert cli.main(arguments) == (2 if line == SOLVED_ALREADY else 0), line
    return folder


def test_it_ends_with_predictions_validation_and_variances(done):
    candidates = pd.read_parquet(done / "candidates.parquet")
    assert candidates["animal"].unique().tolist() == [f"calf{i}" for i in range(5)]
    validated = pd.read_csv(done / "validation" / "validation.csv")
    assert validated["trait"].tolist() == ["milk", "fat"]
    assert validated["individuals"].tolist() == [len((done / "young.txt").read_text().split())] * 2
    assert (done / "components" / "variances.yaml").exists()


@pytest.mark.parametrize("name", ["autumn", "components"])
def test_every_file_is_on_the_page(name, done):
    named = {Path(file).stem for file in re.findall(r"^\| `([\w.]+)` \|", TEXT, re.MULTILINE)}
    assert {p.stem for p in (done / name).iterdir()} <= named


def test_the_resumed_run_lost_nothing(done):
    # Its command was refused, and spring is as it was.
    log = (done / "spring" / "log.txt").read_text()
    assert log.index("solved in") < log.index("stopped: ")
    assert (done / "spring" / "evaluation.json").exists()
    assert (done / "autumn" / "evaluation.json").exists()


def test_every_variant_is_named():
    section = TEXT.split("## Which variant")[1]
    assert set(variants.names()) <= set(re.findall(r"`(\w+)`", section))
