"""docs/populations.md: its entries are accepted, and its model file evaluates the data set that it makes."""

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from bench import __main__ as cli
from bench.genotypes.spec import Livestock

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "populations.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = BLOCK.findall(TEXT)
# What makes the page's data set one of a second.
SMALL = {"animals": 300, "genotyped": 60, "n_snps": 60, "herds": 3, "sires": 6, "chromosomes": 2}
SMALL |= {"chromosome_length": 4_000_000, "founders": 30, "n_qtl": 20}


def made() -> tuple[list[str], dict]:
    """The command that makes the data set, without its entry, and the entry."""
    (command,) = [body for kind, body in BLOCKS if kind == "console" and body.startswith("bench dataset")]
    words = shlex.split(command)
    at = words.index("--spec")
    return words[1:at], json.loads(words[at + 1])


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ on this machine")
def test_the_model_file_evaluates_the_data_set(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command, entry = made()
    assert cli.main([*command, "--spec", json.dumps(entry | SMALL)]) == 0
    (model,) = [body for kind, body in BLOCKS if kind == "yaml" and body.startswith("# herd.yaml")]
    Path("herd.yaml").write_text(model, encoding="utf-8")
    solve = shlex.split(re.findall(r"`bench (solve [^`]+)`", TEXT)[0])
    assert cli.main([*solve, "--threads", "1"]) == 0, capsys.readouterr().err
    found = pd.read_parquet(tmp_path / "spring" / "solutions.parquet")
    assert found["trait"].unique().tolist() == ["trait"]
    assert found["animal"].nunique() == SMALL["animals"]
    truth = pd.read_csv("data/herd/breeding_values.tsv", sep="\t", dtype={"id": str}).set_index("id")["trait"]
    both = found.astype({"animal": str}).set_index("animal")["ebv"]
    assert np.corrcoef(both, truth.reindex(both.index))[0, 1] > 0.3


def test_the_variances_of_the_model_file_are_those_of_the_default_trait():
    (trait,) = Livestock(**made()[1]).traits
    (model,) = [yaml.safe_load(body) for kind, body in BLOCKS if kind == "yaml" and body.startswith("# herd.yaml")]
    assert model["traits"] == [trait.name]
    assert model["variances"] == {"genetic": trait.h2, "residual": 1 - trait.h2 - trait.pe}


def test_the_other_schemes_are_accepted():
    (schemes,) = [yaml.safe_load(body) for kind, body in BLOCKS if kind == "yaml" and "herd.yaml" not in body]
    entry = {key: value for key, value in made()[1].items() if key != "genotyped"}
    made_of = Livestock(**entry | schemes)
    assert made_of.breeds is not None
    assert set(made_of.selection or {}) == {trait.name for trait in made_of.traits}
