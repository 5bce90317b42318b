"""Where a number comes from: the commit, and whether the code is the commit's."""

import subprocess

import pytest

from bench import provenance


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with one commit, which provenance takes for its own."""
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    for name in ("src/code.py", "config/config.yaml"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    (tmp_path / ".gitignore").write_text("__pycache__/\n")
    settings = ["-c", "user.name=name", "-c", "user.email=name@example.org", "-c", "commit.gpgsign=false"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "a commit"]):
        subprocess.run(["git", *settings, *arguments], cwd=tmp_path, check=True)
    return tmp_path


@pytest.mark.parametrize(
    ("file", "dirty"),
    [
        (None, False),
        ("src/code.py", True),
        ("config/config.yaml", True),
        ("src/bench/kernels/own.py", True),
        ("workflow/rules/own.smk", True),
        ("config/mine.yaml", False),
        ("notes.txt", False),
        ("src/__pycache__/code.pyc", False),
    ],
)
def test_changed_files_and_new_code_make_a_checkout_dirty(checkout, file, dirty):
    if file:
        (checkout / file).parent.mkdir(parents=True, exist_ok=True)
        (checkout / file).write_text("changed\n")
    commit, said = provenance.git_state()
    assert len(commit) == 40
    assert said is dirty


def test_without_git_the_commit_is_empty(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    assert provenance.git_state() == ("", None)
