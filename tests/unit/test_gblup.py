"""One model, six ways to solve it: all must agree. And the experiment built on it."""

import numpy as np
import pandas as pd
import pytest

from bench.collect import collect
from bench.errors import BenchError
from bench.experiments import Files
from bench.experiments import gblup as experiment
from bench.experiments.gblup.session import Reference
from bench.genotypes.dataset import Dataset, bed_sha256
from bench.genotypes.packed import PackedGenotypes
from bench.genotypes.spec import parse_spec
from bench.models import gblup, validation
from bench.models.gblup import Records
from bench.models.reml import Spectrum
from bench.relationships.genomic import (
    RELATIONSHIPS,
    BlockCentred,
    Centred,
    Gram,
    dense_grm,
    grm_diagonal,
)
from bench.relationships.missing import missing_calls
from bench.solvers.operator import Dense

LAM = 1.7


class Case:
    """A small population with missing calls and, where asked, missing records and two fixed effects."""

    def __init__(self, relationship, missing_records, p):
        rng = np.random.default_rng(7)
        self.n, self.m = 45, 70
        dosages = rng.binomial(2, rng.uniform(0.1, 0.5, self.m), (self.n, self.m)).astype(np.int8)
        dosages[rng.random(dosages.shape) < 0.05] = -1
        self.packed = PackedGenotypes.from_dosages(dosages)
        self.coding = RELATIONSHIPS[relationship](self.packed)
        y = 10 + rng.standard_normal(self.n)
        if missing_records:
            y[rng.permutation(self.n)[:12]] = np.nan
        fixed = np.column_stack([np.ones(self.n), rng.standard_normal((self.n, p - 1))])
        self.records = Records.of(y, fixed)
        raw = Dense(np.maximum(dosages, 0).astype(float))
        self.centred = Centred(raw, self.coding, missing_calls(self.packed))
        self.W = BlockCentred(self.packed, self.coding).matmul(np.eye(self.m))
        self.G = self.W @ self.W.T / self.coding.divisor

    def closed_form(self):
        """b and u by explicit inverses: b = (X'V⁻¹X)⁻¹X'V⁻¹y, u = G_·r V⁻¹(y − Xb)."""
        r = self.records
        Vi = np.linalg.inv(self.G[np.ix_(r.index, r.index)] + LAM * np.eye(r.index.size))
        b = np.linalg.inv(r.X.T @ Vi @ r.X) @ r.X.T @ Vi @ r.y
        return b, self.G[:, r.index] @ Vi @ (r.y - r.X @ b)

    def of_fit(self, fit):
        effects = gblup.marker_effects(self.centred, self.coding.divisor, self.records, fit)
        return fit.b, gblup.breeding_values(self.centred, effects)


@pytest.fixture(params=[("vanraden1", False, 1), ("vanraden1", True, 2), ("standardised", True, 1)])
def case(request):
    return Case(*request.param)


def agree(found, wanted, tolerance=1e-9):
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance)


def test_cholesky_equals_the_closed_form(case):
    G = dense_grm(case.packed, case.coding, case.records.index)
    agree(case.of_fit(gblup.fit_cholesky(G, case.records, LAM)), case.closed_form())


def test_pcg_equals_the_closed_form(case):
    fit, solution = gblup.fit_pcg(
        Gram(case.centred, case.coding.divisor),
        case.records,
        LAM,
        diagonal=grm_diagonal(case.packed, case.coding),
        rtol=1e-12,
        max_steps=300,
    )
    assert solution.converged.all()
    agree(case.of_fit(fit), case.closed_form())


def test_the_eigendecomposition_equals_the_closed_form(case):
    r = case.records
    spectrum = Spectrum.of(case.G[np.ix_(r.index, r.index)])
    agree(
        case.of_fit(gblup.generalised_least_squares(r, spectrum.solve(r.right_hand_sides, LAM), LAM)),
        case.closed_form(),
    )


