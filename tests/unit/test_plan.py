"""Cases, their ids, and what is refused before a job starts."""

import copy
from pathlib import Path

import pytest
import yaml

from bench import config as configuration
from bench import experiments, plan
from bench.errors import BenchError
from bench.machine import Machine

ROOT = Path(__file__).parents[2]
GB = 10**9
HERE = Machine("here", "a CPU", frozenset({"avx2", "fma"}), cores=2, memory=8 * GB)


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """A machine of 2 cores, 8 GB, AVX2 without AVX-512, no GPU, and 100 GB of disk."""
    monkeypatch.setattr(plan, "this_machine", lambda: HERE)
    monkeypatch.setattr(plan, "usable_disk", lambda config: 100 * GB)


def config(**overrides):
    merged = {}
    for name in ("datasets", "config"):
        merged |= yaml.safe_load((ROOT / f"config/{name}.yaml").read_text())
    return configuration.check(copy.deepcopy(merged) | overrides)


def product(**overrides):
    case = {"experiment": "products", "dataset": "tiny", "kernel": "decompress", "target": "scalar"}
    return case | {"dtype": "f8", "threads": 1, "k": [1, 10]} | overrides


def test_the_id_of_a_case_does_not_change():
    # Results of earlier runs are found by it: a change of this id discards them.
    assert plan.case_id(product()) == "tiny-decompress-scalar-f8-t1-e18a01cb"


def test_the_id_does_not_depend_on_the_order_of_the_keys():
    assert plan.case_id(dict(reversed(product().items()))) == plan.case_id(product())


def test_every_key_makes_another_id():
    others = [product(k=[1]), product(dataset="tall"), product(threads=2), product(samples=9), product(x=0)]
    assert len({plan.case_id(case) for case in [product(), *others]}) == 6


def test_an_id_is_a_file_name():
    name = plan.case_id(product(against="dense_blas/openblas"))
    assert "/" not in name
    assert "dense_blas-openblas" in name


def test_expand_is_every_combination():
    cases = plan.expand("x", {"a": [1, 2], "b,c": [(3, 4), (5, 6)]}, k=[1])
    assert [(c["a"], c["b"], c["c"]) for c in cases.values()] == [(1, 3, 4), (1, 5, 6), (2, 3, 4), (2, 5, 6)]
    assert all(c["experiment"] == "x" and c["k"] == [1] for c in cases.values())
    assert list(cases) == [plan.case_id(c) for c in cases.values()]


def test_a_native_kernel_has_the_targets_that_are_asked_for():
    assert plan.variants(["decompress"], ["avx2", "scalar"]) == [("decompress", "scalar"), ("decompress", "avx2")]
    assert plan.variants(["decompress"], []) == []


def test_another_kernel_has_all_its_targets():
    assert ("dense_blas", "openblas") in plan.variants(["dense_blas"], [])


def test_all_threads_are_this_machine_s_cores_and_counted_once():
    assert plan.thread_counts([1, "all", 2, 8]) == [1, 2, 8]


@pytest.mark.parametrize("name", ["products", "scaling", "paired", "gblup"])
def test_cases_of_the_main_job_name_what_the_workflow_needs(name):
    cases = plan.all_cases(config())[name]
    assert cases
    assert all({"experiment", "dataset", "threads"} <= set(case) for case in cases.values())
    assert {case["experiment"] for case in cases.values()} == {name}


def test_a_pair_meets_in_the_same_target():
    cases = plan.all_cases(config())["paired"].values()
    natives = [c for c in cases if c["kernel"] == "five_codes"]
    assert natives
    assert all(c["against"].split("/")[1] == c["target"] for c in natives)


def refusal(case, **overrides):
    return plan.refusal(case, config(**overrides))


def test_what_fits_is_not_refused():
    assert refusal(product()) is None


def test_more_threads_than_cores_are_refused():
    assert refusal(product(threads=64)) == "asks for 64 threads, this machine has 2 cores"


def test_a_cpu_without_the_instructions_is_refused():
    reason = refusal(product(target="avx512"))
    assert "the avx512 build needs the CPU features avx512f" in reason
    assert "a CPU lacks" in reason


def test_a_kernel_for_gpus_runs_in_the_architectures_that_are_named_or_in_its_best_and_never_in_none():
    assert plan.variants(["gpu_2bit"], ["scalar"]) == plan.variants(["gpu_2bit"], ["best"])
    assert len(plan.variants(["gpu_2bit"], ["scalar"])) == 1
    named = ["sm_80", "sm_90a_s4", "avx512"]
    assert plan.variants(["gpu_2bit"], named) == [("gpu_2bit", "sm_90a_s4"), ("gpu_2bit", "sm_80")]


