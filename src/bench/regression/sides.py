"""A process with the package of one revision, and how to talk to it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.regression.revisions import Revision
from bench.regression.verdict import Undecided

WORKER = Path(__file__).with_name("worker.py")
PATIENCE = 300.0  # seconds for one answer: a product takes far less than one
CRASHES = {-signal.SIGSEGV, -signal.SIGILL, -signal.SIGABRT, -signal.SIGFPE, -signal.SIGBUS}


class Crash(Undecided):
    """The process was ended by a fault of its own code."""


class Side:
    """A worker with the `bench` of `revision`; it waits without using its core until it is asked."""

    def __init__(self, revision: Revision):
        if revision.fault:
            raise Undecided(revision.fault)
        self.revision = revision
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed with the side)
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(WORKER)],
            cwd=revision.root, env=revision.environment(),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, bufsize=1,
        )  # fmt: skip

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """The answer to one command. Undecided: the revision could not do it; Crash: its process died of it."""
        assert self._process.stdin
        assert self._process.stdout
        alarm = threading.Timer(PATIENCE, self._process.kill)
        alarm.start()
        try:
            self._process.stdin.write(json.dumps({"do": do} | arguments) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            alarm.cancel()
        if not line.endswith("\n"):  # none, or a part of one
            raise self._death(do)
        answer = json.loads(line)
        if "failed" in answer:
            raise Undecided(f"{self.revision}: {do}: {answer['failed']}")
        return answer

    def _death(self, do: str) -> Undecided:
        status = self._process.wait()
        if status in CRASHES:
            return Crash(f"{self.revision}: {do}: its process died of {signal.Signals(-status).name}")
        if status == -signal.SIGKILL:
            return Undecided(f"{self.revision}: {do}: killed, for want of memory or after {PATIENCE:.0f} s")
        self._errors.seek(0)
        said = self._errors.read().strip().splitlines() or [f"exit status {status}"]
        return Undecided(f"{self.revision}: {do}: {said[-1]}")

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()


@dataclass(frozen=True)
class Description:
    """What a revision says of itself. kernels: name → {"gpu", "native", "lacks": {target: why not, or None}}."""

    protocol: int
    kernels: dict[str, dict[str, Any]]

    def runs(self, kernel: str) -> list[str]:
        """The targets of `kernel` that this machine runs, in the order of its declaration."""
        return [target for target, lacks in self.kernels[kernel]["lacks"].items() if lacks is None]

    def countable(self, kernel: str) -> list[str]:
        """The builds whose instructions callgrind knows: valgrind 3.19 has AVX2 and nothing wider, nor VNNI."""
        flags = self.kernels[kernel].get("flags", {})
        return [t for t in self.runs(kernel) if t in flags and not any("512" in f or "vnni" in f for f in flags[t])]


def describe(revision: Revision) -> Description:
    """Ask a revision for its kernels. Undecided: it is not there, does not start, or answers in another schema."""
    with Side(revision) as side:
        said = side.ask("describe")
    if Path(said.get("package", "")).resolve() != (revision.root / "src" / "bench").resolve():
        raise Undecided(f"{revision}: its process loaded bench from {said.get('package')}, not from its own tree")
    return Description(said["protocol"], said["kernels"])
