"""`bench validate`: the LR method on the solutions of two evaluations, trait by trait."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from bench import tables
from bench.errors import BenchError
from bench.genotypes.bim_fam import read_lines
from bench.models.linear_regression import linear_regression
from bench.tables import _cells, _page

TITLE = "Validation by linear regression"
CAPTION = (
    "EBVs with part of the data (p) against those with all (w), of the same animals, with 95 % bootstrap intervals: "
    "bias, mean(p) − mean(w), is to be 0; dispersion, the slope of w on p, 1 (below it p spreads too far); the ratio "
    "of accuracies is their correlation; the ratio of reliabilities the slope of p on w (Legarra & Reverter 2018)."
)
COLUMNS = ("animal", "trait", "ebv")


def validate(partial: Path, whole: Path, *, animals: Path | None = None) -> pd.DataFrame:
    """A row per trait: individuals, then bias, dispersion, accuracy_ratio and reliability_ratio with bounds.

    partial, whole: folders of `bench solve`, or their parquet files. animals: a file whose lines start with an id;
    without it all that both have. BenchError: files that are none, no animal or trait in common, animals without an
    EBV, EBVs that do not vary.
    """
    both = [(path, _solutions(path)) for path in (partial, whole)]
    (_, first), (_, second) = both
    traits = [trait for trait in first.columns if trait in second.columns]
    if not traits:
        there = "; ".join(f"{path}: {', '.join(table.columns)}" for path, table in both)
        raise BenchError(f"the evaluations have no trait in common ({there})")
    wanted = _named(animals, both) if animals else first.index.intersection(second.index)
    if wanted.empty:
        raise BenchError(f"{partial} and {whole} have no animal in common")
    rows, found = [], []
    for trait in traits:
        try:
            fit = linear_regression(*(table.loc[wanted, trait].to_numpy() for table in (first, second)))
        except BenchError as error:
            raise BenchError(f"trait {trait}: {error}") from None
        rows.append((trait, fit.individuals))
        found.append(fit)
    drawn = pd.DataFrame(rows, columns=["trait", "individuals"])
    for name, column in (("bias",) * 2, ("dispersion",) * 2, ("consistency", "accuracy_ratio")):
        _cells.spread(drawn, column, [getattr(fit, name) for fit in found])
    _cells.spread(drawn, "reliability_ratio", [fit.reliability_ratio for fit in found])
    return drawn


def _solutions(path: Path) -> pd.DataFrame:
    """EBVs with a row per animal and a column per trait."""
    file = path / "solutions.parquet" if path.is_dir() else path
    if not file.exists():
        raise BenchError(f"{file}: does not exist; the folder of an evaluation by `bench solve` was needed")
    try:
        table = pd.read_parquet(file)
    except (OSError, ValueError) as error:
        raise BenchError(f"{file}: not the solutions of an evaluation ({error})") from None
    if absent := [column for column in COLUMNS if column not in table]:
        raise BenchError(f"{file}: has no column {absent[0]!r}; needed are {', '.join(COLUMNS)}")
    if "kind" in table:
        table = table[table["kind"] == "animal"]
    if table.duplicated(["animal", "trait"]).any():
        raise BenchError(f"{file}: an animal has more than one EBV of a trait")
    wide = table.astype({"animal": str}).pivot(index="animal", columns="trait", values="ebv")
    return wide[list(dict.fromkeys(table["trait"]))]


def _named(animals: Path, both: list[tuple[Path, pd.DataFrame]]) -> pd.Index:
    names = list(dict.fromkeys(line.split()[0] for line in read_lines(animals) if line.split()))
    if not names:
        raise BenchError(f"{animals}: names no animal; an id a line was needed")
    for path, table in both:
        if absent := [name for name in names if name not in table.index]:
            raise BenchError(
                f"{animals}: {len(absent)} of {len(names)} animals are not in {path}, such as {absent[0]!r}"
            )
    return pd.Index(names)


def to_text(drawn: pd.DataFrame) -> str:
    return "\n".join(_page.to_lines(drawn))


def write(drawn: pd.DataFrame, folder: Path) -> None:
    """validation.csv, .html and .md in `folder`."""
    tables.save(drawn, "validation", TITLE, CAPTION, folder)