def test_a_kernel_for_gpus_is_refused_without_one():
    assert refusal(product(kernel="gpu_2bit", target="sm_90")) == "needs an NVIDIA GPU, this machine has none"


def test_a_pair_is_refused_for_its_partner_too():
    case = product(experiment="paired", against="gpu_2bit/sm_90")
    assert refusal(case) == "gpu_2bit/sm_90: needs an NVIDIA GPU, this machine has none"
    case = product(experiment="paired", dataset="cattle", against="dense_blas/openblas")
    assert refusal(case, budget={"memory_gb": 0.6}).startswith("dense_blas/openblas: needs 0.")


def test_a_matrix_beyond_the_memory_is_refused_with_both_sizes():
    case = product(dataset="cattle", kernel="dense_blas", target="openblas")
    assert refusal(case) is None
    reason = refusal(case, budget={"memory_gb": 0.6})
    assert reason.startswith("needs 0.")
    assert reason.endswith("GB of memory, 0.6 GB can be used")


def test_what_is_streamed_may_be_larger_than_the_memory():
    case = product(experiment="streamed", dataset="cattle", kernel="decompress", streamed={"memory": 10**8})
    assert refusal(case, budget={"memory_gb": 0.6}) is None
    stanza = experiments.load("streamed").Stanza(datasets=["tiny"], memory="100MB")
    made = experiments.load("streamed").cases(stanza, config())
    assert all(case["streamed"] == {"memory": 10**8} for case in made.values())
    assert len({plan.case_id(case) for case in made.values()}) == len(made) > 0


def test_the_number_of_samples_decides_the_memory():
    case = product(dataset="herd", kernel="dense_blas", target="openblas", samples=937)
    budget = {"memory_gb": 0.6}
    assert refusal(case, budget=budget) is None
    assert refusal(case | {"samples": 15000}, budget=budget).startswith("needs 1.")


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ({"memory_gb": 0.3}, "GB of memory, 0.3 GB can be used"),
        ({"hours": 0.001}, "the budget is 0.001 hours"),
    ],
)
def test_a_data_set_beyond_the_budget_is_refused(budget, words):
    reason = refusal(product(dataset="herd"), budget=budget)
    assert reason.startswith("data set herd: ")
    assert words in reason


def test_a_data_set_beyond_the_disk_is_refused(monkeypatch):
    monkeypatch.setattr(plan, "usable_disk", lambda config: 10_000_000)
    assert "of disk" in refusal(product(dataset="herd"))


def test_a_public_data_set_is_not_refused_for_its_size():
    assert refusal(product(dataset="wheat")) is None


def test_the_paper_s_sizes_are_refused_in_words():
    paper = configuration.read([ROOT / "config/papers/freudenberg2023.yaml"], ROOT)
    cases = plan.all_cases(paper)
    assert set(cases) == {"limits", "products"}
    three_million = [case for case in cases["products"].values() if case["dataset"] == "freudenberg_3m"]
    assert {case["kernel"] for case in three_million} == set(paper.kernels)
    reasons = {case["kernel"]: plan.refusal(case, paper) for case in three_million}
    assert all(reasons.values())
    assert reasons["decompress"].startswith("data set freudenberg_3m: ")
    assert reasons["decompress"].endswith("of memory, 7.2 GB can be used")


def test_a_kernel_that_is_not_there_is_an_error():
    with pytest.raises(BenchError, match="no kernel 'absent'"):
        refusal(product(kernel="absent"))


@pytest.mark.parametrize("name", experiments.names())
def test_every_experiment_has_its_parts(name):
    module = experiments.load(name)
    assert issubclass(module.Stanza, configuration.Stanza)
    # A key, or a property where the data sets are named further below.
    names_them = "datasets" in module.Stanza.model_fields or hasattr(module.Stanza, "datasets")
    assert names_them == (name not in experiments.WITHOUT_DATA)
    assert isinstance(module.VERSION, int)
    assert callable(module.cases)
    assert callable(module.run)
    assert (ROOT / f"workflow/rules/experiments/{name}.smk").exists()


def test_an_experiment_that_is_not_there_is_an_error():
    with pytest.raises(BenchError, match="no experiment 'absent'"):
        experiments.load("absent")


def test_best_is_the_widest_build_that_this_machine_runs():
    assert plan.variants(["decompress"], ["best"]) == [("decompress", "avx2")]


def test_best_and_a_named_target_are_not_planned_twice():
    assert plan.variants(["decompress"], ["best", "avx2"]) == [("decompress", "avx2")]
