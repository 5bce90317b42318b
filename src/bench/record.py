"""The result document of one job, and files that are either whole or absent."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.errors import BenchError, DeviceLost

UNITS = ("s", "B", "1", "1/s", "B/s", "J")
STATUSES = ("ok", "refused", "wrong", "oom", "timeout")


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its name once the block has ended without an error.

    The file is flushed to the disk before it is renamed, so that after a crash `path` is whole or absent.
    A full or read-only folder becomes a sentence that says what to do.
    """
    path = Path(path)
    tmp = None
    try:
        with writing(path):
            make_folder(path.parent)
            handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=f".tmp{path.suffix}", dir=path.parent)
            os.close(handle)
            tmp = Path(name)
            yield tmp
            with tmp.open("rb") as written:
                os.fsync(written.fileno())
            tmp.chmod(0o666 & ~_umask())
            tmp.replace(path)
    finally:
        if tmp is not None:
            tmp.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """With its parents. BenchError where none can be, as in /proc, where there "is no such file"."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError as error:
        raise BenchError(f"{folder}: no folder can be made there ({error.strerror}); choose another one") from None


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What keeps `path` from being written becomes a sentence that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in _CANNOT_WRITE or isinstance(error, FileNotFoundError):
            raise
        raise BenchError(
            f"{path}: cannot write ({os.strerror(error.errno)}); {_CANNOT_WRITE[error.errno]} and run again: "
            "what has finished is kept"
        ) from error


_CANNOT_WRITE = {
    errno.ENOSPC: "free some space on that disk",
    errno.EDQUOT: "free some of your disk quota",
    errno.EROFS: "choose a writable results folder (config key `results`)",
    errno.EACCES: "make the folder writable, or choose another one (config key `results`)",
    errno.EPERM: "make the folder writable, or choose another one (config key `results`)",
    errno.EEXIST: "choose a results folder whose parents are folders (config key `results`)",
    errno.ENOTDIR: "choose a results folder whose parents are folders (config key `results`)",
}


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: str | Path, text: str) -> None:
    with atomic_path(path) as tmp:
        tmp.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Deterministic JSON: sorted keys, one indent, no NaN."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BenchError(f"{path}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BenchError(f"{path}: not a JSON document ({error}); delete it and run again") from None


def sha256_of(paths: list[str] | list[Path]) -> str:
    """One hash over the contents of several files, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(map(Path, paths)):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


@dataclass
class Document:
    """What one job found: who it is, under what circumstances, and one row per observation.

    A row is a metric with its value and unit and whatever places it inside the job (phase, k, direction,
    repeat, step). `collect` repeats identity and provenance in every row of the table.
    """

    identity: dict[str, Any]
    provenance: dict[str, Any] = field(default_factory=dict)
    status: str = "ok"
    reason: str | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, metric: str, value: float, unit: str, **place: Any) -> None:
        """Append an observation; `place` are further columns of the table."""
        if unit not in UNITS:
            raise ValueError(f"{metric}: unit {unit!r} is not one of {UNITS}")
        self.rows.append({"metric": metric, "value": float(value), "unit": unit, **place})

    def refuse(self, reason: str) -> Document:
        return self.end("refused", reason)

    def wrong(self, reason: str) -> Document:
        return self.end("wrong", reason)

    def broken(self, error: MemoryError | DeviceLost) -> Document:
        """End a job that ran out of memory, or whose device failed: the next run tries the latter again."""
        if isinstance(error, DeviceLost):
            return self.refuse(str(error))
        return self.end("oom", f"out of memory: {error}")

    def end(self, status: str, reason: str) -> Document:
        """End the job with something else than "ok"; `reason` is a sentence for the report."""
        if status not in STATUSES:
            raise ValueError(f"status {status!r} is not one of {STATUSES}")
        self.status, self.reason = status, reason
        return self

    def write(self, path: str | Path) -> None:
        def finite(row: dict[str, Any]) -> dict[str, Any]:
            # JSON has no NaN; a value that is not finite is written as null and says so in its row.
            return row if row["value"] - row["value"] == 0 else row | {"value": None}

        write_json(
            path,
            {
                "identity": self.identity,
                "provenance": self.provenance,
                "status": self.status,
                "reason": self.reason,
                "rows": [finite(row) for row in self.rows],
            },
        )
