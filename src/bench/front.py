"""Where, when and how quietly a run was measured, for the first page of the report (workflow/report/report.rst)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd

from bench.record import write_text


def contaminated(frame: pd.DataFrame) -> tuple[int, int]:
    """The sessions of a table of `bench.collect` that were contaminated, and all that measured something."""
    measured = frame[frame["metric"].notna()]
    return measured[measured["contaminated"].notna()]["case"].nunique(), measured["case"].nunique()


def contamination(disturbed: int, sessions: int) -> str:
    """The sentence that says so."""
    return f"Contaminated: {disturbed} of {sessions} sessions, marked † in the tables; something else was running."


def text(frame: pd.DataFrame) -> str:
    """The paragraph, in reStructuredText."""
    measured = frame[frame["metric"].notna()]
    if measured.empty:
        return "Nothing was measured: the table *refused* says why.\n"
    machines = measured[["cpu", "cores", "memory", "gpu"]].drop_duplicates()
    days = sorted({started[:10] for started in measured["started_at"].dropna()})
    commits = measured[["commit", "dirty"]].dropna(subset="commit").drop_duplicates()
    disturbed, sessions = contaminated(frame)
    said = [
        f"Measured on {'; '.join(_machine(row) for row in machines.itertuples())}",
        " to ".join(dict.fromkeys([days[0], days[-1]])) if days else "",
        "; ".join(_commit(row) for row in commits.itertuples() if row.commit),
    ]
    quiet = contamination(disturbed, sessions) if disturbed else f"No session was contaminated, of {sessions}."
    return f"{', '.join(filter(None, said))}. **{quiet}**\n"


def _machine(row: Any) -> str:
    cores = "" if pd.isna(row.cores) else f"{row.cores} cores"
    memory = "" if pd.isna(row.memory) else f"{row.memory / 2**30:.1f} GiB"
    size = ", ".join(filter(None, [cores, memory, "" if pd.isna(row.gpu) else _plain(row.gpu)]))
    name = "an unknown processor" if pd.isna(row.cpu) else _plain(row.cpu)
    return f"{name} ({size})" if size else name


def _commit(row: Any) -> str:
    changed = pd.notna(row.dirty) and row.dirty
    return f"commit {row.commit[:7]}" + (" with changes that were not committed" if changed else "")


def _plain(words: object) -> str:
    """Words that reStructuredText takes as they are."""
    return re.sub(r"([*`|_\\<>])", r"\\\1", str(words))


def write(frame: pd.DataFrame, path: Path) -> None:
    """Write `text` whole or not at all."""
    write_text(path, text(frame))
