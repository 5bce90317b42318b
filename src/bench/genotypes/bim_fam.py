"""PLINK's text companions of a .bed file: .bim (SNPs) and .fam (individuals)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from bench.errors import BenchError

BIM_COLUMNS = ("chromosome", "snp", "cm", "bp", "allele1", "allele2")
FAM_COLUMNS = ("family", "id", "sire", "dam", "sex", "phenotype")
MAX_POSITION = 2**31 - 1  # PLINK's own limit


def read_bim(path: Path) -> pd.DataFrame:
    """SNPs: chromosome, snp, cm (float), bp (int), allele1 and allele2 (the counted one).

    BenchError names the line that has another number of columns or a position that is no number.
    """
    frame = _read_columns(path, BIM_COLUMNS, "SNP")
    for column, whole in (("cm", False), ("bp", True)):
        frame[column] = _numbers(path, frame[column].tolist(), column, whole=whole)
    return frame


def read_chromosomes(paths: Sequence[Path]) -> pd.DataFrame:
    """The SNPs of .bim files of the chromosomes 1, 2, …, joined. BenchError: a file of another chromosome."""
    tables = [read_bim(path) for path in paths]
    for number, (path, table) in enumerate(zip(paths, tables, strict=True), start=1):
        if other := set(table["chromosome"]) - {str(number)}:
            raise BenchError(f"{path}: SNPs of chromosome {min(other)}, needed those of chromosome {number}")
    return pd.concat(tables, ignore_index=True)


def read_fam(path: Path) -> pd.DataFrame:
    """Individuals: family, id, sire, dam, sex, phenotype, all as text; ids are unique.

    Individuals are known by their own id (column 2) alone. BenchError names the line that is wrong.
    """
    frame = _read_columns(path, FAM_COLUMNS, "individual")
    twice = frame["id"].duplicated()
    if twice.any():
        line = int(twice.to_numpy().argmax())
        first = int((frame["id"] == frame["id"][line]).to_numpy().argmax())
        raise BenchError(
            f"{path}: line {line + 1}: individual {frame['id'][line]!r} stands already in line {first + 1}; "
            "ids (column 2) must be unique, whatever the family"
        )
    return frame


def _read_columns(path: Path, columns: tuple[str, ...], item: str) -> pd.DataFrame:
    path = Path(path)
    rows = []
    for number, line in enumerate(read_lines(path), start=1):
        fields = line.split()
        if len(fields) != len(columns):
            raise BenchError(
                f"{path}: line {number} has {len(fields)} columns, needed {len(columns)} ({', '.join(columns)})"
            )
        rows.append(fields)
    if not rows:
        raise BenchError(f"{path}: the file is empty, a line per {item} was needed")
    return pd.DataFrame(rows, columns=list(columns))


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 text file without their ends, and without blank ones at its end."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BenchError(f"{path}: not a text file (byte {error.start} is not UTF-8)") from None
    except OSError as error:
        raise BenchError(f"{path}: cannot be read ({error.strerror})") from None
    return text.rstrip().split("\n") if text.strip() else []


def finite(text: str) -> float | None:
    """The finite number that `text` spells; None if it spells none (unlike Python, 1_000 is none)."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None


def _numbers(path: Path, texts: list[str], column: str, *, whole: bool) -> np.ndarray:
    values = np.empty(len(texts), np.int64 if whole else float)
    for line, text in enumerate(texts, start=1):
        value = finite(text)
        if value is None or (whole and (value % 1 or abs(value) > MAX_POSITION)):
            need = "a whole number" if whole else "a number"
            raise BenchError(f"{path}: line {line}: {column} is {text!r}, {need} was needed")
        values[line - 1] = value
    return values
