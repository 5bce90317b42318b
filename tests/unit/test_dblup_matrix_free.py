"""D-BLUP without an n × n matrix: against the dense backend, against NumPy, in noise, in work and in memory."""

import os
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from bench.build import installed
from bench.dblup import (
    GBLUP,
    OBJECTIVES,
    BlockWeights,
    Data,
    Deflation,
    DenseOperator,
    EqualWeights,
    Link,
    MatrixFree,
    SnpWeights,
    fit,
    squared_lengths,
)
from bench.dblup.krylov import log_quadratic, pcg
from bench.dblup.optimise import Evaluation, value_and_gradient
from bench.errors import BenchError
from bench.genotypes.packed import PackedGenotypes
from bench.relationships.genomic import vanraden1
from bench.solvers.lanczos import BlockLanczos
from bench.solvers.operator import Dense as Matrix
from dblup_oracle import Problem

P = Problem()
DATA = Data.of(P.phenotypes, P.fixed, folds=P.folds)
OPERATOR = DenseOperator(jnp.asarray(P.W))
EXACT = MatrixFree.exactly(DATA)
SQUARES = (P.Wr**2).sum(0)
BLOCK = np.arange(P.m) * 4 // P.m


def block_model(objective, backend, operator=OPERATOR):
    weights = BlockWeights.of(BLOCK, np.array([1.0, 2.0, 0.5, 0.5]))
    return GBLUP.of(operator, Link.of(1.3, weights), objective, divisor=P.d, ridge=0.3, backend=backend)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_exact_probes_give_what_cholesky_gives(objective):
    weights = SnpWeights.of(P.m, P.w)
    values, gradients = [], []
    for backend in ("dense", EXACT):
        model = GBLUP.of(OPERATOR, Link.of(1.3, weights), objective, divisor=P.d, ridge=0.3, backend=backend)
        evaluation = Evaluation(model, DATA, None)
        value, gradient = evaluation(evaluation.first)
        values.append(value)
        gradients.append(gradient)
    assert values[1] == pytest.approx(values[0], rel=1e-8)
    np.testing.assert_allclose(gradients[1], gradients[0], rtol=1e-8, atol=1e-8 * np.abs(gradients[0]).max())


def test_exact_probes_are_exact_for_other_records_too():
    other = Data.of(np.where(np.arange(P.n) < 5, np.nan, np.nan_to_num(P.phenotypes)), P.fixed)
    wanted, _ = block_model("reml", "dense").loss(other)
    found, _ = eqx.filter_jit(lambda model: model.loss(other))(block_model("reml", EXACT))
    assert float(found) == pytest.approx(float(wanted), rel=1e-8)


def test_the_root_finder_reaches_the_upper_bound():
    _, vectors = np.linalg.eigh(P.W @ P.W.T)
    noise = Data.of(vectors[:, :8] @ np.ones(8) + 1e-3 * vectors[:, -1])
    link = Link.of(1.3, EqualWeights.of(P.m))
    model = GBLUP.of(OPERATOR, link, "reml", divisor=P.d, backend=MatrixFree.of(P.n))
    fitted = fit(model, noise, steps=40)
    assert fitted.status == "λ at its upper bound"
    assert len(fitted.history) < 60


def test_the_root_is_kept_not_the_flat_start():
    backend = MatrixFree.of(P.n, squares=SQUARES)
    found = [
        fit(GBLUP.of(OPERATOR, Link.of(lam, EqualWeights.of(P.m)), "reml", divisor=P.d, backend=backend), DATA)
        for lam in (0.2, 100.0)
    ]
    assert {one.status for one in found} == {"converged"}
    assert float(found[1].model.link.lam) == pytest.approx(float(found[0].model.link.lam), rel=0.05)
    assert float(found[1].model.link.lam) == found[1].history[-1].lam


def test_results_are_those_of_the_dense_backend():
    dense, free = block_model("reml", "dense"), block_model("reml", MatrixFree.of(P.n))
    for name in ("breeding_values", "snp_effects", "fixed_effects"):
        want = getattr(dense, name)(DATA)
        np.testing.assert_allclose(getattr(free, name)(DATA), want, atol=1e-6 * np.abs(want).max())


