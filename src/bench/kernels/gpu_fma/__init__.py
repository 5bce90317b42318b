"""2-bit genotypes on NVIDIA GPUs as numbers in registers, multiplied by float64 or float32 multiply-adds.

The way of the GPU kernel of Freudenberg et al. (2023): two stored copies, one for each direction, so that the
genotypes of a sum follow each other in memory; a genotype becomes a floating-point number when it is needed. Theirs
is an instance of CUTLASS that pads k to 32, converts integers to doubles 16 times a genotype, and allocates and
copies at every call. Here k is divided into equal tiles of at most 10 columns, a number's bits are looked up by a
byte permutation once for each tile, and a product copies nothing but vectors of the host: it shows the method at its
best, not their program.

A sum runs over the inputs in order, in each of a number of splits that follows from the matrix's and the device's
size, and then over the splits: results are the same at every call, and those of a column do not depend on the others.
A missing call counts 0, and 0 times NaN or infinity is NaN, as in any dense product.
"""

from bench.kernels import Kernel, Problem
from bench.kernels._cuda.architectures import ARCHITECTURES, ROWS, STAGES, lacks, rows_bytes

WIDEST = 10  # columns of a tile: their sums take 120 of a thread's 255 registers
SHARING = 1024  # blocks of all splits together, where there is more than one split
MOST_SPLITS = 64


def splits_at_most(outputs: int) -> int:
    """A bound that keeps the sums of all splits small beside the genotypes."""
    return max(1, min(MOST_SPLITS, SHARING // -(-outputs // ROWS)))


def device_bytes(problem: Problem) -> int:
    """Two copies, vectors, and the sums of splits; or, at first, the copies and the buffers of their upload."""
    copies = rows_bytes(problem.n, problem.m) + rows_bytes(problem.m, problem.n)
    splits = max(x * splits_at_most(x) for x in (problem.n, problem.m))
    work = problem.vector_bytes + splits * min(problem.k, WIDEST) * problem.itemsize
    return copies + max(work, STAGES)


def work(problem: Problem, direction: str, target: str) -> dict[str, float]:
    """A multiply-add for each genotype and column, and a reading of one copy for each tile of columns."""
    genotypes = float(problem.n) * problem.m
    return {"fma": genotypes * problem.k, "bytes": -(-problem.k // WIDEST) * genotypes / 4}


KERNEL = Kernel(
    name="gpu_fma",
    open="bench.kernels.gpu_fma.matrix:GpuFma",
    targets=tuple(ARCHITECTURES),
    dtypes=("f4", "f8"),
    gpu=True,
    requires=lacks,
    bytes_needed=lambda problem: problem.packed_bytes + STAGES,
    device_bytes=device_bytes,
    work=work,
    cite="doi:10.3389/fgene.2023.1220408",
    summary="2-bit genotypes on GPUs, two copies: float64 multiply-adds, after Freudenberg et al. (2023)",
)
