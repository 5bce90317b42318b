"""A copy of the checkout that tests run, edit, break and kill: nothing here touches the one that is tested."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import yaml

from bench.collect import read as read_table
from small_plink import write_plink

ROOT = Path(__file__).parents[2]
COPIED = (".gitignore", "Snakefile", "workflow", "config", "profiles", "src", "envs")
NOT_OF_THE_CHECKOUT = "/bin/\n/tmp/\n/own*/\n/stamps\n/output.txt\n/*.yaml\n/*.html\n"
TINY: dict[str, Any] = {
    "results": "results/tiny",
    "kernels": ["dense_blas", "decompress"],
    "targets": ["scalar"],
    "timing": {"least": 3, "seconds": 0.001, "most": 3},
    "experiments": {
        "limits": None,
        "products": {"datasets": ["sheep"], "dtypes": ["f8"], "threads": [1], "k": [1]},
        "scaling": None,
        "paired": None,
        "gblup": None,
    },
    "tables": ["refused"],
    "figures": [],
}
OWN = {"kind": "plink", "prefix": "own/sheep", "phenotypes": "own/sheep.tsv"}
# Each command of a rule, with its begin and end; the timed ones are those of the verb `run`.
STAMP = """\
#!/bin/sh
begin=$(date +%s.%N)
"{python}" "$@"
status=$?
echo "$begin $(date +%s.%N) $3" >> "{stamps}"
exit $status
"""


@dataclass
class Checkout:
    """A copy of the workflow and the package, as a clone would be, and how to run it."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> Checkout:
        folder.mkdir(parents=True)
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            else:
                shutil.copy2(source, folder / name)
        made = cls(folder)
        write_plink(folder / "own" / "sheep")
        with (folder / "config/datasets.yaml").open("a") as file:
            file.write(f"  sheep: {json.dumps(OWN)}\n")
        (folder / "bin").mkdir()
        (folder / "tmp").mkdir()
        script = folder / "bin" / "python"
        script.write_text(STAMP.format(python=sys.executable, stamps=made.stamps))
        script.chmod(0o755)
        made._commit()
        return made

    def _commit(self) -> None:
        def git(*arguments: str) -> None:
            settings = ["-c", "user.name=name", "-c", "user.email=name@example.org", "-c", "commit.gpgsign=false"]
            subprocess.run(["git", *settings, *arguments], cwd=self.folder, check=True)

        git("init", "-q")
        (self.folder / ".git/info").mkdir(exist_ok=True)
        (self.folder / ".git/info/exclude").write_text(NOT_OF_THE_CHECKOUT)
        git("add", ".")
        git("commit", "-q", "-m", "a commit")

    @property
    def stamps(self) -> Path:
        return self.folder / "stamps"

    def configure(self, name: str, **overrides: Any) -> str:
        """Write TINY with overrides, its results in results/`name`; the file's name."""
        config = TINY | {"results": f"results/{name}"} | overrides
        (self.folder / f"{name}.yaml").write_text(yaml.safe_dump(config))
        return f"{name}.yaml"

    def environment(self, **changes: str | None) -> dict[str, str]:
        """The package of this checkout, its temporary folder (and so its timing lock), its `python`."""
        path = f"{self.folder / 'bin'}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        own: dict[str, str | None] = {"PATH": path, "PYTHONPATH": str(self.folder / "src")}
        own["TMPDIR"] = str(self.folder / "tmp")
        own["PYTHONDONTWRITEBYTECODE"] = None  # without compiled modules every job would take thrice as long
        own["XLA_FLAGS"] = None  # those of the tests' own process
        merged = os.environ | own | changes
        return {key: value for key, value in merged.items() if value is not None}

    def start(self, *arguments: str, profile: bool = True, env: dict[str, str | None] | None = None):
        """Start Snakemake; its output goes to one file, whose text `output` returns."""
        # Snakemake takes profiles/default of its own accord.
        command = [sys.executable, "-m", "snakemake", *([] if profile else ["--workflow-profile", "none"])]
        with (self.folder / "output.txt").open("w") as output:
            return subprocess.Popen(
                [*command, *arguments],
                cwd=self.folder,
                env=self.environment(**(env or {})),
                stdout=output,
                stderr=subprocess.STDOUT,
                # Tests that were started in the background ignore Ctrl-C, and so would what they start.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    def run(self, *arguments: str, **more: Any) -> tuple[int, str]:
        """Run Snakemake to its end: exit status and output."""
        process = self.start(*arguments, **more)
        return process.wait(timeout=900), self.output()

    def succeed(self, *arguments: str, **more: Any) -> str:
        status, output = self.run(*arguments, **more)
        assert status == 0, output
        return output

    def output(self) -> str:
        return (self.folder / "output.txt").read_text()

    def results(self, name: str) -> Path:
        return self.folder / "results" / name

    def table(self, name: str) -> pd.DataFrame:
        return read_table(self.results(name) / "measurements.parquet")

    def documents(self, name: str) -> dict[str, dict[str, Any]]:
        return {path.stem: json.loads(path.read_text()) for path in self.document_files(name)}

    def document_files(self, name: str) -> list[Path]:
        """Result documents under their own name; one that is being written has a name with a leading dot."""
        found = sorted((self.results(name) / "raw").glob("*/*.json"))
        return [path for path in found if not path.name.startswith(".")]

    def intervals(self) -> list[tuple[float, float, str]]:
        """(begin, end, verb) of every command that a rule ran."""
        lines = (line.split() for line in self.stamps.read_text().splitlines())
        return sorted((float(begin), float(end), verb) for begin, end, verb in lines)

    def timed_jobs(self) -> list[psutil.Process]:
        """The processes of this checkout that run a case now, the wrapper's shell not counted."""
        found = psutil.process_iter(["cmdline", "cwd"])
        mine = [p for p in found if p.info["cwd"] == str(self.folder) and p.info["cmdline"]]
        return [p for p in mine if p.info["cmdline"][1:4] == ["-m", "bench", "run"]]


def would_run(output: str) -> dict[str, int]:
    """{rule: number of jobs} of a dry run's table of job counts."""
    if "Job stats:" not in output:
        return {}
    table = output.split("Job stats:")[1]
    return {m[1]: int(m[2]) for m in re.finditer(r"^(\w+) +(\d+)$", table, re.MULTILINE) if m[1] != "total"}


def wait_until(happened: Callable[[], Any], *, seconds: float = 120) -> Any:
    """What `happened` returns, as soon as that is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := happened():
            return found
        time.sleep(0.01)
    raise AssertionError(f"it did not happen within {seconds} s")
