"""The rate that each measured limit of the machine allows a kernel, from what its algorithm takes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import numpy as np
import pandas as pd

from bench.tables import _cells

# What is used up → its name in the tables. Lookups of all widths use the same units, one after the other.
RESOURCES = {"fma": "multiply-adds", "lookup": "lookups", "int8": "8-bit products", "read": "reading"}


def bounds(frame: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """For each cell of `products`, in multiply-adds (n·m·k) per second: a column per resource with the rate that
    its limit alone allows (NaN: not used, not declared or not measured), `bound` the least of them, and `limit`
    the resource whose it is ("" without any)."""
    measured = limits(frame)
    declared = work(frame)
    limit = cache(partial(_limit, measured))  # a few limits serve hundreds of cells
    found = [_allowed(cell, declared.get((cell["case"], cell["direction"], cell["k"]), {}), limit)
             for cell in cells.to_dict("records")]  # fmt: skip
    drawn = pd.DataFrame(found, index=cells.index, columns=list(RESOURCES), dtype=float)
    drawn["bound"] = drawn[list(RESOURCES)].min(axis=1)
    named = drawn[list(RESOURCES)].fillna(np.inf).idxmin(axis=1).map(RESOURCES)
    drawn["limit"] = named.where(drawn["bound"].notna(), "")
    return drawn


def limits(frame: pd.DataFrame) -> pd.DataFrame:
    """The best of the tries of each limit: a try that something disturbed says nothing of what the machine can do.

    The targets were measured from the narrowest to the widest, and what runs a target runs those before it: its
    limit is no less than theirs. Nor is that of more threads less than that of fewer.
    """
    rows, of = _cells.ok(frame, "limits"), ["metric", "dtype", "k", "size"]
    rows = rows[(rows["phase"] == "limits") & rows["target"].notna()]
    best = rows.groupby([*of, "target", "threads"], dropna=False)["value"].max().reset_index()
    order = {target: i for i, target in enumerate(rows["target"].unique())}
    best["order"] = best["target"].map(order)
    for along, other in (("order", "threads"), ("threads", "order")):
        best = best.sort_values(along)
        best["value"] = best.groupby([*of, other], dropna=False)["value"].cummax()
    return best


def work(frame: pd.DataFrame) -> dict[tuple[str, str, int], dict[str, float]]:
    """{(case, direction, k): {what: how much of it one product takes}}, as the kernels declare."""
    rows = _cells.ok(frame, "products")
    rows = rows[rows["metric"].str.startswith("work_")]
    found: dict[tuple[str, str, int], dict[str, float]] = {}
    for case, direction, k, metric, value in zip(
        rows["case"], rows["direction"], rows["k"], rows["metric"], rows["value"], strict=True
    ):
        found.setdefault((case, direction, k), {})[metric.removeprefix("work_")] = value
    return found


def _allowed(cell: dict, work: dict[str, float], limit: Callable[..., float]) -> dict[str, float]:
    """Resource → rate."""
    seconds: dict[str, float] = {}
    for what, amount in work.items():
        resource = {"bytes": "read"}.get(what, "lookup" if what.startswith("lookups") else what)
        of = limit(what, cell["threads"], cell["target"], cell["dtype"], cell["bytes_read"])
        seconds[resource] = seconds.get(resource, 0.0) + amount / of
    return {resource: cell["n"] * cell["m"] * cell["k"] / s for resource, s in seconds.items()}


def _limit(limits: pd.DataFrame, what: str, threads: int, target: str, dtype: str, bytes_read: float) -> float:
    """What a second allows of `what`, NaN where it was not measured. A target that has no limits of its own is held
    against the best of all targets."""
    here = limits[limits["threads"] == threads]
    own = here[here["target"] == target]
    own = here if own.empty else own
    if what == "fma":
        at = own[(own["metric"] == "fma_peak") & (own["dtype"] == dtype)]
    elif what == "int8":
        at = own[own["metric"] == "int8_peak"]
    elif what == "bytes":
        at = here[(here["metric"] == "read_peak") & (here["size"] <= bytes_read)]
        at = at[at["size"] == at["size"].max()]
    else:
        at = own[(own["metric"] == "lookup_peak") & (own["k"] == int(what.removeprefix("lookups")))]
    return at["value"].max() if len(at) else np.nan
