"""Instructions of a kernel's products, counted by callgrind: the same number however busy the machine is."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bench import kernels
from bench.record import atomic_path
from bench.regression.data import Data
from bench.regression.verdict import Undecided

SOURCE = Path(__file__).with_name("count.cc")
FLAGS = ("-std=c++17", "-O1", f"-I{kernels.HERE}")
COUNTED = ("counted_prepare", "counted_product")  # functions of count.cc; callgrind takes no pattern of these
# Of a product's two calls the second counts: the first one binds symbols and takes memory from the system.
REPEATS = 2
SNPS = 1999  # of the data: callgrind takes some fifty times as long as the processor
SECONDS = 600


@dataclass(frozen=True)
class Counts:
    """Instructions of preparing the matrix, and of each (direction, k)."""

    prepare: int
    products: dict[tuple[str, int], int]


@cache
def lacks() -> str | None:
    """Why instructions cannot be counted here, None if they can."""
    if shutil.which("valgrind") is None:
        return "there is no valgrind on this machine to count instructions; install it (apt-get install valgrind)"
    return None


def compile_driver(folder: Path, compiler: str) -> Path:
    """The compiled count.cc. Undecided: it does not compile."""
    driver = folder / "count"
    with atomic_path(driver) as tmp:
        command = [*shlex.split(compiler), *FLAGS, str(SOURCE), "-o", str(tmp), "-ldl"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            raise Undecided(f"the driver for callgrind does not compile: {compiler}: {error.strerror}") from None
        if done.returncode:
            said = done.stderr.strip().splitlines() or [f"{compiler}: exit status {done.returncode}"]
            raise Undecided(f"the driver for callgrind does not compile: {said[0]}")
    driver.chmod(0o755)
    return driver


@cache
def _fixed_addresses() -> tuple[str, ...]:
    """setarch -R where it is allowed: with it two runs differ in nothing, not even in the alignment of memory."""
    command = ("setarch", "-R")
    if shutil.which("setarch") is None:
        return ()
    allowed = subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0
    return command if allowed else ()


def count(driver: Path, library: Path, data: Data, products: Sequence[tuple[str, int]]) -> Counts:
    """Run `library` under callgrind, which must be there. Undecided: the library or callgrind failed."""
    with tempfile.TemporaryDirectory() as scratch:
        wanted = [f"{direction}:{k}" for direction, k in products]
        command = [
            *_fixed_addresses(), "valgrind", "--tool=callgrind", f"--callgrind-out-file={scratch}/counts",
            *(f"--{what}={name}" for what in ("zero-before", "dump-after") for name in COUNTED),
            str(driver), str(library), str(data.bed), str(data.n), str(min(SNPS, data.m)), str(REPEATS), *wanted,
        ]  # fmt: skip
        try:
            done = subprocess.run(
                command, env=_environment(), capture_output=True, text=True, check=False, timeout=SECONDS
            )
        except subprocess.TimeoutExpired:
            raise Undecided(f"{library.name} did not end within {SECONDS} s under callgrind") from None
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("==")]
            raise Undecided(f"{library.name} under callgrind: {(said or [f'exit status {done.returncode}'])[-1]}")
        parts = [total(Path(scratch) / f"counts.{i + 1}") for i in range(1 + REPEATS * len(products))]
    last = parts[REPEATS::REPEATS]
    return Counts(parts[0], dict(zip(products, last, strict=True)))


def _environment() -> dict[str, str]:
    # Pinned, as timed processes are, libgomp would bind all that count at once to the first core.
    return os.environ | {"OMP_NUM_THREADS": "1", "OMP_PROC_BIND": "false", "PYTHONHASHSEED": "0"}


def total(part: Path) -> int:
    """The instructions in one file of callgrind. Undecided: it is not there or says nothing."""
    try:
        found = re.search(r"^(?:totals|summary): (\d+)", part.read_text(), re.MULTILINE)
    except OSError:
        raise Undecided(f"callgrind wrote no {part.name}") from None
    if found is None:
        raise Undecided(f"callgrind's {part.name} has no total")
    return int(found[1])
