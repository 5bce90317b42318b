"""The workflow through profiles/slurm on a real Slurm: jobs, exclusive nodes, GPUs, and everything that goes wrong.

One cluster and one results folder serve all tests, in order: what a test needs to run again, it deletes.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import psutil
import pytest
from checkout import ROOT, STAMP, Checkout, wait_until, would_run
from private_slurm import MEMORY_MB, PrivateSlurm, lacking

from bench.errors import BenchError
from bench.machine import this_machine

pytestmark = [
    pytest.mark.alone,
    pytest.mark.slow,
    pytest.mark.skipif(bool(lacking()), reason=lacking()),
]
pytest.importorskip("snakemake_executor_plugin_slurm")

# A hook is taken by the first command of its verb: before-VERB runs ahead of it, after-VERB when it has ended.
HOOK = 'if mv "{hooks}/$when-$3" "{hooks}/$when-$3.$$" 2> /dev/null; then . "{hooks}/$when-$3.$$"; fi'
PRETEND_GPU = """\
from bench.kernels import Kernel
KERNEL = Kernel(name="pretend_gpu", open="nowhere:nothing", targets=("any",), gpu=True, bytes_needed=lambda p: 8)
"""
# Asks Slurm every second: the plugin itself waits ten seconds longer each time that nothing has happened.
IMPATIENT = """\
from snakemake_executor_plugin_slurm import Executor
from snakemake.cli import main
Executor.next_seconds_between_status_checks = property(lambda self: 1, lambda self, seconds: None)
main()
"""
RIVAL = ("--comment=rule_others", "--wrap=sleep 2")
GPU = {"gpus": ["pretended"], "driver": "1", "gpu_memory": 10**9, "gpu_builds": ["pretend_gpu/any"]}
ORACLE = "results/slurm/oracle/sheep.all.k1.npz"


class Cluster:
    """A checkout and a Slurm, and runs of the one on the other."""

    def __init__(self, folder: Path):
        self.slurm, self.running = PrivateSlurm(folder / "slurm"), None
        self.checkout = Checkout.make(folder / "checkout")
        at = self.checkout.folder
        (at / "src/bench/kernels/pretend_gpu.py").write_text(PRETEND_GPU)
        (at / "impatient.py").write_text(IMPATIENT)
        self.hooks = folder / "hooks"
        self.hooks.mkdir()
        before, command, after = STAMP.partition('"{python}" "$@"\nstatus=$?\n')
        hook = HOOK.format(hooks=self.hooks)
        script = f"{before}when=before\n{hook}\n{command}when=after\n{hook}\n{after}"
        (at / "bin/python").write_text(script.format(python=sys.executable, stamps=self.checkout.stamps))
        profile = at / "profiles/slurm/profile.yaml"
        profile.write_text(profile.read_text().replace("# - gpu_partition=gpu", "- gpu_partition=gpu"))
        # As `bench machine --out` writes it, of a node with a GPU and with one build of the limits beside the scalar.
        flags = sorted(flag for flag in this_machine().cpu_flags if flag.startswith(("avx2", "fma", "bmi")))
        node = {"host": "node", "cpu": "a node's", "flags": flags, "cores": 2, "memory": MEMORY_MB * 1_000_000}
        (at / "profiles/slurm/node.json").write_text(json.dumps(node | GPU))
        self.config = self.checkout.configure("slurm", kernels=["dense_blas"])

    def hook(self, when: str, verb: str, command: str) -> None:
        """Let the next command of `verb` run `command` first, or afterwards."""
        for taken in self.hooks.glob(f"{when}-{verb}.*"):
            taken.unlink()
        (self.hooks / f"{when}-{verb}").write_text(command + "\n")

    def wait_for_hook(self, when: str, verb: str) -> None:
        """Until a hook has been taken."""
        wait_until(lambda: list(self.hooks.glob(f"{when}-{verb}.*")), seconds=90)

    def start(self, *arguments: str) -> subprocess.Popen:
        """Start Snakemake as `make PROFILE=profiles/slurm` does."""
        command = [sys.executable, "impatient.py", "--workflow-profile", "profiles/slurm"]
        command += ["--configfile", self.config, "--slurm-status-command", "squeue"]
        command += ["--slurm-init-seconds-before-status-checks", "1"]
        with (self.checkout.folder / "output.txt").open("w") as output:
            self.running = subprocess.Popen(
                [*command, *arguments], cwd=self.checkout.folder, env=self.environment(), stdout=output,
                stderr=subprocess.STDOUT, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )  # fmt: skip
        return self.running

    def stop(self) -> None:
        if self.running and self.running.poll() is None:
            self.running.kill()
            self.running.wait()
        self.slurm.stop()

    def environment(self) -> dict[str, str]:
        own = self.checkout.environment()
        extra = os.environ.get("PYTHONPATH", "")
        path = f"{self.slurm.folder / 'bin'}{os.pathsep}{own['PATH']}"
        return own | self.slurm.environment | {"PATH": path, "PYTHONPATH": f"{own['PYTHONPATH']}{os.pathsep}{extra}"}

    def run(self, *arguments: str) -> tuple[int, str]:
        process = self.start(*arguments)
        return process.wait(timeout=240), self.checkout.output()

    def succeed(self, *arguments: str) -> str:
        status, output = self.run(*arguments)
        assert status == 0, output
        return output

    def results(self, pattern: str) -> list[Path]:
        return sorted(self.checkout.results("slurm").glob(pattern))

    def forget(self, pattern: str) -> None:
        """Delete results, so that they are made again."""
        for path in self.results(pattern):
            path.unlink()

    def wait_for(self, rule: str) -> dict[str, str]:
        """A job of `rule`, as soon as it runs."""

        def found():
            assert self.running.poll() is None, self.checkout.output()
            return self.slurm.active(rule)

        return wait_until(found, seconds=90)[0]

    def jobs(self, rule: str, *, since: int = 0) -> list[dict[str, str]]:
        """All jobs of a rule after number `since`, in the order of submission."""
        found = [job for job in self.slurm.jobs().values() if f"rule_{rule}" in job.get("Comment", "")]
        return sorted((job for job in found if number(job) > since), key=number)

    def last(self) -> int:
        return max(map(int, self.slurm.jobs()), default=0)


def number(job: dict[str, str]) -> int:
    return int(job["JobId"])


def interval(job: dict[str, str]) -> tuple[datetime, datetime]:
    begin, end = (datetime.fromisoformat(job[key]) for key in ("StartTime", "EndTime"))
    return begin, end


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory):
    made = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        made.slurm.start()
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def finished(cluster: Cluster):
    """The small workflow, run with other people's jobs in the queue while the timed ones ran."""
    cluster.hook("before", "run", "sleep 3")
    running = cluster.start()
    cluster.wait_for("session")
    for _ in range(5):
        cluster.slurm.call("sbatch", "--ntasks=1", "--mem=10", "--output=/dev/null", *RIVAL)
    assert running.wait(timeout=240) == 0, cluster.checkout.output()
    return cluster


