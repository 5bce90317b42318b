"""Every command of the README runs. Long ones run as far as their plan."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import yaml

from bench.config import read

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
OWN_DATA, MODEL = re.findall(r"^```yaml\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
PAPER = "config/papers/freudenberg2023.yaml"


def commands() -> list[str]:
    """The commands of the README's console and bash blocks, their comments left out."""
    blocks = re.findall(r"^```(?:console|bash)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    lines = [line.split(" #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory, farm: Path) -> Path:
    """A folder that looks like the checkout to snakemake and bench; what they write stays in it. Beside it lie the
    files of the model that the README evaluates."""
    folder = tmp_path_factory.mktemp("checkout")
    (folder / "model.yaml").write_text(MODEL)
    (folder / "pedigree.tsv").symlink_to(farm / "plain.tsv")
    for name in ("records.tsv", "genotypes.bed", "genotypes.bim", "genotypes.fam"):
        (folder / name).symlink_to(farm / name)
    for name in ("Snakefile", "workflow", "config", "profiles"):
        (folder / name).symlink_to(ROOT / name)
    return folder


@cache
def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    scripts = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{scripts}:{os.environ['PATH']}"}
    return subprocess.run(
        shlex.split(command), cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


# In place of the environment's programs: each notes how it was called. snakemake leaves behind what a run would,
# python answers what make asks the configuration, and prints a line in place of the summary.
SNAKEMAKE = """\
#!/bin/sh
echo "snakemake $*" >> calls
while [ $# -gt 1 ] && [ "$1" != --report ]; do shift; done
for results in results/main results/smoke results/real results/mine; do
  mkdir -p $results/tables $results/figures
  touch $results/measurements.parquet
done
if [ "$1" = --report ]; then touch "$2"; fi
"""
PYTHON = f"""\
#!/bin/sh
echo "python $*" >> calls
case "$*" in
  "-m bench config "*) exec {shlex.quote(sys.executable)} "$@" ;;
  "-m bench summary "*) echo "the summary" ;;
  "-m bench claims --missing --only fast") echo config/real.yaml ;;
  "-m bench claims --missing"*) echo config/smoke.yaml; echo config/real.yaml ;;
  "-m bench claims "*) echo "the verdicts"; exit 3 ;;
esac
"""
OTHER = '#!/bin/sh\necho "$(basename "$0") $*" >> calls\n'


@pytest.fixture
def make(tmp_path: Path) -> Callable[[str], tuple[subprocess.CompletedProcess[str], list[str]]]:
    """Run a make command for real, in a checkout whose environment is there but does nothing.

    Gives what make did and the calls of the environment's programs. (`make --dry-run` would not do: make runs
    lines that call make again even then.)
    """
    shutil.copytree(ROOT / "config", tmp_path / "config")
    (tmp_path / "config/mine.yaml").write_text(OWN_DATA)
    for name in ("Makefile", "envs", "pyproject.toml", "workflow"):
        (tmp_path / name).symlink_to(ROOT / name)
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    others = dict.fromkeys(("ruff", "snakefmt", "basedpyright", "pytest"), OTHER)
    for name, text in ({"snakemake": SNAKEMAKE, "python": PYTHON} | others).items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    for marker in (".run-installed", ".test-installed"):
        (tmp_path / ".venv" / marker).touch()

    def called(command: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
        # These tests run under `make test`, a user's make does not run under another one.
        env = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
        words = shlex.split(command)
        done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        return done, (tmp_path / "calls").read_text().splitlines()

    return called


def test_the_two_commands_are_make_and_make_test():
    assert commands()[:2] == ["make", "make test"]


def test_every_command_is_of_a_program_that_is_tested_here():
    assert {command.split()[0] for command in commands()} == {"make", "snakemake", "bench", "source"}


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith(("snakemake ", "bench "))])
def test_a_command_of_the_readme_runs(command, checkout):
    if command.startswith("snakemake ") and "--dry-run" not in command:
        command += " --dry-run --quiet"
    done = run(command, checkout)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    assert done.stdout.strip() or done.stderr.strip()


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("make") and "test" not in c])
def test_make_runs_the_workflow_and_ends_with_the_path_of_the_report(command, make):
    done, calls = make(command)
    assert done.returncode == 0, done.stdout + done.stderr
    config = dict(word.split("=") for word in command.split()[1:]).get("CONFIG", "")
    results = f"results/{Path(config).stem or 'main'}"
    assert done.stdout.splitlines()[-1] == f"report: {results}/report.html"
    assert "the summary" in done.stdout
    first, report = [call for call in calls if call.startswith("snakemake ")]
    assert first.startswith("snakemake --workflow-profile profiles/default")
    assert (f"--configfile {config}" in first) == bool(config)
    assert report.endswith(f"--report {results}/report.html")
    assert not [call for call in calls if "install" in call]


