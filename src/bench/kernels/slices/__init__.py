"""Products in fixed point: int8 multiply-adds of dosages and the digits of the inputs, exact until they are rounded.

A column of inputs becomes integers of S signed base-256 digits, scaled by its largest number. An output is off by at
most 2.01 · 256^-S · max|x| times the sum of its dosages: relative to the largest input of the column, not to each.
S is 6 for float64, which is as exact as sums of doubles, 4 for float32, and n in the targets that end in _sn.
NaN and infinity count as in a dense product, where 0 times either is NaN. Results do not depend on the number of
threads.
"""

from bench.kernels import AVX2, AVX512, AVX512VNNI, Kernel, Native, Problem
from bench.kernels._panels import PANEL, allocated, packed_bytes

COLUMNS = 8  # of a pass over the genotypes, at the most
INPUT = 8  # bytes of an input in fixed point: 7 digits at the most, or an integer of the scalar build
DIGIT_BYTES = 32 << 20  # of a pass's columns, if there is more than one
WORK = 160 << 10  # bytes of a thread
REDUCED = {f"avx512vnni_s{digits}": digits for digits in (3, 4, 5, 7)}


def work_bytes(problem: Problem) -> int:
    """The inputs of a pass in fixed point, and each thread's sums."""
    column = -(-max(problem.n, problem.m) // PANEL) * PANEL * INPUT
    inputs = min(min(problem.k, COLUMNS) * column, max(column, DIGIT_BYTES))
    return allocated(inputs) + allocated(problem.threads * WORK)


def bytes_needed(problem: Problem) -> int:
    """The .bed pages, the packed copy and the work space."""
    return problem.packed_bytes + packed_bytes(problem) + work_bytes(problem)


def work(problem: Problem, direction: str, target: str) -> dict[str, float]:
    """A multiply-add of a genotype for every digit of every column; COLUMNS columns share a reading."""
    digits = REDUCED.get(target, {"f8": 6, "f4": 4}[problem.dtype])
    readings = -(-problem.k // COLUMNS)
    return {"int8": digits * problem.n * problem.m * problem.k, "bytes": problem.packed_bytes * readings}


def tolerance(dtype: str, target: str) -> float:
    """The largest error of a product of normal deviates, relative to its largest entry.

    That of the digits does not depend on the shape: errors and entries both grow with the square root of the
    number of inputs. The rest is the rounding of inputs and results to dtype.
    """
    digits = REDUCED.get(target, {"f8": 6, "f4": 4}[dtype])
    return 2.0 ** (5 - 8 * digits) + {"f8": 1e-14, "f4": 1e-6}[dtype]


KERNEL = Kernel(
    name="slices",
    open="bench.kernels._native:NativeMatrix",
    native=Native(
        "slices.cc",
        targets={
            **{target: ("-O3", f"-DSLICES={digits}", *AVX512VNNI) for target, digits in REDUCED.items()},
            "scalar": ("-O2",),
            "avx2": ("-O3", *AVX2),
            "avxvnni": ("-O3", "-mavxvnni", *AVX2),
            "avx512": ("-O3", *AVX512),
            "avx512vnni": ("-O3", *AVX512VNNI),
        },
        shares=("_panels",),
    ),
    dtypes=("f4", "f8"),
    bytes_needed=bytes_needed,
    tolerance=tolerance,
    work=work,
    summary="int8 multiply-adds of dosages and digits of fixed-point inputs, from one 2-bit copy for both directions",
)