def test_derivatives_forwards_and_backwards_are_differences():
    y, G = jnp.asarray(P.y), jnp.asarray(P.G(P.w))
    data, backend = Data.of(P.phenotypes), MatrixFree.exactly(DATA)

    def loss(raw):
        link = eqx.tree_at(lambda link: link.raw, Link.of(1.0, EqualWeights.of(P.m)), raw)
        return GBLUP(OPERATOR, link, jnp.asarray(P.d), jnp.zeros(()), backend, "train").loss(data)[0]

    check_grads(jax.jit(loss), (jnp.asarray(0.4),), order=1, modes=["fwd", "rev"], rtol=1e-6)
    assert y.size == len(G)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 20))
def test_pcg_and_quadrature_are_solve_and_logarithm(seed, lam):
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(12, 8))
    V, B = jnp.asarray(A @ A.T + lam * np.eye(12)), jnp.asarray(rng.normal(size=(12, 3)))
    B = B.at[:, 1].set(0)
    found, logarithm = _solved(V, B, 1e-12, 400)
    np.testing.assert_allclose(found.value, np.linalg.solve(V, B), rtol=1e-7, atol=1e-9)
    assert found.converged
    assert float(logarithm.mean()) == pytest.approx(np.linalg.slogdet(V)[1], rel=1e-9, abs=1e-9)


def _solved(V, B, rtol, steps):
    return _solve(V, B, rtol, steps)


@eqx.filter_jit
def _solve(V, B, rtol, steps):
    found = pcg(lambda X: V @ X, B, jnp.zeros_like(B), lambda R: R, rtol=rtol, max_steps=steps)
    # 12 probes √12·e_i; 9 distinct eigenvalues, so that the space is exhausted before the steps are.
    return found, log_quadratic(lambda X: V @ X, jnp.sqrt(12.0) * jnp.eye(12), 12)


def test_a_solve_that_stops_early_is_said():
    V, B = jnp.diag(jnp.arange(1.0, 13)), jnp.ones((12, 1))
    assert not _solve(V, B, 1e-12, 2)[0].converged
    start = np.linalg.solve(V, B)
    again = pcg(lambda X: V @ X, B, jnp.asarray(start), lambda R: R, rtol=1e-9, max_steps=5)
    assert again.products == 1  # the residual of a start that is the solution
    capped = eqx.tree_at(lambda m: m.backend, block_model("gcv", EXACT), MatrixFree.of(P.n, max_steps=1))
    assert fit(capped, DATA, optimiser="lbfgs", steps=1).status == "solver cap"


@pytest.fixture(scope="module")
def dense_gradient():
    evaluation = Evaluation(block_model("reml", "dense"), DATA, None)
    return evaluation(evaluation.first)[1]


def test_gradients_from_probes_are_unbiased_and_control_variates_quiet_them(dense_gradient):
    deviations = {}
    for squares in (None, SQUARES):
        backends = [MatrixFree.of(P.n, seed=seed, squares=squares, rtol=1e-8) for seed in range(60)]
        first = Evaluation(block_model("reml", backends[0]), DATA, None, valued=False)
        found = []
        for backend in backends:
            rest = eqx.tree_at(lambda m: m.backend.probes, first.rest, backend.probes)
            _, tree = value_and_gradient(first.learned, rest, DATA, first.start, False)
            found.append(np.asarray(jax.flatten_util.ravel_pytree(tree)[0]) / first.scale)
        spread = np.std(found, 0, ddof=1)
        assert np.all(np.abs(np.mean(found, 0) - dense_gradient) < 5 * spread / np.sqrt(60) + 2e-3)
        deviations[squares is None] = np.linalg.norm(spread)
    assert deviations[False] < 0.7 * deviations[True]


