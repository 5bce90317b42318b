"""A case in several fresh processes: rows say which, the order of cells differs, and the first failure is told."""

from __future__ import annotations

import pandas as pd
import pytest

from bench import processes
from bench.collect import collect
from bench.errors import BenchError
from bench.experiments import Files, paired, products
from bench.genotypes.dataset import Dataset
from bench.record import Document

TIMING = {"least": 3, "seconds": 0.001, "most": 3}
CASE = {
    "experiment": "products", "dataset": "sheep", "kernel": "dense_blas", "target": "openblas", "dtype": "f8",
    "threads": 1, "k": [1, 4],
}  # fmt: skip


@pytest.fixture
def files(small_dataset, oracle, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # the processes' own lock: they do not wait for a run here
    return Files(dataset=small_dataset, oracle=oracle, timing=TIMING)


def test_two_fresh_processes_make_one_document_with_the_rows_of_both(files, tmp_path):
    doc = processes.run(CASE, files, 2)
    assert doc.status == "ok", doc.reason
    doc.write(tmp_path / "case.json")
    frame = collect([tmp_path / "case.json"])
    times = frame[frame["metric"] == "product_time"]
    assert times.groupby("process").size().to_dict() == {0: 12, 1: 12}
    assert (times["calls"] > 1).all()  # 23 × 57 take microseconds
    orders = [list(of.drop_duplicates(["k", "direction"])[["k", "direction"]].itertuples(index=False, name=None))
              for _, of in times.groupby("process")]  # fmt: skip
    assert sorted(orders[0]) == sorted(orders[1])
    assert orders == [products.shuffled(CASE, 0), products.shuffled(CASE, 1)]
    assert {"elapsed", "own_cpu"} <= set(frame.loc[frame["phase"] == "surroundings", "metric"])


def test_one_process_is_this_one_and_has_no_number(files, own_lock):
    doc = processes.run(CASE, files, 1)
    assert not any("process" in row for row in doc.rows)


def test_the_order_of_the_cells_is_random_and_the_same_every_time():
    case = CASE | {"k": [1, 2, 3, 4, 5]}
    orders = [products.shuffled(case, process) for process in range(5)]
    assert orders == [products.shuffled(case, process) for process in range(5)]
    assert len({tuple(order) for order in orders}) == 5
    assert all(sorted(order) == sorted(orders[0]) and len(order) == 10 for order in orders)
    assert products.shuffled(case | {"kernel": "other"}, 0) != orders[0]


def documents(*verdicts):
    for verdict in verdicts:
        doc = Document({"experiment": "products", "kernel": "x"}, {"host": "here", "contaminated": verdict})
        doc.add("product_time", 1.0, "s", repeat=0)
        yield doc


def test_each_process_keeps_its_own_verdict(tmp_path):
    processes.merged(list(documents(None, "busy", None))).write(tmp_path / "x.json")
    frame = collect([tmp_path / "x.json"])
    assert frame["process"].tolist() == [0, 1, 2]
    assert frame["contaminated"].isna().tolist() == [True, False, True]
    assert frame["contaminated"].iloc[1] == "busy"
    assert (frame["host"] == "here").all()


def test_the_first_process_that_is_refused_ends_the_case(files):
    doc = processes.run(CASE | {"threads": 4096}, files, 3)
    assert doc.status == "refused"
    assert doc.reason.startswith("asks for 4096 threads")


def test_a_later_process_that_is_not_ok_is_named(files, monkeypatch):
    made = iter([Document({}), Document({}).refuse("no memory is free")])

    class Inside:
        """In place of a pool of processes."""

        def __init__(self, *a, **k): ...
        def __enter__(self):
            return self

        def __exit__(self, *a): ...
        def submit(self, *a):
            return self

        def result(self):
            return next(made)

    monkeypatch.setattr(processes, "ProcessPoolExecutor", Inside)
    doc = processes.run(CASE, files, 3)
    assert (doc.status, doc.reason) == ("refused", "process 1 of 3: no memory is free")


def test_an_error_of_a_process_is_the_error_of_the_case(files):
    with pytest.raises(BenchError, match="bench oracle"):
        processes.run(CASE, Files(**vars(files) | {"oracle": None}), 2)


def die(case, files):
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_is_killed_is_told(files, monkeypatch):
    monkeypatch.setattr(processes, "_run", die)
    with pytest.raises(BenchError, match="process 0 of 2 of the case was killed"):
        processes.run(CASE, files, 2)


def test_three_kernels_are_timed_in_the_same_rounds(files, own_lock, tmp_path):
    case = CASE | {"experiment": "paired", "against": "numba_unpack/numba,scipy_sparse/csc", "k": [2]}
    doc = paired.run(case, files)
    assert doc.status == "ok", doc.reason
    doc.write(tmp_path / "case.json")
    frame = collect([tmp_path / "case.json"])
    times = frame[frame["metric"] == "product_time"]
    assert times.groupby("kernel").size().to_dict() == dict.fromkeys(
        ["dense_blas", "numba_unpack", "scipy_sparse"], 2 * paired.ROUNDS
    )
    order = times.groupby(["direction", "repeat"], sort=False)["kernel"].agg("-".join)
    assert len(set(order)) > 1
    from bench import tables

    drawn = tables.load("paired").draw(frame)
    assert drawn["against"].tolist() == ["numba_unpack", "numba_unpack", "scipy_sparse", "scipy_sparse"]
    assert (drawn["pairs"] == paired.ROUNDS).all()
    assert isinstance(drawn, pd.DataFrame)


def test_all_kernels_of_a_pair_must_fit_memory_together(files):
    case = CASE | {"experiment": "paired", "against": "numba_unpack/numba,scipy_sparse/csc", "k": [2]}
    alone = [products.begin(case | {"kernel": k, "target": t}, Files(**vars(files) | {"memory": 10**6}), None,
                            Dataset.read(files.dataset), version=1).status
             for k, t in paired.kernels_of(case)]  # fmt: skip
    assert alone == ["ok"] * 3
    memory = next(
        m for m in range(10**4, 10**7, 10**4)
        if "GB of memory" not in str(products.begin(case, Files(**vars(files) | {"memory": m}), None,
                                                     Dataset.read(files.dataset), version=1).reason)
    )  # fmt: skip
    doc = paired.run(case, Files(**vars(files) | {"memory": memory}))
    assert doc.status == "refused"
    assert "GB of memory" in doc.reason


@pytest.mark.parametrize("count", ["0", "-1", "1.5", '"two"', "null"])
def test_a_number_of_processes_that_is_none_is_told(count, tmp_path, capsys, monkeypatch):
    from bench import __main__ as cli
    from bench import provenance

    monkeypatch.setattr(provenance, "set_threads", lambda threads: None)
    case = '{"experiment": "limits", "threads": 1, "thread_counts": [1]}'
    arguments = ["run", "--case", case, "--timing", f'{{"processes": {count}}}', "--out", str(tmp_path / "o.json")]
    assert cli.main(arguments) == 2
    assert "a whole number of 1 or more was needed" in capsys.readouterr().err
