"""A miraculix library that the user has (Freudenberg et al. 2023), through its documented C interface.

The environment variable BENCH_MIRACULIX names the shared library; docs/other-kernels.md says more. Nothing of
miraculix is built, copied or shipped here, and this adapter was only tested against a stand-in library that has the
same entry points and multiplies by brute force (tests/conformance/miraculix_stand_in.cc), never against miraculix.

The interface is that of docs/genotype_matrix_multiplication.md in the repository alexfreudenberg/miraculix:
setOptions_compressed, plink2compressed, dgemm_compressed and free_compressed. Centring and normalising are switched
off, so products are those of raw dosages. The library is handed, while it prepares, a copy of the .bed rows and one
by individuals, both without gaps, with code 0 after the last call and with missing calls as dosage 0, and the allele
frequencies of these; it keeps two recoded copies of a byte for five genotypes. B and C are double precision and
column-major: the results are turned into rows, and that is part of the time.

Options are the library's, not the matrix's: one process should stay with one number of threads and one variant.
What becomes of 0 · NaN and 0 · ∞ is not documented; a table of sums, as in the paper, skips the inputs of zeros.
"""

from __future__ import annotations

import ctypes as ct
import os
from pathlib import Path

import numpy as np

from bench.errors import BenchError
from bench.genotypes.packed import PackedGenotypes
from bench.kernels import Kernel, Problem
from bench.kernels._operands import CLOSED, check_rows

LIBRARY, VARIANTS = "BENCH_MIRACULIX", "BENCH_MIRACULIX_VARIANTS"  # environment variables
BLOCK = 64  # SNPs copied at a time; a multiple of 4, the genotypes of a byte
COLUMNS = 256  # of one call: the most that plink2compressed is told to expect
INT_MAX = 2**31 - 1  # the interface has C ints
INT, POINTER = ct.c_int, ct.c_void_p
SIGNATURES: dict[str, list[type]] = {
    "setOptions_compressed": [INT] * 10,
    "plink2compressed": [POINTER, POINTER, INT, INT, POINTER, INT, ct.POINTER(POINTER)],
    "dgemm_compressed": [ct.c_char_p, POINTER, INT, POINTER, INT, POINTER, INT],
    "free_compressed": [ct.POINTER(POINTER)],
}
TARGETS = ("v0", "v256", "v512")  # the option `variant`; with 0 the library chooses

# Code 1, a missing call, becomes code 0, dosage 0, in each of a byte's four calls.
WITHOUT_MISSING = np.array(
    [sum(code << s for s in (0, 2, 4, 6) if (code := byte >> s & 3) != 1) for byte in range(256)], np.uint8
)


def path() -> Path | None:
    """The library that the environment names, whether it is there or not."""
    named = os.environ.get(LIBRARY)
    return Path(named).absolute() if named else None


def library() -> Path | None:
    """The library that the environment names, if there is such a file."""
    return file if (file := path()) and file.is_file() else None


def bind() -> ct.CDLL:
    """The named library with its functions declared; BenchError where it is absent or another one."""
    if (named := path()) is None:
        raise BenchError(f"{LIBRARY} names no miraculix library; docs/other-kernels.md says how to have one used")
    if not named.is_file():
        raise BenchError(f"{LIBRARY} is {named}: there is no such file; it must name miraculix's shared library")
    try:
        loaded = ct.CDLL(str(named))
    except OSError as error:
        raise BenchError(f"{LIBRARY} is {named}: it cannot be loaded as a shared library ({error})") from None
    absent = [name for name in SIGNATURES if not hasattr(loaded, name)]
    if absent:
        raise BenchError(f"{LIBRARY} is {named}: it is not miraculix's library, it lacks {', '.join(absent)}")
    for name, arguments in SIGNATURES.items():
        getattr(loaded, name).argtypes, getattr(loaded, name).restype = arguments, None
    return loaded


def requires(target: str) -> str | None:
    try:
        bind()
    except BenchError as error:
        return str(error)
    wanted, variant = os.environ.get(VARIANTS, "0").split(), target.removeprefix("v")
    return None if variant in wanted else f"{VARIANTS} does not list {variant}; it is {' '.join(wanted)!r}"


def declines(problem: Problem) -> str | None:
    """Sizes that the library must not be given."""
    if problem.n >= 64 and problem.n & (problem.n - 1) == 0:
        return (
            "miraculix's recoder never ended with 64, 1,024 and 8,192 individuals, so it is given no power of two "
            f"from 64 on; this data set has {problem.n:,}"
        )
    if (largest := max(problem.n, problem.m, problem.k)) > INT_MAX:
        return f"miraculix's interface counts in 32-bit integers; it was asked for {largest:,}"
    return None


