"""What docs/ says is what the code does: keys, columns, metrics, sentences, links, and the worked example."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from bench import PACKAGE, __version__, collect, experiments, kernels
from bench.config import Budget, Config, Regression, Timing
from bench.genotypes.schemes import Breeds, GenotypedShare, Lines
from bench.genotypes.spec import Fetched, Livestock, Plink, RecordedTrait, Simulated, Trait
from bench.gpu import device, profile, rates
from bench.kernels._cuda.architectures import architecture

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md"), *ROOT.glob("envs/*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"(?:#|//) (\S+\.(?:py|cc|yaml))\n")  # the file that a block is the content of


def text_of(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def section(page: str, heading: str) -> str:
    """The part of a page from a heading to the next of its level or above."""
    level = re.escape(heading.split()[0])
    parts = re.split(rf"^(?=#{{1,{len(level.replace(chr(92), ''))}}} )", text_of(page), flags=re.MULTILINE)
    found = [part for part in parts if part.startswith(heading)]
    assert len(found) == 1, f"{page} has {len(found)} headings {heading!r}"
    return found[0]


def rows(text: str) -> Iterator[list[str]]:
    """The cells of each table row, headers and rules left out."""
    lines = text.splitlines()
    for i, line in enumerate(lines):
        following = lines[i + 1] if i + 1 < len(lines) else ""
        if line.startswith("|") and not re.match(r"\|[-| :]+\|$", line) and not re.match(r"\|[-| :]+\|$", following):
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def quoted(cell: str) -> list[str]:
    """What stands between backticks, single or double."""
    return [double.strip() or single for double, single in re.findall(r"``(.+?)``|`([^`]+)`", cell)]


STANZAS = [
    ("## Top level", "", Config),
    ("### budget", "budget.", Budget),
    ("### timing", "timing.", Timing),
    ("### regression", "regression.", Regression),
    ("### limits", "", experiments.load("limits").Stanza),
    ("### products", "", experiments.load("products").Stanza),
    ("### scaling", "", experiments.load("scaling").Stanza),
    ("### paired", "", experiments.load("paired").Stanza),
    ("### centred", "", experiments.load("centred").Stanza),
    ("### streamed", "", experiments.load("streamed").Stanza),
    ("### gram", "", experiments.load("gram").Stanza),
    ("### lanczos_reml", "", experiments.load("lanczos_reml").Stanza),
    ("### gblup", "", experiments.load("gblup").Stanza),
    ("### single_step", "", experiments.load("single_step").Stanza),
    ("### single_step", "", experiments.load("single_step").View),
    ("### dblup", "", experiments.load("dblup").Stanza),
    ("### dblup", "learned", experiments.load("dblup").Learned),
    ("### dblup", "folds", experiments.load("dblup").Folds),
    ("### dblup", "simulated", experiments.load("dblup").Architectures),
    ("### dblup", "annotations", experiments.load("dblup").Annotations),
    ("### dblup", "steps", experiments.load("dblup").Steps),
    ("### kind: simulated", "", Simulated),
    ("### kind: simulated", "", Trait),
    ("### kind: livestock", "", Livestock),
    ("### kind: livestock", "", RecordedTrait),
    ("### breeds of livestock", "", Breeds),
    ("### lines of livestock", "", Lines),
    ("### genotyped_shares of livestock", "", GenotypedShare),
    ("### kind: fetched", "", Fetched),
    ("### kind: plink", "", Plink),
]


def documented_keys(heading: str, prefix: str, model: type[BaseModel]) -> dict[str, str]:
    """Key → the cell of its default, of the table that describes `model` in its section."""
    text = section("configuration.md", heading)
    if heading == "## Top level":
        text = text.split("\n### ")[0]
    if heading in ("### kind: simulated", "### kind: livestock"):
        text = re.split(r"(?=^\| key of a trait)", text, flags=re.MULTILINE)[model in (Trait, RecordedTrait)]
    if heading == "### single_step":
        of_view = model is experiments.load("single_step").View
        text = re.split(r"(?=^\| key of a view)", text, flags=re.MULTILINE)[of_view]
    if heading == "### dblup":  # a table for each study, named in its head
        tables = re.split(r"(?=^\| key)", text, flags=re.MULTILINE)
        text = next(t for t in tables if t.startswith(f"| key of {prefix} |" if prefix else "| key |"))
        prefix = ""
    return {key.removeprefix(prefix): cells[2] for cells in rows(text) for key in quoted(cells[0])}


@pytest.mark.parametrize(("heading", "prefix", "model"), STANZAS, ids=lambda v: getattr(v, "__name__", None))
def test_every_key_of_the_configuration_is_documented_with_its_default(heading, prefix, model):
    documented = documented_keys(heading, prefix, model)
    assert set(documented) == set(model.model_fields)
    for key, field in model.model_fields.items():
        said = documented[key].replace("`", "").replace("\\|", "|")
        if field.is_required() or key == "kind":
            assert said == "required", key
        elif isinstance(field.default, int | float | str | list) and field.default is not PydanticUndefined:
            assert yaml.safe_load(said) == yaml.safe_load(str(field.default).replace("'", "")), key
        else:
            assert said not in ("", "required"), key


def test_every_experiment_is_documented():
    headings = re.findall(r"^### (\w+): ", section("configuration.md", "## Experiments"), flags=re.MULTILINE)
    assert sorted(headings) == experiments.names()


def test_every_column_of_the_table_is_documented_with_its_type():
    said = {"text": "string", "whole": "Int64", "number": "float64", "yes/no": "boolean"}
    cells = list(rows(section("result-schema.md", "## Columns")))
    assert {quoted(name)[0]: said[kind] for name, kind, _ in cells} == collect.COLUMNS
    assert [quoted(name)[0] for name, _, _ in cells] == list(collect.COLUMNS)


def metrics_in_source() -> set[tuple[str, str]]:
    """(metric, unit) of every observation that an experiment adds; {} stands for what is put in later."""
    found = set(device.PROPERTIES.values()) | {(metric, unit) for metric, _, unit in device.STATE.values()}
    found |= {(metric, "1") for metric in profile.COUNTERS.values()} | {(rate.metric, "1/s") for rate in rates.RATES}
    folders = [*(PACKAGE / "experiments").rglob("*.py"), *(PACKAGE / "gpu").glob("*.py")]
    for module in [*folders, PACKAGE / "surroundings.py"]:
        for call in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute | ast.Name) and call.args):
                continue
            function = call.func.attr if isinstance(call.func, ast.Attribute) else call.func.id
            unit = {"number": "1", "timed": "s", "skipped": "s", "add": None}.get(function, "")
            name = pattern_of(call.args[0])
            if unit is None and len(call.args) == 3 and isinstance(call.args[2], ast.Constant):
                unit = call.args[2].value
            if name and unit:
                found.add((name, unit))
    return found


def pattern_of(node: ast.AST) -> str | None:
    """A string, with {} for the parts of an f-string that are not constant; None for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(v.value) if isinstance(v, ast.Constant) else "{}" for v in node.values)
    return None


