"""What a job asks a cluster's scheduler for, from the size of its data set and of its case.

Memory and time decide where and when a job runs, never what it computes. Both are generous: what a job gets is a
limit, and a timed one is not tried twice. Memory comes from what kernels and methods declare; time from counts of
multiply-adds at a slow core's rate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from bench import kernels
from bench.genotypes import cost
from bench.genotypes.spec import Fetched, Plink, Spec
from bench.kernels import Problem
from bench.machine import USABLE_SHARE, this_machine
from bench.plan import Case, kernels_of

if TYPE_CHECKING:
    from bench.config import Config, Timing

PROCESS_BYTES = 1_500_000_000  # Python with numpy, numba, pandas and jax, and blocks of genotypes unpacked
ANIMAL_BYTES = 2000  # of a pedigree: records, equations, vectors of a solve
START = 600.0  # seconds: reading, verifying, a slow file system
# Multiply-adds a second and thread that any machine is expected to reach, through the slowest kernel and in a BLAS: a
# job is given too much time rather than too little.
PRODUCT_RATE, DENSE_RATE = 5e8, 5e9
STEPS = 1000  # of a solver, with what is timed beside it
FETCHED_SIZE = (2000, 11_000)  # individuals and SNPs of the largest public data set
COPIES = 6  # of the genotypes in float64 that a study of D-BLUP holds, unless it is of a matrix-free step
VECTORS = 20  # of n and m float64 that such a step holds for each of its right-hand sides
CUBES = {"gblup": 20, "gram": 10, "single_step": 10, "dblup": 200, "lanczos_reml": 10}  # times n³, the dense part


@dataclass(frozen=True)
class Needs:
    """Bytes of memory and seconds on a node."""

    bytes: float
    seconds: float

    def megabytes(self, attempt: int = 1) -> int:
        """Memory to ask for, more with every attempt, and no more than this machine has to give."""
        usable = this_machine().usable_memory
        return math.ceil(min(self.bytes / USABLE_SHARE * attempt, max(usable, PROCESS_BYTES)) / 1e6)

    def minutes(self, attempt: int = 1) -> int:
        """Time to ask for, more with every attempt."""
        return math.ceil((START + 2 * self.seconds) * attempt / 60)


SMALL = Needs(PROCESS_BYTES, 600.0)  # compiling, collecting, drawing


def largest(needs: list[Needs]) -> Needs:
    """What suffices for each of them."""
    return Needs(max((n.bytes for n in needs), default=0), max((n.seconds for n in needs), default=0))


def of_dataset(spec: Spec) -> Needs:
    """Of any step that makes a data set, and of its oracle."""
    n, m = size(spec)
    products = 16 * 32 * n * m / DENSE_RATE  # of the oracle, of 32 columns at the most
    vectors = 8 * 8 * 32 * (n + m)
    return Needs(PROCESS_BYTES + cost.memory_needed(spec) + vectors, cost.seconds_needed(spec) + products)


def of_case(case: Case, config: Config) -> Needs:
    """Of a case that runs: its kernels with their vectors, the verification, its method's dense matrices."""
    if "dataset" not in case:
        return SMALL
    n_all, m = size(spec := config.datasets[case["dataset"]])
    n, k, threads = min(case.get("samples") or n_all, n_all), max(case.get("k", [1])), case.get("threads", 1)
    problem = Problem(n, m, k, case.get("dtype", "f8"), threads)
    named = [kernels.load(name) for name, _ in (kernels_of(case) if "kernel" in case else [])]
    vectors = 16 * 8 * k * (n + m)  # of the oracle, of what is verified, of a solver
    animals = getattr(spec, "animals", 0)
    held = vectors + ANIMAL_BYTES * animals
    if "streamed" in case:
        held += case["streamed"]["memory"]
    else:
        held += sum(kernel.bytes_needed(problem) + problem.vector_bytes for kernel in named)
        held += 2 * cost.bed_bytes(n_all, m)
    columns = _columns(case, max(1, len(named)), config.timing)
    work = columns * (n * m + 20 * animals) / PRODUCT_RATE
    work += CUBES.get(case["experiment"], 0) * _cubed(case, n) / DENSE_RATE
    seconds = work / threads + _timing_seconds(case, max(1, len(named)), config.timing)
    return Needs(PROCESS_BYTES + held + _dense_bytes(case, n, m), seconds)


def uses_gpu(case: Case) -> bool:
    """Whether one of the case's kernels runs on a GPU."""
    return "kernel" in case and any(kernels.load(name).gpu for name, _ in kernels_of(case))


def size(spec: Spec) -> tuple[int, int]:
    """Individuals with genotypes and SNPs of a data set; of a user's own, the lines of its files."""
    if isinstance(spec, Fetched):
        return FETCHED_SIZE
    if isinstance(spec, Plink):
        _, bim, fam = spec.files()
        return max(1, _lines(fam)), max(1, _lines(bim))
    return spec.n_samples, spec.n_snps


@cache
def _lines(path: Path) -> int:
    """Lines of a file; 0 if it cannot be read, which its reader will say."""
    try:
        with path.open("rb") as file:
            return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    except OSError:
        return 0


def _dense_bytes(case: Case, n: int, m: int) -> float:
    """Of the dense matrices that the case's method holds at the most."""
    square = 8.0 * n * n
    match case["experiment"]:
        case "gblup" if case["solver"] == "cholesky":
            from bench.experiments.gblup import ReferenceOptions
            from bench.experiments.gblup.reference import bytes_needed

            return bytes_needed(n, ReferenceOptions(**case["options"]))
        case "gram":
            from bench.experiments.gram import bytes_needed as gram_bytes

            return gram_bytes(case["method"], n, m)
        case "lanczos_reml":
            return 8.0 * n * case["k"][0] * 200 + (4 * square if n <= case["options"]["eigen_max_n"] else 0)
        case "single_step":
            return 6 * square
        case "dblup":
            if case.get("method") == "matrix_free":
                return VECTORS * 8.0 * (n + m) * (case["options"]["probes"] + 2)
            return COPIES * 8.0 * n * m + 6 * square
    return 0.0


def _cubed(case: Case, n: int) -> float:
    """n³ where the case factors or multiplies dense matrices, else 0."""
    matrix_free = case["experiment"] == "gblup" and case["solver"] == "pcg"
    matrix_free |= case.get("method") == "matrix_free"
    matrix_free |= case["experiment"] == "lanczos_reml" and n > case["options"]["eigen_max_n"]
    return 0.0 if matrix_free else float(n) ** 3


def _columns(case: Case, n_kernels: int, timing: Timing) -> float:
    """How many times a column is multiplied by Z or Z', verification and warming up included."""
    if case["experiment"] in CUBES:
        repeats = case.get("options", {}).get("repeats", 2) + 1
        return 2.0 * STEPS * max(case.get("k", [1])) * repeats
    return 2.0 * n_kernels * sum(case.get("k", [1])) * (timing.processes * (timing.least + 2) + 4)


def _timing_seconds(case: Case, n_kernels: int, timing: Timing) -> float:
    """The time that the configuration wants each cell to be measured, and fresh processes to start."""
    return 2.0 * n_kernels * len(case.get("k", [1])) * timing.processes * (timing.seconds + 5)
