"""The single-step experiment: cases of views, solves compared round by round, warm starts, tables of a real run."""

import dataclasses
import importlib.util
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import config, figures, measure, tables
from bench.build import build, installed
from bench.collect import collect
from bench.errors import BenchError
from bench.experiments import Files, single_step
from bench.experiments.single_step import references, solves
from bench.experiments.single_step.evaluation import evaluation_of
from bench.experiments.single_step.instruments import PARTS
from bench.experiments.single_step.references import Reference, pedigree_ebv
from bench.experiments.single_step.solves import _kept
from bench.experiments.single_step.warm import carried_effects, last_evaluation
from bench.experiments.single_step.young import prediction
from bench.genotypes.dataset import Dataset
from bench.genotypes.livestock import simulate
from bench.genotypes.spec import Livestock, RecordedTrait
from bench.relationships.genomic import BlockCentred, vanraden1
from bench.single_step import variants
from bench.single_step.solve import prepare, solve
from bench.single_step.warm import start_from

pytestmark = pytest.mark.usefixtures("own_lock")

SPEC = Livestock(
    kind="livestock", animals=420, genotyped=90, n_snps=120, cohorts=6, herds=6, sires=8, genotype_sires=True,
    chromosomes=2, chromosome_length=2_000_000, founders=30, n_qtl=20, polygenic=0.1, seed=9,
    genetic_correlations=((1.0, 0.5), (0.5, 1.0)),
    traits=(RecordedTrait(name="milk", h2=0.3, mean=30), RecordedTrait(name="fat", h2=0.2, missing=0.5)),
)  # fmt: skip
CASE = {
    "experiment": "single_step", "dataset": "herd", "trait": "milk", "solver": "pcg", "kernel": "decompress",
    "target": "scalar", "dtype": "f8", "threads": 1, "k": [1], "polygenic": 0.05, "tuning": "none",
    "options": {"rtol": 1e-11, "max_steps": 2000},
}  # fmt: skip
REFERENCE = {key: CASE[key] for key in ("experiment", "dataset", "trait", "threads", "polygenic", "tuning")} | {
    "solver": "reference"
}
SOLVERS = {
    "prior_pcg": "prior",
    "prior_pcg_exact": "prior",
    "ss_h": "jacobi",
    "sssnpblup": "second_level",
    "apy": "jacobi",
}
if importlib.util.find_spec("cvxopt") is None:  # the optional package that factors sparse matrices
    del SOLVERS["prior_pcg_exact"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    if shutil.which("g++") is None:
        pytest.skip("no g++ on this machine")
    made = tmp_path_factory.mktemp("herd")
    library = installed("genedrop").library
    assert library is not None
    simulate(SPEC, made, name="herd", library=library, note=lambda text: None)
    build("decompress", "scalar", made / "build")
    return made


@pytest.fixture(scope="module")
def data(folder):
    return Dataset.read(folder / "dataset.json")


@pytest.fixture(scope="module")
def run(folder):
    """Runs a case on the herd; `reference` names the file."""

    def call(case, reference="reference.npz", **files):
        own = {"dataset": folder / "dataset.json", "reference": folder / reference}
        if "kernel" in case:
            own["build"] = folder / "build" / "build.json"
        return single_step.run(case, Files(**own | files))

    return call


@pytest.fixture(scope="module")
def documents(run, tmp_path_factory):
    """The documents of a whole run."""
    made = measure.exclusive
    lock = tmp_path_factory.mktemp("lock") / "lock"
    measure.exclusive = lambda: made(lock)
    try:
        found = {"reference": run(REFERENCE)}
        for name, preconditioner in SOLVERS.items():
            found[name] = run(CASE | {"variant": name, "preconditioner": preconditioner})
        found["warm"] = run(CASE | {"variant": "prior_pcg", "preconditioner": "prior", "solver": "warm"})
        few = {"samples": 60}
        found["few reference"] = run(REFERENCE | few, "few.npz")
        found["few"] = run(CASE | few | {"variant": "prior_pcg", "preconditioner": "prior"}, "few.npz")
    finally:
        measure.exclusive = made
    return found


@pytest.fixture(scope="module")
def frame(documents, tmp_path_factory):
    written = tmp_path_factory.mktemp("documents")
    for name, doc in documents.items():
        doc.write(written / f"{name.replace(' ', '_')}.json")
    return collect(sorted(written.glob("*.json")))


def values(doc, metric, **where):
    return [
        row["value"]
        for row in doc.rows
        if row["metric"] == metric and all(row.get(key) == value for key, value in where.items())
    ]


def value(doc, metric, **where):
    (found,) = values(doc, metric, **where)
    return found


# Cases.


def stanza(**views):
    return single_step.Stanza(views=views)


def planned(**views):
    return list(single_step.cases(stanza(**views), config.read()).values())


def test_a_view_gives_its_solves_and_one_reference_for_each_population_size_and_set_of_traits():
    found = planned(a={"datasets": ["ss_tiny"], "traits": [1, 2], "samples": [300, 100], "threads": [1],
                       "variants": ["prior_pcg", "ss_h"], "preconditioners": "all"})  # fmt: skip
    of = [case for case in found if case["solver"] == "reference"]
    assert {(case["trait"], case.get("samples")) for case in of} == {
        (trait, n) for trait in ("milk", "milk+fertility") for n in (300, 100)
    }
    solved = [case for case in found if case["solver"] == "pcg"]
    assert len(solved) == 4 * 3
    assert {(case["variant"], case["preconditioner"]) for case in solved} == {
        ("prior_pcg", "prior"), ("ss_h", "jacobi"), ("ss_h", "block"),
    }  # fmt: skip
    assert {case["k"][0] for case in solved if case["trait"] == "milk+fertility"} == {2}


def test_a_solve_of_two_views_is_made_once_and_every_solve_has_its_reference():
    view = {"datasets": ["ss_tiny"], "threads": [1]}
    found = single_step.cases(stanza(a=view, b=view | {"traits": [1, 3]}, c=None), config.read())
    assert len(found) == 4  # the three traits that are asked for are the two that there are
    for case in found.values():
        if case["solver"] != "reference":
            same = found[single_step.reference_of(case, found)]
            assert (same["trait"], same["dataset"]) == (case["trait"], case["dataset"])


def test_the_names_of_a_view_are_checked_when_the_configuration_is_read():
    for key, word in (("variants", "no single-step variant 'ss_x'"), ("kernels", "no kernel 'ss_x'")):
        with pytest.raises(ValueError, match=word):
            stanza(a={"datasets": ["ss_tiny"], key: ["ss_x"]})
    with pytest.raises(BenchError, match=r"data set 'tiny' is of the kind 'simulated'; it needs `livestock`"):
        planned(a={"datasets": ["tiny"]})
    assert stanza(a={"datasets": ["x"]}, b={"datasets": ["x", "y"]}).datasets == ["x", "y"]


def test_all_variants_leave_out_what_cannot_have_a_polygenic_share():
    view = single_step.View(datasets=["x"], variants="all")
    assert {name for name, _ in view.solvers()} == set(variants.names()) - {"fernando"}
    without = single_step.View(datasets=["x"], variants=["fernando"], polygenic=0, preconditioners=["jacobi"])
    assert without.solvers() == [("fernando", "jacobi")]


def test_the_configurations_can_be_planned():
    from pathlib import Path

    for name in ("single_step", "national", "smoke"):
        read = config.read([Path(f"config/{name}.yaml")])
        found = single_step.cases(read.experiments["single_step"], read)
        assert any(case["solver"] == "pcg" for case in found.values())


def test_a_change_of_a_variant_repeats_its_solves():
    assert any(name.endswith("variants/ss_t.py") for name in single_step.sources("ss_t"))
    assert not any(name.endswith("variants/ss_t.py") for name in single_step.sources("ss_h"))


# Evaluations.


def test_fewer_genotyped_are_a_part_of_more(data):
    all_of_them, some, few = (evaluation_of(data, ["milk"], genotyped=n) for n in (None, 60, 20))
    assert len(all_of_them.genotyped) == 90
    assert set(few.genotyped) < set(some.genotyped) < set(all_of_them.genotyped)
    ids = np.array(data.sample_ids(), object)
    rows = np.flatnonzero(np.isin(ids, some.pedigree.ids[some.genotyped]))
    np.testing.assert_array_equal(some.packed.dosages(), all_of_them.packed.dosages()[rows])


def test_the_variances_are_those_of_the_simulation(data):
    found = evaluation_of(data, ["fat", "milk"])
    G = found.model.covariances.genetic
    np.testing.assert_allclose(G, [[0.2, 0.5 * np.sqrt(0.06)], [0.5 * np.sqrt(0.06), 0.3]])
    np.testing.assert_allclose(found.model.covariances.residual, np.diag([0.8, 0.7]))
    np.testing.assert_allclose(found.sd, np.sqrt([0.2, 0.3]))


def test_true_breeding_values_stand_in_the_order_of_the_pedigree(data):
    found = evaluation_of(data, ["milk", "fat"])
    truth = found.breeding_values()
    assert truth.shape == (420, 2)
    genotyped = data.breeding_values()[["milk", "fat"]].to_numpy()
    np.testing.assert_array_equal(truth[found.genotyped], genotyped)


def test_what_an_evaluation_cannot_have_is_a_sentence(data, small_dataset):
    with pytest.raises(BenchError, match=r"herd: there is no trait 'fertility'; there are milk, fat"):
        evaluation_of(data, ["fertility"])
    with pytest.raises(BenchError, match=r"data set 'sheep' is of the kind None; .* needs `livestock`"):
        evaluation_of(Dataset.read(small_dataset), ["milk"])


# Solves.


def test_a_reference_by_a_dense_factor_is_that_of_prior_pcg(run, folder, documents, monkeypatch):
    assert documents["reference"].status == "ok"
    monkeypatch.setattr(references, "DENSE", 0)
    doc = run(REFERENCE, "other.npz")
    dense, other = (Reference.read(folder / name).ebv for name in ("reference.npz", "other.npz"))
    assert dense.shape == (420, 1)
    assert np.abs(dense - other).max() < 1e-10
    assert value(doc, "true_residual_norm", phase="reference") < 1e-12


def test_a_reference_through_a_kernel_is_that_of_numpy(run, folder, documents, monkeypatch):
    monkeypatch.setattr(references, "DENSE", 0)
    monkeypatch.setattr(references, "PLAIN", 0)
    run(REFERENCE, "kernel.npz")
    dense, other = (Reference.read(folder / name).ebv for name in ("reference.npz", "kernel.npz"))
    assert np.abs(dense - other).max() < 1e-10


@pytest.mark.parametrize("name", SOLVERS)
def test_every_round_is_compared_and_timed(documents, name):
    doc = documents[name]
    assert doc.status == "ok", doc.reason
    rounds = int(value(doc, "iterations", phase="solve"))
    if name != "prior_pcg_exact":  # which begins with the equations of the others solved
        assert values(doc, "residual_norm")[0] == 1
    assert values(doc, "residual_norm")[-1] <= 1e-11
    assert len(values(doc, "round_time")) == len(values(doc, "residual_norm")) - 1
    errors = values(doc, "ebv_error")
    exact = variants.load(name).exact
    assert (errors[-1] <= 1e-6) == exact
    assert errors[0] > 0.1
    assert value(doc, "final_ebv_error") == errors[-1]
    assert value(doc, "rounds_1e9") <= rounds
    assert value(doc, "rounds_freudenberg") <= value(doc, "rounds_boerner_johnston") <= value(doc, "rounds_1e9")
    assert bool(values(doc, "rounds_ebv_1e6")) == exact


@pytest.mark.parametrize("name", SOLVERS)
def test_the_parts_of_a_solve_are_all_of_it(documents, name):
    doc = documents[name]
    parts = {part: value(doc, "part_time", part=part) for part in PARTS}
    assert sum(parts.values()) == pytest.approx(value(doc, "solve_time"))
    assert sum(values(doc, "round_time")) <= value(doc, "solve_time")
    multiplies = name in ("prior_pcg", "prior_pcg_exact", "sssnpblup")
    for part in ("Zv", "Ztu"):
        assert (parts[part] > 0) == multiplies
    assert (parts["A"] > 0) == name.startswith("prior_pcg")
    assert (parts["A_inverse"] > 0) == (name != "ss_h")
    assert (parts["S"] > 0) == (name != "prior_pcg_exact")  # which has eliminated most of it


def test_a_round_of_prior_pcg_and_of_ssSNPBLUP_passes_the_genotypes_twice(documents):
    for name in ("prior_pcg", "sssnpblup"):
        doc = documents[name]
        rounds = value(doc, "rounds_1e9")
        assert 2 * rounds <= value(doc, "passes_1e9") <= 2 * rounds + 2
    assert values(documents["ss_h"], "passes")[-1] == 0


def test_setting_up_is_timed_weighed_and_beside_what_was_declared(documents):
    for name in SOLVERS:
        doc = documents[name]
        assert value(doc, "setup_time") > 0
        assert value(doc, "setup_rss") >= 0
        assert value(doc, "bytes_declared") > 0
        assert value(doc, "peak_rss") > 1e7
        for what in ("read", "prepare", "coding", "inverse", "equations", "relationships"):
            assert value(doc, f"{what}_time", phase="prepare") > 0
    assert value(documents["prior_pcg"], "setup_passes") == 0
    assert documents["ss_h"].identity["animals"] == 420
    assert (documents["few"].identity["n"], documents["few"].identity["m"]) == (60, 120)


def test_several_traits_at_once(run, documents):
    both = {"trait": "milk+fat", "k": [2]}
    assert run(REFERENCE | {"trait": "milk+fat"}, "both.npz").status == "ok"
    for name in ("prior_pcg", "ss_h"):
        doc = run(CASE | both | {"variant": name, "preconditioner": SOLVERS[name]}, "both.npz")
        assert doc.status == "ok", doc.reason
        rounds = value(doc, "iterations")
        if name == "prior_pcg":  # a pass is of a vector a trait
            assert values(doc, "passes")[-1] <= 2 * rounds + 2


def test_a_solve_that_is_far_from_the_reference_is_wrong(run, folder, documents):
    reference = Reference.read(folder / "reference.npz")
    dataclasses.replace(reference, ebv=reference.ebv + 1e-3).write(folder / "shifted.npz")
    doc = run(CASE | {"variant": "ss_h", "preconditioner": "jacobi"}, "shifted.npz")
    assert doc.status == "wrong"
    assert "EBVs differ from the reference by 0.0018 genetic standard deviations; 1e-05 is allowed" in doc.reason


def test_a_solve_that_is_not_done_says_how_far_it_came(run, documents):
    few = {"variant": "sssnpblup", "preconditioner": "jacobi", "options": {"rtol": 1e-11, "max_steps": 5}}
    doc = run(CASE | few)
    assert doc.status == "wrong"
    assert "stopped after 5 rounds at" in doc.reason
    assert value(doc, "converged") == 0
    assert not values(doc, "rounds_1e9")


def test_what_does_not_fit_or_has_no_reference_is_refused_with_a_sentence(run, folder, documents):
    doc = run(CASE | {"variant": "ss_h", "preconditioner": "jacobi"}, memory=200_000)
    assert (doc.status, "SS-H needs" in doc.reason) == ("refused", True)
    Reference(np.empty((0, 0)), "there is no network").write(folder / "none.npz")
    doc = run(CASE | {"variant": "ss_h", "preconditioner": "jacobi"}, "none.npz")
    assert doc.reason == "there is no reference to compare with: there is no network"
    doc = run(REFERENCE | {"trait": "fertility"}, "fertility.npz")
    assert doc.status == "refused"
    assert Reference.read(folder / "fertility.npz").reason == doc.reason
    with pytest.raises(BenchError, match="--reference"):
        single_step.run(REFERENCE, Files())


def test_a_reference_that_is_none_is_said(tmp_path):
    (tmp_path / "x.npz").write_text("no")
    with pytest.raises(BenchError, match="not a single-step reference"):
        Reference.read(tmp_path / "x.npz")


def test_rounds_that_are_kept_thin_out_and_hold_the_first_and_the_last():
    assert _kept(7) == list(range(8))
    kept = _kept(5000)
    assert kept[:101] == list(range(101))
    assert kept[-1] == 5000
    assert len(kept) < 600


# Warm starts.


def test_a_warm_start_begins_nearer_and_takes_fewer_rounds(documents):
    doc = documents["warm"]
    assert doc.status == "ok", doc.reason
    for metric in ("iterations", "rounds_1e9", "rounds_ebv_1e2"):
        assert value(doc, metric, phase="warm") < value(doc, metric, phase="cold")
    first = [values(doc, "ebv_error", phase=phase, step=0)[0] for phase in ("cold", "warm")]
    assert first[1] < first[0]
    assert value(doc, "final_ebv_error", phase="warm") <= 1e-6


def test_the_last_evaluation_lacks_what_belongs_to_the_youngest(data):
    now = evaluation_of(data, ["milk"])
    last = last_evaluation(now)
    assert len(last.records) == round(0.95 * len(now.records))
    assert len(last.genotyped) == round(0.98 * 90)
    gone = np.setdiff1d(now.genotyped, last.genotyped)
    assert gone.min() > last.genotyped.max()
    assert last.records.animal.max() <= now.records.animal.max()


def test_effects_are_carried_to_their_own_levels(data):
    now = evaluation_of(data, ["milk"])
    last = last_evaluation(now)
    labels = last.design.labels()
    effects = np.concatenate([np.arange(len(labels), dtype=float), np.linspace(5, 6, 420)])
    found = carried_effects(last, now, effects)
    of = dict(zip(zip(labels["effect"], labels["level"], strict=True), effects, strict=False))
    for i, row in enumerate(now.design.labels().to_dict("records")):
        if (row["effect"], row["level"]) in of:
            assert found[i] == of[row["effect"], row["level"]]
        else:
            assert found[i] == pytest.approx(np.mean([v for (e, _), v in of.items() if e == row["effect"]]))
    np.testing.assert_array_equal(found[now.design.others :], effects[len(labels) :])


def problem_of(data, traits):
    from bench.experiments.single_step.problems import make_problem

    evaluation = evaluation_of(data, traits)
    coding = vanraden1(evaluation.packed)
    return make_problem(CASE, evaluation, coding, BlockCentred(evaluation.packed, coding))


@pytest.mark.parametrize("name", [name for name in SOLVERS if name != "apy"])
def test_the_solution_itself_is_a_start_that_needs_no_round(data, name):
    problem = problem_of(data, ["milk", "fat"])
    prior = prepare("prior_pcg", problem, memory=10**9)
    known = solve(prior, rtol=1e-13)
    carried = known.solution.value[problem.equations.size :].reshape(-1, 2)
    made = prepare(name, problem, memory=10**9)
    start = start_from(made.system, known.effects, known.marker_effects, carried)
    assert start.shape == (made.system.shape[1],)
    assert solve(made, start=start, rtol=1e-8).solution.steps == 0


def test_a_variant_of_other_unknowns_has_no_warm_start(run, documents, data):
    problem = problem_of(data, ["milk"])
    system = prepare("taskinen", problem, memory=10**9).system
    with pytest.raises(BenchError, match="not breeding values and SNP effects alone"):
        start_from(system, np.zeros(problem.equations.size), np.zeros((120, 1)), np.zeros((90, 1)))
    doc = run(CASE | {"variant": "taskinen", "preconditioner": "second_level", "solver": "warm"})
    assert doc.status == "refused"


# Young animals.


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(5, 60), families=st.integers(2, 8))
def test_accuracy_and_slope_are_those_of_numpy(seed, n, families):
    rng = np.random.default_rng(seed)
    x, family = rng.standard_normal(n), np.resize(np.arange(families), n)
    y = 0.5 * x + rng.standard_normal(n)
    found = prediction(x, y, family)
    assert found.accuracy == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert found.slope == pytest.approx(np.polyfit(x, y, 1)[0])
    assert found.accuracy_draws.shape == found.slope_draws.shape == (200,)
    slopes = prediction(x, 2 * x + 1, family).slope_draws
    np.testing.assert_allclose(slopes[np.isfinite(slopes)], 2, rtol=1e-6)  # NaN: one family of one animal was drawn
    assert np.isfinite(slopes).sum() > 150 or families == 2


