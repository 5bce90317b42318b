"""Runs that are killed, and runs that meet: what has finished stays, what is half-written does not count."""

from __future__ import annotations

import json
import os
import random
import signal
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from checkout import wait_until, would_run

PRODUCTS = {"datasets": ["sheep"], "dtypes": ["f8", "f4"], "threads": [1], "k": [1]}
SCALING = {"datasets": ["sheep"], "samples": [9, 17], "k": [1]}
EXPERIMENTS = {"limits": None, "products": PRODUCTS, "scaling": SCALING, "paired": None, "gblup": None}
CORES = os.cpu_count() or 1  # jobs that may run at once
KERNELS = ["dense_blas"]  # 4 timed sessions, nothing to compile but the limits


def finished_documents(checkout, name):
    """{path: time} of the results of timed jobs."""
    found = {}
    for path in checkout.document_files(name):
        if json.loads(path.read_text())["status"] == "ok":
            found[path] = path.stat().st_mtime_ns
    return found


def second_timed_job(checkout, name):
    """A running timed job, once another one has finished."""

    def found():
        written = {path.name for path in finished_documents(checkout, name)}
        running = [(job, Path(job.info["cmdline"][-1]).name) for job in checkout.timed_jobs()]
        return [job for job, document in running if written and document not in written]

    return wait_until(found)[0]


def still_there(before):
    return {path: path.stat().st_mtime_ns for path in before} == before


def assert_complete(checkout, name):
    """The table has the times of all four sessions."""
    times = checkout.table(name).query("status == 'ok' and metric == 'product_time'")
    assert times["case"].nunique() == 4


def test_kill_9_of_a_timed_job_costs_that_job_only(checkout):
    config = checkout.configure("job", kernels=KERNELS, experiments=EXPERIMENTS)
    running = checkout.start("--configfile", config, "--retries", "2")  # of other jobs: a second try would be chosen
    second_timed_job(checkout, "job").kill()
    assert running.wait(timeout=300) == 1
    assert "Traceback" not in checkout.output()
    kept = finished_documents(checkout, "job")
    assert len(kept) == 3
    assert not (checkout.results("job") / "measurements.parquet").exists()

    again = checkout.succeed("--configfile", config)
    assert would_run(again) == {"session": 1, "collect": 1, "table": 1, "all": 1}
    assert still_there(kept)
    assert len(finished_documents(checkout, "job")) == 4
    assert_complete(checkout, "job")


def test_kill_9_of_the_run_loses_nothing_that_had_finished(checkout):
    config = checkout.configure("run", kernels=KERNELS, experiments=EXPERIMENTS)
    running = checkout.start("--configfile", config)
    orphan = second_timed_job(checkout, "run")
    kept = finished_documents(checkout, "run")
    running.kill()
    running.wait()
    assert kept

    again = checkout.succeed("--configfile", config)
    orphan.wait(timeout=60)
    assert 1 <= would_run(again)["session"] <= 4 - len(kept)
    assert still_there(kept)
    assert_complete(checkout, "run")
    assert would_run(checkout.succeed("--configfile", config, "-n")) == {}
    assert not [path for path in checkout.results("run").rglob("*") if ".tmp" in path.name]


def kill_everything(running):
    """Snakemake and all that it started, as a power cut does."""
    for process in [*psutil.Process(running.pid).children(recursive=True), running]:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    running.wait()


def ended(checkout):
    """The verbs whose command has ended, in order; each finished job has one line."""
    return checkout.stamps.read_text().splitlines() if checkout.stamps.exists() else []


@pytest.mark.slow
def test_kill_9_of_snakemake_and_its_jobs_wherever_the_run_is(checkout):
    # Data, oracle and compiling as well as timing: at a moment that nobody chose.
    config = checkout.configure("anywhere", kernels=KERNELS, experiments=EXPERIMENTS)
    checkout.stamps.unlink(missing_ok=True)
    running, moment = checkout.start("--configfile", config), random.randint(1, 6)
    wait_until(lambda: len(ended(checkout)) >= moment or running.poll() is not None)
    kill_everything(running)
    jobs, kept = sum(would_run(checkout.output()).values()), finished_documents(checkout, "anywhere")
    checkout.succeed("--configfile", config)
    assert still_there(kept)
    assert_complete(checkout, "anywhere")
    # A job whose command had ended when Snakemake was killed, before it could note it, is run again.
    assert len(ended(checkout)) <= jobs + CORES


def test_ctrl_c_stops_the_run_and_a_second_one_goes_on(checkout):
    config = checkout.configure("stopped", kernels=KERNELS, experiments=EXPERIMENTS)
    running = checkout.start("--configfile", config)
    second_timed_job(checkout, "stopped")
    kept = finished_documents(checkout, "stopped")
    running.send_signal(signal.SIGINT)
    assert running.wait(timeout=60) != 0
    assert len(finished_documents(checkout, "stopped")) < 4
    assert 1 <= would_run(checkout.succeed("--configfile", config))["session"] <= 4 - len(kept)
    assert still_there(kept)
    assert_complete(checkout, "stopped")


def test_a_half_written_result_does_not_count(checkout):
    config = checkout.configure("half", kernels=KERNELS, experiments=EXPERIMENTS)
    checkout.succeed("--configfile", config)
    path = next(iter(finished_documents(checkout, "half")))
    path.write_text(path.read_text()[:100])
    (checkout.results("half") / "measurements.parquet").unlink()
    status, output = checkout.run("--configfile", config)
    assert status == 1
    assert f"{path.name}: not a JSON document" in output
    assert "delete it and run again" in output
    path.unlink()
    checkout.succeed("--configfile", config)
    assert_complete(checkout, "half")


@pytest.fixture
def first(checkout):
    """A run that is under way in results/shared."""
    checkout.configure("shared", kernels=KERNELS, experiments=EXPERIMENTS)
    process = checkout.start("--configfile", "shared.yaml")
    lock = checkout.results("shared") / ".run-lock"
    wait_until(lambda: lock.exists() and lock.read_text())
    yield process
    process.wait(timeout=300)


def test_a_second_run_in_the_same_folder_is_told_to_wait(checkout, first):
    status, output = checkout.run("--configfile", "shared.yaml")
    assert first.poll() is None, "the first run ended too early to be met"
    assert status == 1
    assert f"results/shared: a run is already using this folder (process {first.pid} on " in output
    assert "--config results=" in output
    assert "Traceback" not in output
    assert first.wait(timeout=300) == 0
    assert_complete(checkout, "shared")