def test_every_metric_is_documented_with_its_unit():
    documented = {
        (metric, cells[2]) for cells in rows(section("result-schema.md", "## Metrics")) for metric in quoted(cells[1])
    }
    source = metrics_in_source()
    assert len(source) > 30

    def fits(name: str, unit: str, patterns: set[tuple[str, str]]) -> bool:
        return any(
            unit == other and re.fullmatch(re.escape(pattern).replace(r"\{\}", r"\w+"), name)
            for pattern, other in patterns
        )

    assert not [m for m in documented if not fits(*m, source)], "documented, but nothing adds them"
    for pattern, unit in source:
        assert any(fits(name, of, {(pattern, unit)}) for name, of in documented), f"{pattern} ({unit}) is missing"


def test_the_statuses_and_units_of_the_schema_page_are_those_of_a_document():
    from bench.record import STATUSES, UNITS

    said = {quoted(cells[0])[0]: cells[2] for cells in rows(section("result-schema.md", "## Columns"))}
    assert set(quoted(said["status"])) == set(STATUSES)
    assert set(quoted(said["unit"])) == set(UNITS)


def test_every_kernel_is_on_the_kernels_page_with_its_targets():
    first = {quoted(cells[0])[0]: cells for cells in rows(text_of("kernels.md").split("\n## ")[0])}
    assert sorted(first) == kernels.names()
    for name, cells in first.items():
        if kernels.load(name).gpu:  # docs/gpu.md lists the architectures
            assert all(architecture(target) in text_of("gpu.md") for target in kernels.load(name).all_targets)
        else:
            assert tuple(cells[2].split(", ")) == kernels.load(name).all_targets
        assert f"\n## {name}\n" in text_of("kernels.md")


