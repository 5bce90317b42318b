"""Numba loops over the packed bytes: the matrix of the kernel `numba_unpack`.

contract lets a multiply and an add fuse; reassoc lets the sum over individuals run in vector lanes. Neither
assumes finite values: a zero dosage is multiplied, so NaN and infinity come out as in a dense product. The
order of a sum does not depend on the number of threads. Compiled code is kept on disk by numba, for this
processor: compiling takes six seconds.
"""

from __future__ import annotations

import numba
import numpy as np

from bench.errors import BenchError
from bench.genotypes.packed import PackedGenotypes
from bench.kernels import numba_unpack
from bench.kernels._operands import Resident

ROWS, SNPS = 512, 16  # of a tile; here, because numba keys what it keeps on disk by this file alone
assert (ROWS, SNPS) == (numba_unpack.ROWS, numba_unpack.SNPS), "the declaration counts memory by other tiles"
TOGETHER = 4  # SNPs that one pass over a tile's individuals multiplies: a load and store of the sums serves all

DOSAGES = np.array([[(0, 0, 1, 2)[byte >> shift & 3] for shift in (0, 2, 4, 6)] for byte in range(256)])


@numba.njit(fastmath={"contract"}, cache=True)
def unpack(codes, dosages, n, row, snp, tile):
    """tile[s, i] = dosage of individual row+i at SNP snp+s; 0 past the last individual or SNP."""
    rows = min(ROWS, n - row)
    for s in range(tile.shape[0]):
        if snp + s >= codes.shape[0]:
            tile[s] = 0
            continue
        for byte in range((rows + 3) // 4):
            code = codes[snp + s, row // 4 + byte]
            for i in range(4):
                tile[s, 4 * byte + i] = dosages[code, i]
        tile[s, rows:] = 0


@numba.njit(parallel=True, fastmath={"contract"}, cache=True)
def matmul(codes, dosages, n, V, out):
    """out (n, k) = Z V, a tile of individuals at a time; V: (m, k)."""
    m, k = V.shape
    for block in numba.prange((n + ROWS - 1) // ROWS):
        row = block * ROWS
        tile = np.empty((SNPS, ROWS), V.dtype)
        sums = np.zeros((k, ROWS), V.dtype)
        weights = np.zeros((k, SNPS), V.dtype)
        for snp in range(0, m, SNPS):
            snps = min(SNPS, m - snp)
            unpack(codes, dosages, n, row, snp, tile)
            weights[:, snps:] = 0
            for s in range(snps):
                for c in range(k):
                    weights[c, s] = V[snp + s, c]
            for c in range(k):
                total = sums[c]
                for s in range(0, snps, TOGETHER):
                    t0, t1, t2, t3 = tile[s], tile[s + 1], tile[s + 2], tile[s + 3]
                    w0, w1, w2, w3 = weights[c, s], weights[c, s + 1], weights[c, s + 2], weights[c, s + 3]
                    for i in range(ROWS):
                        total[i] += t0[i] * w0 + t1[i] * w1 + t2[i] * w2 + t3[i] * w3
        for i in range(min(ROWS, n - row)):
            for c in range(k):
                out[row + i, c] = sums[c, i]


@numba.njit(parallel=True, fastmath={"contract", "reassoc"}, cache=True)
def rmatmul(codes, dosages, n, columns, out):
    """columns: (k, n padded to ROWS), U transposed with zeros for the padding."""
    m, k = out.shape
    for block in numba.prange((m + SNPS - 1) // SNPS):
        snp = block * SNPS
        tile = np.empty((SNPS, ROWS), out.dtype)
        sums = np.zeros((SNPS, k), out.dtype)
        for row in range(0, n, ROWS):
            unpack(codes, dosages, n, row, snp, tile)
            for c in range(k):
                u = columns[c, row : row + ROWS]
                for s in range(0, SNPS, TOGETHER):
                    t0, t1, t2, t3 = tile[s], tile[s + 1], tile[s + 2], tile[s + 3]
                    zero = out.dtype.type(0)
                    s0, s1, s2, s3 = zero, zero, zero, zero
                    for i in range(ROWS):
                        s0 += t0[i] * u[i]
                        s1 += t1[i] * u[i]
                        s2 += t2[i] * u[i]
                        s3 += t3[i] * u[i]
                    sums[s, c] += s0
                    sums[s + 1, c] += s1
                    sums[s + 2, c] += s2
                    sums[s + 3, c] += s3
        for s in range(min(SNPS, m - snp)):
            for c in range(k):
                out[snp + s, c] = sums[s, c]


class NumbaMatrix(Resident[np.ndarray]):
    """Genotypes multiplied from the packed bytes, which it does not copy."""

    def __init__(self, packed: PackedGenotypes, *, dtype: str = "f8", target: str = "numba", threads: int = 1):
        self._threads = threads
        self._take_threads()
        self.shape = packed.shape
        self.dtype = np.dtype(dtype)
        self.bytes_held = packed.n_snps * -(-packed.n_samples // 4)
        super().__init__(packed.codes)
        self._dosages = DOSAGES.astype(self.dtype)
        self._compile()

    def _take_threads(self) -> None:
        """Have numba, whose setting is global, use this matrix's number of threads."""
        try:
            numba.set_num_threads(self._threads)
        except ValueError as error:
            raise BenchError(
                f"numba_unpack: cannot use {self._threads} threads ({error}); "
                "set NUMBA_NUM_THREADS before Python starts"
            ) from None

    def _compile(self) -> None:
        """Run both products once on one genotype, so that no later call compiles or loads.

        It is taken from the matrix: numba compiles anew for another layout or a read-only memory map.
        """
        one, corner = np.ones((1, 1), self.dtype), self._open()[:1]
        self._multiply(corner, (1, 1), one)
        self._multiply_transposed(corner, (1, 1), one)

    def _multiply(self, codes: np.ndarray, shape: tuple[int, int], V: np.ndarray) -> np.ndarray:
        self._take_threads()
        out = np.empty((shape[0], V.shape[1]), self.dtype)
        matmul(codes, self._dosages, shape[0], V, out)
        return out

    def _multiply_transposed(self, codes: np.ndarray, shape: tuple[int, int], U: np.ndarray) -> np.ndarray:
        self._take_threads()
        columns = np.zeros((U.shape[1], -(-shape[0] // ROWS) * ROWS), self.dtype)
        columns[:, : shape[0]] = U.T
        out = np.empty((shape[1], U.shape[1]), self.dtype)
        rmatmul(codes, self._dosages, shape[0], columns, out)
        return out

    def matmul(self, V: np.ndarray) -> np.ndarray:
        return self._multiply(self._open(), self.shape, self._checked(V, self.shape[1]))

    def rmatmul(self, U: np.ndarray) -> np.ndarray:
        return self._multiply_transposed(self._open(), self.shape, self._checked(U, self.shape[0]))
