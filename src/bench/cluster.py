"""Slurm, as far as the executor plugin leaves it to us: is it there, and a whole node for one command."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

import yaml

from bench.errors import BenchError

PROFILE = Path("profiles/slurm/profile.yaml")
# What Slurm writes into the log of a job that it ends, and what that means here. A rule is given more with
# --set-resources.
ENDINGS = {
    r"(?i)exceeded job memory limit|oom.kill": "Slurm ended it for its memory: set RULE:mem_mb=…",
    r"DUE TO TIME LIMIT": "Slurm ended it for its time: set RULE:runtime=… (minutes)",
    r"DUE TO NODE FAILURE": "its node failed",
}
HERE = ("local", "dryrun", "touch")  # Snakemake's own executors
SECONDS = 60  # after which a scheduler that has not answered is taken not to


def check(executor: str, partitions: Iterable[str], *, node: str | None) -> None:
    """Refuse a run that could only fail: no description of a node, no Slurm, no such partition.

    executor: the name of Snakemake's plugin; what runs on this machine needs none of it.
    """
    if executor in HERE:
        return
    if not node:
        raise BenchError(
            "the configuration names no `node`: on a cluster `threads: all`, `targets: best` and the refusals are "
            "those of a compute node, whose description `make slurm-node` writes; add "
            "`--config node=profiles/slurm/node.json`"
        )
    if executor != "slurm":
        return
    there = set(_ask("sinfo", "--noheader", "--format=%R").split())
    named = {name for several in partitions for name in several.split(",")}  # as sbatch takes them
    for name in sorted(named - there):
        raise BenchError(
            f"Slurm has no partition {name!r}, it has {', '.join(sorted(there)) or 'none'}; correct slurm_partition "
            f"or gpu_partition in {PROFILE}"
        )


def killed(logs: Path, *, since: Path) -> list[str]:
    """A sentence for each job that Slurm ended, from the logs it wrote after the file `since`.

    The executor only says that a job failed; the reason is in a log of Slurm's, among lines of other programs.
    """
    begin = since.stat().st_mtime if since.exists() else 0.0
    found = []
    for log in sorted(logs.rglob("*.log")):
        text = log.read_text(errors="replace") if log.stat().st_mtime >= begin else ""
        found += [f"{log.relative_to(logs)}: {said}" for mark, said in ENDINGS.items() if re.search(mark, text)]
    return found


def allocate(command: Sequence[str], *, log: Path, profile: Path = PROFILE, options: Sequence[str] = ()) -> int:
    """Run `command` on a node of its own and wait for it; its output goes to `log`, its exit code is returned.

    options: of sbatch, such as --time=8:00:00. Partition and account are those of `profile`. Ctrl-C cancels the job.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    defaults = _default_resources(profile)
    given = [f"--{name}={value}" for name in ("partition", "account") if (value := defaults.get(f"slurm_{name}"))]
    call = ["sbatch", "--wait", "--exclusive", "--nodes=1", "--mem=0", "--job-name=blupbench", f"--output={log}"]
    call += [*given, *options, f"--wrap={shlex.join(command)}"]
    if shutil.which("sbatch") is None:
        raise BenchError("there is no sbatch on this machine: start this where Slurm's commands are")
    log.unlink(missing_ok=True)
    with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as waiting:
        assert waiting.stdout
        job = re.search(r"Submitted batch job (\d+)", waiting.stdout.readline())
        try:
            if job:
                print(f"job {job[1]} waits for a node, or runs; Ctrl-C cancels it", flush=True)
            _, errors = waiting.communicate()
        except KeyboardInterrupt:
            if job:
                subprocess.run(["scancel", job[1]], check=False)
            raise
    if job is None:
        raise BenchError(f"sbatch refused the job: {_said(errors)}")
    return waiting.returncode


def end_of(log: Path, lines: int = 40) -> str:
    """The last lines of a job's log; a shared file system may bring it late, or the job have died before it wrote."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return f"{log}: not there; the job ended before it wrote anything, or this machine does not see its folder"


def _default_resources(profile: Path) -> dict[str, str]:
    """{name: value} of the default-resources of a Snakemake profile."""
    try:
        read = yaml.safe_load(profile.read_text())
        return dict(entry.split("=", 1) for entry in read["default-resources"])
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise BenchError(f"{profile}: no profile with a list of default-resources as name=value ({reason})") from None


def _ask(*command: str) -> str:
    """What a command of Slurm's says."""
    if shutil.which(command[0]) is None:
        raise BenchError(f"there is no {command[0]} on this machine: start this where Slurm's commands are")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise BenchError(f"Slurm does not answer: {command[0]} said nothing in {SECONDS} s") from None
    if done.returncode:
        raise BenchError(f"Slurm does not answer: {_said(done.stderr)}")
    return done.stdout


def _said(text: str) -> str:
    """What a command wrote, on one line."""
    return "; ".join(line.strip() for line in text.splitlines() if line.strip()) or "it gave no reason"
