"""The experiment dblup: its cases, simulated traits, studies on a small data set, and what its tables say."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import synthetic_documents as synthetic
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_documents import measurements

from bench import config, plan, tables
from bench.errors import BenchError
from bench.experiments import Files, dblup
from bench.experiments.dblup import traits
from bench.genotypes.dataset import Dataset
from bench.record import Document

pytestmark = pytest.mark.usefixtures("own_lock")

ROOT = Path(__file__).resolve().parents[2]


def values(doc: Document, metric: str, **where: Any) -> list[float]:
    rows = [row for row in doc.rows if row["metric"] == metric]
    return [row["value"] for row in rows if all(row.get(key) == value for key, value in where.items())]


def test_every_study_has_its_cases_and_each_its_own_id():
    found = plan.all_cases(config.read([ROOT / "config" / "dblup.yaml"], ROOT))["dblup"]
    studies = [case["variant"] for case in found.values()]
    assert {study: studies.count(study) for study in set(studies)} == {
        "learned": 5, "folds": 5, "simulated": 4, "annotations": 1, "steps": studies.count("steps"),
    }  # fmt: skip
    steps = [case for case in found.values() if case["variant"] == "steps"]
    assert {case["preconditioner"] for case in steps if case["method"] == "dense"} == {"none"}
    assert all(plan.case_id(case) == name for name, case in found.items())
    assert all(case["threads"] == 1 for case in found.values() if case["variant"] != "steps")
    for study in {case["variant"] for case in found.values()}:
        assert all(Path(file).exists() for file in dblup.sources(study))


def test_a_data_set_without_traits_and_a_method_that_is_none_are_refused():
    read = config.read([], ROOT)
    livestock = dblup.Stanza.model_validate({"learned": {"datasets": ["dairy"]}})
    with pytest.raises(BenchError, match="'dairy' is of the kind 'livestock'; name its `traits`"):
        dblup.cases(livestock, read)
    wrong = {"dblup": {"folds": {"datasets": ["wheat"], "methods": ["x"]}}}
    with pytest.raises(BenchError, match="methods"):
        config.check(read.model_dump() | {"experiments": wrong})


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 300), st.data())
def test_blocks_are_runs_of_neighbours_of_equal_size(m, data):
    blocks = data.draw(st.integers(1, m))
    found = traits.contiguous_blocks(m, blocks)
    sizes = np.bincount(found)
    assert (np.diff(found) >= 0).all()
    assert (sizes.size, sizes.sum()) == (blocks, m)
    assert sizes.max() - sizes.min() <= 1


@pytest.mark.parametrize("architecture", ["concentrated", "polygenic"])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_simulated_trait_has_its_heritability_and_its_qtl_where_they_belong(architecture, seed):
    rng = np.random.default_rng(seed)
    dosages = rng.integers(-1, 3, (40, 100)).astype(np.int8)
    trait = traits.simulated(dosages, architecture, n_qtl=12, h2=0.3, rng=rng)
    assert np.var(trait.u) == pytest.approx(0.3)
    loci = np.flatnonzero(trait.effects)
    assert loci.size == 12
    if architecture == "concentrated":
        assert np.unique(loci * 20 // 100).size <= 3
    imputed = np.where(dosages < 0, np.nan, dosages)
    expected = np.nan_to_num(imputed - np.nanmean(imputed, axis=0)) @ trait.effects
    np.testing.assert_allclose(trait.u, expected - expected.mean(), atol=1e-12)


def test_annotations_tell_of_the_effects_and_the_held_out_are_a_fifth():
    rng = traits.generator(3, 0)
    made = traits.annotated(rng.integers(0, 3, (50, 4000)).astype(np.int8), h2=0.5, rng=rng)
    assert np.exp(made.log_weight).mean() == pytest.approx(1)
    large = made.log_weight > np.quantile(made.log_weight, 0.9)
    assert np.var(made.trait.effects[large]) > 5 * np.var(made.trait.effects[~large])
    linear = np.linalg.lstsq(np.column_stack([np.ones(4000), made.annotations]), made.log_weight, rcond=None)[1]
    assert float(linear[0]) > 0.4 * np.var(made.log_weight) * 4000
    kept, out = traits.split(53, rng)
    assert out.size == 10
    assert sorted([*kept, *out]) == list(range(53))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: traits.contiguous_blocks(5, 6), "6 blocks of 5 SNPs; between 1 and 5 can be had"),
        (lambda: traits.simulated(np.ones((9, 40), np.int8), "polygenic", n_qtl=3, h2=0.5,
                                  rng=np.random.default_rng(1)), "no SNP varies where the trait has its QTL"),
    ],
)  # fmt: skip
def test_what_cannot_be_simulated_is_a_sentence(call, words):
    with pytest.raises(BenchError, match=words):
        call()


def case_of(study: str, **options: Any) -> dict[str, Any]:
    """The one case of a small study of the fixture's data set."""
    kind = {"learned": dblup.Learned, "folds": dblup.Folds, "simulated": dblup.Architectures}
    kind |= {"annotations": dblup.Annotations}
    options = kind[study].model_validate({"datasets": ["sheep"]} | options).model_dump()
    trait = {"learned": "weight", "folds": "weight", "simulated": "concentrated", "annotations": "annotated"}[study]
    fixed = {"experiment": "dblup", "variant": study, "dataset": "sheep", "trait": trait}
    return fixed | {"threads": 1, "dtype": "f8", "options": options}


