"""What a store of one machine class shows: figures of the rates over commits, and the table of steps."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from bench import figures as drawing
from bench import tables
from bench.errors import BenchError
from bench.history import count


def figures(rows: pd.DataFrame, order: str, out: Path) -> str:
    """Write OUT/CLASS/DATASET-DTYPE-THREADS.svg, .pdf and .png of rows in order; the sentence that names them.

    BenchError for rows of several machine classes, and where no product was timed.
    """
    from bench.figures import _history as figure
    from bench.tables import _history as table

    points = table.points(rows)
    key = _machine(rows)
    if points.empty:
        raise BenchError(f"{key}: no run of it timed a product; add a run with the experiment `products`")
    drawn = figure.draw(points, table.steps(points))
    for name, of in drawn.items():
        drawing.save(of, name, out / key)
    return f"{key}: {', '.join(drawn)} in {out / key}; {count(points['place'].nunique(), 'point')} in time, {order}"


def steps(rows: pd.DataFrame, order: str, out: Path | None = None) -> str:
    """The steps of rows in order as text; with `out` also OUT/CLASS/steps.csv, .html and .md."""
    from bench.tables import _history as table
    from bench.tables import _page

    points = table.points(rows)
    found, key = table.steps(points).drop(columns="place"), _machine(rows)
    if out:
        tables.save(found, "steps", table.TITLE, f"{table.CAPTION} Machine class {key}; commits {order}.", out / key)
    commits = points.loc[points["clean"].eq(True), "commit"].nunique()
    said = f"{key}: {count(len(found), 'step')} over {count(commits, 'commit')}, {order}"
    return "\n".join([said, *(_page.to_lines(found.drop(columns=["n", "m"])) if len(found) else [])])


def _machine(rows: pd.DataFrame) -> str:
    return str(rows["machine_class"].iloc[0])