@pytest.fixture(scope="module")
def source_words() -> list[list[str]]:
    """The words of every string of the package that is no docstring, and of every line of the Makefile."""
    found = (ROOT / "Makefile").read_text(encoding="utf-8").splitlines()
    for module in PACKAGE.rglob("*.py"):
        tree = ast.parse(module.read_text(encoding="utf-8"))
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        found += [text for node in ast.walk(tree) if id(node) not in docstrings and (text := pattern_of(node))]
    return [words(text) for text in set(found)]


def words(text: str) -> list[str]:
    return re.findall(r"[A-Za-z][A-Za-z_']+", text)


def sentences() -> list[str]:
    """The quoted sentences of the troubleshooting page and of the table of errors in your-own-data."""
    cells = [c[0] for page in ("troubleshooting.md", "your-own-data.md") for c in rows(text_of(page))]
    return [quote for cell in cells for quote in quoted(cell) if len(words(quote)) > 2]


def common(said: list[str], source: list[str]) -> int:
    """The most words of `said` that stand in `source` in the same order."""
    best = [0] * (len(source) + 1)
    for word in said:
        before = best[:]
        for j, other in enumerate(source):
            best[j + 1] = before[j] + 1 if word == other else max(best[j], before[j + 1])
    return best[-1]


def known(sentence: str, source_words: list[list[str]]) -> bool:
    """Is it one of the source's strings, or one put into another? A word in four may be a name or a number."""
    said = words(sentence)
    first = max(source_words, key=lambda source: common(said, source))
    most = max(common(said, both) for source in source_words for both in (first + source, source + first))
    return most >= 0.75 * len(said)


@pytest.mark.parametrize("sentence", sentences())
def test_a_sentence_in_the_documentation_is_one_that_the_code_says(sentence, source_words):
    assert known(sentence, source_words)


