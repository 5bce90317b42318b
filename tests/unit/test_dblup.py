"""D-BLUP, dense: objectives and gradients against brute force, closed forms and rrBLUP; links; fits; bad input."""

import os
import warnings
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import optax
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.dblup import (
    GBLUP,
    OBJECTIVES,
    AnnotationWeights,
    BlockWeights,
    Data,
    DenseOperator,
    EqualWeights,
    Link,
    SnpWeights,
    fit,
)
from bench.dblup.optimise import Evaluation
from bench.errors import BenchError
from bench.genotypes.packed import PackedGenotypes
from bench.models.gblup import Records, fit_cholesky
from bench.models.reml import Spectrum, estimate
from bench.relationships.genomic import dense_grm, vanraden1
from dblup_oracle import LOSSES, Problem

P = Problem()
DATA = Data.of(P.phenotypes, P.fixed, folds=P.folds)
OPERATOR = DenseOperator(jax.numpy.asarray(P.W))
LAM = 1.3


def snp_model(objective, ratio="softplus"):
    return GBLUP.of(OPERATOR, Link.of(LAM, SnpWeights.of(P.m, P.w), ratio), objective, divisor=P.d)


def equal_model(objective, operator=OPERATOR, lam=LAM, **options):
    return GBLUP.of(operator, Link.of(lam, EqualWeights.of(operator.shape[1])), objective, divisor=P.d, **options)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_value_and_gradient_are_brute_force_closed_form_and_finite_differences(objective):
    evaluation = Evaluation(snp_model(objective), DATA, None)
    value, gradient = evaluation(evaluation.first)
    value, gradient = value * evaluation.scale, gradient * evaluation.scale
    w = P.m * P.w / P.w.sum()
    brute = LOSSES[objective]
    assert value == pytest.approx(brute(P, LAM, w), rel=1e-10)
    # Closed forms along λ and each w_j, through softplus and the softmax: w_j(g_j − Σ s_k g_k).
    along_lam, along_w = P.closed_form(objective, LAM, w)
    want = np.r_[along_lam * -np.expm1(-LAM), w * (along_w - (w / P.m) @ along_w)]
    np.testing.assert_allclose(gradient, want, rtol=1e-8, atol=1e-10 * np.abs(want).max())
    h = 1e-5
    difference = (brute(P, LAM + h, w) - brute(P, LAM - h, w)) / (2 * h)
    assert along_lam == pytest.approx(difference, rel=1e-6)
    for j in (0, 17, P.m - 1):
        step = h * (np.arange(P.m) == j)
        difference = (brute(P, LAM, w + step) - brute(P, LAM, w - step)) / (2 * h)
        assert along_w[j] == pytest.approx(difference, rel=1e-6, abs=1e-8 * np.abs(along_w).max())


def test_train_error_falls_all_the_way_to_lambda_zero():
    evaluation = Evaluation(snp_model("train"), DATA, None)
    for raw in np.linspace(-8, 6, 8):
        _, gradient = evaluation(np.r_[raw, evaluation.first[1:]])
        assert gradient[0] >= 0
    fitted = fit(equal_model("train"), DATA)
    assert fitted.status == "λ at its lower bound"
    assert fitted.model.link.lam < 1e-3


@pytest.mark.parametrize(("objective", "method"), [("reml", "REML"), ("gcv", "GCV"), ("loo", "LOO")])
def test_learned_lambda_is_that_of_the_eigendecomposition(objective, method):
    records = Records.of(P.phenotypes, P.fixed)
    G = (P.W @ P.W.T / P.d)[np.ix_(records.index, records.index)]
    want = estimate(Spectrum.of(G), records.y, records.X, method=method)
    fitted = fit(equal_model(objective), DATA)
    assert fitted.status == "converged"
    assert float(fitted.model.link.lam) == pytest.approx(want.lam, rel=1e-3)
    if objective == "reml":
        assert fitted.history[-1].loss == pytest.approx(-2 * want.log_likelihood, abs=1e-6)
        assert fitted.model.variances(DATA) == pytest.approx((want.Vu, want.Ve), rel=1e-3)