class Miraculix:
    """Z (n, m) recoded by the library, missing calls 0."""

    def __init__(self, packed: PackedGenotypes, *, dtype: str = "f8", threads: int = 1, target: str = "v0"):
        n, m = self.shape = packed.shape
        problem = Problem(n, m, 1, dtype, threads)
        if reason := declines(problem):
            raise BenchError(reason)
        if dtype != "f8":
            raise BenchError(f"miraculix multiplies in double precision; it was asked for {dtype}")
        self._library = bind()
        self._Z = POINTER()
        by_snp, by_individual = layouts(packed)
        frequency = PackedGenotypes(by_snp, n).allele_frequency()
        self._set_options(threads, int(target.removeprefix("v")))
        self._library.plink2compressed(
            by_snp.ctypes.data, by_individual.ctypes.data, m, n, frequency.ctypes.data, COLUMNS, ct.byref(self._Z)
        )
        if not self._Z.value:
            raise BenchError(f"{path()}: plink2compressed gave no matrix for {n:,} x {m:,} genotypes")
        self.bytes_held = recoded_bytes(problem)

    def _set_options(self, cores: int, variant: int) -> None:
        """CPU, doubles, raw dosages, no messages; in the order of the interface."""
        use_gpu = floats = subtract_mean = normalize = own_frequency = print_details = 0
        ignore_missings = do_not_center = 1
        self._library.setOptions_compressed(
            use_gpu, cores, floats, subtract_mean, ignore_missings, do_not_center, normalize, own_frequency, variant,
            print_details,
        )  # fmt: skip

    def matmul(self, V: np.ndarray) -> np.ndarray:
        """Z V, (m, k) → (n, k)."""
        return self._product(b"N", V, self.shape[1], self.shape[0])

    def rmatmul(self, U: np.ndarray) -> np.ndarray:
        """Z'U, (n, k) → (m, k)."""
        return self._product(b"T", U, self.shape[0], self.shape[1])

    def _product(self, transposed: bytes, X: np.ndarray, rows_in: int, rows_out: int) -> np.ndarray:
        check_rows(X, rows_in)
        if not self._Z.value:
            raise ValueError(CLOSED)
        B = np.require(X, np.float64, ["F", "ALIGNED"])
        C = np.zeros((rows_out, B.shape[1]), order="F")
        for start in range(0, B.shape[1], COLUMNS):
            b, c = B[:, start : start + COLUMNS], C[:, start : start + COLUMNS]
            self._library.dgemm_compressed(
                transposed, self._Z, b.shape[1], b.ctypes.data, rows_in, c.ctypes.data, rows_out
            )
        return np.ascontiguousarray(C)

    def close(self) -> None:
        if self._Z.value:
            self._library.free_compressed(ct.byref(self._Z))
        self._Z = POINTER()

    def __del__(self):
        if getattr(self, "_Z", None):
            self.close()


def layouts(packed: PackedGenotypes) -> tuple[np.ndarray, np.ndarray]:
    """(m, ⌈n/4⌉) and (n, ⌈m/4⌉) bytes of 2-bit codes, missing calls and all that follows the last one code 0."""
    n, m = packed.shape
    stride = -(-n // 4)
    by_snp, by_individual = np.empty((m, stride), np.uint8), np.empty((n, -(-m // 4)), np.uint8)
    shifts = np.array([0, 2, 4, 6], np.uint8)
    for snps in packed.blocks(BLOCK):
        block = WITHOUT_MISSING[packed.codes[snps, :stride]]
        block[:, -1] &= 0xFF >> 2 * (-n % 4)
        by_snp[snps] = block
        codes = np.zeros((-(-len(block) // 4) * 4, n), np.uint8)
        codes[: len(block)] = (block[:, :, None] >> shifts & 3).reshape(len(block), -1)[:, :n]
        four = codes.reshape(-1, 4, n) << shifts[None, :, None]
        start = snps.start // 4
        by_individual[:, start : start + len(four)] = np.bitwise_or.reduce(four, axis=1).T
    return by_snp, by_individual


def recoded_bytes(problem: Problem) -> int:
    """Two copies, a byte for five genotypes, their rows padded to 64 bytes: the library itself gives no figure."""
    n, m = problem.n, problem.m
    return -(-m // 5) * -(-n // 64) * 64 + -(-n // 5) * -(-m // 64) * 64


def bytes_needed(problem: Problem) -> int:
    """The .bed pages, the two layouts and a block of them, what the library keeps, and B and C by columns.

    What the library needs beyond its two copies while it works is not documented, and not counted.
    """
    n, m = problem.n, problem.m
    layouts = problem.packed_bytes + n * -(-m // 4)
    columns = (n + m) * problem.k * problem.itemsize
    return problem.packed_bytes + layouts + BLOCK * n * 4 + 8 * m + recoded_bytes(problem) + columns


KERNEL = Kernel(
    name="miraculix",
    open="bench.kernels.miraculix:Miraculix",
    targets=TARGETS,
    dtypes=("f8",),
    bytes_needed=bytes_needed,
    bytes_read=lambda problem: problem.n * problem.m / 5,  # one of the two copies
    requires=requires,
    declines=declines,
    foreign=library,
    cite="doi:10.3389/fgene.2023.1220408",
    summary="a miraculix library that the user has, through its C interface",
)
