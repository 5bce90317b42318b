"""What a killed run leaves behind, and that the next one ends as if there had been none."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from test_evaluation import MODELS, solve, write_model

from bench.evaluation import checkpoint as module
from bench.evaluation.journal import Journal
from bench.evaluation.kept import FORMAT, Kept, problem_of
from bench.measure import Clock
from bench.models.model_file import read_model

# A verb whose checkpoints are always due, and that tells and waits after each.
KILLABLE = """
import sys, time
from bench.__main__ import main
from bench.evaluation import checkpoint
from bench.evaluation.kept import Kept

checkpoint.EVERY, checkpoint.SHARE, checkpoint.SLOWEST = 0, float("inf"), float("inf")
write = Kept.write

def slowly(self, arrays):
    write(self, arrays)
    print(self.path.name, flush=True)
    time.sleep(0.01)

Kept.write = slowly
sys.exit(main(sys.argv[1:]))
"""


def killed(arguments, writes, delay):
    """Run a verb, and kill -9 it some time after so many files were kept."""
    command = [sys.executable, "-c", KILLABLE, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for _ in range(writes):
            if not process.stdout.readline():
                raise AssertionError(process.stderr.read())
        time.sleep(delay)
        process.kill()
    assert process.returncode == -signal.SIGKILL


def assert_same_files(found, wanted, names, *, but=()):
    for name in names:
        pd.testing.assert_frame_equal(
            pd.read_parquet(found / name).drop(columns=list(but), errors="ignore"),
            pd.read_parquet(wanted / name).drop(columns=list(but), errors="ignore"),
            check_exact=True,
        )


def facts(out, name="evaluation.json"):
    return json.loads((out / name).read_text())


@pytest.fixture
def always(monkeypatch):
    """Checkpoints are always due."""
    for name, value in {"EVERY": 0, "SHARE": float("inf"), "SLOWEST": float("inf")}.items():
        monkeypatch.setattr(module, name, value)


def test_kill_9_twice_changes_no_bit_of_a_solve(farm, tmp_path):
    model = write_model(farm, tmp_path / "model.yaml", **MODELS["two traits"])
    assert solve(model, tmp_path / "whole") == 0
    out, rng = tmp_path / "out", np.random.default_rng()
    arguments = ["solve", model, "--out", out, "--threads", 1]
    killed(arguments, int(rng.integers(1, 8)), rng.uniform(0, 0.02))
    assert not (out / "evaluation.json").exists()
    killed([*arguments, "--resume"], int(rng.integers(1, 8)), rng.uniform(0, 0.02))
    assert solve(model, out, "--resume") == 0
    names = ("solutions.parquet", "effects.parquet", "snp_effects.parquet")
    assert_same_files(out, tmp_path / "whole", names)
    assert_same_files(out, tmp_path / "whole", ["convergence.parquet"], but=["seconds"])
    assert pd.read_parquet(out / "convergence.parquet")["seconds"].is_monotonic_increasing
    assert facts(out)["steps"] == facts(tmp_path / "whole")["steps"]
    assert (out / "log.txt").read_text().count("going on from") == 2
    assert not list(out.glob("*checkpoint*"))  # not even what was half-written when it was killed
    assert not list(out.glob(".*"))


@pytest.mark.parametrize(
    "name", ["pedigree", "maternal", "fixed groups", "variant ss_h", "variant ssgtablup", "variant sssnpblup"]
)
def test_each_kind_of_system_goes_on_bit_by_bit(name, farm, tmp_path):
    model, out = write_model(farm, tmp_path / "model.yaml", **MODELS[name]), tmp_path / "out"
    assert solve(model, tmp_path / "whole") == 0
    assert solve(model, out, "--max-steps", 4) == 1
    assert solve(model, out, "--max-steps", 9, "--resume") == 1
    assert solve(model, out, "--resume") == 0
    assert_same_files(out, tmp_path / "whole", ["solutions.parquet", "effects.parquet"])
    assert_same_files(out, tmp_path / "whole", ["convergence.parquet"], but=["seconds"])


def test_sigterm_ends_a_solve_with_a_checkpoint(farm, tmp_path, monkeypatch, capsys):
    # As Slurm does, some seconds before it kills.
    from bench.evaluation.journal import Iterations

    told = Iterations.__call__

    def terminated(self, step, residual):
        told(self, step, residual)
        if step == 5:
            signal.raise_signal(signal.SIGTERM)

    model, out = write_model(farm, tmp_path / "model.yaml"), tmp_path / "out"
    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(Iterations, "__call__", terminated)
        assert solve(model, out) == 130
    assert signal.getsignal(signal.SIGTERM) is before
    assert "give the same command with --resume" in capsys.readouterr().err
    assert solve(model, out, "--resume") == 0
    assert "after 5 steps" in (out / "log.txt").read_text()


def test_another_problems_checkpoint_is_refused_by_name(farm, tmp_path, capsys):
    records = pd.read_csv(farm / "records.tsv", sep="\t", dtype=str, keep_default_na=False)
    for name in ("records", "plain"):
        (tmp_path / f"{name}.tsv").write_bytes((farm / f"{name}.tsv").read_bytes())
    keys = {"records": str(tmp_path / "records.tsv"), "pedigree": {"file": str(tmp_path / "plain.tsv")}}
    model, out = write_model(tmp_path, tmp_path / "model.yaml", **keys | {
        "genotypes": {"plink": str(farm / "genotypes")}}), tmp_path / "out"  # fmt: skip
    assert solve(model, out, "--max-steps", 3) == 1
    before = (out / "checkpoint.npz").read_bytes()
    records.iloc[:-1].to_csv(tmp_path / "records.tsv", sep="\t", index=False)
    text = (tmp_path / "plain.tsv").read_text()
    (tmp_path / "plain.tsv").write_text(text + "\n")
    assert solve(model, out, "--resume") == 2
    assert "is of another problem, which differs in its records, pedigree; solve without" in capsys.readouterr().err
    assert (out / "checkpoint.npz").read_bytes() == before


@pytest.fixture
def kept(tmp_path):
    made = Kept(tmp_path / "kept.npz", {"records": "a"}, "solve without --resume")
    made.write({"x": np.arange(1000.0)})
    return made


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "text"])
def test_a_damaged_file_is_said(kept, damage):
    data = bytearray(kept.path.read_bytes())
    if damage == "flipped":
        data[len(data) // 2] ^= 1
    kept.path.write_bytes({"cut": data[:500], "empty": b"", "text": b"no"}.get(damage, bytes(data)))
    with pytest.raises(module.BenchError, match=r"kept.npz: the checkpoint is damaged \(.*; solve without --resume"):
        kept.read()


def test_files_of_another_version_and_of_other_arrays_are_said(kept, tmp_path, monkeypatch):
    from bench.evaluation import kept as of

    assert np.array_equal(kept.read()[0]["x"], np.arange(1000.0))
    with pytest.raises(module.BenchError, match="damaged"):
        module.Checkpoint(kept, Journal(tmp_path / "log.txt")).read()
    monkeypatch.setattr(of, "FORMAT", FORMAT + 1)
    with pytest.raises(module.BenchError, match=rf"another version .* \(format {FORMAT}, {FORMAT + 1} was needed\)"):
        kept.read()


def test_every_file_of_a_model_counts(farm, tmp_path, monkeypatch):
    from bench.evaluation import kept as of

    keys = {"pedigree": {"file": str(farm / "pedigree.tsv"), "metafounders": str(farm / "gamma.txt")}}
    path = write_model(farm, tmp_path / "model.yaml", **keys)
    found = problem_of(path, read_model(path), task="solve")
    assert set(found) == {
        "model file", "records", "pedigree", "metafounders", "genotypes' calls", "SNPs", "genotyped animals", "task"
    }  # fmt: skip
    monkeypatch.setattr(of, "PART", 1000)  # several parts, several threads
    monkeypatch.setattr(of, "PIECE", 100)
    data = (farm / "records.tsv").read_bytes()
    whole = of._hash(farm / "records.tsv", 3)
    for place in (0, 1500, len(data) - 1):
        other = bytearray(data)
        other[place] ^= 1
        (tmp_path / "other").write_bytes(other)
        assert of._hash(tmp_path / "other", 2) != whole
    (tmp_path / "other").write_bytes(data)
    assert of._hash(tmp_path / "other", 1) == whole


def test_writing_takes_one_percent_of_the_time(tmp_path):
    now = [0.0]

    class Slow(Kept):
        def write(self, arrays):
            now[0] += 7.0

    clock = Clock(wall=lambda: now[0], cpu=lambda: now[0])
    with Journal(tmp_path / "log.txt", clock=clock) as journal:
        assert module.Pace(journal, 10)._next == module.EVERY
        pace = module.Pace(journal, 2 * 10**8)  # two seconds, if the disk is slow
        assert pace._next == 200
        for _ in range(3):
            now[0] = pace._next
            assert pace.due()
            pace.write(Slow(tmp_path / "x", {}, ""), {})
            assert not pace.due()
        assert pace._next - now[0] == 700


def test_a_full_disk_ends_no_solve(farm, full_folder, tmp_path, always, capsys):
    model = write_model(farm, tmp_path / "model.yaml")
    assert solve(model, full_folder / "out") == 2  # what is solved is not written either
    said = capsys.readouterr().err
    assert "this checkpoint was left out, and the run goes on" in said
    assert said.splitlines()[-1].startswith("bench solve: ")
    assert "free some space on that disk and run again" in said.splitlines()[-1]


@pytest.mark.parametrize("verb", ["solve", "variances", "crossvalidate"])
def test_a_folder_that_cannot_be_is_a_sentence(verb, farm, tmp_path, capsys):
    from bench.__main__ import main

    more = ["--folds", "2"] if verb == "crossvalidate" else []
    assert main([verb, str(write_model(farm, tmp_path / "model.yaml")), "--out", "/proc/x", *more]) == 2
    assert "/proc/x: no folder can be made there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "method"), [("one trait", "simulated"), ("repeated", "simulated"), ("two traits", "exact")]
)
def test_a_search_for_variances_goes_on_with_the_next_round(name, method, farm, tmp_path, monkeypatch, capsys):
    from bench.__main__ import main
    from bench.evaluation.journal import Journal

    keys = {"repeated": {"permanent": True, "variances": {"genetic": 0.3, "residual": 0.5, "permanent": 0.2}}}
    model = write_model(farm, tmp_path / "model.yaml", **(MODELS | keys)[name])

    def variances(out, *more):
        return main(["variances", str(model), "--out", str(out), "--threads", "1", "--method", method, *more])

    assert variances(tmp_path / "whole") == 0
    out, say = tmp_path / "out", Journal.say

    def interrupted(self, text):
        say(self, text)
        if text.startswith(("evaluation 3", "step 2")):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "say", interrupted)
        assert variances(out) == 130
    assert "checkpoint.npz is kept; give the same command with --resume" in capsys.readouterr().err
    assert variances(out, "--seed", "2", "--resume") == 2
    assert "another problem, which differs in its seed" in capsys.readouterr().err
    assert variances(out, "--resume") == 0
    assert_same_files(out, tmp_path / "whole", ["variances.parquet", "shares.parquet", "trace.parquet"])
    assert not (out / "checkpoint.npz").exists()
