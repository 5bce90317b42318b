"""NVIDIA's own tools over one product, where they are installed: compute-sanitizer and Nsight Compute."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
import sys

from bench.errors import BenchError
from bench.gpu.session import Session

ONE = "bench.gpu.one_product"  # the program that they run
COUNTERS = {  # of Nsight Compute → metric, of the product's kernel
    "dram__throughput.avg.pct_of_peak_sustained_elapsed": "dram_share",
    "lts__throughput.avg.pct_of_peak_sustained_elapsed": "l2_share",
    "l1tex__throughput.avg.pct_of_peak_sustained_elapsed": "l1_share",
    "sm__inst_executed_pipe_tensor.sum": "tensor_instructions",
    "l1tex__data_bank_conflicts_pipe_lsu_mem_shared.sum": "bank_conflicts",
}
ERRORS = re.compile(r"ERROR SUMMARY: (\d+) error")
HAZARDS = re.compile(r"RACECHECK SUMMARY: (\d+) hazard")


def sanitize(session: Session, tool: str, target: str, seconds: float) -> None:
    """compute-sanitizer's memcheck or racecheck of both directions at a ragged size."""
    n, m = 1_021, 700
    said = _run(["compute-sanitizer", "--tool", tool], session, (n, m, 10, target), seconds)
    found = (HAZARDS if tool == "racecheck" else ERRORS).search(said)
    if found is None:
        raise BenchError(f"compute-sanitizer {tool} gave no summary: {_last(said)}")
    place = {"phase": "profile", "n": n, "m": m, "k": 10, "kernel": "gpu_2bit", "target": target, "note": tool}
    wrong = {"status": "wrong", "reason": f"{tool} found {found[1]} errors"} if int(found[1]) else {}
    session.add("sanitizer_errors", int(found[1]), "1", **place, **wrong)


def count(session: Session, n: int, target: str, seconds: float) -> None:
    """Nsight Compute's counters of the product's kernel, in both directions."""
    asked = session.settings
    tool = ["ncu", "--clock-control", "none", "--csv", "--kernel-name", "product", "--metrics", ",".join(COUNTERS)]
    said = _run(tool, session, (n, asked.snps, asked.columns[0], target), seconds)
    lines = said.splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith('"ID"')), None)
    if start is None:
        raise BenchError(f"ncu gave no table: {_last(said)}")
    place = {
        "phase": "profile",
        "n": n,
        "m": asked.snps,
        "k": asked.columns[0],
        "kernel": "gpu_2bit",
        "target": target,
    }
    rows = list(csv.DictReader(lines[start:]))
    launches = list(dict.fromkeys(row["ID"] for row in rows))
    for row in rows:
        if row["Metric Name"] in COUNTERS and launches.index(row["ID"]) < 2:
            metric, value = COUNTERS[row["Metric Name"]], float(row["Metric Value"].replace(",", ""))
            if metric.endswith("_share"):
                value /= 100
            session.add(metric, value, "1", direction=("matmul", "rmatmul")[launches.index(row["ID"])], **place)


def _run(tool: list[str], session: Session, product: tuple[int, int, int, str], seconds: float) -> str:
    """What a tool writes while it runs one product. BenchError: it is not installed, failed, or took too long."""
    if shutil.which(tool[0]) is None:
        raise BenchError(f"{tool[0]} is not installed")
    command = [*tool, sys.executable, "-m", ONE, *map(str, product), str(session.settings.seed)]
    limit = min(seconds, session.left())
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        raise BenchError(f"{tool[0]} had not ended after {limit:.0f} s") from None
    if done.returncode and not (ERRORS.search(done.stdout) or HAZARDS.search(done.stdout)):
        raise BenchError(f"{tool[0]} ended with status {done.returncode}: {_last(done.stderr or done.stdout)}")
    return done.stdout


def _last(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1]
