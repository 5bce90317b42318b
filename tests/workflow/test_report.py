"""The report: one file that a browser opens without a network, with every table and figure in it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from checkout import Checkout

from bench import figures, tables

CHROMIUM = next((p for name in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(name))), None)


@pytest.fixture(scope="module")
def report(finished: Checkout) -> Path:
    finished.succeed("--configfile", "tiny.yaml", "--report", "results/tiny/report.html")
    return finished.results("tiny") / "report.html"


CLICK = """
<script>
setTimeout(() => {
  const menu = [...document.querySelectorAll("a, button")];
  menu.find(item => item.textContent.trim() === "%s").click();
}, 2000);
</script>
"""


def shown(report: Path, folder: Path, category: str | None = None) -> str:
    """The text that a browser without a network shows, once `category` has been clicked."""
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine (Debian: apt-get install chromium)")
    clicked = folder / "report.html"
    clicked.write_text(report.read_text() + (CLICK % category if category else ""))
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic"]
    headless = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage"]
    offline = ["--proxy-server=http://127.0.0.1:9", "--host-resolver-rules=MAP * ~NOTFOUND"]
    done = subprocess.run(
        [CHROMIUM, *headless, *quiet, *offline, f"--user-data-dir={folder / 'profile'}",
         "--virtual-time-budget=20000", "--enable-logging=stderr", "--dump-dom", clicked.as_uri()],
        capture_output=True, text=True, check=False, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    errors = [line for line in done.stderr.splitlines() if "CONSOLE" in line and "Uncaught" in line]
    assert not errors, errors
    visible = re.sub(r"<(script|style)\b.*?</\1>", "", done.stdout, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", visible).split())


def test_the_report_holds_every_table_and_figure(report):
    text = report.read_text()
    for name in tables.names():
        assert f"{name}.html" in text, name
    for name in figures.names():
        assert f"{name}.svg" in text, name
    assert "data:image/svg" in text or "image/svg+xml" in text


def test_a_browser_without_a_network_shows_the_front_page(report, tmp_path):
    text = shown(report, tmp_path)
    assert "What this run measured" in text
    assert "Measured on" in text
    assert "Tables" in text
    assert "Figures" in text


@pytest.mark.parametrize(("category", "names"), [("Tables", tables.names()), ("Figures", figures.names())])
def test_a_browser_lists_every_name_of_a_category(report, tmp_path, category, names):
    words = set(shown(report, tmp_path, category).split())
    assert set(names) <= words


def test_nothing_of_the_report_is_loaded_from_elsewhere(report):
    text = report.read_text()
    loaded = re.findall(r"""<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)\s*=\s*["'](https?:[^"']*)""", text)
    assert loaded == []
    assert not re.search(r"@import\s+url\(['\"]?https?:|url\(['\"]?https?:", text)


def test_every_caption_is_written_out(report):
    text = report.read_text()
    assert "{% set" not in text
    assert "snakemake.wildcards" not in text
    assert "How long one product with the genotype matrix takes" in text


def test_a_report_changes_nothing_else(finished, report):
    assert "Nothing to be done" in finished.succeed("--configfile", "tiny.yaml")
