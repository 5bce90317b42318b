"""2-bit genotypes on NVIDIA GPUs: exact fixed-point products on int8 tensor cores, from one copy for both directions.

A column of inputs becomes integers of S signed base-256 digits, scaled by its largest number (Ozaki's scheme). Sums
of dosages times digits are exact, so results do not depend on how a product is split, or on how many GPUs. An output
is off by at most 2.01 · 256^-S · max|x| times the sum of its dosages: relative to the largest input of the column,
not to each. S is 7, or n in the targets that end in _sn. A column with NaN or infinity is multiplied in float64, as
in a dense product, where 0 times either is NaN. docs/gpu.md says how the kernel works and what was measured.

A target is an architecture; the code is CUDA C++, compiled at the first use by NVRTC and loaded through CuPy. sm_90a
is Hopper with its wgmma instructions, the others use mma.sync.
"""

from bench.kernels import Kernel, Problem
from bench.kernels._cuda.architectures import ARCHITECTURES, STAGES, lacks, padded, panel_bytes

REDUCED = (3, 4, 5, 6, 8)
SLICES = 7
DIGITS = 80  # columns of digits of a launch


def slices_of(target: str) -> int:
    """4 of sm_90a_s4; 7 where the target names none."""
    _, _, tail = target.removeprefix("sm_").partition("_s")
    return int(tail or SLICES)


def device_bytes(problem: Problem) -> int:
    """Panels, vectors, a group's digits, and integer sums where blocks share an output."""
    vectors = (problem.n + problem.m) * problem.k * 8
    longest = padded(max(problem.n, problem.m))
    return panel_bytes(problem.n, problem.m) + vectors + longest * (DIGITS + 16 * problem.k)


def work(problem: Problem, direction: str, target: str) -> dict[str, float]:
    """A reading of the genotypes for each group of columns, and a multiply-add of each for every digit."""
    slices = slices_of(target)
    groups = -(-problem.k // (DIGITS // slices))
    return {"int8": slices * problem.n * problem.m * problem.k, "bytes": groups * panel_bytes(problem.n, problem.m)}


def tolerance(dtype: str, target: str) -> float:
    """The largest error of a product of normal deviates, relative to its largest entry; kernels/slices says why."""
    return 2.0 ** (5 - 8 * slices_of(target)) + {"f8": 1e-14, "f4": 1e-6}[dtype]


KERNEL = Kernel(
    name="gpu_2bit",
    open="bench.kernels.gpu_2bit.matrix:GpuMatrix",
    targets=(*(f"{arch}_s{s}" for arch in ARCHITECTURES for s in REDUCED), *ARCHITECTURES),
    dtypes=("f4", "f8"),
    gpu=True,
    requires=lacks,
    bytes_needed=lambda problem: problem.packed_bytes + STAGES,
    tolerance=tolerance,
    work=work,
    cite="doi:10.3389/fgene.2023.1220408",
    summary="2-bit genotypes on GPUs: int8 tensor cores, fixed point, one copy for both directions",
)
