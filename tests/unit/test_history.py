"""A store of many runs: what is added, in which order it stands, what is drawn and found."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from synthetic_documents import measurements, products_document, refused_document

from bench import __main__ as cli
from bench import collect, history, history_report
from bench.errors import BenchError
from bench.figures import _history as drawing
from bench.figures import style
from bench.machine_class import machine_classes
from bench.tables import _history as table

PAGE = (Path(__file__).parents[2] / "docs" / "history.md").read_text(encoding="utf-8")
MACHINE = {"host": "a", "cpu": "AMD EPYC", "cores": 2, "memory": 2**34, "gpu": "", "blas": "openblas 0.3.31 Zen",
           "protocol": 1, "version": 2, "dataset_hash": "d0", "compiler": "g++ 12", "dirty": False}  # fmt: skip
RATE = 36e9  # of decompress/avx512 in Z V with k = 10 of the synthetic documents
COMMITS = [f"{number:x}" * 40 for number in range(1, 13)]


@cache
def one_session() -> pd.DataFrame:
    with tempfile.TemporaryDirectory() as folder:
        return measurements(Path(folder), products_document("cattle", "decompress", "avx512", "f8", 1))


def frame_of(commit: str, *, slower: float = 1.0, day: int = 1, **provenance: object) -> pd.DataFrame:
    """The table of a run of one session, all of whose times are `slower` times as long."""
    started = {"commit": commit, "started_at": f"2026-01-{day:02}T10:00:00+00:00"}
    frame = one_session().assign(**(MACHINE | started | provenance)).astype(collect.COLUMNS)
    frame.loc[frame["metric"] == "product_time", "value"] *= slower
    return frame


def run(folder: Path, commit: str, **more: object) -> Path:
    path = folder / f"{commit}-{more.get('day', 1)}.parquet"
    collect.write(frame_of(commit, **more), path)  # type: ignore[arg-type]
    return path


def files(store: Path) -> list[Path]:
    return sorted(path for path in store.rglob("*") if path.is_file())


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of twelve commits; from the seventh on times are 1.25 times as long, with a new compiler."""
    folder = tmp_path_factory.mktemp("long")
    for i, commit in enumerate(COMMITS):
        wobble = 1 + 0.01 * np.sin(12.9 * i)
        late = {"slower": 1.25 * wobble, "compiler": "g++ 13"} if i >= 6 else {"slower": wobble}
        history.add(run(folder, commit, day=i + 1, **late), folder / "store")
    return folder / "store"


def ordered(store: Path) -> pd.DataFrame:
    return history.in_order(history.read(store), store)[0]


def test_a_run_becomes_one_file_with_all_its_rows(tmp_path, store):
    path = run(tmp_path, COMMITS[0])
    said = history.add(path, store)
    (file,) = files(store)
    frame = collect.read(path)
    key = machine_classes(frame).iloc[0]
    assert file.parent == store / f"machine_class={key}"
    assert re.fullmatch(r"20260101T100000-1111111111-[0-9a-f]{8}\.parquet", file.name)
    assert said == f"added {len(frame):,} rows of 1 session to {file}"
    pd.testing.assert_frame_equal(pd.read_parquet(file).astype(collect.COLUMNS), frame)


def test_the_same_run_twice_adds_nothing_and_says_so(tmp_path, store):
    path = run(tmp_path, COMMITS[0])
    history.add(path, store)
    before = {file: file.read_bytes() for file in files(store)}
    assert history.add(path, store) == f"nothing to add: {store} holds all of {path}, 1 session"
    shuffled = collect.read(path).sample(frac=1, random_state=1)
    collect.write(shuffled, path)
    assert history.add(path, store).startswith("nothing to add")
    assert {file: file.read_bytes() for file in files(store)} == before


def test_of_a_table_that_has_grown_only_what_is_new_is_added(tmp_path, store):
    old, new = frame_of(COMMITS[0]), frame_of(COMMITS[1], day=2, slower=2)
    collect.write(old, tmp_path / "m.parquet")
    history.add(tmp_path / "m.parquet", store)
    collect.write(pd.concat([new.assign(case="other"), old]), tmp_path / "m.parquet")
    assert f"added {len(new)} rows of 1 session" in history.add(tmp_path / "m.parquet", store)
    held = history.read(store)
    assert len(held) == len(old) + len(new)
    assert held.groupby("commit")["case"].first().tolist() == ["case-0", "other"]


