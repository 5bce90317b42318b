"""Five genotypes in a byte, and a table of their 243 weighted sums: the 5codes algorithm.

Freudenberg, Vandenplas, Schlather, Pook, Evans, ten Napel (2023), Accelerated matrix-vector multiplications for
matrices involving genotype covariates with applications in genomic prediction, Front Genet 14:1220408.
The matrix is stored twice, 0.4 bytes a genotype. A zero dosage skips its input: unlike in a dense product,
0 times NaN or infinity counts as 0, so only rows that carry the allele become NaN or infinite.
"""

from bench.kernels import LOOKUP_COLUMNS, Kernel, Native, Problem

FIVE = 5  # genotypes of a code, a byte
WORD = 40  # genotypes of eight consecutive codes, stored as one 64-bit word
ROWS, TABLES = 4096, 8 * 243  # accumulators of a row block and table entries, of one thread
LINE = 64  # bytes of a table entry of most sweeps
COLUMN_BYTES = 96  # the widest table entry


def bytes_needed(problem: Problem) -> int:
    """The .bed pages, both recoded copies, and each thread's tables and accumulators."""
    n, m = problem.n, problem.m
    words = n * -(-m // WORD) + m * -(-n // WORD)
    return problem.packed_bytes + 8 * words + problem.threads * (ROWS + TABLES + WORD) * COLUMN_BYTES


def sweeps(k: int, itemsize: int) -> list[int]:
    """The widths of the table entries, in doubles, of the sweeps that five_codes.cc takes k columns in."""
    columns = [min(rest, LINE // itemsize) for rest in range(k, 0, -LINE // itemsize)]
    if len(columns) > 1 and 2 * columns[-1] * itemsize <= LINE:  # 9 to 12 columns in float64 are one sweep
        columns[-2:] = [sum(columns[-2:])]
    return [next(width for width in LOOKUP_COLUMNS if c * itemsize <= 8 * width) for c in columns]


def work(problem: Problem, direction: str, target: str) -> dict[str, float]:
    """A lookup for five genotypes and an addition of its columns; each sweep reads the codes again."""
    codes = problem.n * problem.m / FIVE
    widths = sweeps(problem.k, problem.itemsize)
    return {"bytes": codes * len(widths)} | {f"lookups{w}": codes * widths.count(w) for w in sorted(set(widths))}


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
    bytes_read=lambda problem: problem.n * problem.m / FIVE,
    work=work,
    cite="doi:10.3389/fgene.2023.1220408",
    summary="five genotypes a byte, 243-entry tables of partial sums, one copy for each direction",
)
