"""What is wanted against what was measured: holds, does not hold, inconclusive, not measured."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bench import collect, config, figures, tables
from bench.claims import query
from bench.claims.query import PLACE, STATISTICS, Cell
from bench.claims.spec import Claim, Claims, Wanted
from bench.errors import BenchError, meant
from bench.statistics import NOTHING, Interval
from bench.tables import _page

HOLDS, FAILS, UNSURE, ABSENT = "holds", "does not hold", "inconclusive", "not measured"
NOT_THERE = "no such rows"
NO_ROWS = pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in collect.COLUMNS.items()})
RANK = (FAILS, UNSURE, HOLDS)  # the worst first
Measured = dict[str, pd.DataFrame]  # configuration → table of measurements
TITLE = "Claims"
CAPTION = (
    "What README and docs state about measurements, against the measurements at hand. A claim over several cells is "
    "decided by the worst, which is named, with its 95 % interval. It holds if the whole interval lies within what "
    "is wanted, does not hold if the whole interval lies outside, and is inconclusive if a bound lies in it or if "
    "there is no interval. Some claims are known not to hold everywhere: expected says so."
)


@dataclass(frozen=True)
class Finding:
    """A claim with its verdict, and the cells that it was read from."""

    name: str
    claim: Claim
    unit: str
    cells: list[Cell]
    worst: Cell | None
    verdict: str
    reason: str  # why it was not measured, or why it is expected not to hold

    @property
    def as_expected(self) -> bool:
        """Whether it holds, or does not and need not."""
        return self.verdict == HOLDS or (self.claim.expected == FAILS and self.verdict != ABSENT)


def judge(name: str, claim: Claim, frame: pd.DataFrame) -> Finding:
    """The verdict on one claim."""
    cells = query.cells(claim.query, frame)
    unit = STATISTICS[claim.query.statistic].unit
    if not cells:
        return Finding(name, claim, unit, [], None, ABSENT, _why_absent(claim, frame))
    decisive = [_order(group, claim.wanted)[-1] for group in _either(cells)] if claim.over == "either" else cells
    worst = _order(decisive, claim.wanted)[0]
    reason = f"contaminated: {worst.disturbed}" if worst.disturbed and not worst.exact else claim.reason or ""
    return Finding(name, claim, unit, cells, worst, of_cell(worst, claim.wanted), reason)


def of_cell(cell: Cell, wanted: Wanted) -> str:
    """The verdict on one cell; a time from a contaminated session decides nothing."""
    return UNSURE if cell.disturbed and not cell.exact else decide(cell.interval, wanted)


def decide(found: Interval, wanted: Wanted) -> str:
    """HOLDS if the whole interval is within what is wanted, FAILS if all of it is outside, else UNSURE."""
    if not query.certain(found):
        return UNSURE
    if wanted.low <= found.low and found.high <= wanted.high:
        return HOLDS
    return FAILS if found.high < wanted.low or found.low > wanted.high else UNSURE


def margin(value: float, wanted: Wanted) -> float:
    """How far within what is wanted a value lies: the factor to the nearer bound, below 1 if it is beyond it."""
    least = value / wanted.low if wanted.low else math.inf
    most = wanted.high / value if value > 0 else math.inf
    return min(least, most)


def _order(cells: list[Cell], wanted: Wanted) -> list[Cell]:
    """The cells, the worst first."""

    def key(cell: Cell) -> tuple[int, float]:
        return RANK.index(of_cell(cell, wanted)), margin(cell.interval.value, wanted)

    return sorted(cells, key=key)


def _either(cells: list[Cell]) -> list[list[Cell]]:
    """The cells by all but the direction."""
    groups: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in cells:
        key = tuple(value for name, value in cell.place.items() if name != "direction")
        groups.setdefault(key, []).append(cell)
    return list(groups.values())


def _why_absent(claim: Claim, frame: pd.DataFrame) -> str:
    """The reason of the first refused row that the claim would have read; else what to run."""
    inside = ("direction", "k", "metric", "phase")  # vary inside a case, and are null where nothing was observed
    for where in (claim.query.where, claim.query.where | claim.query.than):
        gone = query.select(frame, {column: value for column, value in where.items() if column not in inside})
        reasons = gone.loc[gone["status"] != "ok", "reason"].dropna()
        if len(reasons):
            return str(reasons.iloc[0])
    return f"{NOT_THERE}; {claim.configuration} measures them"


def chosen(claims: Claims, only: list[str] | None) -> dict[str, Claim]:
    """The claims of these names, all by default. BenchError for a name that there is not."""
    for name in only or []:
        if name not in claims.claims:
            raise BenchError(f"--only: there is no claim {name!r}{meant(name, claims.claims)}")
    return {name: claim for name, claim in claims.claims.items() if not only or name in only}


def judge_all(claims: dict[str, Claim], measured: Measured) -> list[Finding]:
    """The verdict on each claim, from the table of its configuration."""
    return [judge(name, claim, measured[claim.configuration]) for name, claim in claims.items()]


def status(findings: Iterable[Finding]) -> int:
    """Exit status: 0 all hold or are expected not to, 1 one does not, 3 one is inconclusive or not measured."""
    wrong = {finding.verdict for finding in findings if not finding.as_expected}
    return 1 if FAILS in wrong else 3 if wrong else 0


def tables_of(claims: Claims, root: Path = Path()) -> dict[str, Path]:
    """Configuration → its table of measurements, there or not."""
    return {
        name: root / config.read([root / name], root).results / "measurements.parquet"
        for name in claims.configurations
    }


def own_tables(claims: Claims, root: Path = Path()) -> tuple[Measured, list[str]]:
    """Configuration → its measurements, none where its run is not there; and why a table that is there cannot be
    read: it is of another version, say."""
    measured: Measured = {}
    faults = []
    for name, path in tables_of(claims, root).items():
        measured[name] = NO_ROWS
        try:
            measured[name] = collect.read(path) if path.exists() else NO_ROWS
        except BenchError as error:
            faults.append(str(error))
    _one_machine(measured.values())
    return measured, faults


def given_tables(claims: Claims, paths: Iterable[Path]) -> Measured:
    """Every configuration → the same table: the rows of all files. BenchError where two of them share a case other
    than that of the machine's limits: its repeats would count twice."""
    frames = [collect.read(path) for path in paths]
    _one_machine(frames)
    seen: dict[tuple[Any, Any], int] = {}
    for number, rows in enumerate(frames):
        cases = rows.loc[rows["experiment"] != "limits", ["experiment", "case"]].drop_duplicates()
        for experiment, case in cases.itertuples(index=False):
            if seen.setdefault((experiment, case), number) != number:
                raise BenchError(
                    f"--measurements: case {case} of experiment {experiment} is in two of the tables; name only one"
                )
    frame = pd.concat(frames, ignore_index=True)
    return dict.fromkeys(claims.configurations, frame)


