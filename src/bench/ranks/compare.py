"""N ranks of one thread against one process of N threads, on one machine: fresh processes, paired, in random order.

Each pair's ratio is of the two runs' fastest solves, taken shortly after each other: what else the machine does
meets both. The interval is of the pairs (statistics.paired_ratio_interval).
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.errors import BenchError
from bench.genotypes.dataset import write_table
from bench.genotypes.packed import write_bed
from bench.measure import exclusive
from bench.ranks.worker import LAYOUTS, STEPS
from bench.record import write_json
from bench.statistics import Interval, paired_ratio_interval

BLOCK = 1000  # SNPs drawn at a time
LIMIT = 600.0  # seconds that a run may take


@dataclass(frozen=True)
class Comparison:
    """n individuals, m SNPs, that many ranks; runs: layout or "one" → the reports of its runs, pair after pair."""

    n: int
    m: int
    ranks: int
    runs: dict[str, list[dict[str, Any]]]

    def speed(self, layout: str) -> Interval:
        """How many times as fast the ranks are as the one process."""
        one, ranks = ([min(run["solves"]) for run in self.runs[arm]] for arm in ("one", layout))
        return paired_ratio_interval(np.array(one), np.array(ranks))

    def text(self) -> str:
        lines = [f"GBLUP, {self.n} individuals × {self.m} SNPs, two columns, {STEPS} steps of PCG:"]
        lines.append(f"{self.ranks} ranks × 1 thread, times the speed of one process × {self.ranks} threads")
        for layout in self.runs:
            if layout != "one":
                found, seconds = self.speed(layout), np.median([min(r["solves"]) for r in self.runs[layout]])
                lines.append(
                    f"  {layout:12} {found.value:.3f} [{found.low:.3f}, {found.high:.3f}]  {seconds:.3f} s a solve"
                )
        return "\n".join(lines)


def compare(
    n: int, m: int, *, ranks: int, pairs: int, out: Path | None = None, layouts: Sequence[str] = LAYOUTS
) -> Comparison:
    """Measure; out: JSON with all times. BenchError: no mpirun, numbers that cannot be, a run that failed."""
    if min(n, m, ranks) < 1 or pairs < 2:
        raise BenchError("ranks: 1 or more individuals, SNPs and ranks, and 2 pairs or more, were needed")
    if shutil.which("mpirun") is None:
        raise BenchError("ranks: there is no mpirun; install Open MPI (on Debian: apt-get install openmpi-bin)")
    runs: dict[str, list[dict[str, Any]]] = {arm: [] for arm in ("one", *layouts)}
    order = random.Random(1)
    with tempfile.TemporaryDirectory() as folder, exclusive():
        prefix = _genotypes(Path(folder) / "drawn", n, m)
        for _ in range(pairs):
            for arm in order.sample(list(runs), len(runs)):
                runs[arm].append(_run(prefix, arm, ranks))
    made = Comparison(n, m, ranks, runs)
    if out is not None:
        speed = {layout: vars(made.speed(layout)) for layout in layouts}
        write_json(out, {"n": n, "m": m, "ranks": ranks, "steps": STEPS, "speed": speed, "runs": runs})
    return made


def _genotypes(prefix: Path, n: int, m: int) -> Path:
    """Dosages at random, all codes alike but no missing calls: a kernel's time does not depend on them."""
    rng = np.random.default_rng(1)
    codes = np.array([0, 2, 2, 3], np.uint8)

    def block(size: int) -> np.ndarray:
        c = codes[rng.integers(0, 4, (size, -(-n // 4), 4), np.uint8)]
        return c[..., 0] | c[..., 1] << 2 | c[..., 2] << 4 | c[..., 3] << 6

    write_bed(prefix.with_suffix(".bed"), (block(min(BLOCK, m - at)) for at in range(0, m, BLOCK)))
    people = pd.DataFrame({"family": 1, "id": np.arange(1, n + 1), "sire": 0, "dam": 0, "sex": 0, "y": -9})
    write_table(prefix.with_suffix(".fam"), people, header=False)
    numbers = np.arange(1, m + 1)
    snps = pd.DataFrame({"chromosome": 1, "snp": numbers, "cm": 0, "bp": numbers, "first": "A", "second": "B"})
    write_table(prefix.with_suffix(".bim"), snps, header=False)
    return prefix


def mpirun(ranks: int) -> list[str]:
    """How that many ranks are started on this machine alone, which may have fewer cores, by any user."""
    return ["mpirun", "--oversubscribe", "-n", str(ranks)]


def environment() -> dict[str, str]:
    """For mpirun on one machine: Open MPI refuses root, as containers have, unless it is told twice."""
    return os.environ | {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def _run(prefix: Path, arm: str, ranks: int) -> dict[str, Any]:
    worker = [sys.executable, "-m", "bench.ranks.worker", str(prefix)]
    if arm == "one":
        command = [*worker, "--threads", str(ranks)]
    else:
        command = [*mpirun(ranks), *worker, "--threads", "1", "--layout", arm]
    try:
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        raise BenchError(f"ranks: a run of {arm} took more than {LIMIT:g} s; take fewer SNPs") from None
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        said = [line for line in done.stderr.splitlines() if line.strip()] or [f"status {done.returncode}"]
        raise BenchError(
            f"ranks: a run of {arm} failed: {next((s for s in said if s.startswith('bench: ')), said[-1])}"
        )
    return json.loads(lines[-1])
