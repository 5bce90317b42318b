"""The comparison in a few lines."""

from __future__ import annotations

import pandas as pd

from bench.front import contaminated, contamination
from bench.tables import _cells, _page, refused

TITLE = "Summary"
MOST_LINES = 20
USUAL_K = 10
CAPTION = (
    "Rate of each kernel's fastest target in float64, n·m·k multiply-adds per second with k = 10 columns "
    "(or the largest k below), on one thread and on all, and how many times as fast as dense float64 BLAS "
    "with the matrix resident."
)
GROUP = ["dataset", "n", "m", "k", "threads", "kernel"]


def draw(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per data set, threads (1 and the most) and kernel, the largest data set first. Rates in G/s."""
    cells = _cells.cells(frame, "products")
    cells = cells[cells["dtype"] == "f8"]
    _cells.spread(cells := cells.copy(), "speedup", _cells.against_blas(cells))
    k = max((k for k in cells["k"] if k <= USUAL_K), default=cells["k"].min())
    ends = {cells["threads"].min(), cells["threads"].max()}
    cells = cells[(cells["k"] == k) & cells["threads"].isin(ends)]
    # One target has to serve both directions: that of the least time for Z V and Z'U together.
    both = cells.groupby([*GROUP, "target"], as_index=False)["time"].sum()
    best = both.sort_values(["time", "target"]).drop_duplicates(GROUP)
    drawn = best.drop(columns="time")
    for direction in _page.DIRECTIONS:
        at = cells.loc[cells["direction"] == direction, [*GROUP, "target", "rate", "speedup"]]
        names = {"rate": f"rate_{direction}", "speedup": f"blas_{direction}"}
        drawn = drawn.merge(at.rename(columns=names), on=[*GROUP, "target"], how="left")
        drawn[f"rate_{direction}"] /= 1e9
    drawn["genotypes"] = (drawn["n"] * drawn["m"]).astype(float)
    order = ["genotypes", "dataset", "threads", "rate_matmul", "kernel"]
    drawn = drawn.sort_values(order, ascending=[False, True, True, False, True], ignore_index=True)
    columns = ["rate_matmul", "rate_rmatmul", "blas_matmul", "blas_rmatmul"]
    return drawn[["dataset", "n", "m", "k", "threads", "kernel", "target", *columns]]


def to_text(frame: pd.DataFrame) -> str:
    """The table for a terminal, at most MOST_LINES lines, and how much was refused."""
    drawn, notes = draw(frame), _notes(frame)
    lines = _page.to_lines(drawn)
    if drawn.empty:
        lines = ["No product was timed."]
    if len(lines) > MOST_LINES - max(2, len(notes)):
        kept = MOST_LINES - max(2, len(notes)) - 1
        lines = [*lines[:kept], f"… and {len(lines) - kept} more rows in the table `summary`"]
    return "\n".join([*lines, *notes])


def _notes(frame: pd.DataFrame) -> list[str]:
    """How many sessions were contaminated, and what has no result; each after an empty line."""
    disturbed, of = contaminated(frame)
    notes = []
    if disturbed:
        notes += [
            "",
            contamination(disturbed, of),
        ]
    gone = refused.draw(frame)
    if len(gone):
        counts = gone.groupby("status")["cases"].sum()
        said = ", ".join(f"{count} {status}" for status, count in counts.items())
        notes += ["", f"Cases or steps without a result: {said}; the table `refused` says why."]
    return notes
