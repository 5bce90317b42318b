"""What did not run, and why."""

from __future__ import annotations

import pandas as pd

TITLE = "Refused, wrong or unfinished"
CAPTION = (
    "Every case, or step of one, that gave no usable number, with its reason; cases of one reason share a "
    "row. Refused: known beforehand to be impossible here, or not asked for at this size. Wrong: the result"
    " differed from the reference, so it was not timed. Oom: the machine's memory ran out. Timeout: the "
    "time limit was reached."
)
GROUP = ["experiment", "status", "kernel", "reason"]
LISTED = {"dataset": "datasets", "target": "targets", "dtype": "dtypes", "threads": "threads"}


def draw(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per experiment, status, kernel and reason, with what it concerns as comma-separated lists."""
    rows = frame[frame["status"] != "ok"]
    groups = rows.groupby(GROUP, dropna=False, sort=True)
    found = [
        dict(zip(GROUP, key, strict=True))
        | {name: _listed(group[column]) for column, name in LISTED.items()}
        | {"cases": group["case"].nunique()}
        for key, group in groups
    ]
    return pd.DataFrame(found, columns=["experiment", "kernel", *LISTED.values(), "cases", "status", "reason"])


def _listed(values: pd.Series) -> str:
    return ", ".join(str(value) for value in sorted(values.dropna().unique()))