def test_warm_starts_and_ritz_vectors_save_products_and_change_nothing():
    G = P.G(np.ones(P.m))
    run = BlockLanczos(Matrix(G), np.random.default_rng(0).normal(size=(len(G), 4)), max_steps=6)
    while run.step():
        pass
    values, vectors, _ = run.ritz(10)
    deflation = Deflation(jnp.asarray(values), jnp.asarray(vectors))
    gradients, products = [], []
    for found in (None, deflation):
        evaluation = Evaluation(
            block_model("reml", MatrixFree.of(P.n, deflation=found, rtol=1e-6)), DATA, None, valued=False
        )
        for flat in (evaluation.first, evaluation.first + 1e-4):
            gradients.append(evaluation(flat)[1])
            products.append(evaluation.history[-1].products)
    np.testing.assert_allclose(gradients[2], gradients[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(gradients[3], gradients[1], rtol=1e-4, atol=1e-5)
    assert products[1] < products[0]
    assert products[2] < products[0]


@pytest.mark.parametrize("objective", ["reml", "gcv"])
def test_the_root_of_the_gradient_is_the_minimum(objective):
    dense = fit(block_model(objective, "dense"), DATA)
    found = fit(block_model(objective, "dense"), DATA, optimiser="root", tolerance=1e-4)
    assert found.status == "converged"
    assert float(found.model.link.lam) == pytest.approx(float(dense.model.link.lam), rel=1e-3)
    np.testing.assert_allclose(found.model.link.unit_weights, dense.model.link.unit_weights, atol=2e-3)
    if objective == "reml":
        free = fit(block_model("reml", MatrixFree.of(P.n, probes=64, squares=SQUARES)), DATA)
        assert free.status == "converged"
        assert np.isnan(free.history[-1].loss)  # the gradient's root, without a value
        assert free.history[-1].products > 0
        np.testing.assert_allclose(free.model.link.unit_weights, dense.model.link.unit_weights, atol=0.3)


def test_the_lengths_of_snps_come_from_counts():
    dosages = np.random.default_rng(0).integers(-1, 3, (23, 30)).astype(np.int8)
    packed = PackedGenotypes.from_dosages(dosages)
    coding = vanraden1(packed)
    np.testing.assert_allclose(squared_lengths(packed, coding), (coding.block(packed, slice(None)) ** 2).sum(0))


def test_what_is_refused(monkeypatch):
    with pytest.raises(BenchError, match="a diagonal of V⁻¹ from probes biases it"):
        block_model("loo", MatrixFree.of(P.n)).loss(DATA)
    with pytest.raises(BenchError, match="tolerances below 1 were needed"):
        MatrixFree.of(P.n, rtol=1.0)
    with pytest.raises(BenchError, match="probes of 20 individuals for genotypes of 40"):
        block_model("reml", MatrixFree.of(20))
    with pytest.raises(BenchError, match=r"squares \(7,\) for genotypes of 60 SNPs"):
        block_model("reml", MatrixFree.of(P.n, squares=np.ones(7)))
    many = GBLUP.of(OPERATOR, Link.of(1.0, SnpWeights.of(P.m)), "reml", divisor=P.d)
    monkeypatch.setattr("bench.dblup.root.MOST", 5)
    with pytest.raises(BenchError, match="61 parameters, it takes 5 at the most"):
        fit(many, DATA, optimiser="root")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["block", "snp"])
def test_a_gradient_takes_the_packed_genotypes_and_vectors(kind):
    if installed("auto").library is None or installed("jax").library is None:
        pytest.skip("g++ is needed for the products")
    n, m = 16_000, 40_000
    program = Path(__file__).parent.parent / "dblup_memory.py"
    command = [sys.executable, str(program), str(n), str(m), kind]
    usual = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run(command, env=usual, capture_output=True, text=True, check=True)
    packed, vectors = n * m / 4, 8 * 10 * (n + m)  # [X y Z] among individuals and SNPs: 10 columns
    # What compiling leaves comes on top, 20 to 75 MB by the machine: hence a size where genotypes are most of it.
    limit = 1.25 * packed + 96e6 + 8 * vectors
    assert int(done.stdout) <= limit
    assert limit < 8 * n * n / 3  # the dense form's one matrix is three times that