def test_the_learned_ratio_is_that_of_the_eigendecomposition(small_dataset, monkeypatch):
    session = importlib.import_module("bench.experiments.dblup.session")
    own = session.phenotypes
    noisy = np.random.default_rng(0).standard_normal(23)  # of 23 records alone REML says that there is no residual
    monkeypatch.setattr(session, "phenotypes", lambda *arguments: own(*arguments) + 2 * noisy)
    doc = dblup.run(case_of("learned", objectives=["reml", "train"]), Files(dataset=small_dataset))
    assert doc.status == "ok", doc.reason
    exact = values(doc, "variance_ratio", phase="reference")[0]
    assert 0.05 < exact < 20
    assert values(doc, "variance_ratio", phase="learned", method="reml")[0] == pytest.approx(exact, rel=1e-4)
    assert values(doc, "ebv_error", method="reml")[0] < 1e-4
    path = values(doc, "variance_ratio", phase="path", method="train")
    assert min(path) < 0.01 * path[0]  # the collapse
    assert values(doc, "objective", phase="path", method="train")[-1] < values(doc, "objective", method="train")[0]
    assert values(doc, "cv_mse", method="reml")[0] < values(doc, "cv_mse", method="train")[0]


@pytest.mark.parametrize("study", ["folds", "simulated"])
def test_each_method_predicts_what_it_has_not_seen(small_dataset, study):
    more = {"folds": 2} if study == "folds" else {"replicates": 2, "n_qtl": 5}
    doc = dblup.run(case_of(study, blocks=4, methods=["reml", "reml+w+ridge"], **more), Files(dataset=small_dataset))
    assert doc.status == "ok", doc.reason
    metric = "predictive_ability_fold" if study == "folds" else "accuracy"
    for method in ("reml", "reml+w+ridge"):
        found = values(doc, metric, method=method)
        assert len(found) == 2
        assert all(-1 <= value <= 1 for value in found)
    assert len(values(doc, "effective_blocks")) == 2
    assert all(1 <= value <= 4 for value in values(doc, "effective_blocks"))


@pytest.mark.slow
def test_a_network_is_trained_through_the_solve(small_dataset, monkeypatch):
    study = importlib.import_module("bench.experiments.dblup.annotations")
    monkeypatch.setattr(study, "DEPTH", {"network": 1})  # each depth is compiled anew
    doc = dblup.run(case_of("annotations", replicates=1, steps=6, width=3), Files(dataset=small_dataset))
    assert doc.status == "ok", doc.reason
    loss = values(doc, "objective", phase="training")
    assert len(loss) == 7
    assert loss[-1] < loss[0]
    assert len(values(doc, "log_weight", method="network")) == 57
    methods = {row["method"] for row in doc.rows if row["metric"] == "accuracy"}
    assert methods == {"reml", "network", "truth"}


def test_a_trait_that_is_not_there_is_a_refused_document(small_dataset):
    doc = dblup.run(case_of("folds") | {"trait": "wool"}, Files(dataset=small_dataset))
    assert doc.status == "refused"
    assert "there is no trait 'wool'; there are weight" in str(doc.reason)


def test_too_little_memory_is_said_before_it_is_taken(small_dataset):
    doc = dblup.run(case_of("simulated"), Files(dataset=small_dataset, memory=1000))
    assert doc.status == "refused"
    assert "GB of memory" in str(doc.reason)


def test_the_same_seed_draws_the_same_individuals(small_dataset):
    from bench.genotypes.dataset import Dataset

    session = importlib.import_module("bench.experiments.dblup.session")
    data, files = Dataset.read(small_dataset), Files(dataset=small_dataset)
    drawn = [session.genotypes({"samples": 11}, data, files, copies=1) for _ in range(2)]
    np.testing.assert_array_equal(drawn[0][1], drawn[1][1])
    np.testing.assert_array_equal(drawn[0][0].dosages(), data.packed().dosages()[drawn[0][1]])