def _one_machine(frames: Iterable[pd.DataFrame]) -> None:
    machines = {place for frame in frames for place in frame[["cpu", "cores"]].dropna().itertuples(index=False)}
    if len(machines) > 1:
        found = "; ".join(sorted(f"{cpu}, {cores} cores" for cpu, cores in machines))
        raise BenchError(f"the tables are of {len(machines)} machines ({found}); claims need one")


def missing(claims: Claims, root: Path = Path()) -> list[str]:
    """The configurations whose run is not there, is of another schema, or lacks rows (refused ones count as there)
    that a claim of theirs reads."""
    findings = judge_all(claims.claims, own_tables(claims, root)[0])
    lacking = {found.claim.configuration for found in findings if found.reason.startswith(NOT_THERE)}
    return [name for name in claims.configurations if name in lacking]


def name_of(cell: Cell) -> str:
    """Where it is, in words: `cattle auto/avx512 f8 1 thread Z′U k = 10`."""
    place = cell.place
    kernel = "/".join(str(place[name]) for name in ("kernel", "target") if name in place)
    against = f"against {place['against']}" if "against" in place else ""
    threads = f"{place['threads']} thread{'s' if place.get('threads') != 1 else ''}" if "threads" in place else ""
    k = f"k = {place['k']}" if "k" in place else ""
    direction = _page.DIRECTIONS.get(place.get("direction", ""), "")
    rest = [str(place[name]) for name in ("method", "solver", "trait", "relationship") if name in place]
    parts = [place.get("dataset"), kernel, against, *rest, place.get("dtype"), threads, direction, k]
    return " ".join(str(part) for part in parts if part)


