"""docs/gblup.md: its commands run in their order, its files are those that are written."""

import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from bench import __main__ as cli
from bench.evaluation import crossvalidation_files
from bench.models.model_file import Relationship
from bench.models.predictive_ability import NAMES
from gblup_case import make_population, read_dosages, write_genotypes

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "gblup.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)\n(?:# (\S+)\n)?(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The folder after all commands."""
    folder = make_population(tmp_path_factory.mktemp("page"))
    calves = np.nan_to_num(read_dosages(folder / "genotypes")[:4], nan=-1)
    write_genotypes(folder / "calves", calves, [f"calf{i}" for i in range(4)])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for kind, name, body in BLOCK.findall(TEXT):
            if kind == "yaml":
                Path(name).write_text(body, encoding="utf-8")
            for line in body.splitlines() if kind == "bash" else ():
                program, *arguments = shlex.split(line)
                assert program == "bench"
                with pytest.MonkeyPatch.context() as within:
                    if "forward" not in arguments:  # one figure is enough, each takes seconds
                        within.setattr(crossvalidation_files.figures, "save", lambda *_: None)
                    threads = (
                        [] if "predict" in arguments else ["--threads", "1"]
                    )  # two wait for each other when busy
                    assert cli.main([*arguments, *threads]) == 0, line
    return folder


def test_it_ends_with_predictions_variances_and_validation(done):
    assert pd.read_parquet(done / "calves.parquet")["animal"].nunique() == 4
    assert yaml.safe_load((done / "components" / "variances.yaml").read_text())["variances"]
    folds = {name: pd.read_parquet(done / name / "folds.parquet") for name in ("random", "families", "forward")}
    assert {name: len(of) // 2 for name, of in folds.items()} == {"random": 10, "families": 6, "forward": 3}
    assert folds["random"]["genetic_share"].nunique() == 2
    assert folds["families"]["genetic_share"].nunique() > 2


def test_every_file_is_on_the_page(done):
    kinds = ("csv", "html", "md", "parquet", "tsv")
    files = {f"{name}.{kind}" for name in ("crossvalidation", "folds", "lr") for kind in kinds}
    files |= {"predictions.parquet", "predictions.tsv", "log.txt", "crossvalidation.json"}
    files |= {f"crossvalidation.{kind}" for kind in ("svg", "pdf", "png")}
    assert {p.name for p in (done / "forward").iterdir()} == files
    table = TEXT.split("| file in `forward/`")[1].split("\n\n")[0]
    assert {Path(file).stem for file in files} <= set(re.findall(r"`(\w+)(?:\.\w+)?`", table))


def test_every_kind_and_every_measure_is_on_the_page():
    first = set(re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE))
    assert set(Relationship.model_fields["kind"].annotation.__args__) <= first
    assert set(NAMES) <= first
