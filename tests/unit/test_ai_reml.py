"""AI-REML against one eigendecomposition, and the likelihood written out."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import BenchError
from bench.models import ai_reml as module
from bench.models.ai_reml import _variances, ai_reml
from bench.models.design import Design
from bench.models.load import load
from bench.models.reml import Spectrum, estimate
from bench.models.reml_fit import EquationsFit, parameters
from bench.models.variances import Variances
from model_case import Case


def simulated(case: Case, design: Design, variances: Variances) -> Design:
    """The same design with records drawn from the model."""
    rng = np.random.default_rng(1)
    u = np.linalg.cholesky(case.A) @ rng.standard_normal((case.n, len(case.G))) @ np.linalg.cholesky(case.G).T
    return replace(design, records=replace(design.records, y=design.simulate(rng, u, variances)))


class Likelihood:
    """The restricted likelihood of a case from explicit covariances, as a function of Cholesky factors."""

    def __init__(self, case: Case, y: np.ndarray):
        self.case, self.X = case, case.X()
        self.y = y[~np.isnan(y)]
        self.Z, self.litter = case.Z(case.animal, case.n), case.Z(case.litter, 4)
        rows = np.array(case.rows())
        self.same = rows[:, 0][:, None] == rows[:, 0]
        self.trait = rows[:, 1]
        root = np.sqrt(case.w[rows[:, 0], rows[:, 1]])
        self.scale = 1 / np.outer(root, root)

    def of(self, G: np.ndarray, R0: np.ndarray, L: np.ndarray) -> float:
        V = self.Z @ np.kron(self.case.A, G) @ self.Z.T + self.litter @ np.kron(np.eye(4), L) @ self.litter.T
        V += np.where(self.same, R0[np.ix_(self.trait, self.trait)], 0.0) * self.scale
        inverse = np.linalg.inv(V)
        XVX = self.X.T @ inverse @ self.X
        e = self.y - self.X @ np.linalg.solve(XVX, self.X.T @ inverse @ self.y)
        return -0.5 * float(np.linalg.slogdet(V)[1] + np.linalg.slogdet(XVX)[1] + e @ inverse @ e)

    def maximised(self, t: int) -> tuple[float, list[np.ndarray]]:
        at, size = np.tril_indices(t), t * (t + 1) // 2

        def matrices(x: np.ndarray) -> list[np.ndarray]:
            found = []
            for part in x.reshape(3, size):
                F = np.zeros((t, t))
                F[at] = part
                found.append(F @ F.T)
            return found

        start = np.tile(np.eye(t)[at], 3)
        best = scipy.optimize.minimize(lambda x: -self.of(*matrices(x)), start, method="BFGS", options={"gtol": 1e-7})
        return -float(best.fun), matrices(best.x)


@pytest.mark.parametrize(("traits", "weights", "seed"), [(1, True, 1), (2, False, 2), (2, True, 5)])
def test_estimates_are_where_the_likelihood_written_out_is_largest(tmp_path, traits, weights, seed):
    case = Case(seed, tmp_path, n=40, R=120, traits=traits, weights=weights)
    model, _, _, design = load(case.path)
    design = simulated(case, design, model.covariances)
    K = np.linalg.inv(case.A)
    found = ai_reml(design, K, Variances(np.eye(traits), np.eye(traits), {"litter": np.eye(traits)}))
    likelihood = Likelihood(case, design.records.y)
    highest, expected = likelihood.maximised(traits)
    got = [found.variances.genetic, found.variances.residual, found.variances.others["litter"]]
    assert likelihood.of(*got) == pytest.approx(highest, abs=1e-4)
    if found.status == "converged":
        for one, other in zip(got, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=2e-3, atol=1e-3)
    at_start = [case.G, case.R0, case.L]
    differs = EquationsFit(design, K, model.covariances).log_likelihood - found.log_likelihood
    assert differs == pytest.approx(likelihood.of(*at_start) - likelihood.of(*got), abs=1e-6)


def test_one_trait_is_as_by_one_eigendecomposition(tmp_path):
    case = Case(4, tmp_path, n=300, R=300)
    case.file |= {"fixed": {"herd": "class"}, "random": {}, "variances": {"genetic": 0.5, "residual": 2.0}}
    model, _, records, design = load(case.rewritten())
    case.G = np.array([[1.0]])
    design = simulated(case, design, Variances(case.G, case.G))
    found = ai_reml(design, np.linalg.inv(case.A), model.covariances)
    X = np.eye(3)[design.records.factors["herd"].codes]
    A = case.A[np.ix_(records.animal, records.animal)]
    expected = estimate(Spectrum.of(A), design.records.y[:, 0], X)
    assert found.status == "converged"
    assert found.variances.genetic[0, 0] == pytest.approx(expected.Vu, rel=1e-4)
    assert found.variances.residual[0, 0] == pytest.approx(expected.Ve, rel=1e-4)


@given(st.integers(0, 10**6), st.sampled_from([1, 2]), st.booleans(), st.booleans(), st.booleans())
@settings(max_examples=12, deadline=None)
def test_slopes_are_those_of_the_likelihood(seed, traits, permanent, maternal, weights):
    with tempfile.TemporaryDirectory() as folder:
        case = Case(seed, Path(folder), traits=traits, permanent=permanent, maternal=maternal, weights=weights)
        model, _, _, design = load(case.path)
    K = np.linalg.inv(case.A)
    fit = EquationsFit(design, K, model.covariances)
    slopes, _ = fit.of_factors()
    for (name, j, k), slope in zip(parameters(fit.matrices), slopes, strict=True):
        heights = []
        for step in (1e-5, -1e-5):
            L = fit.roots[name].copy()
            L[j, k] += step
            moved = fit.matrices | {name: L @ L.T}
            heights.append(EquationsFit(design, K, _variances(moved)).log_likelihood)
        assert (heights[0] - heights[1]) / 2e-5 == pytest.approx(slope, rel=1e-4, abs=1e-5)
    values = np.linalg.eigvalsh(fit.information)
    assert values[0] > -1e-9 * values[-1]
    assert EquationsFit(design, K, _variances(fit.expectation_maximised())).log_likelihood >= fit.log_likelihood


def test_a_variance_without_evidence_ends_at_the_boundary(tmp_path):
    case = Case(3, tmp_path)
    model, _, _, design = load(case.path)
    seen = []
    found = ai_reml(
        design, np.linalg.inv(case.A), model.covariances, progress=lambda number, step: seen.append(number)
    )
    assert found.status == "boundary"
    assert found.variances.others["litter"][0, 0] < 1e-4
    assert len(found.steps) == len(seen) < 30
    assert ai_reml(design, np.linalg.inv(case.A), model.covariances, most=2).status == "not converged"
    rises = np.diff([step.log_likelihood for step in found.steps])
    assert (rises >= -1e-9).all()


def test_standard_errors_are_those_that_simulation_shows(tmp_path):
    case = Case(6, tmp_path, n=200, R=400)
    case.file |= {"random": {}, "variances": {"genetic": 1.0, "residual": 1.0}}
    model, _, _, design = load(case.rewritten())
    rng, K, root = np.random.default_rng(2), np.linalg.inv(case.A), np.linalg.cholesky(case.A)
    found = []
    for _ in range(40):
        y = design.simulate(rng, root @ rng.standard_normal((200, 1)), model.covariances)
        found.append(ai_reml(replace(design, records=replace(design.records, y=y)), K, model.covariances))
    for part in ("genetic", "residual"):
        estimates = [getattr(each.variances, part)[0, 0] for each in found]
        errors = np.mean([getattr(each.errors, part)[0, 0] for each in found])
        assert np.std(estimates) == pytest.approx(errors, rel=0.45)  # of 40: 4 standard errors of a deviation
        assert np.mean(estimates) == pytest.approx(1.0, abs=4 * errors / np.sqrt(40))


def test_what_is_too_large_or_singular_is_refused(tmp_path, monkeypatch):
    case = Case(7, tmp_path)
    model, _, _, design = load(case.path)
    with pytest.raises(BenchError, match="AI-REML: the inverse relationship matrix is not positive definite"):
        ai_reml(design, np.zeros((case.n, case.n)), model.covariances)
    monkeypatch.setattr(module, "MOST_EQUATIONS", 20)
    with pytest.raises(
        BenchError, match=r"AI-REML: 22 equations and 31 records × traits, of which it takes up to 20"
    ):
        ai_reml(design, np.linalg.inv(case.A), model.covariances)