@pytest.mark.parametrize(
    ("config", "text", "said"),
    [
        ("config/absent.yaml", None, "bench config: config/absent.yaml: no such file"),
        ("config/own.yaml", "kernls: [decompress]", "bench config: config: unknown key `kernls`"),
    ],
)
def test_make_with_a_configuration_that_cannot_be_used_says_so_and_runs_nothing(make, tmp_path, config, text, said):
    if text is not None:
        (tmp_path / config).write_text(text)
    done, calls = make(f"make CONFIG={config}")
    assert done.returncode != 0
    assert done.stderr.startswith(said)
    assert "Traceback" not in done.stderr
    assert done.stdout == "The configuration cannot be used: correct it, then run make again.\n"
    assert not [call for call in calls if call.startswith("snakemake ")]


def test_make_claims_runs_what_is_missing_then_gives_the_verdicts(make):
    done, calls = make("make claims")
    runs = [call for call in calls if call.startswith("snakemake ") and "--report" not in call]
    assert [re.findall(r"config/\w+\.yaml", run) for run in runs] == [["config/smoke.yaml"], ["config/real.yaml"]]
    assert calls[-1] == "python -m bench claims --out results/claims"
    assert done.stdout.splitlines()[-1] == "the verdicts"
    assert done.returncode == 2  # make's, of whatever the verdicts exit with


def test_make_claims_can_be_about_one(make):
    calls = make("make claims ONLY=fast")[1]
    assert not [call for call in calls if "config/smoke.yaml" in call]
    assert calls[-1] == "python -m bench claims --out results/claims --only fast"


def test_make_help_names_every_command_of_a_user(make, tmp_path):
    (tmp_path / "calls").touch()
    said = make("make help")[0].stdout
    for command in ("make ", "make CONFIG=FILE ", "make claims ", "make test ", "make test-environment "):
        assert re.search(f"^{command}", said, re.MULTILINE)


def test_make_test_runs_linters_type_checks_and_tests(make):
    done, calls = make("make test")
    assert done.returncode == 0, done.stdout + done.stderr
    parts = [call for call in calls if call.startswith("python -m pytest")]
    assert [part.split(" -m ", 2)[2] for part in parts] == ["not alone", "alone"]
    for call in ("ruff check", "ruff format --check", "snakefmt --check", "basedpyright"):
        assert any(made.startswith(call) for made in calls), call
    assert any(made.startswith("snakemake --lint") for made in calls)


def test_the_environment_that_the_readme_activates_is_the_one_that_make_creates():
    activated = [c.split()[1] for c in commands() if c.startswith("source ")]
    assert activated == [".venv/bin/activate"]
    assert re.search(r"^VENV := \.venv$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


def test_bench_machine_shows_what_the_readme_promises(checkout):
    said = run("bench machine", checkout).stdout
    assert "multiply-adds/s" in said or "nothing: the limits could not be compiled" in said
    for word in ("CPU", "memory", "BLAS", "compilers", "GPUs"):
        assert re.search(rf"^{word}\b", said, re.MULTILINE)


def test_the_plan_of_the_paper_refuses_in_words_and_does_not_crash(checkout):
    lines = run(f"bench plan --json --configfile {PAPER}", checkout).stdout.splitlines()
    cases = [case for case in map(json.loads, lines) if case["experiment"] == "products"]
    assert {c["case"]["dataset"] for c in cases} == {"freudenberg_102k", "freudenberg_751k", "freudenberg_3m"}
    dense = [c for c in cases if (c["case"]["dataset"], c["case"]["kernel"]) == ("freudenberg_3m", "dense_blas")]
    assert dense
    assert all(len(c["refused"].split()) > 4 for c in dense)


def test_the_readme_names_the_tables_and_figures_of_the_default_configuration():
    config = read(root=ROOT)
    listed = README[README.index("## What you get") : README.index("## Look around")]
    for name in config.tables:
        assert f"**{name}**" in listed
    figures = {"rates": "rates", "roofline": "roofline", "scaling": "cost as n grows", "solves": "solve times"}
    for name in config.figures:
        assert figures.get(name, name) in listed


def test_the_example_of_own_data_is_an_entry_that_is_accepted():
    from bench.genotypes.spec import Plink, parse_spec

    ((name, entry),) = yaml.safe_load(OWN_DATA)["datasets"].items()
    assert isinstance(parse_spec(entry, name=name), Plink)


def test_the_example_of_own_data_is_that_of_its_page():
    assert OWN_DATA in (ROOT / "docs/your-own-data.md").read_text(encoding="utf-8")
