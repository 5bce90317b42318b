"""Tables about SNPs against a .bim: the same SNPs, and the same allele counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bench.errors import BenchError
from bench.genotypes.bim_fam import finite, read_lines

# Besides plain names those of plink's .frq and .afreq files, whose frequency is that of A1 and ALT.
NAMES = {
    "snp": ("snp", "id", "snp_id"),
    "allele": ("allele", "a1", "alt"),
    "frequency": ("frequency", "maf", "alt_freqs"),
}


@dataclass(frozen=True)
class Match:
    """rows: (m,) the table's row of each SNP of the .bim, −1 where there is none. turned: (m,) whether the table
    speaks of the allele that the .bim does not count."""

    rows: np.ndarray
    turned: np.ndarray


def match_snps(
    bim: pd.DataFrame, snps: Sequence[str] | np.ndarray, alleles: Sequence[str] | np.ndarray, *, of: str
) -> Match:
    """Find the SNPs of a .bim (read_bim) in a table by name; `of` says whose table it is.

    Strands are not turned: an allele must be one of the two of the .bim. BenchError: a SNP twice in either, or an
    allele that the .bim does not have.
    """
    index, names = pd.Index(np.asarray(snps, dtype=object)), pd.Index(bim["snp"].to_numpy(object))
    for ids, whose in ((index, of), (names, "the .bim file")):
        if ids.has_duplicates:
            raise BenchError(f"{whose}: SNP {ids[ids.duplicated()][0]!r} stands there twice; keep one")
    rows = index.get_indexer(names)
    known = rows >= 0
    given = np.asarray(alleles, dtype=object)[rows[known]]
    first, counted = (bim[column].to_numpy(object)[known] for column in ("allele1", "allele2"))
    if (strange := np.flatnonzero((given != first) & (given != counted))).size:
        j = strange[0]
        raise BenchError(
            f"{of}: {strange.size} of {int(known.sum())} SNPs have an allele that the .bim file does not, such as "
            f"{names[known][j]!r}: {given[j]!r} instead of {first[j]!r} or {counted[j]!r}; strands are not turned"
        )
    turned = np.zeros(len(bim), bool)
    turned[known] = given != counted
    return Match(rows, turned)


def read_frequencies(path: Path | str, bim: pd.DataFrame) -> np.ndarray:
    """(m,) frequencies of the counted alleles of a .bim from a text table with the columns snp, allele and frequency.

    plink's .frq (SNP, A1, MAF) and .afreq (ID, ALT, ALT_FREQS) are such tables; separators are tabs, commas or
    blanks. BenchError names the line that is wrong, or the SNPs of the .bim that are not there.
    """
    path = Path(path)
    lines = read_lines(path)
    if len(lines) < 2:
        raise BenchError(f"{path}: {len(lines)} lines; a header and a line per SNP were needed")
    separator = next((s for s in "\t," if s in lines[0]), None)
    rows = [[field.strip() for field in line.split(separator)] for line in lines]
    header = [field.lower().lstrip("#") for field in rows[0]]
    at = {name: next((header.index(h) for h in spelled if h in header), None) for name, spelled in NAMES.items()}
    if absent := [name for name, place in at.items() if place is None]:
        raise BenchError(f"{path}: the header has no column {' and no column '.join(absent)}; it has {rows[0]}")
    snp, allele, frequency = (int(place) for place in at.values() if place is not None)
    values = np.empty(len(rows) - 1)
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(header):
            raise BenchError(f"{path}: line {number} has {len(row)} columns, the header has {len(header)}")
        value = finite(row[frequency])
        if value is None or not 0 <= value <= 1:
            raise BenchError(
                f"{path}: line {number}: the frequency is {row[frequency]!r}, a number from 0 to 1 was needed"
            )
        values[number - 2] = value
    match = match_snps(bim, [row[snp] for row in rows[1:]], [row[allele] for row in rows[1:]], of=str(path))
    if (unknown := np.flatnonzero(match.rows < 0)).size:
        raise BenchError(
            f"{path}: {unknown.size} of {len(bim)} SNPs of the .bim file are not there, such as "
            f"{bim['snp'].iloc[unknown[0]]!r}"
        )
    found = values[match.rows]
    return np.where(match.turned, 1 - found, found)
