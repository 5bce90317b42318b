"""What is said of a cluster without one: no commands of Slurm, profiles that are none, logs of ended jobs."""

from __future__ import annotations

import os

import pytest

from bench import cluster
from bench.cluster import allocate, check, end_of, killed
from bench.errors import BenchError


@pytest.fixture
def nothing_on_the_path(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))


def test_a_machine_without_slurm_is_said(nothing_on_the_path, tmp_path):
    with pytest.raises(BenchError, match="there is no sinfo on this machine"):
        check("slurm", ["cpu"], node="node.json")
    profile = tmp_path / "profile.yaml"
    profile.write_text("default-resources: [slurm_partition=cpu]\n")
    with pytest.raises(BenchError, match="there is no sbatch on this machine"):
        allocate(["true"], log=tmp_path / "log", profile=profile)


def test_every_cluster_needs_a_node_and_only_slurm_is_asked_for_partitions(nothing_on_the_path):
    with pytest.raises(BenchError, match="names no `node`"):
        check("kubernetes", [], node=None)
    check("kubernetes", ["anything"], node="node.json")
    check("local", ["anything"], node=None)


def test_several_partitions_are_several(tmp_path, monkeypatch):
    (tmp_path / "sinfo").write_text("#!/bin/sh\necho cpu; echo long\n")
    (tmp_path / "sinfo").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    check("slurm", ["cpu,long", "cpu"], node="node.json")
    with pytest.raises(BenchError, match="no partition 'gpu', it has cpu, long; correct slurm_partition"):
        check("slurm", ["cpu,gpu"], node="node.json")


def test_ctrl_c_cancels_the_job_that_is_waited_for(tmp_path, monkeypatch):
    pid, cancelled, told = tmp_path / "pid", tmp_path / "cancelled", []
    sbatch = f"echo $$ > {pid}; echo Submitted batch job 7; exec sleep 60"
    for name, script in {"sbatch": sbatch, "scancel": f'echo "$@" > {cancelled}; kill $(cat {pid})'}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    (profile := tmp_path / "profile.yaml").write_text("default-resources: [slurm_partition=cpu]\n")

    def interrupted(text, **_):
        told.append(text)
        raise KeyboardInterrupt

    monkeypatch.setattr(cluster, "print", interrupted, raising=False)
    with pytest.raises(KeyboardInterrupt):
        allocate(["true"], log=tmp_path / "log", profile=profile)
    assert cancelled.read_text() == "7\n"
    assert told == ["job 7 waits for a node, or runs; Ctrl-C cancels it"]


WRONG = [None, "[", "executor: slurm\n", "default-resources: {a: 1}\n", "default-resources: [a]\n"]


@pytest.mark.parametrize("text", WRONG)
def test_a_profile_that_is_none_is_named(tmp_path, text):
    profile = tmp_path / "profile.yaml"
    if text is not None:
        profile.write_text(text)
    with pytest.raises(BenchError, match=r"profile.yaml: no profile with a list of default-resources"):
        allocate(["true"], log=tmp_path / "log", profile=profile)


def test_jobs_that_slurm_ended_are_told_from_others(tmp_path):
    logs, since = tmp_path / "logs", tmp_path / "since"
    logs.mkdir()
    texts = {
        "1": "slurmstepd: error: Detected 1 oom_kill event in StepId=1.0",
        "2": "slurmstepd: error: *** JOB 2 ON c1 CANCELLED AT 2026-11-22T03:00:00 DUE TO TIME LIMIT ***",
        "3": "Error in rule oracle",
        "4": "slurmstepd: error: *** JOB 4 ON c1 CANCELLED AT 2026-11-22T03:00:00 DUE TO NODE FAILURE, SEE LOG ***",
    }
    for name, text in texts.items():
        (logs / f"{name}.log").write_text(text)
        os.utime(logs / f"{name}.log", (2e9, 2e9))
    since.touch()
    memory, time, node = killed(logs, since=since)
    assert memory.startswith("1.log: Slurm ended it for its memory")
    assert time.startswith("2.log: Slurm ended it for its time")
    assert node == "4.log: its node failed"
    os.utime(since, (3e9, 3e9))
    assert killed(logs, since=since) == []
    assert killed(tmp_path / "none", since=since) == []


def test_the_end_of_a_log(tmp_path):
    (tmp_path / "log").write_text("\n".join(map(str, range(100))))
    assert end_of(tmp_path / "log", lines=2) == "98\n99"
    assert "not there" in end_of(tmp_path / "none")