def step_of(method: str, **changes: Any) -> dict[str, Any]:
    options = {"variance_ratio": 2.0, "probes": 4}
    fixed = {"experiment": "dblup", "variant": "steps", "dataset": "sheep", "samples": 20, "threads": 1}
    return fixed | {"method": method, "preconditioner": "none", "dtype": "f8", "options": options} | changes


@pytest.mark.slow
def test_a_gradient_step_is_timed_and_its_passes_are_counted(small_dataset):
    timing = {"least": 3, "seconds": 0.001, "most": 3}
    doc = dblup.run(step_of("matrix_free"), Files(dataset=small_dataset, timing=timing))
    assert doc.status == "ok", doc.reason
    assert (doc.identity["n"], doc.identity["kernel"]) == (20, "auto")
    assert values(doc, "gradient_norm")[0] > 0
    for phase in ("step", "warm"):
        assert len(values(doc, "step_time", phase=phase)) == 3
        assert values(doc, "passes", phase=phase)[0] > 2 * values(doc, "iterations", phase=phase)[0] > 0
        assert values(doc, "kernel_cpu", phase=phase)[0] > 0
    assert values(doc, "iterations", phase="warm")[0] <= values(doc, "iterations", phase="step")[0]


def test_steps_on_a_livestock_population_have_new_records_of_the_genotyped(monkeypatch):
    study = importlib.import_module("bench.experiments.dblup.steps")
    u = np.random.default_rng(1).normal(3, 2, 4000)
    data = Dataset("cows", source={"kind": "livestock"}, traits=("milk",))
    monkeypatch.setattr(Dataset, "breeding_values", lambda self: pd.DataFrame({"milk": u}))
    found = study.records(data)
    assert np.corrcoef(found, u)[0, 1] ** 2 == pytest.approx(study.H2, abs=0.05)
    assert np.polyfit(u, found, 1)[0] == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    ("case", "memory", "words"),
    [
        (step_of("dense"), 1000, "the step needs"),
        (step_of("dense", samples=24), None, "asks for 24 individuals, sheep has 23"),
    ],
)
def test_a_step_that_does_not_fit_is_refused_before_anything_is_loaded(small_dataset, case, memory, words):
    doc = dblup.run(case, Files(dataset=small_dataset, memory=memory))
    assert doc.status == "refused"
    assert words in str(doc.reason)


def test_differences_from_reml_are_paired_by_fold_and_by_replicate(tmp_path):
    docs = [synthetic.dblup_prediction_document(study, "pigs", "gain") for study in ("folds", "simulated")]
    drawn = tables.load("dblup_prediction").draw(measurements(tmp_path, *docs))
    assert drawn["measure"].value_counts().to_dict() == {"predictive ability": 8, "accuracy": 8}
    rows = drawn[drawn["measure"] == "accuracy"].set_index("method")
    assert rows.loc["reml+w", "difference"] == pytest.approx(0.07, abs=1e-12)
    assert rows.loc["reml+w", "difference_low"] == pytest.approx(0.069, abs=1e-12)
    assert rows.loc["reml+w", "better"] == 1
    assert rows.loc["train", "better"] == 0
    assert np.isnan(rows.loc["reml", "difference"])
    assert rows.loc["reml", "correlation"] == pytest.approx(0.635)
    assert list(rows.index)[:3] == ["reml", "loo", "train"]


def test_learned_ratios_stand_in_the_order_of_the_objectives(tmp_path):
    drawn = tables.load("dblup_learned").draw(measurements(tmp_path, synthetic.dblup_learned_document("pigs", "fat")))
    assert drawn["method"].tolist() == ["reml", "loo", "gcv", "heldout", "train"]
    assert drawn["lambda"].tolist() == pytest.approx([2, 1.9, 1.8, 1.6, 2e-5])


def test_steps_and_annotations_have_their_medians(tmp_path):
    docs = [synthetic.dblup_steps_document(way, 8000) for way in ("dense", "matrix_free")]
    docs.append(synthetic.dblup_annotations_document())
    frame = measurements(tmp_path, *docs)
    steps = tables.load("dblup_steps").draw(frame).set_index("method")
    assert steps["time_s"].to_dict() == pytest.approx({"dense": 8.0, "matrix_free": 2.0})
    assert np.isnan(steps.loc["dense", "passes"])
    assert steps.loc["matrix_free", "kernel_share"] == pytest.approx(0.8)
    assert steps.loc["matrix_free", ["warm_s", "warm_passes", "warm_kernel_share"]].tolist() == pytest.approx(
        [0.8, 24, 0.8]
    )
    assert np.isnan(steps.loc["dense", "warm_s"])
    found = tables.load("dblup_annotations").draw(frame).set_index("method")
    assert found.loc["network", "gain"] == pytest.approx(0.1)
    assert found.loc["network", "weight_correlation"] == pytest.approx(0.6)
