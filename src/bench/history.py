"""The measurements of many commits in one store, and in which order to look at them.

A store is a folder of parquet files, STORE/machine_class=CLASS/STARTED-COMMIT-HASH.parquet: one file per run and
class of machine (`machine_class`), written whole or not at all. Its rows are those of the long table, nothing is
summarised. A session is in a store once: a second `add` of the same run adds nothing, and of a results folder that
has grown since it adds what is new.
"""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pandas as pd

from bench.collect import COLUMNS
from bench.errors import BenchError
from bench.machine_class import machine_classes
from bench.record import atomic_path

ROOT = Path(__file__).resolve().parents[2]
PARTITION = "machine_class="
FILES = f"{PARTITION}*/[0-9]*.parquet"  # files that are being written start with a dot
SESSION = ["experiment", "case", "commit", "started_at"]
OBSERVED = ["kernel", "target", "phase", "metric", "direction", "k", "repeat", "step", "value"]
NEEDED = [*SESSION, *OBSERVED, "dataset", "n", "m", "dtype", "threads", "status", "dirty", "protocol", "version",
          "dataset_hash", "host", "cpu", "cores", "memory", "gpu", "blas"]  # fmt: skip


def add(measurements: Path, store: Path) -> str:
    """Append the sessions of a run that the store does not hold yet; the sentence that says what was added.

    measurements: parquet file of `bench collect`, of this version of the schema or another that has NEEDED.
    BenchError for a table that cannot be read, and for a session that the store holds with other values.
    """
    frame = read_table(measurements)
    frame = frame[frame["started_at"].notna()]  # what the plan refused ran nowhere
    frame = frame.assign(machine_class=machine_classes(frame)).dropna(subset=["machine_class"])
    if frame.empty:
        raise BenchError(f"{measurements}: no job of it ran, there is nothing to add; run it on this machine")
    before, here = _fingerprints(_held(store)), _fingerprints(frame)
    both = here.index.intersection(before.index)
    if (differ := both[(here[both] != before[both]).to_numpy()]).size:
        raise BenchError(
            f"{measurements}: case {differ[0][1]} of {differ[0][3]} is in {store} with other values; "
            "one of the two files was changed after it was measured"
        )
    new = here.index.difference(before.index, sort=False)
    if new.empty:
        return f"nothing to add: {store} holds all of {measurements}, {count(len(here), 'session')}"
    rows = frame[pd.MultiIndex.from_frame(frame[SESSION]).isin(new)]
    said = []
    for key, of in rows.groupby("machine_class", sort=True):
        path = store / f"{PARTITION}{key}" / _file_name(of, here)
        with atomic_path(path) as tmp:
            of.drop(columns="machine_class").to_parquet(tmp, index=False)
        said.append(f"added {len(of):,} rows of {count(len(of[SESSION].drop_duplicates()), 'session')} to {path}")
    return "\n".join(said)


def _file_name(rows: pd.DataFrame, fingerprints: pd.Series) -> str:
    """When the first session began, its commit, and a hash of all: the same for the same sessions."""
    sessions = rows[SESSION].drop_duplicates().sort_values(SESSION, ignore_index=True)
    first = sessions.sort_values("started_at").iloc[0]
    moment = "".join(c for c in first["started_at"][:19] if c.isalnum())
    text = sessions.assign(of=fingerprints[pd.MultiIndex.from_frame(sessions)].to_numpy()).to_csv(index=False)
    return f"{moment}-{first['commit'][:10] or 'nogit'}-{hashlib.sha256(text.encode()).hexdigest()[:8]}.parquet"


def _fingerprints(frame: pd.DataFrame) -> pd.Series:
    """A number per session that says what was observed, whatever the order of its rows."""
    rows = pd.util.hash_pandas_object(frame[OBSERVED], index=False)
    return rows.groupby([frame[name] for name in SESSION], dropna=False).sum()


def _held(store: Path) -> pd.DataFrame:
    """What `_fingerprints` needs of all rows of a store."""
    columns = [*SESSION, *OBSERVED]
    frames = [_parquet(path, columns) for path in sorted(store.glob(FILES))]
    return _typed(pd.concat(frames) if frames else pd.DataFrame(columns=columns), store)


def read_table(path: Path) -> pd.DataFrame:
    """A long table of this or another version of the schema: columns that it lacks are null, others are kept.

    BenchError names the file and which of NEEDED are missing, or what makes it no such table.
    """
    return _whole(_parquet(path), path)


def _parquet(path: Path, columns: list[str] | None = None) -> pd.DataFrame:
    try:
        frame = pd.read_parquet(path, columns=columns)
    except FileNotFoundError:
        raise BenchError(f"{path}: no such file; make it with `bench collect`") from None
    except (OSError, ValueError) as error:
        raise _not_a_table(path, error) from None
    if missing := [name for name in columns or NEEDED if name not in frame]:
        raise BenchError(
            f"{path}: the columns {', '.join(missing)} are missing, which a history needs; it is of too old a "
            "version: measure that commit again"
        )
    return frame


