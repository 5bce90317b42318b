"""Five genotypes in a byte, and a table of their 243 weighted sums: the 5codes algorithm.

Freudenberg, Vandenplas, Schlather, Pook, Evans, ten Napel (2023), Accelerated matrix-vector multiplications for
matrices involving genotype covariates with applications in genomic prediction, Front Genet 14:1220408.
The matrix is stored twice, 0.4 bytes a genotype. A zero dosage skips its input: unlike in a dense product,
0 times NaN or infinity counts as 0, so only rows that carry the allele become NaN or infinite.
"""

from bench.kernels import Kernel, Native, Problem

WORD = 40  # genotypes of eight consecutive codes, stored as one 64-bit word
ROWS, TABLES = 4096, 8 * 243  # accumulators of a row block and table entries, of one thread
COLUMN_BYTES = 96  # the widest table entry


def bytes_needed(problem: Problem) -> int:
    """The .bed pages, both recoded copies, and each thread's tables and accumulators."""
    n, m = problem.n, problem.m
    words = n * -(-m // WORD) + m * -(-n // WORD)
    return problem.packed_bytes + 8 * words + problem.threads * (ROWS + TABLES + WORD) * COLUMN_BYTES


KERNEL = Kernel(
    name="five_codes",
    open="bench.kernels._native:NativeMatrix",
    native=Native(
        "five_codes.cc",
        targets={
            "scalar": ("-O3",),
            "avx2": ("-O3", "-mavx2", "-mfma"),
            "avx512": (
                "-O3",
                "-mavx512f",
                "-mavx512bw",
                "-mavx512vl",
                "-mavx512dq",
                "-mavx2",
                "-mfma",
                "-mprefer-vector-width=512",
            ),
        },
    ),
    dtypes=("f4", "f8"),
    bytes_needed=bytes_needed,
    bytes_read=lambda problem: problem.n * problem.m / 5,
    cite="doi:10.3389/fgene.2023.1220408",
    summary="five genotypes a byte, 243-entry tables of partial sums, one copy for each direction",
)
