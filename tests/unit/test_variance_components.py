"""Variance components by the simulated score against the dense REML likelihood."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import optimize, sparse
from test_reliability import numerator_of
from test_single_step import MEMORY, grouped, library, problem_of

import single_step_oracle as oracle
from bench.errors import BenchError
from bench.single_step.problem import single_step_problem
from bench.single_step.variance_components import estimate


def draw(seed, *, h2=0.4, permanent=0.0, n=300, g=80, m=200, records=300):
    """One trait whose records are drawn from the model; permanent: its variance, with three records each."""
    case = oracle.draw(seed, n=n, g=g, m=m, missing=0.0, fixed=4)
    H, _ = oracle.relationships(case)
    rng = np.random.default_rng(seed)
    animals = rng.permutation(n)[:records]
    if permanent:
        animals = np.repeat(animals[: records // 3], 3)
    X = np.zeros((len(animals), 4))
    X[np.arange(len(animals)), rng.integers(0, 4, len(animals))] = 1
    Z = np.zeros((len(animals), n))
    Z[np.arange(len(animals)), animals] = 1
    u = np.sqrt(h2) * np.linalg.cholesky(H) @ rng.standard_normal(n)
    p = np.sqrt(permanent) * rng.standard_normal(n)
    e = np.sqrt(1 - h2 - permanent) * rng.standard_normal(len(animals))
    case.X, case.Z, case.y = X, Z, 10 * (Z @ (u + p) + e + X @ rng.standard_normal(4))
    return case, H


class Records:
    """A case's records at given variances. Permanent environments: one for each column of Z."""

    def __init__(self, case, variances):
        self.case, self.variances = case, variances
        self.y = case.y[:, None]
        self.permanent = case.Z[:, case.Z.any(axis=0)] if len(variances) == 3 else np.zeros((len(case.y), 0))
        self.W = sparse.csr_array(np.hstack([case.X, self.permanent, case.Z]))

    def simulate(self, rng, u):
        p = np.sqrt(self.variances[1]) * rng.standard_normal(self.permanent.shape[1])
        e = np.sqrt(self.variances[-1]) * rng.standard_normal(len(self.case.y))
        return self.case.Z @ u[: self.case.Z.shape[1]] + (self.permanent @ p + e)[:, None]

    def rhs(self, Y):
        return self.W.T @ Y[:, 0] / self.variances[-1]

    def quadratics(self, V, Y):
        others = self.case.X.shape[1]
        p = V[others : others + self.permanent.shape[1]]
        e = Y[:, 0] - self.W @ V
        found = [(p**2).sum(axis=0) / self.variances[1]] if len(self.variances) == 3 else []
        return np.array([*found, (e**2).sum(axis=0) / self.variances[-1]])


def model_of(case):
    base = problem_of(replace(case, G0=np.eye(1), R=np.eye(len(case.y))))

    def model(variances):
        data = Records(case, variances)
        others = data.W.shape[1] - len(case.sire)
        penalty = np.zeros(others)
        penalty[case.X.shape[1] :] = 1 / variances[1] if len(variances) == 3 else 0
        prior = sparse.block_diag([sparse.diags_array(penalty), base.inverse / variances[0]], format="csr")
        equations = replace(
            base.equations,
            matrix=sparse.csr_array(data.W.T @ data.W / variances[-1] + prior),
            rhs=data.rhs(case.y[:, None, None])[:, 0],
            others=others,
            genetic_covariance=np.array([[variances[0]]]),
        )
        return single_step_problem(equations, base.genomic, base.inverse, library=library()), data

    return model


def likelihood(case, H, logs):
    """−2 log REML of variances exp(logs)."""
    v = np.exp(logs)
    V = v[0] * case.Z @ H @ case.Z.T + v[-1] * np.eye(len(case.y))
    if len(v) == 3:
        V += v[1] * case.Z @ case.Z.T
    VX, Vy = np.linalg.solve(V, case.X), np.linalg.solve(V, case.y)
    XVX = case.X.T @ VX
    quadratic = case.y @ Vy - case.y @ VX @ np.linalg.solve(XVX, VX.T @ case.y)
    return np.linalg.slogdet(V)[1] + np.linalg.slogdet(XVX)[1] + quadratic


def reml(case, H, start):
    """Variances and the covariance of their logarithms, by the curvature."""
    found = optimize.minimize(
        lambda logs: likelihood(case, H, logs), np.log(start), method="Nelder-Mead",
        options={"xatol": 1e-6, "fatol": 1e-9, "maxiter": 2000},
    )  # fmt: skip
    c, h = len(start), 1e-3
    E = np.eye(c) * h
    f = [[likelihood(case, H, found.x + a + b) for b in (*E, *-E)] for a in (*E, *-E)]
    f = np.array(f)
    curvature = (f[:c, :c] - f[:c, c:] - f[c:, :c] + f[c:, c:]) / (4 * h * h)
    return np.exp(found.x), np.linalg.inv(curvature / 2)


def found_for(case, **options):
    options = {"start": np.array([1.0, 3.0]), "memory": MEMORY, **options}
    return estimate(model_of(case), numerator_of(case), **options)