def test_a_sentence_that_the_code_does_not_say_is_noticed(source_words):
    assert not known("the .bed file is too short for its .fam file", source_words)
    assert not known("no compiler was found; please install clang", source_words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_that_exist(page):
    prose = BLOCK.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", prose):
        if not re.match(r"https?://", target):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_version_is_the_same_everywhere():
    with (ROOT / "pyproject.toml").open("rb") as file:
        assert tomllib.load(file)["project"]["version"] == __version__
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_citation_names_every_paper_that_a_kernel_names():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    cited = {f"doi:{reference['doi']}" for reference in citation["references"]}
    assert {kernels.load(name).cite for name in kernels.names()} - {""} <= cited


def test_the_table_of_phenotypes_on_the_page_is_accepted_and_the_wrong_one_is_not(tmp_path):
    from bench.errors import BenchError
    from bench.genotypes.phenotypes import read_phenotypes

    wrong, right = [body for kind, body in BLOCK.findall(text_of("your-own-data.md")) if kind == "text"]
    ids = ["A17", "A18", "A20", "A22"]
    (tmp_path / "right.tsv").write_text(right)
    table = read_phenotypes(tmp_path / "right.tsv", ids)
    assert table["weight"].notna().tolist() == [True, False, False, True]
    (tmp_path / "wrong.tsv").write_text(wrong)
    with pytest.raises(BenchError, match="line 4 has 2 columns, the header has 3"):
        read_phenotypes(tmp_path / "wrong.tsv", ids)


@pytest.fixture(scope="module")
def overlay(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with a copy of the package, to which the files of docs/adding-a-kernel.md were added."""
    import shutil

    root = tmp_path_factory.mktemp("checkout")
    shutil.copytree(PACKAGE, root / "src" / "bench", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "config", root / "config")
    for name in ("Snakefile", "workflow", "profiles"):
        (root / name).symlink_to(ROOT / name)
    for _, body in BLOCK.findall(text_of("adding-a-kernel.md")):
        if named := NAMED.match(body):
            file = root / named[1]
            assert not file.exists(), f"{named[1]} is there already: an example must only add files"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(body, encoding="utf-8")
    return root


def run_in(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the environment with the overlay's package in place of the installed one."""
    scripts = Path(sys.executable).parent
    environment = os.environ | {"PYTHONPATH": str(root / "src"), "PATH": f"{scripts}:{os.environ['PATH']}"}
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_example_kernels_pass_the_conformance_tests(overlay):
    done = run_in(
        overlay, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={overlay}",
        f"--basetemp={overlay / 'tests'}", str(ROOT / "tests" / "conformance"), "-rA",
        "-k", "int8_blas or plain_loops",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    for kernel in ("int8_blas", "plain_loops"):
        assert len(re.findall(rf"^PASSED .*{kernel}", done.stdout, re.MULTILINE)) >= 10


@pytest.mark.slow
def test_the_example_kernel_is_listed(overlay):
    listed = run_in(overlay, sys.executable, "-m", "bench", "kernels").stdout
    assert "int8_blas: a byte a genotype" in listed
    assert "plain_loops: " in listed


@pytest.mark.slow
def test_the_example_kernels_can_both_be_named_in_a_configuration(overlay):
    (line,) = [body for _, body in BLOCK.findall(text_of("adding-a-kernel.md")) if body.startswith("# in config/")]
    (overlay / "config" / "both.yaml").write_text(line, encoding="utf-8")
    planned = run_in(
        overlay, sys.executable, "-m", "bench", "plan", "--json",
        "--configfile", "config/my_kernel.yaml", "config/both.yaml",
    )  # fmt: skip
    used = {json.loads(case)["case"].get("kernel") for case in planned.stdout.splitlines()}
    assert {"int8_blas", "plain_loops"} <= used


@pytest.mark.slow
def test_the_example_kernel_needs_one_file_and_one_line_to_be_measured(overlay):
    done = run_in(overlay, "snakemake", "--configfile", "config/my_kernel.yaml", "--quiet", "all")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    frame = pd.read_parquet(overlay / "results" / "my_kernel" / "measurements.parquet")
    own = frame[frame["kernel"] == "int8_blas"]
    assert set(own["experiment"]) == {"products", "paired", "gblup"}
    assert set(own["status"]) == {"ok"}
    timed = own[(own["experiment"] == "products") & (own["metric"] == "product_time")]
    assert set(zip(timed["direction"], timed["k"], strict=True)) == {
        (direction, k) for direction in ("matmul", "rmatmul") for k in (1, 10)
    }
    assert (timed["value"] > 0).all()
    assert (own.loc[own["metric"] == "integer_mismatches", "value"] == 0).all()
    assert (own.loc[own["metric"] == "ebv_error", "value"] <= 1e-8).all()
    products = pd.read_csv(overlay / "results" / "my_kernel" / "tables" / "products.csv")
    assert "int8_blas" in set(products["kernel"])
    drawn = (overlay / "results" / "my_kernel" / "figures" / "rates.svg").read_text(encoding="utf-8")
    assert "<svg" in drawn
