"""The experiment of one-run REML: verified, timed beside the kernel's own products, refused with a reason."""

import dataclasses
import json
import types

import numpy as np
import pandas as pd
import pytest

from bench.experiments import Files, lanczos_reml, products
from bench.genotypes.dataset import Dataset, write_table

pytestmark = pytest.mark.usefixtures("own_lock")

CASE = {
    "experiment": "lanczos_reml", "dataset": "sheep", "trait": "h2=0.5", "kernel": "numba_unpack", "target": "numba",
    "dtype": "f8", "threads": 1, "k": [8], "options": {"eigen_max_n": 100},
}  # fmt: skip


@pytest.fixture
def known(small_dataset):
    """The manifest of 23 sheep whose true breeding values are known."""
    data, path = Dataset.read(small_dataset), small_dataset.parent / "breeding_values.tsv"
    values = np.random.default_rng(1).standard_normal(data.n_samples)
    write_table(path, pd.DataFrame({"id": data.sample_ids(), "wool": values}))
    dataclasses.replace(data, breeding_values_path=path).write(small_dataset)
    return Files(dataset=small_dataset)


def values(doc, metric, **where):
    return [
        row["value"] for row in doc.rows if row["metric"] == metric and all(row.get(k) == v for k, v in where.items())
    ]


def test_a_run_is_verified_timed_and_held_against_the_eigendecomposition(known):
    doc = lanczos_reml.run(CASE, known)
    assert doc.status == "ok", doc.reason
    assert (doc.identity["n"], doc.identity["m"]) == (23, 57)
    for direction in ("matmul", "rmatmul"):
        assert len(values(doc, "product_time", direction=direction, k=8)) == 2 * lanczos_reml.REPEATS
    (steps,) = values(doc, "products", phase="reml")
    path = values(doc, "log_variance_ratio")
    assert len(path) == steps
    assert values(doc, "variance_ratio", phase="reml")[0] == pytest.approx(np.exp(path[-1]))
    assert values(doc, "passes") == [2 * steps + 2 / 8]
    assert values(doc, "integer_mismatches") == [0]
    assert values(doc, "rel_error")[0] < 1e-14
    assert values(doc, "variance_ratio", phase="eigen")[0] > 0
    assert values(doc, "truncation_error")[0] < 1e-3
    assert values(doc, "reml_time")[0] > 0
    json.dumps(doc.rows)


def test_some_of_the_individuals_are_spread_over_all(known):
    doc = lanczos_reml.run(CASE | {"samples": 12}, known)
    assert doc.status == "ok", doc.reason
    assert doc.identity["n"] == 12


def test_data_without_true_breeding_values_are_refused(small_dataset):
    doc = lanczos_reml.run(CASE, Files(dataset=small_dataset))
    assert doc.status == "refused"
    assert "no true breeding values" in doc.reason


def test_a_kernel_that_multiplies_wrongly_is_told(known, monkeypatch):
    own = products.prepare

    def wrong(*given, **more):
        operator = own(*given, **more)
        multiply = operator.rmatmul
        operator.rmatmul = lambda U: 1.5 * multiply(U)
        return operator

    monkeypatch.setattr(products, "prepare", wrong)
    doc = lanczos_reml.run(CASE, known)
    assert doc.status == "wrong"
    assert "counts of alleles differ" in doc.reason


def test_cases_are_a_run_per_size_and_heritability():
    given = lanczos_reml.Stanza(datasets=["tiny"], samples=[10, 20], h2=[0.1, 0.3], probes=3, threads=[1])
    cases = lanczos_reml.cases(given, types.SimpleNamespace(targets=["best"]))
    assert len(cases) == 4
    assert {case["trait"] for case in cases.values()} == {"h2=0.1", "h2=0.3"}
    assert all(case["k"] == [4] for case in cases.values())