def test_a_session_that_was_changed_after_it_was_added_is_an_error(tmp_path, store):
    history.add(run(tmp_path, COMMITS[0]), store)
    changed = run(tmp_path, COMMITS[0], slower=1.5)
    with pytest.raises(BenchError, match=r"case case-0 of 2026-01-01T10:00:00\+00:00 is in .* with other values"):
        history.add(changed, store)
    assert len(files(store)) == 1


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError])
def test_an_add_that_is_interrupted_leaves_nothing(tmp_path, store, monkeypatch, stop):
    path = run(tmp_path, COMMITS[0])

    def half(self: pd.DataFrame, to: Path, **_: object) -> None:
        Path(to).write_bytes(b"PAR1")
        raise stop

    with monkeypatch.context() as patch:
        patch.setattr(pd.DataFrame, "to_parquet", half)
        with pytest.raises(stop):
            history.add(path, store)
    assert files(store) == []
    assert history.add(path, store).startswith("added")


def test_what_a_killed_add_leaves_is_not_read(tmp_path, store):
    history.add(run(tmp_path, COMMITS[0]), store)
    (file,) = files(store)
    (file.parent / f".{file.name}.x.tmp.parquet").write_bytes(b"PAR1")
    assert history.read(store)["run"].unique().tolist() == [file.stem]
    assert history.add(run(tmp_path, COMMITS[1], day=2), store).startswith("added")


def test_a_session_in_two_files_counts_once(tmp_path, store):
    """Of two stores that were joined one had been added to before the other: its file has fewer sessions."""
    one, two = frame_of(COMMITS[0]), frame_of(COMMITS[0], day=2).assign(case="later")
    for name, sessions in (("mine", [one]), ("theirs", [one, two])):
        collect.write(pd.concat(sessions), tmp_path / "m.parquet")
        history.add(tmp_path / "m.parquet", tmp_path / name)
    for file in [*files(tmp_path / "mine"), *files(tmp_path / "theirs")]:
        (store / file.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, store / file.parent.name)
    assert len(files(store)) == 2
    assert len(history.read(store)) == len(one) + len(two)


def test_machines_of_two_classes_are_kept_apart_and_never_compared(tmp_path, store):
    both = [frame_of(COMMITS[0], cores=2), frame_of(COMMITS[0], cores=4).assign(case="other")]
    collect.write(pd.concat(both), tmp_path / "m.parquet")
    history.add(tmp_path / "m.parquet", store)
    keys = sorted(file.parent.name.removeprefix("machine_class=") for file in files(store))
    assert len(keys) == 2
    frame = ordered(store)
    assert sorted(frame["machine_class"].unique()) == keys
    sentence = r"measurements of 2 machine classes \(.*\) are never compared: name one with --machine"
    for look in (history_report.figures, history_report.steps):
        with pytest.raises(BenchError, match=sentence):
            look(frame, "", tmp_path / "out")
    assert history.read(store, keys[:1])["machine_class"].unique().tolist() == keys[:1]
    with pytest.raises(BenchError, match="there is no machine class 'absent'; there are amd-epyc-2"):
        history.read(store, ["absent"])


def test_what_the_plan_refused_is_not_stored_and_a_run_of_nothing_is_said(tmp_path, store):
    collect.write(measurements(tmp_path, refused_document("pigs", "gpu_2bit", "sm_80")), tmp_path / "m.parquet")
    with pytest.raises(BenchError, match="no job of it ran, there is nothing to add"):
        history.add(tmp_path / "m.parquet", store)
    refused = collect.read(tmp_path / "m.parquet").assign(case="refused")
    collect.write(pd.concat([frame_of(COMMITS[0]), refused]), tmp_path / "m.parquet")
    history.add(tmp_path / "m.parquet", store)
    assert history.read(store)["case"].unique().tolist() == ["case-0"]


def rewrite(path: Path, frame: pd.DataFrame) -> Path:
    frame.to_parquet(path, index=False)
    return path


