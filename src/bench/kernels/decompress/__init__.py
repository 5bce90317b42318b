"""Decompress 2-bit genotypes on the fly and multiply them by fused multiply-adds: the strong baseline.

Vandenplas, Eding, Bosmans, Calus (2020), Computational strategies for the preconditioned conjugate gradient
method applied to ssSNPBLUP, with an application to a multivariate maternal model, Genet Sel Evol 52:24.
A zero dosage is multiplied, so NaN and infinity come out as in a dense product.
"""

from bench.kernels import Kernel, Native, Problem

PANEL = 256  # individuals: the copy pads them to a cache line of 64 bytes per SNP
TILE = 128 * PANEL // 4 + 128  # bytes: 128 transposed SNPs of a panel, and alignment
TAIL = 8  # bytes after the codes that may be read


def bytes_needed(problem: Problem) -> int:
    """The .bed pages, the re-ordered copy, and each thread's tile and sums of a panel's rows."""
    panels = -(-problem.n // PANEL)
    work = problem.threads * (TILE + PANEL * problem.k * problem.itemsize)
    return problem.packed_bytes + panels * problem.m * PANEL // 4 + TAIL + work


def work(problem: Problem, direction: str, target: str) -> dict[str, float]:
    """All columns are multiplied while a tile of the matrix is in the cache: it is read once."""
    return {"fma": float(problem.n) * problem.m * problem.k, "bytes": problem.packed_bytes}


KERNEL = Kernel(
    name="decompress",
    open="bench.kernels._native:NativeMatrix",
    native=Native(
        "decompress.cc",
        targets={
            "scalar": ("-O3",),
            "avx2": ("-O3", "-ffp-contract=fast", "-mavx2", "-mfma"),
            "avx512": (
                "-O3",
                "-ffp-contract=fast",
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
    work=work,
    cite="doi:10.1186/s12711-020-00543-9",
    summary="2-bit codes unpacked into registers, cache-tiled and register-blocked fused multiply-adds",
)
