"""The experiment that measures what the machine can do, and what kernels declare that they take of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from bench import config as configuration
from bench import kernels, plan
from bench.build import build
from bench.collect import collect
from bench.experiments import Files, limits, products
from bench.inventory import to_text
from bench.kernels import Problem
from bench.kernels.five_codes import sweeps
from bench.machine import this_machine

CASE = {"experiment": "limits", "threads": 1, "thread_counts": [1]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    if shutil.which("g++") is None:
        pytest.skip("no g++ on this machine")
    folder = tmp_path_factory.mktemp("limits")
    build("limits", "scalar", folder / "scalar")
    return folder


@pytest.fixture(scope="module")
def doc(folder):
    return limits.run(CASE, Files(limits=folder))


def test_every_limit_is_a_row_per_try(doc):
    assert doc.status == "ok"
    tries = {}
    for row in (row for row in doc.rows if "target" in row):
        assert row["value"] > 0
        assert (row["target"], row["threads"], row["phase"]) == ("scalar", 1, "limits")
        marks = row["metric"], row.get("dtype"), row.get("k"), row.get("size")
        tries.setdefault(marks, []).append(row["repeat"])
    assert all(repeats == list(range(limits.ROUNDS)) for repeats in tries.values())
    counts = {name: sum(marks[0] == name for marks in tries) for name in {marks[0] for marks in tries}}
    lookups = 2 * len(kernels.LOOKUP_COLUMNS)
    assert counts == {"fma_peak": 2, "lookup_peak": lookups, "int8_peak": 1, "read_peak": 5, "copy_peak": 1}


def test_the_document_is_part_of_the_table(doc, tmp_path):
    doc.write(tmp_path / "limits.json")
    frame = collect([tmp_path / "limits.json"])
    assert set(frame["target"].dropna()) == {"scalar"}
    assert frame["kernel"].isna().all()
    assert frame["dataset"].isna().all()
    assert set(frame.loc[frame["metric"] == "read_peak", "size"]) == set(limits.READ_SIZES)


def test_without_a_compiler_the_limits_are_refused_in_words(tmp_path):
    build("limits", "scalar", tmp_path / "scalar", compiler="no-such-compiler")
    for files in (Files(limits=tmp_path), Files()):
        doc = limits.run(CASE, files)
        assert doc.status == "refused"
        assert "install g++" in doc.reason
        assert not doc.rows


def test_more_threads_than_cores_are_refused(folder):
    doc = limits.run(CASE | {"threads": 4096, "thread_counts": [4096]}, Files(limits=folder))
    assert doc.reason.startswith("asks for 4096 threads, this machine has ")


def test_there_is_one_case_of_all_thread_counts():
    cases = limits.cases(limits.Stanza(threads=["all", 1]), None)  # type: ignore[arg-type]
    (case,) = cases.values()
    cores = this_machine().cores
    assert case == {"experiment": "limits", "threads": cores, "thread_counts": sorted({1, cores})}


def test_the_plan_needs_no_data_set_for_the_limits(monkeypatch):
    merged = {}
    for name in ("datasets", "config"):
        merged |= yaml.safe_load((Path(__file__).parents[2] / f"config/{name}.yaml").read_text())
    merged["experiments"] = {"limits": {"threads": [4096]}}
    config = configuration.check(merged)
    (case,) = plan.all_cases(config)["limits"].values()
    assert plan.refusal(case, config).startswith("asks for 4096 threads")
    assert plan.refusal(case | {"threads": 1}, config) is None


def test_bench_machine_prints_every_target():
    row = {"fma_peak f8": 30e9, "fma_peak f4": 60e9, "int8_peak": 240e9, "lookup_peak k8 15552": 3e9}
    row |= {"lookup_peak k8 124416": 2e9, "lookup_peak k4 7776": 5e9}
    row |= {"read_peak 268435456": 33e9, "copy_peak 134217728": 21e9}
    facts = {"cpu": "a CPU", "cores": 2, "flags": [], "caches": {}, "memory": 1, "memory_available": 1, "blas": []}
    facts |= {"compilers": {}, "gpus": [], "measured": [{"target": "avx2", "threads": 1, **row}]}
    line = next(line for line in to_text(facts).splitlines() if line.startswith("avx2"))
    assert line.split() == ["avx2", "1", "30.0", "60.0", "240.0", "3.0", "2.0", "5.0", "33.0", "21.0"]


@pytest.mark.parametrize("direction", list(products.DIRECTIONS))
@pytest.mark.parametrize("name", kernels.names())
def test_declared_work_is_of_known_kinds_and_grows_with_the_matrix(name, direction):
    kernel = kernels.load(name)
    if kernel.work is None:
        pytest.skip(f"{name} declares no work")
    for target in kernel.all_targets:
        for dtype in kernel.dtypes:
            for k in (1, 2, 3, 4, 7, 8, 10, 12, 13, 16, 33):
                small = kernel.work(Problem(1000, 2000, k, dtype), direction, target)
                large = kernel.work(Problem(2000, 2000, k, dtype), direction, target)
                assert set(small) <= set(kernels.WORK)
                assert set(small) == set(large)
                assert all(amount > 0 for amount in small.values())
                assert all(large[what] == pytest.approx(2 * small[what]) for what in small)


def sweeps_of_the_source(k: int, itemsize: int) -> list[int]:
    """The loop of `product` in five_codes.cc, in Python."""
    eight, found, c = 64 // itemsize, [], 0
    most = eight * 3 // 2
    while c < k:
        left = k - c
        rest = eight < left <= most
        width = next(w for w, above in ((eight, eight // 2), (eight // 2, eight // 4), (eight // 4, eight // 8),
                                        (eight // 8, 0)) if left > above)  # fmt: skip
        found.append((most if rest else width) * itemsize // 8)
        c += most if rest else eight
    return found


@pytest.mark.parametrize("itemsize", [4, 8])
def test_five_codes_declares_the_sweeps_that_it_makes(itemsize):
    for k in range(1, 100):
        assert sweeps(k, itemsize) == sweeps_of_the_source(k, itemsize)


def test_five_codes_looks_five_genotypes_up_at_once():
    work = kernels.load("five_codes").work
    assert work(Problem(1000, 50, 10), "matmul", "avx512") == {"bytes": 10_000, "lookups12": 10_000}
    assert work(Problem(1000, 50, 20), "matmul", "avx512") == {
        "bytes": 20_000,
        "lookups8": 10_000,
        "lookups12": 10_000,
    }


def test_multiplying_kernels_take_a_multiply_add_a_genotype_and_column():
    for name, stored in (("dense_blas", 8 * 50_000), ("decompress", 12_500), ("numba_unpack", 12_500)):
        work = kernels.load(name).work
        assert work(Problem(1000, 50, 3), "rmatmul", "") == {"fma": 150_000, "bytes": stored}


def test_a_kernel_that_declares_work_of_another_kind_is_told(monkeypatch):
    from bench.record import Document

    kernel = kernels.load("decompress")
    monkeypatch.setattr(products.kernels, "load", lambda name: type(kernel)(
        **{**vars(kernel), "work": lambda problem, direction, target: {"flops": 1.0}}))  # fmt: skip
    doc = Document({"n": 3, "m": 4})
    case = {"kernel": "decompress", "target": "scalar", "dtype": "f8", "threads": 1}
    with pytest.raises(ValueError, match="decompress: work 'flops' is not one of fma, lookups1"):
        products.add_work(doc, case, "matmul", 1)


def test_a_case_with_a_data_set_needs_its_file(tmp_path, capsys):
    from bench import __main__ as cli

    case = '{"experiment": "products", "dataset": "cattle", "threads": 1}'
    assert cli.main(["run", "--case", case, "--out", str(tmp_path / "o.json")]) == 2
    assert "--dataset: the case needs the dataset.json of cattle" in capsys.readouterr().err


def test_the_limits_are_run_by_the_command_line_without_a_data_set(folder, tmp_path):
    from bench import __main__ as cli

    case = '{"experiment": "limits", "threads": 1, "thread_counts": [1]}'
    out = tmp_path / "limits.json"
    assert cli.main(["run", "--case", case, "--limits", str(folder), "--out", str(out)]) == 0
    frame = collect([out])
    assert frame["target"].notna().sum() == limits.ROUNDS * (2 + 2 * len(kernels.LOOKUP_COLUMNS) + 1 + 5 + 1)


def test_the_sizes_of_the_caches_are_rows_and_disturb_no_bound(doc, tmp_path):
    from bench.machine import caches
    from bench.tables import _bounds

    sizes = {row["note"]: row["value"] for row in doc.rows if row["metric"] == "cache_size"}
    assert sizes == caches()
    doc.write(tmp_path / "limits.json")
    assert set(_bounds.limits(collect([tmp_path / "limits.json"]))["metric"]) == {
        "fma_peak", "lookup_peak", "int8_peak", "read_peak", "copy_peak",
    }  # fmt: skip