@pytest.mark.statistical
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_estimates_are_those_of_the_likelihood_within_the_error_of_the_simulation(seed):
    case, H = draw(seed)
    wanted, covariance = reml(case, H, np.array([40.0, 60.0]))
    found = found_for(case, simulations=100, rtol=1e-6)
    share = wanted[0] / wanted.sum()
    assert abs(found.shares[0] - share) < 3 * found.simulation_errors[0]
    np.testing.assert_allclose(found.variances, wanted, rtol=0.25)
    np.testing.assert_allclose(found.variances.sum(), wanted.sum(), rtol=0.05)
    np.testing.assert_allclose(found.errors, wanted * np.sqrt(covariance.diagonal()), rtol=0.35)
    assert np.abs(found.scores[-1]).max() < 1e-2


@pytest.mark.statistical
def test_more_simulations_come_nearer():
    case, H = draw(4)
    wanted, _ = reml(case, H, np.array([40.0, 60.0]))
    found = found_for(case, simulations=600, rtol=1e-6)
    assert found.simulation_errors[0] < 0.01
    np.testing.assert_allclose(found.shares, wanted / wanted.sum(), atol=0.02)


@pytest.mark.statistical
def test_the_heritability_that_was_simulated_is_found():
    found = [found_for(draw(seed, n=400, records=400)[0], simulations=15) for seed in range(8)]
    z = np.array([(f.shares[0] - 0.4) / f.share_errors[0] for f in found])
    assert np.abs(z).max() < 3
    assert abs(z.mean()) < 1.2
    assert all(f.evaluations.shape[0] <= 8 for f in found)


@pytest.mark.statistical
def test_a_permanent_environment():
    case, H = draw(5, permanent=0.25, records=450, n=300)
    wanted, covariance = reml(case, H, np.array([40.0, 25.0, 35.0]))
    found = found_for(case, start=np.array([1.0, 1.0, 1.0]), simulations=200, rtol=1e-6)
    shares = wanted / wanted.sum()
    assert (np.abs(found.shares - shares) < 3 * found.simulation_errors).all()
    np.testing.assert_allclose(found.errors[[0, 2]], (wanted * np.sqrt(covariance.diagonal()))[[0, 2]], rtol=0.4)


@pytest.mark.statistical
def test_unknown_parent_groups_are_fixed_effects():
    case, H = draw(2, n=150, g=50, m=100, records=150)
    _, Q = grouped(replace(case, R=np.eye(150)), 2, 2)
    wanted, _ = reml(replace(case, X=np.hstack([case.X, case.Z @ Q[:, 1:]])), H, np.array([40.0, 60.0]))

    def model(variances):
        at = replace(case, G0=variances[:1, None], R=variances[1] * np.eye(150))
        data = Records(at, variances)
        data.W = sparse.hstack([data.W, sparse.csr_array((150, 2))], format="csr")
        return grouped(at, 2, 2)[0], data

    found = estimate(model, numerator_of(case), start=np.array([1.0, 1.0]), memory=MEMORY, simulations=100, rtol=1e-6)
    assert abs(found.shares[0] - wanted[0] / wanted.sum()) < 3 * found.simulation_errors[0]


def test_a_variance_of_nothing_goes_to_its_bound():
    rng = np.random.default_rng(3)
    case, H = draw(3, h2=0.0001, n=150, records=150)
    for _ in range(50):
        case.y = rng.standard_normal(150)
        if reml(case, H, np.array([0.2, 0.8]))[0][0] < 1e-6:
            break
    found = found_for(case, simulations=20, rtol=1e-6)
    assert found.bound == (0,)
    assert found.shares[0] < 1e-4
    assert np.isnan(found.errors[0])


def test_each_evaluation_is_told_and_the_seed_decides():
    case, seen = draw(6, n=100, records=100)[0], []
    one = found_for(case, observe=lambda number, shares, score: seen.append((number, shares[0], score[0])))
    assert [number for number, _, _ in seen] == list(range(1, len(one.scores) + 1))
    assert seen[0][1] == pytest.approx(0.25)
    np.testing.assert_array_equal(found_for(case).variances, one.variances)
    assert found_for(case, seed=2).variances[0] != one.variances[0]


def test_what_cannot_be_estimated_is_said():
    case = draw(6, n=60, g=20, records=60)[0]
    with pytest.raises(BenchError, match="two or more positive numbers were needed, found"):
        found_for(case, start=np.array([1.0, 0.0]))
    with pytest.raises(BenchError, match="4 simulated data sets cannot tell a spread"):
        found_for(case, simulations=4)
    with pytest.raises(BenchError, match="after 1 evaluations the logarithms"):
        found_for(case, max_evaluations=1)
    two = problem_of(oracle.draw(1, traits=2))
    with pytest.raises(BenchError, match=r"one trait without maternal effects; this model has 2 .*\(t0, t1\)"):
        estimate(lambda _: (two, Records(case, np.ones(2))), numerator_of(case), start=np.ones(2), memory=MEMORY)
