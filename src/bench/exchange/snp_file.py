"""BLUPF90's SNP file: a line per individual with its id and a digit per SNP, from the same column on in every line.

0, 1, 2 count an allele that the file does not name, 5 is a missing call. In a .bed written from it the counted allele
is B, the other one A.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from bench.errors import BenchError
from bench.genotypes.bim_fam import MAX_POSITION, finite, read_bim, read_fam, read_lines
from bench.genotypes.dataset import write_table
from bench.genotypes.packed import DOSAGES_OF_BYTE, PackedGenotypes, write_bed
from bench.record import atomic_path

BLOCK_BYTES = 1 << 25  # of unpacked genotypes at a time
NO_CODE = 255
CODE_OF_CHARACTER = np.full(256, NO_CODE, np.uint8)
CODE_OF_CHARACTER[[ord(c) for c in "0521"]] = [0, 1, 3, 2]
# The four characters of each byte of a .bed as one number, to be looked up at once.
CHARACTERS_OF_BYTE = np.frombuffer(b"0125", np.uint8)[DOSAGES_OF_BYTE].view(np.uint32).ravel()
MAP_COLUMNS = ("SNP_ID", "CHR", "POS")


def read_snp_file(path: Path | str) -> tuple[np.ndarray, PackedGenotypes]:
    """Ids (n,) and genotypes. Memory: the 2-bit codes, and a block of lines unpacked.

    BenchError names the line that has not two columns, another number of SNPs, a character that is no genotype, or
    an id that stands there already.
    """
    path = Path(path)
    ids: dict[str, int] = {}
    parts: list[np.ndarray] = []
    held: list[np.ndarray] = []
    width = 0
    for number, (name, digits) in enumerate(_lines(path), start=1):
        width = width or len(digits)
        if len(digits) != width:
            raise BenchError(f"{path}: line {number} has {len(digits)} genotypes, line 1 has {width}")
        if name in ids:
            raise BenchError(f"{path}: line {number}: individual {name!r} stands already in line {ids[name]}")
        ids[name] = number
        codes = CODE_OF_CHARACTER[np.frombuffer(digits, np.uint8)]
        if codes.max() == NO_CODE:
            snp = int(codes.argmax())
            raise BenchError(
                f"{path}: line {number}: SNP {snp + 1} of individual {name!r} is {chr(digits[snp])!r}; 0, 1, 2 or 5 "
                "(missing) was needed"
            )
        held.append(codes)
        if len(held) == _individuals_at_once(width):
            parts.append(_packed(held))
            held.clear()
    if held:
        parts.append(_packed(held))
    if not ids:
        raise BenchError(f"{path}: the file is empty, a line per individual was needed")
    return np.array(list(ids), dtype=object), PackedGenotypes(np.concatenate(parts, axis=1), len(ids), path)


def _lines(path: Path) -> Iterator[tuple[str, bytes]]:
    """Id and digits of each line."""
    try:
        with path.open("rb") as file:
            blank = 0
            for number, line in enumerate(file, start=1):
                fields = line.split()
                if not fields:  # an error, unless nothing follows
                    blank = blank or number
                    continue
                if len(fields) != 2 or blank:
                    found = (blank, 0) if blank else (number, len(fields))
                    raise BenchError(f"{path}: line {found[0]} has {found[1]} columns, needed 2 (id, genotypes)")
                yield _text(path, number, fields[0]), fields[1]
    except OSError as error:
        raise BenchError(f"{path}: cannot be read ({error.strerror})") from None


def _text(path: Path, number: int, name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise BenchError(f"{path}: line {number}: the id is not UTF-8 text") from None


def _individuals_at_once(width: int) -> int:
    """A multiple of 4, where a byte of the .bed starts."""
    return 4 * max(1, BLOCK_BYTES // (4 * width))


def _packed(rows: list[np.ndarray]) -> np.ndarray:
    """Individuals' codes, (SNPs,) each → (SNPs, ⌈rows/4⌉) bytes; padding codes are 0."""
    codes = np.zeros((-(-len(rows) // 4) * 4, len(rows[0])), np.uint8)
    codes[: len(rows)] = rows
    four = codes.reshape(-1, 4, codes.shape[1])
    return np.ascontiguousarray((four[:, 0] | four[:, 1] << 2 | four[:, 2] << 4 | four[:, 3] << 6).T)


def write_snp_file(path: Path | str, packed: PackedGenotypes, individuals: Sequence[str] | np.ndarray) -> None:
    """Write the dosages of `packed` as a SNP file. BenchError: ids of another number, empty or with blanks."""
    names = [str(name) for name in individuals]
    if len(names) != packed.n_samples:
        raise BenchError(f"{path}: {packed.n_samples} individuals, but {len(names)} ids")
    if unfit := [name for name in names if len(name.split()) != 1]:
        raise BenchError(f"{path}: the id {unfit[0]!r} is empty or has blanks, which a SNP file cannot hold")
    widest = max(len(name.encode()) for name in names)
    size = _individuals_at_once(packed.n_snps)
    with atomic_path(path) as tmp, tmp.open("wb") as file:
        for start in range(0, packed.n_samples, size):
            stop = min(start + size, packed.n_samples)
            codes = packed.codes[:, start // 4 : -(-stop // 4)]
            characters = np.ascontiguousarray(CHARACTERS_OF_BYTE[codes].view(np.uint8).T[: stop - start])
            for name, row in zip(names[start:stop], characters, strict=True):
                file.write(name.encode().ljust(widest) + b" " + row.tobytes() + b"\n")


def read_map(path: Path | str, n_snps: int) -> pd.DataFrame:
    """A map as a .bim without alleles: chromosome, snp (text), cm (0) and bp, a row per SNP in the order of the file.

    The header names SNP_ID, CHR and POS, in any order and among others; without one they are the three columns.
    BenchError names the line that has too few columns, a position that is no whole number, or a SNP twice.
    """
    path = Path(path)
    rows = [line.split() for line in read_lines(path)]
    if not rows:
        raise BenchError(f"{path}: the file is empty, a line per SNP was needed")
    header = [field.upper() for field in rows[0]]
    first = 1 if any(column in header for column in MAP_COLUMNS) else 0
    if first and (absent := [column for column in MAP_COLUMNS if column not in header]):
        raise BenchError(f"{path}: the header has no column {' and no column '.join(absent)}; it has {rows[0]}")
    snp, chromosome, position = (header.index(column) if first else i for i, column in enumerate(MAP_COLUMNS))
    needed = max(snp, chromosome, position) + 1
    seen: dict[str, int] = {}
    table = []
    for number, row in enumerate(rows[first:], start=first + 1):
        if len(row) < needed:
            raise BenchError(f"{path}: line {number} has {len(row)} columns, needed {needed} (SNP_ID, CHR, POS)")
        place = finite(row[position])
        if place is None or place % 1 or not 0 <= place <= MAX_POSITION:
            raise BenchError(f"{path}: line {number}: POS is {row[position]!r}, a whole number was needed")
        if row[snp] in seen:
            raise BenchError(f"{path}: line {number}: SNP {row[snp]!r} stands already in line {seen[row[snp]]}")
        seen[row[snp]] = number
        table.append((row[chromosome], row[snp], 0, int(place)))
    if len(table) != n_snps:
        raise BenchError(f"{path}: {len(table)} SNPs, but the genotypes have {n_snps}")
    return pd.DataFrame(table, columns=["chromosome", "snp", "cm", "bp"])


def to_plink(genotypes: Path | str, prefix: Path | str, *, map_file: Path | str | None = None) -> tuple[int, int]:
    """Write PREFIX.bed, .bim and .fam from a SNP file; how many individuals and SNPs.

    Without a map SNPs are SNP1, SNP2, … on chromosome 0. The alleles are A and B, B is counted.
    """
    prefix = Path(prefix)
    ids, packed = read_snp_file(genotypes)
    n, m = packed.shape
    if map_file is not None:
        bim = read_map(map_file, m)
    else:
        bim = pd.DataFrame({"chromosome": 0, "snp": [f"SNP{j + 1}" for j in range(m)], "cm": 0, "bp": 0})
    size = max(1, BLOCK_BYTES // packed.codes.shape[1])
    write_bed(_named(prefix, ".bed"), (packed.codes[snps] for snps in packed.blocks(size)))
    write_table(_named(prefix, ".bim"), bim.assign(allele1="A", allele2="B"), header=False)
    fam = pd.DataFrame({"family": ids, "id": ids, "sire": 0, "dam": 0, "sex": 0, "phenotype": -9})
    write_table(_named(prefix, ".fam"), fam, header=False)
    return n, m


def from_plink(prefix: Path | str, out: Path | str) -> tuple[int, int]:
    """Write OUT.txt, a SNP file, and OUT.map from PREFIX.bed, .bim and .fam; how many individuals and SNPs.

    The digits count the second allele of the .bim.
    """
    prefix, out = Path(prefix), Path(out)
    bim, fam = read_bim(_named(prefix, ".bim")), read_fam(_named(prefix, ".fam"))
    packed = PackedGenotypes.open(_named(prefix, ".bed"), n_samples=len(fam), n_snps=len(bim))
    write_snp_file(_named(out, ".txt"), packed, fam["id"].to_numpy())
    columns = pd.DataFrame({"SNP_ID": bim["snp"], "CHR": bim["chromosome"], "POS": bim["bp"]})
    with atomic_path(_named(out, ".map")) as tmp:
        columns.to_csv(tmp, sep=" ", index=False, lineterminator="\n")
    return packed.shape


def _named(prefix: Path, suffix: str) -> Path:
    """PREFIX with a suffix, whatever dots the prefix has."""
    return prefix.with_name(prefix.name + suffix)
