"""Repeats → cells: what each kernel reached at one k and direction. Tables and figures start from here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student

from bench.statistics import NOTHING, Interval, by_process, median_interval, ratio_interval, widened

PLACE = ["dataset", "n", "m", "kernel", "target", "dtype", "threads"]
CELL = [*PLACE, "direction", "k"]
MEASURE_PEAKS = ("products", "scaling", "paired", "limits")  # experiments
FEWEST_SESSIONS = 4  # whose standard deviation is worth having
COMPARABLE = ["dataset", "n", "m", "threads", "direction", "k"]  # what two cells share to be compared


def ok(frame: pd.DataFrame, experiment: str) -> pd.DataFrame:
    """The observations of an experiment that may be shown: neither refused nor wrong."""
    return frame[(frame["experiment"] == experiment) & (frame["status"] == "ok") & frame["value"].notna()]


def spread(drawn: pd.DataFrame, name: str, intervals: Sequence[Interval]) -> None:
    """Put intervals into three columns: `name`, `name`_low and `name`_high."""
    drawn[name] = [i.value for i in intervals]
    drawn[f"{name}_low"] = [i.low for i in intervals]
    drawn[f"{name}_high"] = [i.high for i in intervals]


def repeats(rows: pd.DataFrame) -> list[np.ndarray]:
    """The values of `rows`, an array per process."""
    return by_process(rows["value"].to_numpy(float), rows["process"].to_numpy(float, na_value=np.nan))


def put_times(drawn: pd.DataFrame, name: str, groups: Any) -> None:
    """The times of each group of rows: columns times (a list of arrays, one per process), repeats, `name` (the
    median, with _low and _high), `name`_min, and contaminated (why a process of them was, or missing)."""
    times = [repeats(rows) for _, rows in groups]
    drawn["times"] = pd.Series(times, index=drawn.index, dtype=object)
    drawn["repeats"] = pd.Series([sum(map(len, of)) for of in times], index=drawn.index, dtype=int)
    spread(drawn, name, [median_interval(of) for of in times])
    drawn[f"{name}_min"] = [min(t.min() for t in of) for of in times]
    drawn["contaminated"] = pd.Series([contaminated(rows) for _, rows in groups], index=drawn.index, dtype="string")


def contaminated(rows: pd.DataFrame) -> str | None:
    """Why the sessions of these rows were contaminated, every reason once; None if none was."""
    return "; ".join(rows["contaminated"].dropna().unique()) or None


def reasons(rows: pd.DataFrame) -> dict[str, str | None]:
    """{case: why it was contaminated}."""
    return {str(case): contaminated(of) for case, of in rows.groupby("case")}


def session_median(rows: pd.DataFrame, metric: str) -> pd.Series:
    """The median of `metric` in each case."""
    return rows[rows["metric"] == metric].groupby("case")["value"].median()


def best_peak(frame: pd.DataFrame, cells: pd.DataFrame, metric: str) -> pd.Series:
    """For each row of `cells` the best try of "fma_peak", of its dtype, or of "read_peak", at no more threads than
    its, in all sessions of the run and in the job `limits`: what disturbs a try only lowers it. NaN without any."""
    rows = frame[(frame["metric"] == metric) & frame["experiment"].isin(MEASURE_PEAKS) & (frame["status"] == "ok")]
    on = ["dtype", "threads"] if metric == "fma_peak" else ["threads"]
    if metric == "read_peak":  # the limits have smaller buffers too, which a cache could hold
        rows = rows[rows["size"].isna() | (rows["size"] == rows["size"].max())]
    best = rows.groupby(on)["value"].max().sort_index()
    best = best.groupby("dtype").cummax() if "dtype" in on else best.cummax()
    return cells[on].merge(best.rename("best").reset_index(), on=on, how="left")["best"].set_axis(cells.index)


def session_peak(frame: pd.DataFrame, cells: pd.DataFrame, rows: pd.DataFrame, metric: str) -> pd.Series:
    """For each row of `cells` the peak to compare its rate with: the median of `metric` in `rows` of its own session,
    if that was clean; a contaminated session's own is no limit, and the best of the run stands in its place."""
    own = cells["case"].map(session_median(rows[rows["contaminated"].isna()], metric)).astype(float)
    measured = cells["case"].isin(rows.loc[rows["metric"] == metric, "case"])
    return own.fillna(best_peak(frame, cells, metric).where(measured))


