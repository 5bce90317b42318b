"""What a comparison found, as JSON for machines, Markdown for a pull request, and a table as CSV and HTML."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from bench.machine import this_machine
from bench.record import atomic_path, write_json, write_text
from bench.regression.gate import Comparison
from bench.regression.verdict import BARS, TIME_BAR, VERDICTS, Finding, overall
from bench.statistics import Interval
from bench.tables import _page

SCHEMA = 1  # of regression.json; docs/regression.md has its keys
MARKS = {"wrong": "❌", "slower": "❌", "inconclusive": "❔", "faster": "✅", "same": "✅"}
PRODUCTS = {"matmul": "Z V", "rmatmul": "Z′U", None: ""}
WORDS = {
    "wrong": "HEAD multiplies wrongly",
    "slower": "HEAD is slower",
    "inconclusive": "inconclusive",
    "faster": "HEAD is faster, and nothing is slower",
    "same": "no difference",
}
METRICS = {
    "instructions": "instructions", "prepare": "instructions to prepare", "bytes": "bytes held",
    "memory": "peak memory", "iterations": "PCG iterations", "time": "CPU time", "result": "result",
}  # fmt: skip
TITLE = "Regression"
CAPTION = (
    "HEAD compared with BASE: a ratio above 1 means that HEAD costs more. Instructions are those of the target that "
    f"callgrind can run; they, PCG iterations and bytes fail beyond {100 * BARS['instructions'] - 100:.0f} %, peak "
    f"memory beyond {100 * BARS['memory'] - 100:.0f} %, CPU time from × {TIME_BAR} that recurs in a second round of "
    "fresh processes."
)


def write(made: Comparison, folder: Path) -> None:
    """Write regression.json, .md, .csv, .html and the figure as SVG, PDF and PNG into `folder`."""
    from bench import figures
    from bench.regression import figure

    write_json(folder / "regression.json", to_json(made))
    write_text(folder / "regression.md", to_markdown(made))
    drawn = table(made)
    with atomic_path(folder / "regression.csv") as tmp:
        drawn.to_csv(tmp, index=False, lineterminator="\n")
    write_text(folder / "regression.html", _page.to_html(_written(drawn), f"{TITLE}: {verdict_line(made)}", CAPTION))
    figures.save(figure.draw(made), "regression", folder)


def to_json(made: Comparison) -> dict[str, Any]:
    """The whole comparison; numbers that are not finite are null."""
    machine = this_machine()

    def plain(finding: Finding) -> dict[str, Any]:
        items = asdict(finding).items()
        return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in items}

    return {
        "schema": SCHEMA,
        "verdict": made.verdict,
        "exit_status": made.exit_status,
        **{
            side: {"name": of.name, "commit": of.commit, "dirty": of.dirty, "fault": of.fault}
            for side, of in made.sides().items()
        },
        "settings": asdict(made.settings),
        "machine": {"host": machine.host, "cpu": machine.cpu, "cores": machine.cores, "memory": machine.memory},
        "started_at": made.started_at,
        "seconds": made.seconds,
        "skipped": made.skipped,
        "findings": [plain(finding) for finding in made.findings],
    }


def table(made: Comparison) -> pd.DataFrame:
    """A row per finding: what needs a reader first."""
    columns = ["verdict", "kernel", "target", "metric", "direction", "k", "base", "head", "ratio"]
    rows = [asdict(f) | {"ratio_low": f.low, "ratio_high": f.high} for f in made.findings]
    frame = pd.DataFrame(rows, columns=[*columns, "ratio_low", "ratio_high", "unit", "pairs", "reason"])
    order = frame["verdict"].map(VERDICTS.index)
    frame = (
        frame.assign(metric=frame["metric"].map(METRICS)).iloc[order.argsort(kind="stable")].reset_index(drop=True)
    )
    numbers = {name: pd.to_numeric(frame[name]) for name in ("base", "head", "ratio", "ratio_low", "ratio_high")}
    return frame.assign(**numbers, **{name: frame[name].astype("Int64") for name in ("k", "pairs")})


def _written(drawn: pd.DataFrame) -> pd.DataFrame:
    """The table with its numbers as text: milliseconds, or whole numbers with a comma at each thousand."""

    def text(value: float, unit: str) -> str:
        if math.isnan(value):
            return ""
        return f"{1e3 * value:.3f} ms" if unit == "s" else f"{value:,.0f}{' B' if unit == 'B' else ''}"

    numbers = {
        name: [text(value, unit) for value, unit in zip(drawn[name], drawn["unit"], strict=True)]
        for name in ("base", "head")
    }
    return drawn.assign(**numbers).drop(columns="unit")


def verdict_line(made: Comparison) -> str:
    """One line: the verdict, and how many rows are what."""
    counts = {verdict: sum(f.verdict == verdict for f in made.findings) for verdict in VERDICTS}
    said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    return f"{WORDS[made.verdict]} ({said or 'nothing was compared'})"


def to_markdown(made: Comparison) -> str:
    """A comment for a pull request: a line, a table of kernels and products, and the rest folded away."""
    lines = [f"### {MARKS[made.verdict]} {verdict_line(made)}", "", f"BASE {made.base}, HEAD {made.head}", ""]
    lines += _cells(made)
    reasons = [f for f in made.findings if f.verdict in ("wrong", "slower", "inconclusive")]
    if reasons:
        lines += ["", *dict.fromkeys(_reason(finding) for finding in reasons)]
    machine, numbers = this_machine(), _written(table(made)).drop(columns="reason")
    lines += [
        "", "<details><summary>All numbers</summary>", "", CAPTION, "",
        *_page.to_markdown(numbers, "", "").splitlines()[4:], "", "</details>", "",
        f"{machine.cpu}, {machine.cores} cores; {made.started_at}; {made.seconds:.0f} s.",
    ]  # fmt: skip
    if made.skipped:
        lines += ["", "Not compared: " + "; ".join(f"{name} ({why})" for name, why in made.skipped.items()) + "."]
    return "\n".join(lines) + "\n"


def _reason(finding: Finding) -> str:
    where = [finding.kernel, finding.target, METRICS[finding.metric], PRODUCTS[finding.direction]]
    where += [f"k = {finding.k}"] if finding.k else []
    return f"- {MARKS[finding.verdict]} {', '.join(part for part in where if part)}: {finding.reason}"


def _cells(made: Comparison) -> list[str]:
    """A row per kernel and product: both ratios and the verdict of the two."""
    cells: dict[tuple[str, str | None, int | None], list[Finding]] = {}
    for finding in made.findings:
        cells.setdefault((finding.kernel, finding.direction, finding.k), []).append(finding)
    lines = [
        "| kernel | product | k | instructions | CPU time | bytes | memory | iterations | verdict |",
        "| :-- | :-- | --: | --: | --: | --: | --: | --: | :-- |",
    ]
    for (kernel, direction, k), found in cells.items():
        by = {finding.metric: finding for finding in found}
        numbers = [_change(by.get("instructions") or by.get("prepare")), _time(by.get("time"))]
        numbers += [_change(by.get(metric)) for metric in ("bytes", "memory", "iterations")]
        verdict = overall(finding.verdict for finding in found)
        product = PRODUCTS[direction] or "prepare, hold, solve"
        lines.append(f"| {kernel} | {product} | {k or ''} | {' | '.join(numbers)} | {MARKS[verdict]} {verdict} |")
    return lines


def _change(finding: Finding | None) -> str:
    """Such as "+4.9 %"."""
    if finding is None or finding.ratio is None:
        return ""
    percent = 100 * (finding.ratio - 1)
    return "0" if abs(percent) < 0.005 else f"{percent:+.2f} %"


def _time(finding: Finding | None) -> str:
    if finding is None or finding.ratio is None or math.isnan(finding.ratio):
        return ""
    return f"× {Interval(finding.ratio, finding.low or math.nan, finding.high or math.nan)}"