def test_the_workflow_runs_and_a_second_run_has_nothing_to_do(finished):
    rows = finished.checkout.table("slurm")
    assert len(rows.query("status == 'ok' and metric == 'product_time' and kernel == 'dense_blas'"))
    for profile in ("profiles/slurm", "profiles/default"):  # memory and time of jobs rerun nothing
        output = finished.checkout.succeed(
            "-n", "--workflow-profile", profile, "--configfile", finished.config, "--config",
            "node=profiles/slurm/node.json", profile=True, env=finished.environment(),
        )  # fmt: skip
        assert would_run(output) == {}


def test_a_timed_job_has_its_node_to_itself(finished):
    jobs = list(finished.slurm.jobs().values())
    timed = finished.jobs("session")
    assert timed
    for job in timed:
        (begin, end), others = interval(job), [other for other in jobs if other["JobId"] != job["JobId"]]
        assert job["OverSubscribe"] == "NO"
        beside = [other for other in others if other["NodeList"] == job["NodeList"]]
        met = [other for other in beside if interval(other)[0] < end and begin < interval(other)[1]]
        assert not [(other["Comment"], other["NodeList"], *interval(other)) for other in met], job
    shared = finished.jobs("others")
    assert any(interval(other)[0] < interval(job)[1] for job in timed for other in shared), "no rival came in time"


def test_jobs_ask_for_what_their_size_needs(finished):
    (oracle,), (session,) = finished.jobs("oracle"), finished.jobs("session")
    assert 1500 < int(oracle["MinMemoryNode"].removesuffix("M")) <= MEMORY_MB
    assert oracle["TimeLimit"] == "00:11:00"
    assert oracle["OverSubscribe"] == "OK"
    assert session["Partition"] == "cpu"
    assert "TresPerJob" not in session
    builds = finished.jobs("build")
    assert len(builds) > 1
    assert len({job["ArrayJobId"] for job in builds}) == 1


def test_a_job_that_was_killed_for_good_is_explained(finished):
    documents = finished.results("raw/*/*.json")
    finished.forget("oracle/*")
    status, output = finished.run("--set-resources", "oracle:mem_mb=20", "--retries", "0", "--", ORACLE)
    assert status == 1
    assert "sheep_all_1/" in output
    assert "Slurm ended it for its memory" in output
    assert finished.results("raw/*/*.json") == documents


