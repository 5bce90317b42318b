"""What the report's first page says of a run."""

import re
from pathlib import Path

import jinja2
import pandas as pd
import pytest
from docutils.core import publish_parts
from synthetic_documents import products_document

from bench import __main__ as cli
from bench import front
from bench.collect import collect

REPORT = Path(__file__).resolve().parents[2] / "workflow" / "report" / "report.rst"


@pytest.fixture
def frame(tmp_path):
    """Two sessions of one machine, the second contaminated."""
    for kernel, target, reason in (
        ("decompress", "avx512", None),
        ("five_codes", "avx2", "other processes took 40%"),
    ):
        doc = products_document("cattle", kernel, target, "f8", 1)
        doc.provenance |= {
            "cpu": "Cpu*_`(R)", "cores": 2, "memory": 8 << 30, "gpu": "", "commit": "0123456789", "dirty": True,
            "started_at": f"2026-11-2{1 + (reason is not None)}T23:00:00+00:00", "contaminated": reason,
        }  # fmt: skip
        doc.write(tmp_path / f"{kernel}.json")
    return collect(sorted(tmp_path.glob("*.json")))


def page(folder: Path, monkeypatch) -> str:
    """The words of the report's first page, drawn as Snakemake draws it, and docutils' complaints."""
    monkeypatch.chdir(folder)
    source = jinja2.Template(REPORT.read_text(encoding="utf-8")).render(
        snakemake={"config": {"results": "results/mine"}}
    )
    html = publish_parts(source, writer="html").get("html_body", "")
    assert "system-message" not in html
    return " ".join(re.sub(r"<[^>]+>", "", html).split())


def test_the_first_page_names_machine_days_commit_and_contaminated_sessions(frame, tmp_path, monkeypatch):
    front.write(frame, tmp_path / "results" / "mine" / "front.rst")
    text = page(tmp_path, monkeypatch)
    assert (
        "Measured on Cpu*_`(R) (2 cores, 8.0 GiB), 2026-11-21 to 2026-11-22, commit 0123456 with changes that were "
        "not committed. Contaminated: 1 of 2 sessions, marked † in the tables; something else was running." in text
    )


def test_a_quiet_run_of_one_day_and_one_without_measurements(frame, tmp_path, monkeypatch):
    quiet = frame[frame["contaminated"].isna()].assign(dirty=False)
    assert front.text(quiet).startswith(
        "Measured on Cpu\\*\\_\\`(R) (2 cores, 8.0 GiB), 2026-11-21, commit 0123456. "
    )
    assert "No session was contaminated, of 1." in front.text(quiet)
    assert "Nothing was measured" in front.text(frame.assign(metric=pd.NA))
    unknown = quiet.assign(**dict.fromkeys(("cpu", "cores", "memory", "gpu", "commit", "dirty", "started_at"), pd.NA))
    assert front.text(unknown).startswith("Measured on an unknown processor. ")


def test_collect_writes_it_beside_the_measurements(frame, tmp_path):
    (tmp_path / "list.txt").write_text("\n".join(map(str, sorted(tmp_path.glob("*.json")))))
    files = {name: tmp_path / "results" / name for name in ("front.rst", "measurements.parquet")}
    words = ["collect", "--documents", tmp_path / "list.txt", "--front", files["front.rst"]]
    assert cli.main([*map(str, words), "--out", str(files["measurements.parquet"])]) == 0
    assert files["front.rst"].read_text(encoding="utf-8") == front.text(frame)