def wanted_text(wanted: Wanted, unit: str) -> str:
    """Such as `≥ 60 %`."""
    if wanted.about is not None and wanted.within is not None:
        return f"{wanted.about:g} {unit}".rstrip() + f" ± {100 * wanted.within:g} %"
    ends = [f"{sign} {number(bound, unit)}" for sign, bound in (("≥", wanted.least), ("≤", wanted.most)) if bound]
    return ", ".join(ends)


def number(value: float, unit: str) -> str:
    """A value with its unit, in three significant digits and plain where it can be."""
    text = f"{value:.3g}" if 1e-3 <= abs(value) < 1e3 else f"{value:.0f}" if 1e3 <= value < 1e6 else f"{value:.2g}"
    return re.sub(r"e([+-])0", r"e\1", f"{text} {unit}".rstrip())


def plain(interval: Interval) -> str:
    """An interval as text; one that is a point without its bounds."""
    return str(Interval(interval.value, math.nan, math.nan) if interval.low == interval.high else interval)


def draw(findings: Iterable[Finding]) -> pd.DataFrame:
    """One row per claim: what is wanted, the deciding cell with its interval, and the verdict."""
    rows = []
    for found in findings:
        interval = found.worst.interval if found.worst else NOTHING
        if interval.low == interval.high:  # exact
            interval = Interval(interval.value, math.nan, math.nan)
        rows.append(
            {
                "claim": found.name,
                "wanted": wanted_text(found.claim.wanted, found.unit),
                "measured": interval.value,
                "measured_low": interval.low,
                "measured_high": interval.high,
                "unit": found.unit,
                "verdict": found.verdict,
                "expected": found.claim.expected if found.claim.expected == FAILS else "",
                "cell": name_of(found.worst) if found.worst else "",
                "cells": len(found.cells),
                "text": found.claim.text,
                "note": found.reason,
            }
        )
    return pd.DataFrame(rows)


def write(findings: list[Finding], folder: Path) -> None:
    """The table as CSV, HTML and Markdown and the figure as SVG, PDF and PNG, all named claims, into `folder`."""
    from bench.claims import figure

    tables.save(draw(findings), "claims", TITLE, CAPTION, folder)
    figures.save(figure.draw(findings), "claims", folder)


def to_text(findings: list[Finding]) -> str:
    """The table for a terminal, then a sentence for each claim that does not simply hold."""
    shown = draw(findings)[
        ["claim", "wanted", "measured", "measured_low", "measured_high", "unit", "verdict", "cell"]
    ]
    lines = _page.to_lines(shown)
    absent: dict[str, list[str]] = {}
    for found in findings:
        if found.verdict == ABSENT:
            absent.setdefault(found.reason, []).append(found.name)
        elif found.verdict != HOLDS:
            known = " as expected" if found.as_expected else ""
            lines += ["", f"{found.name}: {found.verdict}{known}. {found.claim.text}"]
            lines += [f"  {found.reason}"] if found.reason else []
        elif found.claim.expected == FAILS:
            lines += ["", f"{found.name}: holds here, though it is expected not to: {found.reason}"]
    for reason, names in absent.items():
        lines += ["", f"{ABSENT}: {', '.join(names)}", f"  {reason}"]
    counts = {verdict: sum(f.verdict == verdict for f in findings) for verdict in (HOLDS, FAILS, UNSURE, ABSENT)}
    return "\n".join([*lines, "", ", ".join(f"{count} {verdict}" for verdict, count in counts.items())])


def to_json(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """What `draw` shows, with every cell; no value is NaN."""

    def plain(interval: Interval) -> dict[str, float | None]:
        ends = {"value": interval.value, "low": interval.low, "high": interval.high}
        return {name: None if math.isnan(end) else end for name, end in ends.items()}

    def place(cell: Cell) -> dict[str, Any]:
        named = {name: cell.place[name] for name in [*PLACE, "against"] if name in cell.place}
        return {name: value if isinstance(value, str) else int(value) for name, value in named.items()}

    return [
        {
            "claim": found.name,
            "text": found.claim.text,
            "unit": found.unit,
            "least": found.claim.wanted.low or None,
            "most": found.claim.wanted.high if math.isfinite(found.claim.wanted.high) else None,
            "verdict": found.verdict,
            "expected": found.claim.expected,
            "reason": found.reason,
            "worst": place(found.worst) | plain(found.worst.interval) if found.worst else None,
            "cells": [place(cell) | plain(cell.interval) for cell in found.cells],
        }
        for found in findings
    ]