def test_a_file_that_never_comes_is_named(finished):
    finished.hook("after", "oracle", f"rm {ORACLE}")
    status, _ = finished.run("--latency-wait", "1", "--retries", "0", "--", ORACLE)
    assert status == 1
    log = next(Path(job["StdOut"]) for job in reversed(finished.jobs("oracle"))).read_text()
    assert f"{ORACLE} (missing locally)" in log
    assert "filesystem latency" in log


def test_memory_and_time_limits_are_met_with_more(finished):
    """One run: a job that exceeds its memory, a file that the file system shows late, a job out of time."""
    since = finished.last()
    kept = finished.results("build/*/*/build.json")
    times = [path.stat().st_mtime_ns for path in kept]
    finished.forget("data/sheep/dataset.json")
    finished.forget("oracle/*")
    hog = f"{shlex.quote(sys.executable)} -c 'import time; x = b\"x\" * 700_000_000; time.sleep(30)'"
    finished.hook("before", "dataset", hog)
    made = finished.checkout.results("slurm") / "data/sheep/dataset.json"
    finished.hook("after", "dataset", f"mv {made} {made}.late; (sleep 3; mv {made}.late {made}) & ")
    finished.hook("before", "oracle", "sleep 60")
    memory = "import_own:mem_mb=500 if attempt == 1 else 2000"
    running = finished.start("--set-resources", memory, "--", ORACLE)
    late = finished.wait_for("oracle")
    finished.wait_for_hook("before", "oracle")
    finished.slurm.control("update", f"JobId={late['JobId']}", "EndTime=now+1")
    assert running.wait(timeout=240) == 0, finished.checkout.output()
    imports, oracles = finished.jobs("import_own", since=since), finished.jobs("oracle", since=since)
    assert [job["JobState"] for job in imports] == ["FAILED", "COMPLETED"]
    assert "memory limit" in Path(imports[0]["StdOut"]).read_text()
    assert [job["MinMemoryNode"] for job in imports] == ["500M", "2000M"]
    assert [job["JobState"] for job in oracles] == ["TIMEOUT", "COMPLETED"]
    assert [path.stat().st_mtime_ns for path in kept] == times
    assert "SLURM status is: 'TIMEOUT'" in finished.checkout.output()


def test_a_node_that_dies_sends_its_job_elsewhere(finished):
    since = finished.last()
    finished.forget("raw/products/*openblas*.json")
    finished.hook("before", "run", "sleep 60")
    running = finished.start()
    job = finished.wait_for("session")
    finished.wait_for_hook("before", "run")
    finished.slurm.control("update", f"NodeName={job['NodeList']}", "State=DOWN", "Reason=test")
    try:
        assert running.wait(timeout=240) == 0, finished.checkout.output()
    finally:
        finished.slurm.control("update", f"NodeName={job['NodeList']}", "State=RESUME")
    (again,) = finished.jobs("session", since=since)
    assert (again["JobState"], again["Restarts"]) == ("COMPLETED", "1")
    assert again["NodeList"] != job["NodeList"]


def test_a_cancelled_run_is_taken_up_where_it_was(finished):
    since = finished.last()
    finished.forget("oracle/*")
    finished.forget("raw/products/*openblas*.json")
    finished.hook("before", "run", "sleep 60")
    running = finished.start()
    finished.wait_for("session")
    finished.wait_for_hook("before", "run")  # or the second run would have it
    made = finished.checkout.folder / ORACLE
    before = made.stat().st_mtime_ns
    running.send_signal(signal.SIGINT)
    assert running.wait(timeout=60) != 0
    wait_until(
        lambda: [job["JobState"] for job in finished.jobs("session", since=since)] == ["CANCELLED"], seconds=30
    )
    assert not finished.slurm.active()
    assert "oracle" not in would_run(finished.succeed())
    assert made.stat().st_mtime_ns == before
    assert len(finished.checkout.table("slurm").query("status == 'ok' and metric == 'product_time'"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--default-resources", "slurm_partition=nowhere"], "no partition 'nowhere', it has cpu, gpu"),
        (["--config", "results=results/slurm"], "the configuration names no `node`"),
        (["--config", "node=none.json"], "none.json: not there; `make slurm-node` writes"),
    ],
)
def test_what_can_only_fail_is_said_before_anything_starts(finished, arguments, sentence):
    since = finished.last()
    finished.forget("measurements.parquet")
    status, output = finished.run(*arguments)
    assert status == 1
    assert sentence in output
    assert "Traceback" not in output
    assert finished.last() == since


