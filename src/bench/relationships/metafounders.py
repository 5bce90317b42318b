"""The file of Γ, the relationships of metafounders (Legarra et al. 2015)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.errors import BenchError
from bench.genotypes.bim_fam import finite, read_lines


def read_gamma(path: Path) -> tuple[tuple[str, ...], np.ndarray]:
    """The metafounders' ids and Γ, (G, G).

    The header names them, after a first field that is not read; a line for each has its id and the numbers, in the
    order of the header. Columns are separated by tabs, commas, semicolons or blanks. BenchError names the line.
    """
    lines = read_lines(path)
    if len(lines) < 2:
        raise BenchError(f"{path}: {len(lines)} lines; a header and a line per metafounder were needed")
    separator = next((s for s in "\t,;" if s in lines[0]), None)
    names, *rows = ([field.strip() for field in line.split(separator)] for line in lines)
    groups = tuple(names[1:])
    if tuple(row[0] for row in rows) != groups:
        raise BenchError(f"{path}: the lines must be of {', '.join(groups)} in this order, as in the header")
    for number, row in enumerate(rows, start=2):
        if len(row) != len(names) or any(finite(text) is None for text in row[1:]):
            raise BenchError(f"{path}: line {number}: needed the id and {len(groups)} numbers")
    return groups, np.array([[float(text) for text in row[1:]] for row in rows])
