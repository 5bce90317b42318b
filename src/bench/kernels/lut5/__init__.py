"""Codes of five genotypes formed on the fly from one 2-bit copy, and tables of their 243 sums, for both directions.

After the 5codes of Freudenberg et al. (2023), Front Genet 14:1220408, which stores the codes once for each direction.
A zero dosage skips its input: unlike in a dense product, 0 times NaN or infinity counts as 0, so only rows that carry
the allele become NaN or infinite. Results do not depend on the number of threads.
"""

from bench.kernels import AVX2, AVX512, Kernel, Native, Problem
from bench.kernels._panels import LINE, PANEL, allocated, packed_bytes

ROWS, COLUMNS = 10_240, 32  # of a thread's block, at the most
TABLES = 8 * 243 * 64  # bytes


def work_bytes(problem: Problem) -> int:
    """Each thread's words, tables and sums: 3.5 MB at the most, of 32 columns of doubles; in huge pages together."""
    rows = min(ROWS, -(-max(problem.n, problem.m) // PANEL) * PANEL)
    sums = 8 * sum(sweeps(min(problem.k, COLUMNS), problem.itemsize, "avx512"))  # of a row; no target has more
    return allocated(problem.threads * ((rows + 8) * LINE + TABLES + rows * sums + 256))


def bytes_needed(problem: Problem) -> int:
    """The .bed pages, the packed copy and the work space."""
    return problem.packed_bytes + packed_bytes(problem) + work_bytes(problem)


def sweeps(k: int, itemsize: int, target: str) -> list[int]:
    """Widths of the table entries that k columns go through, in doubles (lut5.h, Plan)."""
    widest = 4 if target == "avx2" else 8
    widths, left = [], k * itemsize / 8
    while left > 0:
        widths.append(widest if left > widest / 2 else 4 if left > 2 else 2)
        left -= widths[-1]
    return widths


def work(problem: Problem, direction: str, target: str) -> dict[str, float]:
    """A lookup for five genotypes and an addition of its columns; 32 columns share a reading of the genotypes."""
    codes, widths = problem.n * problem.m / 5, sweeps(problem.k, problem.itemsize, target)
    readings = -(-problem.k // COLUMNS)
    return {"bytes": problem.packed_bytes * readings} | {
        f"lookups{w}": codes * widths.count(w) for w in sorted(set(widths))
    }


KERNEL = Kernel(
    name="lut5",
    open="bench.kernels._native:NativeMatrix",
    native=Native(
        "lut5.cc",
        targets={
            "scalar": ("-O2", "-DLUT5_SCALAR"),
            "portable": ("-O3",),
            "avx2": ("-O3", *AVX2),
            "avx512": ("-O3", *AVX512),
        },
        shares=("_panels",),
    ),
    dtypes=("f4", "f8"),
    bytes_needed=bytes_needed,
    work=work,
    summary="five genotypes a table lookup, codes formed on the fly from one 2-bit copy for both directions",
)
