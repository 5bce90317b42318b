"""The code of docs/dblup.md runs, from top to bottom."""

import re
from pathlib import Path

import numpy as np
import pytest

from small_plink import write_plink

PAGE = Path(__file__).resolve().parents[2] / "docs" / "dblup.md"


@pytest.mark.slow
def test_the_code_of_the_page_runs(tmp_path, monkeypatch):
    write_plink(tmp_path / "herd", n=41, m=60)
    rng = np.random.default_rng(2)
    np.savetxt(tmp_path / "herd.txt", np.where(np.arange(41) < 5, np.nan, rng.standard_normal(41)))
    monkeypatch.chdir(tmp_path)
    from bench import dblup

    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 4
    found: dict = {}
    try:
        exec(compile("\n".join(blocks), str(PAGE), "exec"), found)
    finally:
        dblup.OBJECTIVES.pop("ml", None)
    assert np.isfinite(np.asarray(found["ebv"])).all()
    assert np.asarray(found["weighted"].model.link.unit_weights).mean() == pytest.approx(1)
    assert np.isfinite(float(found["loss"]))
