"""Which limit of the machine binds each kernel, and how near to it the kernel comes."""

from __future__ import annotations

import pandas as pd

from bench.tables import _bounds, _cells

TITLE = "Which limit binds each kernel"
CAPTION = (
    "The rate of a product, n·m·k over its median time, beside the rates that the machine's limits allow the "
    "kernel's algorithm: each is n·m·k over the time that all its multiply-adds, table lookups, 8-bit products or "
    "the reading of its matrix would take by themselves, at the best rate measured (experiment limits) for the same "
    "number of threads and the same instruction set or a narrower one; a target without limits of its own is held "
    "against the best of all, and a matrix that a cache could hold against reading from a buffer no larger than it. "
    "The least of them is the bound. What a kernel takes is its own declaration, of what its algorithm cannot do "
    "without: recoding, building tables, and loading and storing sums come on top. An empty bound: the kernel "
    "declares no work, or the limits were not measured at this number of threads. A share above 100 % by more than "
    "noise is a limit that was disturbed when it was measured."
)
ORDER = ["dataset", "dtype", "threads", "k", "direction", "time", "kernel", "target"]


def draw(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per data set, n, m, dtype, threads, k, direction, kernel and target. Rates in G/s."""
    cells = _cells.cells(frame, "products").sort_values(ORDER, ignore_index=True)
    drawn = cells[["dataset", "n", "m", "dtype", "threads", "k", "direction", "kernel", "target"]].copy()
    found = _bounds.bounds(frame, cells)
    drawn["rate"] = cells["rate"] / 1e9
    for name in (*_bounds.RESOURCES, "bound"):
        drawn[f"{name}_bound" if name != "bound" else name] = found[name] / 1e9
    drawn["limit"] = found["limit"]
    drawn["bound_share"] = cells["rate"] / found["bound"]
    drawn["contaminated"] = cells["contaminated"]
    return drawn