def test_snp_blup_equals_gblup(case):
    effects, b, solution = gblup.fit_marker_effects(
        case.centred, case.coding.divisor, case.records, LAM, rtol=1e-12, max_steps=300
    )
    assert solution.converged.all()
    agree((b, gblup.breeding_values(case.centred, effects)), case.closed_form())
    fit = gblup.fit_cholesky(dense_grm(case.packed, case.coding, case.records.index), case.records, LAM)
    from_gblup = gblup.marker_effects(case.centred, case.coding.divisor, case.records, fit)
    np.testing.assert_allclose(effects, from_gblup, atol=1e-9)


def test_henderson_mixed_model_equations_equal_gblup_and_its_reliabilities(case):
    """[X'X X'Z; Z'X Z'Z + λG⁻¹]; a ridge makes G regular, for both."""
    G, r = case.G + 1e-3 * np.eye(case.n), case.records
    p = r.X.shape[1]
    Z = np.eye(case.n)[r.index]
    T = np.hstack([r.X, Z])
    C = T.T @ T
    C[p:, p:] += LAM * np.linalg.inv(G)
    C = np.linalg.inv(C)
    solution = C @ T.T @ r.y
    V = G[np.ix_(r.index, r.index)].copy()
    fit = gblup.fit_cholesky(V, r, LAM)
    agree((fit.b, G[:, r.index] @ fit.alpha), (solution[:p], solution[p:]), 1e-8)
    pev = gblup.prediction_error_variance(G, r, LAM)
    np.testing.assert_allclose(pev, LAM * C.diagonal()[p:], atol=1e-9)  # C σe² = C λ σu²
    expected = 1 - LAM * C.diagonal()[p:] / G.diagonal()
    np.testing.assert_allclose(gblup.reliability(G.diagonal(), pev), expected, atol=1e-9)


def test_individuals_without_records_are_less_reliable_than_with():
    case = Case("vanraden1", True, 1)
    pev = gblup.prediction_error_variance(case.G, case.records, LAM)
    values = gblup.reliability(case.G.diagonal(), pev)
    others = np.setdiff1d(np.arange(case.n), case.records.index)
    assert values[others].mean() < values[case.records.index].mean()


def test_cross_validation_with_one_lambda_equals_refitting_each_fold(case):
    r = case.records
    G = case.G[np.ix_(r.index, r.index)]
    folds = validation.random_folds(r.y.size, 4, seed=1)
    found = validation.cross_validate_fixed(Dense(G), r, folds, LAM, diagonal=G.diagonal(), rtol=1e-12)
    for fold in range(4):
        kept, out = folds != fold, folds == fold
        Vi = np.linalg.inv(G[np.ix_(kept, kept)] + LAM * np.eye(kept.sum()))
        X = r.X[kept]
        b = np.linalg.solve(X.T @ Vi @ X, X.T @ Vi @ r.y[kept])
        expected = r.X[out] @ b + G[np.ix_(out, kept)] @ Vi @ (r.y[kept] - X @ b)
        np.testing.assert_allclose(found.predicted[out], expected, atol=1e-9)


def test_held_out_phenotypes_do_not_enter_their_prediction():
    case = Case("vanraden1", False, 1)
    folds = validation.random_folds(case.n, 5, seed=1)
    before = validation.cross_validate_reml(case.G, case.records, folds)
    y = case.records.y.copy()
    y[folds == 2] = 99.0
    after = validation.cross_validate_reml(case.G, Records.of(y), folds)
    np.testing.assert_array_equal(before.predicted[folds == 2], after.predicted[folds == 2])
    assert not np.allclose(before.predicted[folds == 1], after.predicted[folds == 1])


def test_random_folds_are_balanced_and_repeatable():
    folds = validation.random_folds(23, 5, seed=3)
    assert sorted(np.bincount(folds)) == [4, 4, 5, 5, 5]
    np.testing.assert_array_equal(folds, validation.random_folds(23, 5, seed=3))
    assert (folds != validation.random_folds(23, 5, seed=4)).any()
    with pytest.raises(BenchError, match="30 folds of 23 records"):
        validation.random_folds(23, 30, seed=1)