def test_without_munge_nothing_is_started_and_nothing_lost(finished):
    finished.forget("measurements.parquet")
    documents = finished.results("raw/*/*.json")
    finished.slurm.stop_munge()
    try:
        status, output = finished.run()
    finally:
        finished.slurm.start_munge()
    assert status == 1
    assert "Slurm does not answer" in output
    assert "munge" in output
    assert "Traceback" not in output
    assert finished.results("raw/*/*.json") == documents


@pytest.fixture(scope="module")
def figure(finished: Cluster):
    """`make paper-on-slurm`, started: its sbatch --wait looks up to half a minute late, in which other tests run."""
    at, stamp = finished.checkout.folder, Path(".venv/.run-installed")
    for name in ("Makefile", "pyproject.toml"):
        (at / name).write_text((ROOT / name).read_text())
    (at / ".venv").mkdir()
    for each in Path(sys.prefix).iterdir():
        (at / ".venv" / each.name).symlink_to(each)
    (at / stamp).unlink(missing_ok=True)
    (at / stamp).touch()
    shutil.copytree(finished.checkout.results("slurm"), finished.checkout.results("figure"))
    command = ["make", "paper-on-slurm", f"CONFIG={finished.checkout.configure('figure', kernels=['dense_blas'])}"]
    process = subprocess.Popen(
        command, cwd=at, env=finished.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    yield process
    process.kill()
    process.wait()


@pytest.mark.usefixtures("figure")
def test_a_job_on_a_gpu_asks_for_one_where_they_are(finished):
    since = finished.last()
    finished.config = finished.checkout.configure(
        "gpu", kernels=["dense_blas", "pretend_gpu"], targets=["best"], results="results/slurm", tables=[]
    )
    finished.succeed()
    (gpu,) = finished.jobs("session", since=since)
    assert (gpu["Partition"], gpu["NodeList"], gpu["OverSubscribe"]) == ("gpu", "g1", "NO")
    assert "gpu:1" in gpu["TresPerJob"]


def test_a_command_that_fails_on_the_node_says_so(finished, monkeypatch):
    from bench.cluster import allocate

    for name, value in finished.environment().items():
        monkeypatch.setenv(name, value)
    profile, log = finished.checkout.folder / "profiles/slurm/profile.yaml", finished.checkout.folder / "logs/a.log"
    assert allocate(["sh", "-c", "echo spoken; exit 3"], log=log, profile=profile) == 3
    wait_until(log.exists, seconds=10)
    assert "spoken" in log.read_text()
    with pytest.raises(BenchError, match=r"sbatch refused the job: .*nvalid partition"):
        allocate(["true"], log=log, profile=profile, options=["--partition=nowhere"])


# A Slurm, a job that has nothing of it in its environment but the path, and tests that wait for it.
TESTS = """\
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from private_slurm import PrivateSlurm
slurm = PrivateSlurm(Path(sys.argv[2]))
slurm.start()
job = f"echo $$ > {sys.argv[2]}/run/job.pid; exec env -u SLURM_CONF sleep 600"
slurm.call("sbatch", "--mem=10", "--output=/dev/null", f"--wrap={job}")
time.sleep(600)
"""


def test_tests_that_are_killed_leave_nothing_behind(tmp_path):
    slurm, here = tmp_path / "slurm", str(Path(__file__).parent)
    tests = subprocess.Popen([sys.executable, "-c", TESTS, here, str(slurm)], start_new_session=True)
    try:
        wait_until(lambda: (slurm / "run/job.pid").exists() and (slurm / "run/job.pid").read_text(), seconds=60)
        began = [psutil.Process(int(file.read_text())) for file in (slurm / "run").glob("*.pid")]
        assert len(began) == 6  # munged, slurmctld, three slurmd, the job
        began += [step for process in began if (step := process.parent()) and "slurmstepd" in step.name()]
        assert len(began) == 7
    finally:
        os.killpg(tests.pid, signal.SIGKILL)
        tests.wait()
    assert not psutil.wait_procs(began, timeout=30)[1]


def test_a_whole_node_for_one_figure(finished, figure):
    """make paper-on-slurm: the log, the exit code and the report's path come back."""
    output, _ = figure.communicate(timeout=240)
    assert figure.returncode == 0, output
    assert output.splitlines()[-3:] == [
        "log: results/figure/logs/allocation.log",
        "exit code: 0",
        "report: results/figure/report.html",
    ]
    assert (finished.checkout.results("figure") / "report.html").exists()
    (job,) = [job for job in finished.slurm.jobs().values() if job.get("StdOut", "").endswith("allocation.log")]
    assert (job["OverSubscribe"], job["NumNodes"], job["JobName"]) == ("NO", "1", "blupbench")
    assert "cpu=2" in job["TRES"]