def _whole(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    """All columns of the schema, in its order, then those that it does not know."""
    others = [name for name in frame if name not in COLUMNS]
    return _typed(frame.reindex(columns=[*COLUMNS, *others]), path)


def _typed(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    try:
        return frame.astype({name: of for name, of in COLUMNS.items() if name in frame})
    except (ValueError, TypeError) as error:
        raise _not_a_table(path, error) from None


def _not_a_table(path: Path, error: Exception) -> BenchError:
    return BenchError(f"{path}: not a table of measurements ({error}); remove it and add its run again")


def read(store: Path, machines: list[str] | None = None) -> pd.DataFrame:
    """All rows of a store, or those of the classes `machines`, by union of the files' columns, which say also
    `machine_class` and `run` (the file's name). BenchError for a store without runs and a class that it lacks."""
    frames = []
    for path in sorted(store.glob(FILES)):
        key = path.parent.name.removeprefix(PARTITION)
        if not machines or key in machines:
            frames.append(_parquet(path).assign(machine_class=key, run=path.stem))
    known = sorted(path.name.removeprefix(PARTITION) for path in store.glob(f"{PARTITION}*"))
    if absent := [key for key in machines or [] if key not in known]:
        raise BenchError(f"there is no machine class {absent[0]!r}; there are {', '.join(known) or 'none'}")
    if not frames:
        raise BenchError(f"{store}: holds no run; add one with `bench history add --store {store} MEASUREMENTS`")
    frame = _whole(pd.concat(frames, ignore_index=True), store).astype({"machine_class": "string", "run": "string"})
    # Of stores that were joined, or of two adds at once, two files may hold a session: the first of them counts.
    return frame[frame.groupby(SESSION, dropna=False)["run"].transform("min").eq(frame["run"])]


def in_order(frame: pd.DataFrame, repository: Path | None = None) -> tuple[pd.DataFrame, str]:
    """The rows with their place in the history, and which order that is, in words.

    Further columns: `place` counts commits from 0; `label` is the commit, shortened, with a * where the checkout
    had changes that were not committed; `clean` is false then, and outside git. A run that is not clean has a place
    of its own, after its commit. The order is git's (parents before children) where the repository knows all commits,
    else that of the measurements. repository: a checkout, by default that of this package.
    """
    clean = frame["commit"].fillna("").ne("") & frame["dirty"].eq(False).fillna(False)
    rows = frame.assign(clean=clean.astype(bool), commit=frame["commit"].fillna(""))
    rows["own_run"] = rows["run"].where(~rows["clean"], "")
    places = rows.groupby(["commit", "clean", "own_run"])["started_at"].min().reset_index()
    commits = sorted(set(places["commit"]))
    known = _git_order(commits, repository or ROOT)
    unknown = [commit for commit in commits if commit not in known]
    if unknown:
        first = places.groupby("commit")["started_at"].min().sort_values(kind="stable")
        known = {commit: i for i, commit in enumerate(first.index)}
        order = f"in the order of measurement, since git does not know {unknown[0][:10] or 'the commit of each run'}"
    else:
        order = "in git's order, parents before children"
    places["at"] = places["commit"].map(known)
    places["after"] = ~places["clean"]
    places = places.sort_values(["at", "after", "started_at"], ignore_index=True)
    places["place"] = range(len(places))
    mark = places["clean"].map({True: "", False: "*"})
    places["label"] = places["commit"].str[:7].replace("", "no commit") + mark
    columns = ["commit", "clean", "own_run", "place", "label"]
    return rows.merge(places[columns], on=["commit", "clean", "own_run"]).drop(columns="own_run"), order


def _git_order(commits: list[str], repository: Path) -> dict[str, int]:
    """Commit → its place in git's topological order, of those that the repository knows; empty without git."""
    command = ["git", "-C", str(repository), "rev-list", "--topo-order", "--reverse", "--ignore-missing", "--stdin"]
    try:
        given = "\n".join(filter(None, commits))
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    except OSError:
        return {}
    lines = done.stdout.split() if done.returncode == 0 else []
    return {commit: place for place, commit in enumerate(lines)}


def runs(frame: pd.DataFrame) -> list[str]:
    """A line per run of each class, in the order of `in_order`."""
    lines = []
    for key, rows in frame.groupby("machine_class"):
        of = rows.groupby(["place", "label", "run"])
        commits = rows.loc[rows["clean"], "commit"].nunique()
        lines.append(f"{key}: {count(rows['run'].nunique(), 'run')}, {count(commits, 'commit')}")
        for (_, label, run), group in of:
            experiments = ", ".join(sorted(group["experiment"].dropna().unique()))
            lines.append(f"    {label:10} {group['started_at'].min()}  {len(group):>7,} rows  {experiments}  {run}")
    return lines


def count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"
