"""docs/models.md: its keys are those of a model file, and its example runs."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from pydantic import BaseModel

from bench.models.model_file import GenotypeFiles, Maternal, Model, Output, PedigreeFile, Relationship, SingleStep

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"(?:^`(\S+)`[^\n]*:\n\n)?^```(\w+)\n((?:# (\S+)\n)?.*?)^```$", re.MULTILINE | re.DOTALL)
TABLES = {
    "key": Model, "key of `maternal`": Maternal, "key of `pedigree`": PedigreeFile,
    "key of `genotypes`": GenotypeFiles, "key of `relationship`": Relationship, "key of `single_step`": SingleStep,
    "key of `output`": Output,
}  # fmt: skip


@pytest.mark.parametrize("heading", TABLES)
def test_every_key_is_on_the_page_with_its_default(heading):
    model: type[BaseModel] = TABLES[heading]
    table = TEXT.split(f"| {heading} | value |")[1].split("\n\n")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    assert [row[0].strip("`") for row in rows] == list(model.model_fields)
    for key, _, default, _ in rows:
        field = model.model_fields[key.strip("`")]
        if field.is_required():
            assert default == "required", key
        elif isinstance(field.default, BaseModel):
            assert default == "{}", key
        else:
            said = None if default == "none" and field.default is None else yaml.safe_load(default)
            expected = list(field.default) if isinstance(field.default, tuple) else field.default
            assert (float(default) if isinstance(expected, float) else said) == expected, key


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ on this machine")
def test_the_example_is_solved(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.findall(TEXT)
    for above, _, body, comment in blocks:  # saved as shown: a table's name is in the prose, for it has no comments
        if above or comment:
            Path(above or comment).write_text(body, encoding="utf-8")
    assert {"model.yaml", "records.tsv", "pedigree.tsv"} <= {file.name for file in tmp_path.iterdir()}
    (code,) = [body for _, kind, body, _ in blocks if kind == "python"]
    found: dict = {}
    exec(compile(code, "models.md", "exec"), found)
    assert found["ebv"].shape == (5, 2)
    assert np.isfinite(found["fixed"]["solution"]).all()
    assert found["fixed"]["effect"].unique().tolist() == ["herd_year", "age", "permanent"]
    assert "set to 0" not in capsys.readouterr().out