def test_draws_of_animals_alone_spread_as_a_correlation_does():
    rng = np.random.default_rng(1)
    x = rng.standard_normal(800)
    y = 0.6 * x + 0.8 * rng.standard_normal(800)
    found = prediction(x, y, np.arange(800))
    assert found.accuracy_draws.std() == pytest.approx((1 - found.accuracy**2) / np.sqrt(800), rel=0.2)


def test_pedigree_blup_solves_the_equations(data):
    problem = problem_of(data, ["milk", "fat"])
    equations = problem.equations
    exact = np.linalg.solve(equations.matrix.toarray(), equations.rhs)
    wanted = equations.genetic(exact)[:420]
    assert np.abs(pedigree_ebv(problem) - wanted).max() < 1e-6


def test_the_reference_says_how_well_the_youngest_are_predicted(documents, data):
    doc = documents["reference"]
    found = evaluation_of(data, ["milk"])
    young = (found.born == found.born.max()) & ~np.isin(np.arange(420), found.records.animal)
    (row,) = [
        r for r in doc.rows if r["metric"] == "accuracy" and r["phase"] == "young" and r["method"] == "pedigree"
    ]
    assert row["note"] == f"{young.sum()} animals"
    ebv = pedigree_ebv(problem_of(data, ["milk"]))[young, 0]
    assert row["value"] == pytest.approx(np.corrcoef(ebv, found.breeding_values()[young, 0])[0, 1], rel=1e-4)
    assert len(values(doc, "accuracy_draw", phase="young", method="single-step")) == 200


# Tables and figures of this run.


@pytest.mark.parametrize("name", [name for name in tables.names() if name.startswith("single_step")])
def test_every_table_is_drawn_from_a_real_run(frame, tmp_path, name):
    tables.write(name, frame, tmp_path)
    assert (tmp_path / f"{name}.md").stat().st_size > 0
    rows = len(tables.load(name).draw(frame))
    solves = len(SOLVERS) + 1
    expected = {"single_step": solves, "single_step_bars": solves - 4, "single_step_crossover": solves}
    expected["single_step_warm"] = 1
    assert rows == expected.get(name, rows)


@pytest.mark.parametrize("name", [name for name in figures.names() if name.startswith("single_step")])
def test_every_figure_is_drawn_from_a_real_run(frame, name):
    from matplotlib.text import Text

    figure = figures.load(name).draw(frame)
    assert not any(text.get_text().startswith("Nothing to draw") for text in figure.findobj(Text))


def test_the_wrong_limit_is_the_one_that_the_tables_state():
    assert solves.EBV_TOLERANCE == 1e-5
    assert "1e-5" in tables.load("single_step").CAPTION