def test_results_are_those_of_gblup():
    model = equal_model("reml")
    records = Records.of(P.phenotypes, P.fixed)
    G = P.W @ P.W.T / P.d
    want = fit_cholesky(G[np.ix_(records.index, records.index)], records, LAM)
    ebv = G[:, records.index] @ want.alpha
    np.testing.assert_allclose(model.breeding_values(DATA), ebv, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(model.fixed_effects(DATA), want.b, rtol=1e-9)
    np.testing.assert_allclose(
        model.snp_effects(DATA), P.W[records.index].T @ want.alpha / P.d, rtol=1e-8, atol=1e-13
    )
    # Others than those that the model was made with: here the first five again.
    np.testing.assert_allclose(model.predict(DATA, DenseOperator(OPERATOR.array[:5])), ebv[:5], rtol=1e-9)
    # The dual vector V⁻¹y, read as breeding values, is another thing altogether.
    dual = np.linalg.solve(G[np.ix_(records.index, records.index)] + LAM * np.eye(len(records.y)), records.y)
    assert np.corrcoef(dual, ebv[records.index])[0, 1] < 0.95
    with pytest.raises(BenchError, match="new genotypes of 7 SNPs, the model has 60"):
        model.predict(DATA, DenseOperator(OPERATOR.array[:, :7]))


def test_weights_that_are_learned_find_the_block_with_the_genes():
    rng = np.random.default_rng(5)
    genes = P.W[:, : P.m // 4] @ rng.normal(size=P.m // 4)
    phenotypes = 2 * genes / genes.std() + rng.normal(size=P.n)
    data = Data.of(phenotypes)
    link = Link.of(1.0, BlockWeights.of(np.arange(P.m) * 4 // P.m))
    free, held = (
        fit(GBLUP.of(OPERATOR, link, "reml", divisor=P.d, ridge=ridge), data, steps=60) for ridge in (0.5, 1e6)
    )
    weights = np.asarray(free.model.link.unit_weights)
    assert weights[0] > 2
    assert weights.mean() == pytest.approx(1)
    np.testing.assert_allclose(held.model.link.unit_weights, 1, atol=0.01)  # a heavy ridge keeps them equal
    assert free.history[-1].loss < free.history[0].loss
    seen = []
    start = eqx.tree_at(lambda model: model.link, free.model, link)
    adam = fit(start, data, optimiser=optax.adam(0.1), steps=100, progress=seen.append)
    assert adam.status == "iteration cap"
    assert [step.number for step in seen] == list(range(100))
    assert min(step.loss for step in seen) == pytest.approx(min(step.loss for step in free.history), abs=0.01)


def test_a_network_of_annotations_is_learned_through_the_solve():
    weights = AnnotationWeights.of(P.annotations, width=3, depth=1)
    model = GBLUP.of(OPERATOR, Link.of(LAM, weights), "reml", divisor=P.d, ridge=0.1)
    np.testing.assert_allclose(eqx.filter_jit(lambda link: link.snp_weights)(model.link), 1)
    evaluation = Evaluation(model, DATA, None)
    flat = evaluation.first + np.random.default_rng(3).normal(0, 0.3, evaluation.first.size)
    _, gradient = evaluation(flat)
    direction = np.random.default_rng(4).normal(size=flat.size)
    ahead, behind = (evaluation(flat + h * direction)[0] for h in (1e-5, -1e-5))
    assert gradient @ direction == pytest.approx((ahead - behind) / 2e-5, rel=1e-6)
    fitted = evaluation.fitted("iteration cap")
    assert fitted.model.link.weights.annotations is weights.annotations


def test_any_operator_gives_the_weighted_relationship(monkeypatch):
    monkeypatch.setattr("bench.dblup.dense.PANEL", 7)
    link = snp_model("reml").link
    backend = snp_model("reml").backend
    made = eqx.tree_at(lambda b: b.basis, backend, None).relationship(OPERATOR, link, P.d)
    np.testing.assert_allclose(made, P.W @ np.diag(link.snp_weights) @ P.W.T / P.d, rtol=1e-12, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(
    st.floats(1e-4, 1e4), st.lists(st.floats(1e-3, 1e3), min_size=4, max_size=4), st.sampled_from(["softplus", "exp"])
)
def test_links_are_inverted_and_weights_have_mean_one(lam, weights, ratio):
    link = Link.of(lam, BlockWeights.of(np.arange(len(weights)), np.array(weights)), ratio)
    assert float(link.lam) == pytest.approx(lam, rel=1e-9)
    np.testing.assert_allclose(link.unit_weights, np.array(weights) / np.mean(weights), rtol=1e-9)
    assert float(link.spread()) == pytest.approx(np.var(np.log(weights)), abs=1e-12)


def test_a_fit_says_how_it_ended():
    capped = fit(equal_model("reml", lam=50.0), DATA, steps=1)
    assert capped.status == "iteration cap"
    assert min(step.loss for step in capped.history) < capped.history[0].loss
    best = min(capped.history, key=lambda step: step.loss)
    assert float(capped.model.link.lam) == pytest.approx(best.lam)
    # A trait against the genotypes: V's best multiple of I is all of it.
    _, vectors = np.linalg.eigh(P.W @ P.W.T)
    noise = Data.of(vectors[:, :8] @ np.ones(8) + 1e-3 * vectors[:, -1], np.ones((P.n, 1)))
    assert fit(equal_model("reml"), noise).status == "λ at its upper bound"
    broken = equal_model("reml", operator=DenseOperator(OPERATOR.array.at[0, 0].set(np.nan)))
    lost = fit(broken, DATA)
    assert lost.status == "not finite"
    assert float(lost.model.link.lam) == pytest.approx(LAM)


def test_bad_input_is_a_sentence():
    y, link = P.phenotypes, Link.of(1.0, EqualWeights.of(P.m))
    cases = {
        "there is no objective 'mse'; there are train": lambda: equal_model("mse"),
        "weights of 5 SNPs for genotypes of 60 SNPs": lambda: GBLUP.of(
            OPERATOR, Link.of(1.0, EqualWeights.of(5)), "loo", divisor=1.0
        ),
        "divisor 0 must be positive": lambda: GBLUP.of(OPERATOR, link, "loo", divisor=0.0),
        "the data have no folds": lambda: equal_model("heldout").loss(Data.of(y)),
        "phenotypes of 12 individuals for genotypes of 40": lambda: equal_model("loo").loss(Data.of(y[:12])),
        "λ = 0: a variance ratio": lambda: Link.of(0.0, EqualWeights.of(3)),
        "block weights: 2 positive numbers were needed, found \\(2,\\) with 2": lambda: BlockWeights.of(
            np.array([0, 1]), np.zeros(2)
        ),
        "each block a SNP": lambda: BlockWeights.of(np.array([0, 2])),
        "SNP weights: 3 positive numbers": lambda: SnpWeights.of(3, np.ones(2)),
        "annotations: an \\(m, q\\) array": lambda: AnnotationWeights.of(np.full((3, 2), np.nan)),
        "linearly dependent": lambda: Data.of(y, np.ones((P.n, 2))),
        "1 of 40 individuals have a record": lambda: Data.of(np.where(np.arange(P.n) == 0, 1.0, np.nan)),
        "do not vary around their fixed effects": lambda: Data.of(np.full(P.n, 3.0)),
        "3 are needed": lambda: Data.of(y[:2]),
        "no record is in a fold": lambda: Data.of(y, folds=np.full(P.n, -1)),
        "without fold 0 the 1 records that are left": lambda: Data.of(
            np.arange(4.0) ** 2, np.c_[np.ones(4), np.arange(4)], folds=np.array([0, 0, 0, -1])
        ),
        "at least 1 was needed": lambda: fit(equal_model("loo"), DATA, steps=0),
        "there is no optimiser 'adam'": lambda: fit(equal_model("loo"), DATA, optimiser="adam"),  # type: ignore[arg-type]
        "there is no backend 'matrix-free'": lambda: equal_model("loo", backend="matrix-free"),
        "relationships \\(1, 40, 40\\) of the blocks were needed, found \\(60, 40, 40\\)": lambda: equal_model(
            "loo", backend=snp_model("loo").backend
        ),
        "found ndarray; bridges.jax.operator makes one": lambda: equal_model("loo", operator=P.W),
        "there is no link 'log' of λ; there are softplus, exp": lambda: Link.of(1.0, link.weights, "log"),  # type: ignore[arg-type]
        "40 individuals need a fold each, found \\(9,\\)": lambda: Data.of(y, folds=np.zeros(9, int)),
    }
    for sentence, call in cases.items():
        with pytest.raises(BenchError, match=sentence):
            call()


@pytest.fixture(scope="module")
def wheat():
    folder = Path(os.environ.get("BENCH_DATA", ""))
    file = folder / "wheat" / "wheat.RData"
    if "BENCH_DATA" not in os.environ or not file.exists():
        pytest.skip("BENCH_DATA does not name a folder with wheat/wheat.RData")
    rdata = pytest.importorskip("rdata")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content = rdata.read_rda(str(file))
    tables = {name: pd.read_csv(folder.parent / f"reference/wheat_rrblup_{name}.csv") for name in ("vc", "ebv")}
    packed = PackedGenotypes.from_dosages((2 * np.asarray(content["wheat.X"])).astype(np.int8))
    coding = vanraden1(packed)
    W = DenseOperator(jax.numpy.asarray(coding.block(packed, slice(None))))
    start = GBLUP.of(W, Link.of(1.0, EqualWeights.of(packed.n_snps)), "reml", divisor=coding.divisor)
    np.testing.assert_allclose(start.backend.basis[0], dense_grm(packed, coding), atol=1e-10)
    return start, np.asarray(content["wheat.Y"]), tables


@pytest.mark.parametrize(("column", "env"), [(0, 1), (1, 2), (2, 4), (3, 5)])
def test_wheat_lambda_and_breeding_values_are_those_of_rrblup(wheat, column, env):
    start, yields, tables = wheat
    data = Data.of(yields[:, column])
    fitted = fit(start, data)
    table = tables["vc"]
    want = table[(table.trait == f"env{env}") & (table.kernel == "Amat") & (table.method == "REML")].iloc[0]
    assert fitted.status == "converged"
    assert float(fitted.model.link.lam) == pytest.approx(want["lambda"], rel=1e-3)
    ebv = tables["ebv"][f"env{env}_Amat"].to_numpy()
    np.testing.assert_allclose(fitted.model.breeding_values(data), ebv, atol=1e-4 * np.abs(ebv).max())
