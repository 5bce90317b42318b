"""What jobs ask a scheduler for: what kernels declare, more for more, and never more than a node has."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import config, kernels, machine, needs
from bench.errors import BenchError
from bench.experiments.gblup import ReferenceOptions
from bench.experiments.gblup.reference import bytes_needed
from bench.genotypes.spec import parse_spec
from bench.kernels import Problem
from bench.machine import USABLE_SHARE, assume, this_machine
from bench.needs import Needs, of_case, of_dataset, size, uses_gpu
from bench.plan import all_cases
from bench.record import write_json
from small_plink import write_plink

FACTS = {"host": "n", "cpu": "c", "flags": ["avx2"], "cores": 64, "memory": 10**12, "gpus": ["H100"], "driver": "1"}
FACTS |= {"gpu_memory": 80 * 10**9, "gpu_builds": ["gpu_2bit/sm_90"]}
WHOLE = config.read()


@pytest.fixture
def node(tmp_path, monkeypatch):
    """A large machine to plan for, forgotten afterwards."""
    monkeypatch.setattr(machine, "_assumed", [])
    write_json(tmp_path / "node.json", FACTS)
    assume(tmp_path / "node.json")
    yield this_machine()
    machine._assumed.clear()
    this_machine.cache_clear()


def session(**changes):
    case = {"experiment": "products", "dataset": "herd", "kernel": "dense_blas", "target": "openblas"}
    return case | {"k": [1, 32], "dtype": "f8", "threads": 1} | changes


def with_sizes(n, m):
    spec = WHOLE.datasets["herd"].model_copy(update={"n_samples": n, "n_snps": m})
    return WHOLE.model_copy(update={"datasets": WHOLE.datasets | {"herd": spec}})


@settings(deadline=None, max_examples=50)
@given(n=st.integers(2500, 100_000), m=st.integers(100, 100_000))
def test_a_session_asks_for_what_its_kernel_declares_and_grows_with_its_size(n, m):
    asked = of_case(session(), with_sizes(n, m))
    problem = Problem(n, m, 32, "f8", 1)
    assert asked.bytes > kernels.load("dense_blas").bytes_needed(problem) + problem.vector_bytes
    larger = of_case(session(), with_sizes(2 * n, m))
    assert larger.bytes > asked.bytes
    assert larger.seconds > asked.seconds
    assert of_case(session(threads=8), with_sizes(n, m)).seconds <= asked.seconds


def test_a_streamed_session_asks_for_what_it_is_given_instead_of_the_matrix():
    case = session(experiment="streamed", kernel="auto", target="avx2", k=[1], streamed={"memory": 10**9})
    asked, matrix = of_case(case, with_sizes(10**6, 10**5)).bytes, 25e9
    assert 1e9 < asked < matrix / 4
    more = of_case(case | {"streamed": {"memory": 3 * 10**9}}, with_sizes(10**6, 10**5))
    assert more.bytes == asked + 2e9


def test_repeats_and_processes_take_time():
    slow = WHOLE.model_copy(update={"timing": config.Timing(processes=10)})
    assert of_case(session(), slow).seconds > 5 * of_case(session(), WHOLE).seconds


def test_a_dense_reference_asks_for_its_matrices():
    options = dataclasses.asdict(ReferenceOptions())
    case = {"experiment": "gblup", "solver": "cholesky", "dataset": "herd", "threads": 1, "options": options}
    n = WHOLE.datasets["herd"].n_samples
    assert of_case(case, WHOLE).bytes > bytes_needed(n, ReferenceOptions())


def test_a_gradient_step_asks_for_what_it_says_it_needs_and_not_for_much_more():
    from bench.experiments.dblup.steps import bytes_needed as step_bytes

    seen = set()
    for name in ("dblup", "gblup_scale"):
        whole = config.read([Path(f"config/{name}.yaml")])
        for case in all_cases(whole)["dblup"].values():
            if case["variant"] != "steps":
                continue
            n, m = case["samples"], size(whole.datasets[case["dataset"]])[1]
            needed = step_bytes(case["method"], n, m, case["options"]["probes"] + 2)
            asked = of_case(case, whole).bytes
            assert needed < asked
            if case["method"] == "matrix_free":
                assert asked < 2 * (needed + needs.PROCESS_BYTES)
            seen.add(case["method"])
    assert seen == {"dense", "dense_fixed", "matrix_free"}


@pytest.mark.parametrize("name", ["smoke", "single_step", "dblup", "gblup_scale", "gram", "papers/freudenberg2023"])
def test_every_case_has_needs(name):
    whole = config.read([Path(f"config/{name}.yaml")])
    for cases in all_cases(whole).values():
        for case in cases.values():
            found = of_case(case, whole)
            assert 10**9 < found.bytes < 10**13
            assert 0 < found.minutes() < 60 * 24 * 30


def test_another_attempt_asks_for_more_up_to_what_a_node_has(node):
    asked = Needs(90e9, 3600)
    assert asked.megabytes(1) == pytest.approx(90_000 / USABLE_SHARE, rel=1e-4)
    assert asked.megabytes(2) == pytest.approx(2 * asked.megabytes(1), rel=1e-4)
    assert asked.megabytes(100) == node.usable_memory / 1e6
    assert asked.minutes(3) == pytest.approx(3 * asked.minutes(1), abs=3)


def test_the_largest_suffices_for_all():
    assert needs.largest([Needs(1, 20), Needs(10, 2)]) == Needs(10, 20)
    assert needs.largest([]) == Needs(0, 0)


def test_a_users_own_files_are_as_long_as_they_are(tmp_path):
    write_plink(tmp_path / "own")
    spec = parse_spec({"kind": "plink", "prefix": str(tmp_path / "own"), "phenotypes": "p.tsv"}, name="own")
    lines = [len((tmp_path / f"own.{end}").read_text().splitlines()) for end in ("fam", "bim")]
    assert size(spec) == tuple(lines)
    assert of_dataset(spec).bytes > 10**9


def test_a_gpu_is_asked_for_by_kernels_that_need_one():
    assert uses_gpu({"kernel": "gpu_2bit", "target": "sm_90"})
    assert uses_gpu({"kernel": "dense_blas", "target": "openblas", "against": "gpu_2bit/sm_90"})
    assert not uses_gpu({"kernel": "dense_blas", "target": "openblas"})
    assert not uses_gpu({"method": "gram"})


def test_a_described_machine_is_planned_for(node):
    assert (node.cores, node.gpus) == (64, ("H100",))
    assert kernels.load("gpu_2bit").lacks("sm_90", node) is None
    assert "does not run sm_80" in str(kernels.load("gpu_2bit").lacks("sm_80", node))


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        (None, "node.json: not there; `make slurm-node` writes the description of a compute node"),
        ({"host": "n"}, "node.json: no description of a machine"),
        (FACTS | {"cores": "many"}, "node.json: no description of a machine"),
    ],
)
def test_a_description_that_is_none_is_refused(tmp_path, facts, sentence):
    if facts is not None:
        write_json(tmp_path / "node.json", facts)
    with pytest.raises(BenchError, match=sentence):
        assume(tmp_path / "node.json")