def test_predictive_ability_equals_numpys():
    rng = np.random.default_rng(1)
    y, p = rng.standard_normal(30), rng.standard_normal(30)
    found = validation.CrossValidation(y, np.arange(30) % 3, p, p, np.ones(3))
    assert found.pooled == pytest.approx(np.corrcoef(y, p)[0, 1])
    assert found.slope == pytest.approx(np.polyfit(p, y, 1)[0])
    assert found.per_fold[1] == pytest.approx(np.corrcoef(y[1::3], p[1::3])[0, 1])
    assert np.isnan(validation.correlation(np.ones(5), y[:5]))


@pytest.mark.parametrize(
    ("phenotypes", "fixed", "said"),
    [
        (np.full(5, np.nan), None, "trait: 0 of 5 individuals have a record; at least 3"),
        (np.array([1.0]), None, "1 of 1 individuals have a record"),
        (np.array([1.0, np.inf, 2.0, 3.0]), None, "infinite"),
        (np.arange(6.0), np.ones((6, 2)), "linearly dependent"),
    ],
)
def test_records_that_cannot_be_analysed_are_told_in_a_sentence(phenotypes, fixed, said):
    with pytest.raises(BenchError, match=said):
        Records.of(phenotypes, fixed, name="trait")


# The experiment.


@pytest.fixture
def dataset(tmp_path):
    """A data set of 61 × 90 with missing calls, records and true breeding values."""
    rng = np.random.default_rng(11)
    n, m = 61, 90
    dosages = rng.binomial(2, rng.uniform(0.1, 0.5, m), (n, m)).astype(np.int8)
    truth = (dosages - dosages.mean(0)) @ rng.standard_normal(m)
    truth *= 0.7 / truth.std()
    records = truth + 0.7 * rng.standard_normal(n)
    records[:9] = np.nan
    dosages[rng.random((n, m)) < 0.02] = -1
    packed = PackedGenotypes.from_dosages(dosages)
    ids = [f"i{i}" for i in range(n)]
    bed = tmp_path / "x.bed"
    bed.write_bytes(b"\x6c\x1b\x01" + packed.codes.tobytes())
    (tmp_path / "x.fam").write_text("".join(f"0 {i} 0 0 0 -9\n" for i in ids))
    (tmp_path / "x.bim").write_text("".join(f"1 s{j} 0 {j + 1} A C\n" for j in range(m)))
    for name, values in (("y", records), ("tbv", truth)):
        pd.DataFrame({"id": ids, "trait": values}).to_csv(tmp_path / f"{name}.tsv", sep="\t", index=False)
    manifest = tmp_path / "dataset.json"
    Dataset(
        name="x",
        n_samples=n,
        n_snps=m,
        missing_rate=packed.missing_rate(),
        traits=("trait",),
        bed=bed,
        bim=tmp_path / "x.bim",
        fam=tmp_path / "x.fam",
        bed_sha256=bed_sha256(bed),
        phenotypes_path=tmp_path / "y.tsv",
        breeding_values_path=tmp_path / "tbv.tsv",
    ).write(manifest)
    return manifest


def job(solver, dataset, *, trait="trait", options=None, **more):
    case = {"experiment": "gblup", "solver": solver, "dataset": "x", "trait": trait, "relationship": "vanraden1"}
    case |= {"dtype": "f8", "threads": 1, "options": options or {}} | more
    return case, Files(dataset=dataset, reference=dataset.with_name("reference.npz"))


def solve(dataset, **more):
    return job("pcg", dataset, kernel="dense_blas", target="openblas", k=[2], **more)


def value(doc, metric, phase):
    return [row["value"] for row in doc.rows if row["metric"] == metric and row["phase"] == phase]


def test_a_solve_reproduces_its_reference(dataset, tmp_path):
    reference = experiment.run(*job("cholesky", dataset))
    assert reference.status == "ok"
    exact = Reference.read(tmp_path / "reference.npz")
    truth = pd.read_csv(tmp_path / "tbv.tsv", sep="\t")["trait"]
    assert value(reference, "accuracy", "accuracy") == [pytest.approx(np.corrcoef(exact.ebv, truth)[0, 1])]
    assert np.all((exact.reliability > 0) & (exact.reliability < 1))
    doc = experiment.run(*solve(dataset))
    assert (doc.status, doc.reason) == ("ok", None)
    assert value(doc, "ebv_error", "solve")[0] <= 1e-10
    assert value(doc, "ebv_error", "snp_blup")[0] <= 1e-10
    assert value(doc, "snp_effect_error", "solve")[0] <= 1e-10
    assert len(value(doc, "solve_time", "solve")) == 3
    norms = value(doc, "residual_norm", "solve")
    assert len(norms) == value(doc, "iterations", "solve")[0] + 1
    assert norms[-1] <= 1e-12


