"""The CI files fit the services' schemas, and every command in them exists."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_history import COMMITS, frame_of

from bench import __main__ as cli
from bench import collect, config

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / "docs" / "ci" / "github-actions.yml"
GITLAB = ROOT / "docs" / "ci" / "gitlab-ci.yml"
OWN = ROOT / ".github" / "workflows" / "test.yml"
PAGE = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
SCHEMAS = {GITHUB: "github-workflows", OWN: "github-workflows", GITLAB: "gitlab-ci"}
KEYWORDS = {"stages", "workflow", "variables", "default"}  # of a GitLab file, beside the jobs


def load(path: Path) -> dict[str, Any]:
    # YAML 1.1 reads the key `on` as true.
    return {"on" if key is True else key: of for key, of in yaml.safe_load(path.read_text(encoding="utf-8")).items()}


def scripts(path: Path) -> Iterator[tuple[str, str]]:
    """(job, script) of everything that a shell is given."""
    content = load(path)
    if path == GITLAB:
        for job in (key for key in content if key not in KEYWORDS):
            yield job, "\n".join(content[job]["script"])
    else:
        for job, of in content["jobs"].items():
            yield from ((job, step["run"]) for step in of["steps"] if "run" in step)


def commands(script: str, program: str) -> list[list[str]]:
    """The arguments of every call of a program, whatever stands around it in the line."""
    lines = script.replace("\\\n", " ").splitlines()
    parts = [part.strip() for line in lines for part in re.split(r"&&|\|\||;|\|", line)]
    return [words[1:] for part in parts if (words := shlex.split(part)) and words[0].endswith(program)]


def validate(path: Path, schema: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.name)
def test_a_ci_file_fits_the_published_schema_of_its_service(path):
    done = validate(path, SCHEMAS[path])
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        (GITHUB, "runs-on:", "run-on:"),
        (GITHUB, "contents: read", "contents: reads"),
        (GITHUB, "timeout-minutes: 30", "timeout-minutes: half an hour"),
        (GITLAB, "allow_failure:", "allow_failures:"),
        (GITLAB, "when: always", "when: sometimes"),
        (GITLAB, "resource_group: history", "resource_group: []"),
    ],
)
def test_a_mistake_in_a_ci_file_does_not_fit_its_schema(path, old, new, tmp_path):
    text = path.read_text(encoding="utf-8")
    assert old in text
    (tmp_path / path.name).write_text(text.replace(old, new, 1))
    done = validate(tmp_path / path.name, SCHEMAS[path])
    assert done.returncode == 1, done.stdout + done.stderr


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.name)
def test_every_script_is_shell(path):
    for job, script in scripts(path):
        done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{job}: {done.stderr}"


def test_commands_are_found_in_what_stands_around_them():
    script = 'status=0\n.venv/bin/bench a "$B" || status=$?\nmake x && make C=y # z\ntrue; bench \\\n  c | cat'
    assert commands(script, "bench") == [["a", "$B"], ["c"]]
    assert commands(script, "make") == [["x"], ["C=y", "#", "z"]]


def calls(program: str) -> list[tuple[str, list[str]]]:
    return [
        (path.name, words) for path in SCHEMAS for _, script in scripts(path) for words in commands(script, program)
    ]


def test_the_ci_files_call_what_they_are_for():
    for path in (GITHUB, GITLAB):
        verbs = [tuple(words[:2]) for name, words in calls("bench") if name == path.name]
        assert [verb[0] for verb in verbs] == ["compare", "history", "history", "history"]
        assert [verb[1] for verb in verbs[1:]] == ["add", "figure", "steps"]
    assert ("test.yml", ["test"]) in calls("make")


@pytest.mark.parametrize(("name", "words"), calls("bench"), ids=str)
def test_every_call_of_bench_is_one_that_its_parser_takes(name, words):
    try:
        cli.parser().parse_args(words)
    except SystemExit:
        pytest.fail(f"{name}: bench {shlex.join(words)}")


@pytest.mark.parametrize(("name", "words"), calls("make"), ids=str)
def test_every_call_of_make_names_a_target_and_a_configuration_that_exist(name, words):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for word in (word for word in words if not word.startswith("#")):
        if word.startswith("CONFIG="):
            results = config.read([ROOT / word.removeprefix("CONFIG=")]).results
            uploaded = next(path for path in SCHEMAS if path.name == name).read_text(encoding="utf-8")
            assert f"{results}/report.html" in uploaded
            assert f"{results}/measurements.parquet" in uploaded
        elif "=" in word or re.fullmatch(r"[a-z-]+", word):
            assert re.search(rf"^{word}:", makefile, re.MULTILINE), f"{name}: make {word}"
        else:
            break  # the words of a comment


def test_github_actions_are_pinned_and_have_no_more_rights_than_they_need():
    for path in (GITHUB, OWN):
        content = load(path)
        assert content["permissions"] == {"contents": "read"}
        for job in content["jobs"].values():
            for step in job["steps"]:
                assert re.fullmatch(r"actions/[a-z-]+@v\d+", step.get("uses", "actions/x@v1"))
                if step.get("uses", "").startswith("actions/checkout"):
                    assert step["with"]["persist-credentials"] is False
                # What others write (titles, branches) reaches a script through the environment only.
                assert "${{" not in step.get("run", "")
    rights = {name: job.get("permissions") for name, job in load(GITHUB)["jobs"].items()}
    assert rights == {
        "smoke": None, "compare": None, "comment": {"pull-requests": "write"}, "history": {"contents": "write"},
    }  # fmt: skip


def test_what_may_write_runs_no_code_of_a_pull_request():
    jobs = load(GITHUB)["jobs"]
    assert not any("checkout" in step.get("uses", "") for step in jobs["comment"]["steps"])
    assert jobs["history"]["if"] == "github.event_name != 'pull_request'"
    assert load(GITLAB)["comment"]["variables"]["GIT_STRATEGY"] == "none"


@pytest.mark.parametrize(("status", "wanted", "warns"), [(0, 0, False), (1, 1, False), (2, 2, False), (3, 0, True)])
def test_the_gate_s_status_is_that_of_the_job_and_inconclusive_warns(status, wanted, warns, tmp_path):
    (script,) = [script for _, script in scripts(GITHUB) if "bench compare" in script]
    bench = tmp_path / ".venv" / "bin" / "bench"
    bench.parent.mkdir(parents=True)
    bench.write_text(
        f"#!/bin/sh\nmkdir -p results/regression; echo table > results/regression/regression.md\nexit {status}\n"
    )
    bench.chmod(0o755)
    env = {"BASE": "main", "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        ["bash", "-e", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == wanted, done.stderr
    assert ("::warning::" in done.stdout) == warns
    assert (tmp_path / "summary").read_text() == "table\n"


@pytest.mark.skipif(shutil.which("git") is None, reason="no git on this machine")
def test_the_recipe_of_the_page_makes_a_clone_with_the_kernel_at_both_revisions(tmp_path):
    (recipe,) = re.findall(r"^```bash\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    setup = """
    set -e
    export GIT_AUTHOR_NAME=x GIT_AUTHOR_EMAIL=x@y GIT_COMMITTER_NAME=x GIT_COMMITTER_EMAIL=x@y
    git init --quiet origin && mkdir -p origin/src/bench/kernels && touch origin/src/bench/kernels/theirs.py
    git -C origin add --all && git -C origin commit --quiet --message suite
    git init --quiet own && cd own && mkdir mine && echo old > mine/mine.cc
    git add --all && git commit --quiet --message old
    echo new > mine/mine.cc && git commit --quiet --all --message new
    """
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "SUITE": str(tmp_path / "origin"), "KERNEL": "mine",
           "BASE": "HEAD~1", "HEAD": "HEAD"}  # fmt: skip
    show = "\nfor side in base head; do git show $side:src/bench/kernels/mine/mine.cc; done; ls src/bench/kernels\n"
    done = subprocess.run(
        ["bash", "-e", "-c", setup + recipe + show],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["old", "new", "mine", "theirs.py"]


STORE = {
    GITHUB: {"GH_TOKEN": "secret", "GITHUB_SERVER_URL": "https://host", "GITHUB_REPOSITORY": "a/b",
             "GITHUB_SHA": "s"},
    GITLAB: {"HISTORY_TOKEN": "secret", "CI_SERVER_HOST": "host", "CI_PROJECT_PATH": "a/b", "CI_COMMIT_SHA": "s",
             "GITLAB_USER_NAME": "x", "GITLAB_USER_EMAIL": "x@y"},
}  # fmt: skip


@pytest.mark.skipif(shutil.which("git") is None, reason="no git on this machine")
@pytest.mark.parametrize("path", STORE, ids=lambda path: path.name)
def test_the_store_s_branch_is_made_by_the_first_run_and_grows_with_the_next(path, tmp_path):
    """The script runs for real, but for make, the drawing, and a folder in place of the service."""
    (script,) = [script for _, script in scripts(path) if "bench history" in script]
    user = {GITHUB: "x-access-token", GITLAB: "history"}[path]
    subprocess.run(["git", "init", "--quiet", "--bare", tmp_path / "served" / "a" / "b.git"], check=True)
    (tmp_path / ".gitconfig").write_text(
        f'[url "file://{tmp_path}/served/"]\n\tinsteadOf = https://{user}:secret@host/\n'
    )
    bench = tmp_path / ".venv" / "bin" / "bench"
    for file, text in (
        (bench, f'if [ "$2" = add ]; then exec {sys.executable} -m bench "$@"; fi'),
        (tmp_path / "make", ":"),
    ):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)
    table = tmp_path / "results" / "kernels" / "measurements.parquet"
    table.parent.mkdir(parents=True)
    env = STORE[path] | {"HOME": str(tmp_path), "PATH": f"{tmp_path}:/usr/bin:/bin", "PYTHONPATH": str(ROOT / "src")}
    for day, files in ((1, 1), (2, 2), (2, 2)):
        collect.write(frame_of(COMMITS[day], day=day), table)
        done = subprocess.run(
            ["bash", "-e", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "secret" not in done.stdout
        shutil.rmtree(tmp_path / "results" / "history")
        held = subprocess.run(
            ["git", "-C", tmp_path / "served" / "a" / "b.git", "ls-tree", "-r", "--name-only", "benchmark-history"],
            capture_output=True, text=True, check=True,
        ).stdout.split()  # fmt: skip
        assert len(held) == files
        assert all(re.fullmatch(r"machine_class=[a-z0-9-]+/[^/]+\.parquet", name) for name in held)


def test_the_page_names_every_job_and_every_line_to_change():
    for path in (GITHUB, GITLAB):
        text = path.read_text(encoding="utf-8")
        for job in {job for job, _ in scripts(path)}:
            assert f"| `{job}` |" in PAGE
        (part,) = re.findall(
            rf"^## {'GitHub' if path == GITHUB else 'GitLab'}: what to change\n(.*?)^## ", PAGE, re.M | re.S
        )
        for row in (line for line in part.splitlines() if line.startswith("| `")):
            for quote in re.findall(r"`([^`]+)`", row.split("|")[1]):
                assert all(piece in text for piece in re.split(r" ?… ?", quote)), quote