def cells(frame: pd.DataFrame, experiment: str) -> pd.DataFrame:
    """One row per case, k and direction of a timed experiment, in seconds and 1/s.

    Columns: case, CELL, times (a list of the repeats of each process), repeats, time (median, with _low and _high),
    time_min, rate (n·m·k/time, with _low and _high), fma_peak and read_peak (see `session_peak`, NaN without), drift
    (see there), bytes_read (what a product streams of the stored matrix), contaminated (why, or missing).
    """
    rows = ok(frame, experiment)
    timed = rows[rows["metric"] == "product_time"]
    by = ["case", *CELL]
    # Groups of these columns alone, made once: of all columns they take most of the time of a figure.
    groups = list(timed[[*by, "value", "process", "contaminated"]].groupby(by, dropna=False))
    drawn = pd.DataFrame([key for key, _ in groups], columns=by)
    put_times(drawn, "time", groups)
    work = (drawn["n"] * drawn["m"] * drawn["k"]).astype(float)
    drawn["rate"], drawn["rate_low"], drawn["rate_high"] = (
        work / drawn[name] for name in ("time", "time_high", "time_low")
    )
    for metric in ("fma_peak", "read_peak"):
        drawn[metric] = session_peak(frame, drawn, rows, metric)
    drawn["bytes_read"] = drawn["case"].map(session_median(rows, "bytes_read")).astype(float)
    drawn["drift"] = drawn["threads"].map(drift(rows)).fillna(0.0).astype(float)
    return drawn


def drift(rows: pd.DataFrame) -> dict[int, float]:
    """{threads: how much the machine differed from session to session}: the standard deviation of the logarithm of a
    session's FMA peak or of its read bandwidth, the larger of the two, raised as Student's t is above the normal law
    with so many sessions. That of fewer than FEWEST_SESSIONS is not known and left out."""
    limits = rows[rows["metric"].isin(["fma_peak", "read_peak"])]
    session = limits.groupby(["metric", "dtype", "threads", "case"])["value"].median().map(np.log)
    groups = session.groupby(["metric", "dtype", "threads"])
    sizes = groups.size()
    spread = (groups.std() * student.ppf(0.975, sizes - 1) / 1.96)[sizes >= FEWEST_SESSIONS]
    return spread.groupby("threads").max().to_dict()  # type: ignore[return-value]


def fastest(drawn: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """The cell of the least median time in each group: the best target, for one."""
    best = drawn.sort_values(["time", "case"]).drop_duplicates(list(by))
    return best.sort_index()


def best_target(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells of one target per kernel, data set, dtype and threads: that of the least total time."""
    by = ["dataset", "kernel", "dtype", "threads"]
    total = cells.groupby([*by, "target"])["time"].sum().reset_index()
    best = total.sort_values(["time", "target"]).drop_duplicates(by)
    return cells.merge(best[[*by, "target"]], on=[*by, "target"])


def speed_up(drawn: pd.DataFrame, baseline: pd.DataFrame, on: Sequence[str] = COMPARABLE) -> list[Interval]:
    """For each cell, time of its baseline over its own; NaN where the baseline has no such cell.

    baseline: cells of which the fastest in each group `on` is compared with. A baseline against itself is 1.
    """
    best = {_key(row, on): row for row in fastest(baseline, on).to_dict("records")}
    found = []
    for row in drawn.to_dict("records"):
        base = best.get(_key(row, on))
        if base is None:
            found.append(NOTHING)
        elif base["case"] == row["case"]:
            found.append(Interval(1.0, np.nan, np.nan))
        else:
            found.append(session_ratio(base, row))
    return found


def session_ratio(base: dict[Any, Any], row: dict[Any, Any]) -> Interval:
    """Time of one cell over that of another. The repeats of a single process know nothing of how much the machine
    differed between the two sessions: their interval is widened by the drift. Several processes show it themselves.
    """
    alone = [cell["drift"] for cell in (base, row) if len(cell["times"]) == 1]
    return widened(ratio_interval(base["times"], row["times"]), float(np.linalg.norm(alone)))


def _key(row: dict[Any, Any], on: Sequence[str]) -> tuple[Any, ...]:
    return tuple(row[name] for name in on)


def against_blas(drawn: pd.DataFrame) -> list[Interval]:
    """Speed-up against dense float64 BLAS with the matrix resident: its best library."""
    return speed_up(drawn, drawn[(drawn["kernel"] == "dense_blas") & (drawn["dtype"] == "f8")])


def against_decompress(drawn: pd.DataFrame) -> list[Interval]:
    """Speed-up against decompress on the fly, in its best target, of the same dtype."""
    return speed_up(drawn, drawn[drawn["kernel"] == "decompress"], [*COMPARABLE, "dtype"])