def test_documents_fit_the_long_table(dataset, tmp_path):
    docs = {"reference": experiment.run(*job("cholesky", dataset)), "solve": experiment.run(*solve(dataset))}
    for name, doc in docs.items():
        doc.write(tmp_path / f"{name}.json")
    frame = collect(tmp_path / f"{name}.json" for name in docs)
    assert set(frame.solver) == {"cholesky", "pcg"}
    assert (frame.status == "ok").all()


def test_a_solve_that_misses_the_reference_is_wrong_and_not_timed(dataset):
    experiment.run(*job("cholesky", dataset))
    doc = experiment.run(*solve(dataset, options={"rtol": 1e-2}))
    assert doc.status == "wrong"
    assert "EBVs differ from the exact ones" in (doc.reason or "")
    assert value(doc, "solve_time", "solve") == []


def test_limits_refuse_rows_and_take_lambda_from_the_simulation(dataset, tmp_path):
    limits = {"eigen_max_n": 10, "inverse_max_n": 10, "cv_reml_max_n": 10}
    doc = experiment.run(*job("cholesky", dataset, options=limits))
    assert doc.status == "ok"
    refused = {row["metric"]: row["reason"] for row in doc.rows if row.get("status") == "refused"}
    assert "52 records are more than eigen_max_n = 10" in refused["reml_time"]
    assert "61 individuals are more than inverse_max_n = 10" in refused["reliability_time"]
    assert value(doc, "variance_ratio", "reml")[0] == pytest.approx(1, abs=0.5)  # 0.7² to 0.7²
    assert experiment.run(*solve(dataset)).status == "ok"


def test_a_refused_reference_refuses_its_solves_with_the_reason(dataset):
    doc = experiment.run(*job("cholesky", dataset, options={"cholesky_max_n": 60}))
    assert doc.status == "refused"
    assert "61 individuals are more than cholesky_max_n = 60" in (doc.reason or "")
    follower = experiment.run(*solve(dataset))
    assert follower.status == "refused"
    assert "cholesky_max_n" in (follower.reason or "")


def test_a_reference_beyond_the_memory_is_refused(dataset):
    case, files = job("cholesky", dataset)
    doc = experiment.run(case, Files(dataset=files.dataset, reference=files.reference, memory=10**6))
    assert doc.status == "refused"
    assert "GB of memory" in (doc.reason or "")


def test_an_unknown_trait_is_refused_with_the_traits_there_are(dataset):
    doc = experiment.run(*job("cholesky", dataset, trait="height"))
    assert doc.reason == "x: there is no trait 'height'; there are trait"


def test_a_damaged_reference_is_told_in_a_sentence(dataset, tmp_path):
    (tmp_path / "reference.npz").write_bytes(b"PK nothing")
    with pytest.raises(BenchError, match="not a GBLUP reference"):
        experiment.run(*solve(dataset))


def test_every_solve_has_its_reference_among_the_cases():
    spec = {"kind": "simulated", "n_samples": 203, "n_snps": 60, "founders": 80, "sires_per_generation": 5}

    class Config:
        datasets = {"a": parse_spec(spec, name="a")}
        kernels = ("dense_blas",)
        targets = ("avx2",)

    stanza = experiment.Stanza(datasets=["a"], relationships=["vanraden1", "standardised"], threads=[1])
    cases = experiment.cases(stanza, Config())  # type: ignore[arg-type]
    solves = {name: case for name, case in cases.items() if case["solver"] == "pcg"}
    assert solves
    for case in solves.values():
        reference = cases[experiment.reference_of(case, cases)]
        assert reference["solver"] == "cholesky"
        assert reference["relationship"] == case["relationship"]