def test_files_of_other_versions_of_the_schema_are_read_together(tmp_path, store):
    older, newer = run(tmp_path, COMMITS[0]), run(tmp_path, COMMITS[1], day=2)
    rewrite(older, pd.read_parquet(older).drop(columns=["size", "method", "note"]))
    rewrite(newer, pd.read_parquet(newer).assign(of_tomorrow="x").iloc[:, ::-1])
    for path in (older, newer):
        history.add(path, store)
    frame = history.read(store)
    assert frame.groupby("commit")["of_tomorrow"].count().gt(0).tolist() == [False, True]
    assert frame["size"].isna().all()
    assert {name: str(of) for name, of in frame.dtypes.items() if name in collect.COLUMNS} == collect.COLUMNS
    assert len(table.points(ordered(store))) == 12
    assert history.add(older, store).startswith("nothing to add")


@pytest.mark.parametrize("gone", ["kernel", "started_at", "cpu"])
def test_a_table_without_a_needed_column_is_refused(tmp_path, store, gone):
    path = run(tmp_path, COMMITS[0])
    rewrite(path, pd.read_parquet(path).drop(columns=gone))
    with pytest.raises(BenchError, match=f"{path}: the columns {gone} are missing, which a history needs"):
        history.add(path, store)
    assert not store.exists()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.write_bytes(b"PAR1 and no more"), "not a table of measurements"),
        (lambda path: rewrite(path, pd.read_parquet(path).assign(k="ten")), "not a table of measurements"),
        (lambda path: path.unlink(), "no such file; make it with `bench collect`"),
    ],
)
def test_a_table_that_cannot_be_read_is_a_sentence(tmp_path, store, damage, words):
    path = run(tmp_path, COMMITS[0])
    damage(path)
    with pytest.raises(BenchError, match=f"{path}: {words}"):
        history.add(path, store)


def test_a_damaged_file_in_the_store_is_named(tmp_path, store):
    history.add(run(tmp_path, COMMITS[0]), store)
    (file,) = files(store)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(BenchError, match=f"{file}: not a table of measurements .*; remove it and add its run again"):
        history.read(store)


def test_a_store_without_runs_says_how_to_add_one(store):
    with pytest.raises(BenchError, match="holds no run; add one with `bench history add --store"):
        history.read(store)


