"""README and docs take their numbers from here: docs/measured.yaml records them, marks in the pages show them.

<!-- claim: NAME -->82 to 92 %<!-- /claim -->      what was measured, over the cells
<!-- wanted: NAME -->60 %<!-- /wanted -->          the bound that is stated
<!-- block: NAME --> … <!-- /block -->             a table, with machine, date and commit
<!-- claims --> … <!-- /claims -->                 all claims
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from bench import tables
from bench.claims import query, verdict
from bench.claims.query import PLACE
from bench.claims.spec import Block, Claims, values
from bench.claims.verdict import ABSENT, Finding, Measured
from bench.errors import BenchError, meant
from bench.record import write_text
from bench.statistics import Interval
from bench.tables import _page

MEASURED = Path("docs/measured.yaml")
HEAD = "# What README and docs say was measured. Written by `bench claims --fill`; edit config/claims.yaml instead.\n"
INLINE = re.compile(r"<!-- (claim|wanted): (\w+) -->(.*?)<!-- /\1 -->", re.DOTALL)
BLOCK = re.compile(r"<!-- (block): (\w+) -->(.*?)<!-- /\1 -->", re.DOTALL)
ALL = re.compile(r"<!-- claims -->(.*?)<!-- /claims -->", re.DOTALL)
SIDES = {*PLACE, "against", "against_target"}  # columns of a table that say which row it is
EXPERIMENTS = {"bounds": "products", "kernels": "products"}  # table → experiment, where the names differ

Record = dict[str, Any]


def read(root: Path = Path()) -> Record:
    """The recorded values: {"claims": {name: …}, "blocks": {name: …}}; empty ones if there is no file yet."""
    path = root / MEASURED
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (ValueError, yaml.YAMLError) as error:
        raise BenchError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None
    if not isinstance(found, dict) or not {"claims", "blocks"} >= found.keys():
        raise BenchError(f"{path}: needs the maps `claims` and `blocks`; delete it and run `bench claims --fill`")
    return {"claims": {}, "blocks": {}} | found


def record(claims: Claims, findings: list[Finding], measured: Measured, before: Record) -> Record:
    """What was recorded before, with what these measurements say instead; what they do not say stays."""
    recorded = {name: before["claims"][name] for name in claims.claims if name in before["claims"]}
    for found in findings:
        if found.verdict != ABSENT:
            recorded[found.name] = _of_claim(found, measured[found.claim.configuration])
    blocks = {name: before["blocks"][name] for name in claims.blocks if name in before["blocks"]}
    for name, block in claims.blocks.items():
        if found := _of_block(name, block, measured[block.configuration]):
            blocks[name] = found
    return {"claims": recorded, "blocks": blocks}


def write(recorded: Record, root: Path = Path()) -> None:
    text = yaml.safe_dump(recorded, sort_keys=True, allow_unicode=True, width=1_000_000, default_flow_style=None)
    write_text(root / MEASURED, HEAD + text)


def fill(text: str, recorded: Record, claims: Claims, page: str) -> str:
    """A page whose marks hold what is recorded. BenchError for a mark of something that does not exist."""

    def put(known: dict[str, Any], shown: Callable[[str, str], str]) -> Callable[[re.Match[str]], str]:
        def one(mark: re.Match[str]) -> str:
            kind, name, _ = mark.groups()
            if name not in known:
                what = f"there is no {'block' if kind == 'block' else 'claim'} {name!r} in config/claims.yaml"
                raise BenchError(f"{page}: {what}{meant(name, known)}")
            return f"<!-- {kind}: {name} -->{shown(kind, name)}<!-- /{kind} -->"

        return one

    text = INLINE.sub(put(claims.claims, lambda kind, name: _inline(kind, name, recorded, claims)), text)
    text = BLOCK.sub(put(claims.blocks, lambda kind, name: _block(name, recorded, claims)), text)
    return ALL.sub(lambda _: f"<!-- claims -->\n\n{_all(recorded, claims)}\n\n<!-- /claims -->", text)


def pages(root: Path = Path()) -> list[Path]:
    """README and docs."""
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


def fill_all(recorded: Record, claims: Claims, root: Path = Path()) -> list[Path]:
    """Fill the marks of all pages; those that changed."""
    changed = []
    for page in pages(root):
        before = page.read_text(encoding="utf-8")
        after = fill(before, recorded, claims, str(page.relative_to(root)))
        if after != before:
            write_text(page, after)
            changed.append(page)
    return changed


def _of_claim(found: Finding, frame: pd.DataFrame) -> Record:
    assert found.worst
    ends = [cell.interval.value for cell in found.cells]
    low, high = (verdict.plain(Interval(end, math.nan, math.nan)) for end in (min(ends), max(ends)))
    return {
        "shown": f"{low if low == high else f'{low} to {high}'} {found.unit}".rstrip(),
        "worst": f"{verdict.plain(found.worst.interval)} {found.unit}".rstrip(),
        "cell": verdict.name_of(found.worst),
        "cells": len(found.cells),
        "verdict": found.verdict,
        "of": provenance(query.select(query.observed(frame), found.claim.query.where)),
    }


def _of_block(name: str, block: Block, frame: pd.DataFrame) -> Record | None:
    """Header and rows of the table as text, with its source; None where nothing was measured."""
    drawn = tables.load(block.table).draw(frame)
    across = [block.across] if block.across else []
    for column in [*block.where, *block.columns, *across]:
        if column not in drawn:
            what = f"claims: `blocks.{name}`: the table {block.table} has no column {column!r}"
            raise BenchError(what + meant(column, drawn.columns))
    for column, value in block.where.items():
        drawn = drawn[drawn[column].isin(values(value))]
    if drawn.empty:
        return None
    sides = [column for column in block.columns if column in SIDES]
    text, rows = _page.shown(drawn), {}
    for row in text.to_dict("records"):
        at = rows.setdefault(tuple(row[column] for column in sides), {})
        for column in block.columns:
            at.setdefault((column, *(row[name] for name in across if column not in sides)), []).append(row[column])
    columns = list(dict.fromkeys(column for at in rows.values() for column in at))
    place = {column: drawn[column].unique().tolist() for column in ("dataset", "kernel") if column in drawn}
    experiment = EXPERIMENTS.get(block.table, block.table)
    return {
        "header": [of[0] if of else _page.header(column) for column, *of in columns],
        "left": [column in _page.TEXT for column, *_ in columns],
        "rows": [[_beside(at.get(column, []), column[0]) for column in columns] for at in rows.values()],
        "of": provenance(query.select(query.observed(frame), place | {"experiment": experiment})),
    }


def _beside(texts: list[str], column: str) -> str:
    """The texts of both directions, as `Z V / Z′U`; once where it says which row it is, or what binds both."""
    return texts[0] if column in SIDES or (column in _page.TEXT and len(set(texts)) == 1) else " / ".join(texts)


def provenance(rows: pd.DataFrame) -> Record:
    """Machine, software, day and commits of some rows; a commit with a plus had changes that were not committed."""
    first = rows.bfill().iloc[0]
    states = rows[["commit", "dirty"]].drop_duplicates().fillna({"commit": "", "dirty": False})
    commits = sorted(f"{commit[:7]}{'+' if dirty else ''}" for commit, dirty in states.itertuples(index=False))
    known = [f"{first['cpu']}, {first['cores']} cores"]
    if first["memory"] is not pd.NA:
        known.append(f"{first['memory'] / 2**30:.1f} GiB")
    for name, pattern in (("compiler", r"^(\S+) .*?([\d.]+)$"), ("blas", r"^(\w+) (\d+\.\d+\.\d+)")):
        matches = [re.search(pattern, text) for text in rows[name].dropna().unique()]
        known += sorted({" ".join(match.groups()) for match in matches if match})
    return {"machine": ", ".join(known), "date": str(rows["started_at"].max())[:10], "commit": ", ".join(commits)}


def _inline(kind: str, name: str, recorded: Record, claims: Claims) -> str:
    if kind == "wanted":
        claim = claims.claims[name]
        unit = query.STATISTICS[claim.query.statistic].unit
        return re.sub(r"[≥≤] ", "", verdict.wanted_text(claim.wanted, unit))
    return recorded["claims"].get(name, {}).get("shown", ABSENT)


def _block(name: str, recorded: Record, claims: Claims) -> str:
    block, found = claims.blocks[name], recorded["blocks"].get(name)
    if not found:
        return f"\n\nNot measured yet: `make CONFIG={block.configuration}`.\n\n"
    of = found["of"]
    said = f"{block.intro} Measured {of['date']} on {of['machine']}; commit {of['commit']}."
    table = _markdown(found["header"], found["left"], found["rows"])
    return "\n".join(["\n", _wrapped(said), "", *table, "\n"])


def _all(recorded: Record, claims: Claims) -> str:
    """Every claim: wanted, measured, where, verdict; and where the numbers come from."""
    rows = []
    for name, claim in claims.claims.items():
        found = recorded["claims"].get(name, {})
        said = found.get("verdict", ABSENT) + (" (expected)" if claim.expected != verdict.HOLDS else "")
        wanted = verdict.wanted_text(claim.wanted, query.STATISTICS[claim.query.statistic].unit)
        rows.append([f"`{name}`", wanted, *(found.get(key, "") for key in ("shown", "worst", "cell")), said])
    header = ["claim", "wanted", "measured, over the cells", "the worst, with its interval", "which it is", "verdict"]
    sources: dict[str, set[str]] = {}
    for of in (found["of"] for found in recorded["claims"].values()):
        sources.setdefault(f"Measured {of['date']} on {of['machine']}", set()).update(of["commit"].split(", "))
    lines = [_wrapped(f"{source}; commit {', '.join(sorted(sources[source]))}.") for source in sorted(sources)]
    text = [*_markdown(header, [True] * len(header), rows), "", *lines]
    if claims.elsewhere:
        text += ["", "What no table of measurements can tell:", ""]
        text += [_wrapped(f"- {one.text} {one.checked}", "  ") for one in claims.elsewhere]
    return "\n".join(text)


def _wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(text, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _markdown(header: list[str], left: list[bool], rows: list[list[str]]) -> list[str]:
    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return [line(header), line([":--" if at else "--:" for at in left]), *map(line, rows)]
