"""What a library user gets: for each product the faster of the schemes that share one stored copy.

`lut5` from three columns on, `slices` for one or two of doubles where the processor has 8-bit dot products;
the rule and its reasons stand in auto.cc. Block sizes follow from n, m, k, the threads and the second-level
cache (lut5.h).
As in `lut5`, a zero dosage skips its input: 0 times NaN or infinity counts as 0.
"""

from dataclasses import replace

from bench.kernels import AVX2, AVX512, AVX512VNNI, Kernel, Native, Problem, lut5, slices
from bench.kernels._panels import packed_bytes


def bytes_needed(problem: Problem) -> int:
    """The .bed pages, the packed copy and the larger work space: `slices` has two columns."""
    work = max(lut5.work_bytes(problem), slices.work_bytes(replace(problem, k=2)))
    return problem.packed_bytes + packed_bytes(problem) + work


def work(problem: Problem, direction: str, target: str) -> dict[str, float]:
    """That of the scheme which auto.cc chooses."""
    if problem.k <= 2 and problem.dtype == "f8" and target == "avx512vnni":
        return slices.work(problem, direction, target)
    return lut5.work(problem, direction, target)


KERNEL = Kernel(
    name="auto",
    open="bench.kernels._native:NativeMatrix",
    native=Native(
        "auto.cc",
        targets={
            "portable": ("-O3",),
            "avx2": ("-O3", *AVX2),
            "avx512": ("-O3", *AVX512),
            "avx512vnni": ("-O3", *AVX512VNNI),
        },
        shares=("_panels", "lut5", "slices"),
    ),
    dtypes=("f4", "f8"),
    bytes_needed=bytes_needed,
    work=work,
    summary="the faster of lut5 and slices for each product, from the copy that they share",
)
