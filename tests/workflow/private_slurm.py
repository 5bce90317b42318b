"""A real Slurm for the tests, all of it in one folder: munged, slurmctld and three slurmd, virtual nodes.

Nothing of the system's is touched, and what was started is stopped by its own pid. Should the tests die, a watcher
that waits for the end of their process stops it all the same.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel", "sinfo")
NODES = ("c1", "c2", "g1")
MEMORY_MB = 3000  # of a node: more than the jobs ask for, less than the machine has
# Without a job's cgroup a limit of memory is kept by polling. What a job's credential outlives its job by is what a
# requeued one waits for; two minutes by default.
CONFIGURATION = """\
ClusterName=bench
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/run/munge.sock,cred_expire=5
CredType=cred/munge
SlurmctldPort={ports[0]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
ReturnToService=0
MinJobAge=300
KillWait=2
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=0,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=c1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 RealMemory={memory} State=UNKNOWN
NodeName=c2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 RealMemory={memory} State=UNKNOWN
NodeName=g1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[3]} CPUs=2 RealMemory={memory} Gres=gpu:1 State=UNKNOWN
PartitionName=cpu Nodes=c1,c2 Default=YES MaxTime=1440 State=UP
PartitionName=gpu Nodes=g1 MaxTime=1440 State=UP
"""
# The jobstep of the executor drops SLURM_CONF before it calls srun.
SRUN = '#!/bin/sh\nexec env SLURM_CONF={folder}/slurm.conf {srun} "$@"\n'


def lacking() -> str:
    """Why no Slurm can be started here; empty if it can."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"no {', '.join(missing)} on this machine (Debian: slurm-wlm and munge)"
    return "" if os.geteuid() == 0 else "only root can start a private Slurm"


@dataclass
class PrivateSlurm:
    """A running Slurm, and how to speak with it."""

    folder: Path
    watcher: subprocess.Popen[bytes] | None = None
    environment: dict[str, str] = field(default_factory=dict)

    def start(self) -> None:
        for name in ("munge", "state", "log", "spool", "run", "bin"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "munge").chmod(0o700)
        key = self.folder / "munge/key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o600)
        host = socket.gethostname().split(".")[0]
        written = CONFIGURATION.format(folder=self.folder, host=host, ports=_free_ports(4), memory=MEMORY_MB)
        (self.folder / "slurm.conf").write_text(written)
        (self.folder / "gres.conf").write_text("AutoDetect=off\nNodeName=g1 Name=gpu File=/dev/null\n")
        (self.folder / "cgroup.conf").write_text("CgroupAutomount=no\nCgroupPlugin=cgroup/v1\n")
        srun = self.folder / "bin/srun"
        srun.write_text(SRUN.format(folder=self.folder, srun=shutil.which("srun")))
        srun.chmod(0o755)
        self.environment = {
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        }
        # In a session of its own: what kills the group of the tests does not reach it.
        watch = [sys.executable, __file__, str(self.folder), str(os.getpid())]
        self.watcher = subprocess.Popen(watch, start_new_session=True)
        self.start_munge()
        self.call("slurmctld")
        for node in NODES:
            self.call("slurmd", "-N", node)
        self.wait_for_idle_nodes()

    def start_munge(self) -> None:
        # munged asks for folders that only root can write to, which a temporary one is not: hence --force.
        at = self.folder
        subprocess.run(
            ["munged", "--force", f"--key-file={at}/munge/key", f"--socket={at}/run/munge.sock",
             f"--pid-file={at}/run/munged.pid", f"--log-file={at}/log/munged.log", f"--seed-file={at}/munge/seed"],
            check=True, capture_output=True,
        )  # fmt: skip

    def stop_munge(self) -> None:
        _end(self.folder / "run/munged.pid")

    def stop(self) -> None:
        stop(self.folder)
        if self.watcher:
            self.watcher.kill()
            self.watcher.wait()

    def wait_for_idle_nodes(self, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while set(self.call("sinfo", "-hN", "-o", "%T").split()) != {"idle"}:
            if time.monotonic() > end:
                raise AssertionError(f"the nodes are not idle: {self.call('sinfo', '-N')}{self.call('squeue')}")
            time.sleep(0.1)

    def jobs(self) -> dict[str, dict[str, str]]:
        """{id: fields} of every job that Slurm remembers, as scontrol shows them."""
        shown = (line.split() for line in self.call("scontrol", "-o", "show", "jobs").splitlines() if "=" in line)
        found = [dict(word.split("=", 1) for word in words if "=" in word) for words in shown]
        return {job["JobId"]: job for job in found}

    def active(self, rule: str = "") -> list[dict[str, str]]:
        """The jobs, of one rule if that is named, that run now."""
        running = [job for job in self.jobs().values() if job["JobState"] == "RUNNING"]
        return [job for job in running if f"rule_{rule}" in job.get("Comment", "")]

    def control(self, *arguments: str) -> str:
        return self.call("scontrol", *arguments)

    def call(self, *command: str) -> str:
        """What one of Slurm's commands prints."""
        done = subprocess.run(command, env=os.environ | self.environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done.stdout


def _free_ports(count: int) -> list[int]:
    """Ports that nothing listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _process(pid_file: Path) -> psutil.Process | None:
    """The daemon that wrote `pid_file`; None if it has ended, and its number may be somebody else's by now."""
    try:
        process = psutil.Process(int(pid_file.read_text()))
        known = " ".join((*process.cmdline(), process.environ().get("SLURM_CONF", "")))
        return process if str(pid_file.parent.parent) in known else None
    except (OSError, ValueError, psutil.Error):
        return None


def _end(*pid_files: Path) -> None:
    """End the daemons that wrote these files."""
    found = [process for file in pid_files if (process := _process(file))]
    for process in found:
        process.terminate()
    for process in psutil.wait_procs(found, timeout=5)[1]:
        process.kill()


def stop(folder: Path) -> None:
    """End the daemons of `folder`, then what is left of the jobs: their steps are daemons of their own."""
    _end(*(folder / "run" / f"{name}.pid" for name in (*NODES, "slurmctld", "munged")))
    for _ in range(20):
        left = started_under(folder)
        for process in left:
            with suppress(psutil.Error):
                process.kill()
        if not left:
            return
        time.sleep(0.1)


def started_under(folder: Path) -> list[psutil.Process]:
    """Daemons and jobs of the Slurm of `folder`."""
    return [process for process in psutil.process_iter() if process.pid != os.getpid() and _belongs(process, folder)]


def _belongs(process: psutil.Process, folder: Path) -> bool:
    """Whether a process was started under the Slurm of `folder`.

    All have its programs on their path, also the tasks of an array, from which the executor takes Slurm's variables.
    The daemon of a step writes its title over its environment, but has its log open.
    """
    inside = f"{folder}/"
    with suppress(psutil.Error):
        if any(inside in value for value in process.environ().values()):
            return True
        return any(file.path.startswith(inside) for file in process.open_files())
    return False


def watch(folder: Path, pid: int) -> None:
    """Stop the Slurm of `folder` when process `pid` has ended."""
    with suppress(psutil.Error):
        tests = psutil.Process(pid)
        while tests.is_running() and tests.status() != psutil.STATUS_ZOMBIE:
            time.sleep(1)
    stop(folder)


if __name__ == "__main__":
    watch(Path(sys.argv[1]), int(sys.argv[2]))