def git(repository: Path, *arguments: str) -> str:
    env = os.environ | {f"GIT_{who}_{what}": "x@y" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    command = ["git", "-C", str(repository), *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.strip()


def commit(repository: Path, message: str) -> str:
    git(repository, "commit", "--quiet", "--allow-empty", "--message", message)
    return git(repository, "rev-parse", "HEAD")


def test_commits_stand_in_git_s_order_even_if_they_were_measured_in_another(tmp_path, store):
    repository = tmp_path / "repository"
    git(tmp_path, "init", "--quiet", str(repository))
    made = [commit(repository, str(i)) for i in range(4)]
    for day, i in enumerate((3, 0, 2), start=1):
        history.add(run(tmp_path, made[i], day=day), store)
    frame, order = history.in_order(history.read(store), repository)
    assert order == "in git's order, parents before children"
    places = frame[["place", "commit"]].drop_duplicates().sort_values("place")
    assert places["commit"].tolist() == [made[0], made[2], made[3]]
    stranger = "f" * 40  # behind any other in the order of the alphabet
    history.add(run(tmp_path, stranger, day=2), store)
    frame, order = history.in_order(history.read(store), repository)
    assert order == "in the order of measurement, since git does not know ffffffffff"
    places = frame[["place", "commit"]].drop_duplicates().sort_values(["place"])
    assert places["commit"].tolist()[0] == made[3]
    assert places["commit"].tolist()[-1] == made[2]


def test_a_merge_stands_after_both_its_parents(tmp_path, store):
    repository = tmp_path / "repository"
    git(tmp_path, "init", "--quiet", "--initial-branch", "main", str(repository))
    first = commit(repository, "first")
    git(repository, "checkout", "--quiet", "-b", "side")
    side = commit(repository, "side")
    git(repository, "checkout", "--quiet", "main")
    main = commit(repository, "main")
    git(repository, "merge", "--quiet", "--no-ff", "--message", "merge", "side")
    merge = git(repository, "rev-parse", "HEAD")
    for day, of in enumerate((merge, side, main, first), start=1):
        history.add(run(tmp_path, of, day=day), store)
    frame, _ = history.in_order(history.read(store), repository)
    places = frame.drop_duplicates("commit").set_index("commit")["place"]
    assert (places[first], places[merge]) == (0, 3)


def test_uncommitted_runs_are_marked_have_places_of_their_own_and_take_no_part_in_steps(tmp_path, store):
    for i in range(7):
        history.add(run(tmp_path, COMMITS[i], day=i + 1), store)
    for day in (20, 21, 22):
        history.add(run(tmp_path, COMMITS[6], day=day, dirty=True, slower=2), store)
    points = table.points(ordered(store))
    of = points[(points["k"] == 10) & (points["direction"] == "matmul")].sort_values("place")
    assert of["label"].tolist() == [c[:7] for c in COMMITS[:7]] + ["7777777*"] * 3
    assert of["clean"].tolist() == [True] * 7 + [False] * 3
    assert of["repeats"].tolist() == [7] * 10
    assert table.steps(points).empty


def test_runs_outside_git_count_as_not_committed(tmp_path, store):
    for day in (1, 2):
        history.add(run(tmp_path, "", day=day, dirty=None), store)
    frame, order = history.in_order(history.read(store))
    assert order.endswith("git does not know the commit of each run")
    assert frame["place"].nunique() == 2
    assert set(frame["label"]) == {"no commit*"}


def test_runs_of_one_commit_are_one_point_of_all_their_repeats(tmp_path, store):
    for day, slower in ((1, 1.0), (2, 3.0)):
        history.add(run(tmp_path, COMMITS[0], day=day, slower=slower), store)
    points = table.points(ordered(store))
    assert len(points) == 6
    of = points[(points["k"] == 10) & (points["direction"] == "matmul")].iloc[0]
    times = collect.read(tmp_path / f"{COMMITS[0]}-1.parquet").query(
        "metric == 'product_time' and k == 10 and direction == 'matmul'"
    )["value"]
    assert of["repeats"] == 14
    assert of["time"] == np.mean([np.median(times), np.median(3 * times)])  # of the medians of two processes


def test_points_are_rates_of_products_with_their_intervals(long):
    points = table.points(ordered(long))
    of = points[(points["k"] == 10) & (points["direction"] == "matmul")].sort_values("place")
    assert of["label"].tolist() == [commit[:7] for commit in COMMITS]
    wobble = 1 + 0.01 * np.sin(12.9 * np.arange(12))
    assert of["rate"].to_numpy(float) == pytest.approx(RATE / wobble / np.repeat([1, 1.25], 6))
    assert (of["rate_low"] < of["rate"]).all()
    assert (of["rate"] < of["rate_high"]).all()


def test_a_step_is_found_with_its_size_its_commits_and_what_changed_with_it(long):
    found = table.steps(table.points(ordered(long)))
    assert len(found) == 6  # k × direction
    row = found[(found["k"] == 10) & (found["direction"] == "matmul")].iloc[0]
    assert (row["commit"], row["previous"]) == ("7" * 10, "6" * 10)
    assert (row["commits_before"], row["commits_after"]) == (6, 6)
    assert row["change"] == pytest.approx(-20, abs=1)
    assert row["change_low"] <= row["change"] <= row["change_high"]
    assert row["rate_before"] == pytest.approx(36, rel=0.01)
    assert row["rate_after"] == pytest.approx(36 / 1.25, rel=0.01)
    assert 0 < row["noise"] < 0.03
    assert row["beside"] == "compiler"


@pytest.mark.parametrize("change", [{"protocol": 2}, {"version": 3}, {"dataset_hash": "d1"}], ids=str)
def test_another_protocol_version_or_data_set_begins_another_series(tmp_path, store, change):
    for i, of in enumerate(COMMITS):
        history.add(run(tmp_path, of, day=i + 1, **({"slower": 2} | change if i >= 6 else {})), store)
    points = table.points(ordered(store))
    assert table.steps(points).empty
    at = drawing.draw(points, table.steps(points))["cattle-f8-1"].axes[0]
    assert [len(line.get_xdata()) for line in at.lines if line.get_linestyle() == "-"] == [6, 6]
    said = {"protocol": "PROTOCOL 2", "version": "VERSION 3", "dataset_hash": "other data"}
    assert [text.get_text() for text in at.texts if text.get_text()] == [said[next(iter(change))]]


def test_a_time_that_is_not_positive_counts_as_missing(tmp_path, store):
    path = run(tmp_path, COMMITS[0])
    frame = collect.read(path)
    clock = (frame["metric"] == "product_time") & (frame["repeat"] == 0)
    frame.loc[clock, "value"] = -1e-9
    collect.write(frame, path)
    history.add(path, store)
    assert set(table.points(ordered(store))["repeats"]) == {6}


def test_the_figure_has_a_panel_per_k_and_direction_with_points_and_steps(long):
    points = table.points(ordered(long))
    (figure,) = drawing.draw(points, table.steps(points)).values()
    assert [at.get_title("left") for at in figure.axes] == [
        f"k = {k}, {product}" for k in (1, 10, 32) for product in style.DIRECTIONS.values()
    ]
    at = figure.axes[2]  # k = 10, Z V
    line = max(at.lines, key=lambda line: len(line.get_xdata()))
    assert np.asarray(line.get_ydata())[0] == pytest.approx(36)
    (mark,) = [line for line in at.lines if line.get_linewidth() > 2]
    assert list(mark.get_xdata()) == [5.5, 5.5]
    assert list(mark.get_ydata()) == pytest.approx([36, 28.8], rel=0.01)
    assert "−20 %" in [text.get_text() for text in at.texts]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["decompress (avx512)"]


def test_a_figure_fits_a_page_and_its_text_can_be_read(long):
    points = table.points(ordered(long))
    more = pd.concat([points.assign(k=k) for k in (1, 2, 4, 8, 16)])
    (figure,) = drawing.draw(more, table.steps(points)).values()
    assert isinstance(figure, Figure)
    width, height = figure.get_size_inches()
    assert width == style.WIDTH
    assert height < 9.5
    assert min(t.get_fontsize() for t in figure.findobj(Text) if t.get_text()) >= 7


def test_figures_and_tables_are_written_per_machine_class(long, tmp_path, capsys):
    for action in ("figure", "steps"):
        assert cli.main(["history", action, "--store", str(long), "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    (folder,) = tmp_path.iterdir()
    names = {"cattle-f8-1.svg", "cattle-f8-1.pdf", "cattle-f8-1.png", "steps.csv", "steps.html", "steps.md"}
    assert {file.name for file in folder.iterdir()} == names
    assert f"{folder.name}: 6 steps over 12 commits, in the order of measurement, since git does not know" in said
    assert "in the order of measurement" in (folder / "steps.md").read_text()
    assert pd.read_csv(folder / "steps.csv")["change"].round().eq(-20).all()


def test_one_commit_can_be_drawn_and_has_no_steps(tmp_path, store, capsys):
    history.add(run(tmp_path, COMMITS[0]), store)
    assert cli.main(["history", "figure", "--store", str(store), "--out", str(tmp_path / "out")]) == 0
    assert cli.main(["history", "steps", "--store", str(store), "--out", str(tmp_path / "out")]) == 0
    assert ": 0 steps over 1 commit," in capsys.readouterr().out
    (page,) = (tmp_path / "out").rglob("steps.html")
    assert "There is nothing to show" in page.read_text()


def test_a_machine_class_without_products_keeps_no_other_from_being_drawn(tmp_path, store, capsys):
    one, other = frame_of(COMMITS[0], cores=2), frame_of(COMMITS[0], cores=4).assign(case="other")
    collect.write(pd.concat([one, other[other["metric"] == "fma_peak"]]), tmp_path / "m.parquet")
    history.add(tmp_path / "m.parquet", store)
    assert cli.main(["history", "figure", "--store", str(store), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert "cattle-f8-1 in" in said.out
    assert "4-cores" in said.err
    assert "no run of it timed a product" in said.err
    (alone,) = (key.parent.name.removeprefix("machine_class=") for key in files(store) if "4-cores" in str(key))
    assert cli.main(["history", "figure", "--store", str(store), "--machine", alone, "--out", str(tmp_path)]) == 2


def test_points_of_contaminated_sessions_are_ringed(tmp_path, store):
    history.add(run(tmp_path, COMMITS[0]), store)
    history.add(run(tmp_path, COMMITS[1], day=2, contaminated="load 3.0"), store)
    points = table.points(ordered(store))
    assert points.groupby("label")["contaminated"].first().isna().tolist() == [True, False]
    (figure,) = drawing.draw(points, table.steps(points)).values()
    for at in figure.axes:
        assert [list(line.get_xdata()) for line in at.lines if line.get_markeredgecolor() == style.RING["mec"]] == [
            [1]
        ]
    assert figure.legends[0].get_texts()[-1].get_text() == style.DISTURBED


def test_list_names_each_run_in_order(long, tmp_path, capsys):
    assert cli.main(["history", "list", "--store", str(long)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(": 12 runs, 12 commits")
    assert [line.split()[0] for line in lines[1:-1]] == [commit[:7] for commit in COMMITS]
    assert lines[-1].startswith("Commits are in the order of measurement")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["add", "absent.parquet"], "absent.parquet: no such file"),
        (["list"], "holds no run"),
        (["steps"], "holds no run"),
        (["figure", "--out", "o", "--machine", "x"], "there is no machine class 'x'; there are none"),
    ],
    ids=str,
)
def test_each_mistake_is_one_sentence(arguments, words, capsys, store):
    assert cli.main(["history", *arguments, "--store", str(store)]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("bench history: ")
    assert words in said.err
    assert len(said.err.splitlines()) == 1


def test_asking_for_a_comparison_of_machine_classes_is_an_error(tmp_path, store, capsys):
    for cores in (2, 4):
        history.add(run(tmp_path, COMMITS[0], day=cores, cores=cores), store)
    keys = [path.name.removeprefix("machine_class=") for path in store.iterdir()]
    assert cli.main(["history", "steps", "--store", str(store), "--machine", *keys]) == 2
    assert "measurements of 2 machine classes" in capsys.readouterr().err
    assert cli.main(["history", "steps", "--store", str(store)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_the_commands_of_the_page_are_commands():
    (block,) = re.findall(r"^```text\n(make .*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    lines = [shlex.split(line, comments=True) for line in block.splitlines()]
    assert lines[0] == ["make"]
    actions = [cli.parser().parse_args(line[1:]).action for line in lines[1:]]
    assert actions == ["add", "list", "figure", "steps"]


def test_the_query_of_the_page_gives_the_rates_of_the_store(long, tmp_path, monkeypatch):
    duckdb = pytest.importorskip("duckdb")
    (query,) = re.findall(r"^```sql\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    Path("history").symlink_to(long)
    found = duckdb.sql(query).df()
    assert set(found["commit"]) == set(COMMITS)
    points = table.points(ordered(long))
    wanted = points.set_index(["commit", "k", "direction"])["rate"] / 1e9
    got = found.set_index(["commit", "k", "direction"])["rate"]
    assert got.reindex(wanted.index).to_numpy(float) == pytest.approx(wanted.to_numpy(float))
    assert found["machine_class"].unique().tolist() == [path.name[14:] for path in long.iterdir()]


def test_the_query_reads_files_of_several_schemas_and_none_that_is_being_written(tmp_path, monkeypatch):
    duckdb = pytest.importorskip("duckdb")
    (query,) = re.findall(r"^```sql\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    store = Path("history")
    older = run(tmp_path, COMMITS[0])
    rewrite(older, pd.read_parquet(older).drop(columns=["size", "method"]))
    history.add(older, store)
    (file,) = files(store)
    pd.read_parquet(file).drop(columns=["size", "method"]).to_parquet(file, index=False)
    history.add(run(tmp_path, COMMITS[1], day=2), store)
    history.add(run(tmp_path, COMMITS[2], day=3, cores=4), store)
    (file.parent / f".{file.name}.x.tmp.parquet").write_bytes(b"PAR1")
    found = duckdb.sql(query).df()
    assert found.groupby("commit").size().to_dict() == dict.fromkeys(COMMITS[:3], 6)
    assert found["machine_class"].nunique() == 2
