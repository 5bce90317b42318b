"""Result documents → one long table: a row per observation, with identity, outcome and provenance in each."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from bench.errors import BenchError
from bench.record import STATUSES, atomic_path, read_json

IDENTITY = {
    "experiment": "string",
    "case": "string",
    "dataset": "string",
    "n": "Int64",
    "m": "Int64",
    "missing_rate": "float64",
    "samples": "Int64",
    "kernel": "string",
    "target": "string",
    "method": "string",  # of X X', or of a centred or streamed product
    "against": "string",  # "kernel/target" of the other half of a pair
    "dtype": "string",
    "threads": "Int64",
    "direction": "string",
    "k": "Int64",
    "solver": "string",
    "trait": "string",
    "relationship": "string",
    "variant": "string",  # of single-step BLUP
    "preconditioner": "string",
    "animals": "Int64",  # of the pedigree
    "polygenic": "float64",
    "tuning": "string",
    "seed": "Int64",
}
OBSERVATION = {
    "phase": "string",
    "metric": "string",
    "value": "float64",
    "unit": "string",
    "size": "Int64",  # bytes of what a limit was measured on, or of what was read
    "process": "Int64",  # of several fresh ones, from 0
    "repeat": "Int64",
    "calls": "Int64",  # that a time is the mean of
    "step": "Int64",
    "part": "string",  # of a solve's time
    "note": "string",
}
OUTCOME = {"status": "string", "reason": "string", "contaminated": "string"}
PROVENANCE = {
    "commit": "string",
    "dirty": "boolean",
    "protocol": "Int64",
    "version": "Int64",
    "source_hash": "string",
    "library_hash": "string",
    "compiler": "string",
    "flags": "string",
    "dataset_hash": "string",
    "lock_hash": "string",
    "host": "string",
    "cpu": "string",
    "cores": "Int64",
    "memory": "Int64",
    "gpu": "string",
    "driver": "string",
    "affinity": "string",
    "pinning": "string",
    "governor": "string",
    "numa_nodes": "Int64",
    "huge_pages": "string",
    "blas": "string",
    "python": "string",
    "started_at": "string",
}
COLUMNS = IDENTITY | OBSERVATION | OUTCOME | PROVENANCE  # name → pandas dtype, in the order of the table

ACCEPTS = {"string": (str,), "Int64": (int,), "float64": (int, float), "boolean": (bool,)}
PARTS = {"identity": dict, "provenance": dict, "status": str, "reason": (str, type(None)), "rows": list}


def collect(paths: Iterable[Path | str]) -> pd.DataFrame:
    """The table of several result documents, with exactly the columns and dtypes of COLUMNS.

    A row's own fields win over the identity of its document; a document that does not name its case is
    named by its file. A document without rows (refused, out of memory, …) becomes one row whose metric is
    missing. BenchError names the file that is not a whole result document, the column that is not in
    COLUMNS, or the case that two files claim.
    """
    rows: list[dict[str, Any]] = []
    seen: dict[tuple[Any, Any], Path] = {}
    for path in map(Path, paths):
        rows += _rows(path)
        experiment, case = key = rows[-1].get("experiment"), rows[-1]["case"]
        if seen.setdefault(key, path) is not path:
            raise BenchError(
                f"{path}: case {case} of experiment {experiment} is also in {seen[key]}; "
                "collect the documents of one run"
            )
    return pd.DataFrame(
        {name: pd.Series([row.get(name) for row in rows], dtype=dtype) for name, dtype in COLUMNS.items()}
    )


def _rows(path: Path) -> list[dict[str, Any]]:
    """The rows of one document, checked against COLUMNS; at least one."""
    document = read_json(path)
    if not isinstance(document, dict) or document.keys() != PARTS.keys():
        raise BenchError(f"{path}: not a result document, which has exactly the keys {', '.join(PARTS)}")
    for part, kind in PARTS.items():
        if not isinstance(document[part], kind):
            raise BenchError(f"{path}: `{part}` is a {type(document[part]).__name__}; delete the file and run again")
    shared = {"case": path.stem} | document["provenance"] | document["identity"]
    shared |= {"status": document["status"], "reason": document["reason"]}
    _check(path, shared)
    for row in document["rows"]:
        if not isinstance(row, dict) or not isinstance(row.get("metric"), str):
            raise BenchError(f"{path}: a row without a metric: {row!r}; delete the file and run again")
        _check(path, row)
    return [shared | row for row in document["rows"]] or [shared]


def _check(path: Path, fields: dict[str, Any]) -> None:
    for name, value in fields.items():
        if name not in COLUMNS:
            raise BenchError(f"{path}: column `{name}` is not one of the table's; add it to COLUMNS in collect.py")
        accepted = ACCEPTS[COLUMNS[name]]
        if value is None or (isinstance(value, accepted) and (bool in accepted or not isinstance(value, bool))):
            continue
        raise BenchError(f"{path}: column `{name}` holds {value!r}, a {COLUMNS[name]} was needed")
    if fields.get("status", "ok") not in STATUSES:
        raise BenchError(f"{path}: status {fields['status']!r} is not one of {', '.join(STATUSES)}")


def write(frame: pd.DataFrame, path: Path | str) -> None:
    """Write the table as parquet; whole or not at all."""
    with atomic_path(path) as tmp:
        frame.to_parquet(tmp, index=False)


def read(path: Path | str) -> pd.DataFrame:
    """The table that `write` wrote. BenchError for a file that is missing, damaged or of other columns."""
    if not Path(path).exists():
        raise BenchError(f"{path}: no such file; make it with `bench collect`")
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise BenchError(f"{path}: not a parquet table ({error}); delete it and collect again") from None
    if list(frame.columns) != list(COLUMNS):
        differ = sorted(set(frame.columns) ^ set(COLUMNS))
        raise BenchError(f"{path}: columns {', '.join(differ) or 'in another order'} differ from the schema's")
    return frame.astype(COLUMNS)
