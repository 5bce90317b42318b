"""PLINK .bed genotypes: two bits a call, SNP-major, memory-mapped.

A dosage counts the second allele of the .bim file (column 6, what `bed_reader` counts with
count_A1=False): code 0 → dosage 0, 2 → 1, 3 → 2, and 1 is a missing call.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from bench.errors import BenchError
from bench.genotypes.bed_file import BedFile, State, buffer_bytes, make_buffer, state_of
from bench.record import atomic_path

MAGIC = b"\x6c\x1b"
SAMPLE_MAJOR, SNP_MAJOR = 0, 1
HEADER = MAGIC + bytes([SNP_MAJOR])
MISSING = -1
BLOCK_BYTES = 1 << 25  # work space of a pass over the file
RESIDENT = 16 << 20  # bytes of a mapped file that a pass over it keeps
CACHED = 1 << 18  # of codes, where each is read several times
TAKEN = 64  # SNPs at a time of which codes are taken: they stay in the cache
DOSAGE_OF_CODE = np.array([0, MISSING, 1, 2], np.int8)
CODE_OF_DOSAGE = np.array([0, 2, 3, 1], np.uint8)  # indexed by dosage; −1 (missing) is the last entry

# Row b: the dosages of the four calls of byte b, the first in its lowest bits.
DOSAGES_OF_BYTE = DOSAGE_OF_CODE[(np.arange(256)[:, None] >> np.array([0, 2, 4, 6])) & 3]


@dataclass(frozen=True)
class PackedGenotypes:
    """Genotypes of n individuals at m SNPs as 2-bit codes.

    codes: (m, ≥ ⌈n/4⌉) uint8; codes past individual n−1 may hold anything. state: of the mapped file `path` when it
    was opened; a view of its rows without that counts as no file. BenchError: another array.
    """

    codes: np.ndarray
    n_samples: int
    path: Path | None = None
    state: State | None = None

    def __post_init__(self) -> None:
        codes = self.codes
        if codes.dtype != np.uint8 or codes.ndim != 2 or 4 * codes.shape[1] < self.n_samples:
            raise BenchError(
                f"{self.path or 'genotypes'}: codes are {codes.dtype} of shape {codes.shape}; {self.n_samples} "
                f"individuals need (number of SNPs, at least {-(-self.n_samples // 4)}) bytes (uint8)"
            )

    @classmethod
    def open(cls, bed: Path, *, n_samples: int, n_snps: int) -> PackedGenotypes:
        """Memory-map `bed`, whose .fam has `n_samples` lines and whose .bim has `n_snps`.

        BenchError: no such file, not a SNP-major .bed file, or a length that does not fit the two numbers.
        """
        bed = Path(bed)
        check_bed(bed, n_samples=n_samples, n_snps=n_snps)
        stride = -(-n_samples // 4)
        codes = np.memmap(bed, np.uint8, "r", offset=len(HEADER), shape=(n_snps, stride))
        return cls(codes, n_samples, bed, state_of(bed.stat()))

    @classmethod
    def from_dosages(cls, dosages: np.ndarray) -> PackedGenotypes:
        """Pack (n, m) dosages 0, 1, 2 and −1 for a missing call."""
        return cls(pack_dosages(dosages), dosages.shape[0])

    @property
    def shape(self) -> tuple[int, int]:
        return self.n_samples, self.codes.shape[0]

    @property
    def n_snps(self) -> int:
        return self.codes.shape[0]

    def bed_file(self) -> BedFile | None:
        """The same rows in the mapped file, to be read; None for codes that are no whole rows of one."""
        codes, pages = self.codes, getattr(self.codes, "_mmap", None)
        if not isinstance(codes, np.memmap) or pages is None or not codes.flags.c_contiguous:
            return None
        if self.path is None or self.state is None:
            return None
        mapped = np.frombuffer(pages, np.uint8)  # from a whole page on; `offset` of a view is that of the whole
        page = codes.offset // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        return BedFile(self.path, page + codes.ctypes.data - mapped.ctypes.data, codes.strides[0], self.state)

    def forget(self) -> None:
        """Give back the memory that a mapped .bed has taken as it was read; it is read again where it is needed."""
        mapped = getattr(self.codes, "_mmap", None)
        if mapped is not None:
            mapped.madvise(mmap.MADV_DONTNEED)

    def contiguous_rows(self) -> np.ndarray:
        """`codes` as compiled code reads them, row after row, byte after byte: a copy only if they are not so."""
        row, byte = self.codes.strides
        return self.codes if row >= 0 and byte == 1 else np.ascontiguousarray(self.codes)

    def head(self, n_samples: int) -> PackedGenotypes:
        """The first `n_samples` individuals, as a view."""
        if not 1 <= n_samples <= self.n_samples:
            raise BenchError(f"{self.path}: asked for {n_samples} individuals, there are {self.n_samples}")
        return PackedGenotypes(self.codes, n_samples, self.path, self.state)

    def take(self, rows: np.ndarray) -> PackedGenotypes:
        """A copy with the individuals `rows`, in their order.

        Codes are moved as they are: 8,000 of 10,000 × 20,000 SNPs take 1.3 s, through dosages seven times as long.
        """
        rows = np.arange(self.n_samples)[rows]
        byte, shift = rows >> 2, (2 * (rows & 3)).astype(np.uint8)
        padded = np.zeros((TAKEN, -(-rows.size // 4) * 4), np.uint8)
        out = np.empty((self.n_snps, padded.shape[1] // 4), np.uint8)
        for snps in self.blocks(TAKEN):
            codes = padded[: snps.stop - snps.start]
            codes[:, : rows.size] = (self.codes[snps][:, byte] >> shift) & 3
            c = codes.reshape(len(codes), -1, 4)
            out[snps] = c[..., 0] | c[..., 1] << 2 | c[..., 2] << 4 | c[..., 3] << 6
        return PackedGenotypes(out, rows.size, self.path)

    def dosages(self, snps: slice | np.ndarray = slice(None)) -> np.ndarray:
        """(n, number of snps) int8 dosages, −1 where the call is missing; Fortran order (a SNP is contiguous)."""
        codes = self.codes[snps, : -(-self.n_samples // 4)]
        return DOSAGES_OF_BYTE[codes].reshape(codes.shape[0], -1)[:, : self.n_samples].T

    def code_counts(self) -> np.ndarray:
        """(m, 4) int64: how many individuals have code 0 (dosage 0), 1 (missing), 2 (1) and 3 (2) at each SNP.

        Counted once, and read-only.
        """
        return self._code_counts

    def counted(self, counts: np.ndarray) -> PackedGenotypes:
        """The same genotypes, whose `code_counts` somebody has counted."""
        made = PackedGenotypes(self.codes, self.n_samples, self.path, self.state)
        counts.flags.writeable = False
        made.__dict__["_code_counts"] = counts
        return made

    @cached_property
    def _code_counts(self) -> np.ndarray:
        counts = np.empty((self.n_snps, 4), np.int64)
        full, rest = divmod(self.n_samples, 4)
        for snps, rows in self._rows(max(1, CACHED // max(1, full))):
            codes = rows[:, : full + (rest > 0)]
            words = full // 8 * 8
            counts[snps] = _counts_of_words(np.ascontiguousarray(codes[:, :words]).view(np.uint64))
            last = (codes[:, words:, None] >> np.arange(0, 8, 2, dtype=np.uint8)) & 3
            last = last.reshape(len(codes), -1)[:, : self.n_samples - 4 * words]
            counts[snps] += (last[:, :, None] == np.arange(4)).sum(1)
        counts.flags.writeable = False
        return counts

    def _rows(self, size: int) -> Iterator[tuple[slice, np.ndarray]]:
        """(SNPs, their codes), at most `size` at a time; those of a file are read, and gone with the next."""
        bed = self.bed_file()
        if bed is None:
            yield from ((snps, self.codes[snps]) for snps in self.blocks(size))
            return
        buffer = make_buffer(buffer_bytes(size, bed.stride))
        with bed.opened() as file:
            for snps in self.blocks(size):
                yield snps, bed.read(file, snps, buffer)

    def allele_frequency(self) -> np.ndarray:
        """(m,) frequency of the counted allele among the calls; NaN for a SNP without a call."""
        counts = self.code_counts()
        calls = counts[:, [0, 2, 3]].sum(1)
        with np.errstate(invalid="ignore"):
            return (counts[:, 2] + 2 * counts[:, 3]) / (2 * calls)

    def missing_rate(self) -> float:
        """Share of all n·m calls that are missing."""
        return float(self.code_counts()[:, 1].sum() / (self.n_samples * self.n_snps))

    def blocks(self, size: int = 1024) -> Iterator[slice]:
        """Slices of at most `size` SNPs that cover the matrix; of a large mapped file few pages stay resident."""
        passed = 0
        for j in range(0, self.n_snps, size):
            snps = slice(j, min(j + size, self.n_snps))
            yield snps
            passed += (snps.stop - snps.start) * self.codes.shape[1]
            if passed > RESIDENT or (snps.stop == self.n_snps and self.codes.nbytes > RESIDENT):
                self.forget()
                passed = 0


def _counts_of_words(words: np.ndarray) -> np.ndarray:
    """(b, s) words of 32 calls each → (b, 4) counts of the codes, from how many of their bits are set."""
    low = np.uint64(0x5555555555555555)
    first, second = words & low, (words >> np.uint64(1)) & low
    one, two, both = (np.bitwise_count(x).sum(axis=1, dtype=np.int64) for x in (first, second, first & second))
    return np.stack([32 * words.shape[1] - one - two + both, one - both, two - both, both], axis=1)


def check_bed(bed: Path, *, n_samples: int, n_snps: int) -> None:
    """BenchError unless `bed` is a SNP-major .bed file of exactly `n_samples` × `n_snps` calls."""
    if n_samples < 1 or n_snps < 1:
        raise BenchError(f"{bed}: {n_samples} samples × {n_snps} SNPs: at least one of each is needed")
    try:
        size = bed.stat().st_size
        with bed.open("rb") as file:
            header = file.read(len(HEADER))
    except OSError as error:
        raise BenchError(f"{bed}: cannot be read ({error.strerror})") from None
    if not header:
        raise BenchError(f"{bed}: the file is empty, a PLINK .bed file was needed")
    if header[:2] != MAGIC:
        raise BenchError(
            f"{bed}: not a PLINK .bed file: it starts with {header[:2].hex(' ')}, not with {MAGIC.hex(' ')}"
        )
    if len(header) == 3 and header[2] == SAMPLE_MAJOR:
        raise BenchError(
            f"{bed}: sample-major .bed files are not read; rewrite it SNP-major with "
            f"`plink --bfile {bed.with_suffix('')} --make-bed --out NEW`"
        )
    if len(header) == 3 and header[2] != SNP_MAJOR:
        raise BenchError(f"{bed}: the third byte is {header[2]}, it must be {SNP_MAJOR} (SNP-major)")
    need = len(HEADER) + n_snps * -(-n_samples // 4)
    if size != need:
        raise BenchError(f"{bed}: {n_samples} samples × {n_snps} SNPs need {need} bytes, the file has {size}")


def write_bed(path: Path, blocks: Iterable[np.ndarray]) -> None:
    """Write a SNP-major .bed file from packed blocks, each (number of SNPs, ⌈n/4⌉) uint8; a block may be gone once
    the next one is asked for."""
    with atomic_path(path) as tmp, tmp.open("wb") as file:
        file.write(HEADER)
        for block in blocks:
            whole = block.flags.c_contiguous
            for part in [block] if whole else block:  # rows of a wider array, which are not copied
                file.write(np.ascontiguousarray(part, np.uint8).data)


def concatenate_beds(path: Path, parts: Iterable[PackedGenotypes]) -> None:
    """Write the SNPs of `parts`, all of the same individuals, one after the other into one .bed file."""
    parts = list(parts)
    if len({part.n_samples for part in parts}) != 1:
        sizes = ", ".join(f"{part.path}: {part.n_samples}" for part in parts)
        raise BenchError(f"{path}: the pieces must have the same number of individuals, they have {sizes}")
    stride = -(-parts[0].n_samples // 4)
    size = max(1, BLOCK_BYTES // stride)
    write_bed(path, (part.codes[snps, :stride] for part in parts for snps in part.blocks(size)))


def pack_dosages(dosages: np.ndarray) -> np.ndarray:
    """(n, m) dosages 0, 1, 2 or −1 → (m, ⌈n/4⌉) bytes as in a .bed file; padding codes are 0."""
    n, m = dosages.shape
    codes = np.zeros((m, -(-n // 4) * 4), np.uint8)
    codes[:, :n] = CODE_OF_DOSAGE[dosages.T]
    c = codes.reshape(m, -1, 4)
    return c[..., 0] | c[..., 1] << 2 | c[..., 2] << 4 | c[..., 3] << 6
