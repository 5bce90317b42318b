"""Records of a model file, drawn again."""

import numpy as np
import pytest
from scipy import sparse
from test_design import Case
from test_single_step import MEMORY, library

from bench.models.load import load
from bench.relationships.numerator import GenotypedNumerator, Numerator
from bench.single_step.model_data import DesignData, design_model, trait_variances
from bench.single_step.problem import Genomic, single_step_problem
from bench.single_step.reliability import exact, sampled
from bench.single_step.samples import GeneticSampler
from bench.single_step.variance_components import estimate
from bench.solvers.operator import Dense


def genomic_of(pedigree):
    rng = np.random.default_rng(1)
    rows = np.arange(2, 12)
    M = rng.binomial(2, 0.4, (rows.size, 30)) - 0.8
    return Genomic(rows, Dense(M), 0.9 / 15, 0.1, GenotypedNumerator(pedigree, rows, library=library()))


def test_right_hand_sides_are_those_of_the_equations(tmp_path):
    case = Case(3, tmp_path, traits=2, maternal=True, permanent=True, weights=True)
    model, pedigree, records, design = load(case.path)
    equations = design.assemble(Numerator(pedigree, library=library()).inverse(), model.covariances)
    data = DesignData(design, model.covariances)
    np.testing.assert_allclose(data.rhs(records.y[:, :, None])[:, 0], equations.rhs, rtol=1e-12)
    drawn = data.simulate(np.random.default_rng(1), np.zeros((len(pedigree), 4)))
    np.testing.assert_array_equal(np.isnan(drawn), np.isnan(records.y))


@pytest.mark.parametrize("permanent", [False, True])
def test_quadratic_forms(tmp_path, permanent):
    case = Case(4, tmp_path, permanent=permanent, weights=True)
    _, pedigree, records, design = load(case.path)
    values = np.array([2.0, 0.7, 0.4, 1.5]) if permanent else np.array([2.0, 0.7, 1.5])
    variances = trait_variances(design, values)
    inverse = Numerator(pedigree, library=library()).inverse()
    equations = design.assemble(inverse, variances)
    V = np.random.default_rng(5).standard_normal((equations.size, 2))
    Y = np.stack([records.y, records.y + 1], axis=-1)
    found = DesignData(design, variances).quadratics(V, Y)
    E = (Y - design.fitted(V))[:, 0]
    wanted = [np.nansum(records.weights * E**2, axis=0) / 1.5]
    start = design.fixed
    for term, variance in zip(design.random_terms, values[1:-1], strict=True):
        wanted.insert(-1, (V[start : start + term.size] ** 2).sum(axis=0) / variance)
        start += term.size
    np.testing.assert_allclose(found, np.array(wanted), rtol=1e-12)


@pytest.mark.statistical
def test_reliabilities_of_a_model_with_maternal_effects_and_environments(tmp_path):
    case = Case(6, tmp_path, traits=2, maternal=True, permanent=True, weights=True)
    model, pedigree, _, design = load(case.path)
    numerator = Numerator(pedigree, library=library())
    inverse = numerator.inverse()
    problem = single_step_problem(
        design.assemble(inverse, model.covariances), genomic_of(pedigree), inverse, library=library()
    )
    wanted = exact(problem, memory=MEMORY)
    genomic = problem.genomic
    change = np.zeros((problem.equations.size,) * 2)
    rows = problem.places
    difference = np.linalg.inv(genomic.dense()) - np.linalg.inv(genomic.dense_numerator())
    change[np.ix_(rows, rows)] = np.kron(difference, problem.precision)
    C = np.linalg.inv(problem.equations.matrix.toarray() + change)
    np.testing.assert_allclose(wanted.pev.ravel(), C.diagonal()[design.others :], rtol=1e-7)
    data = DesignData(design, model.covariances)
    found = sampled(problem, GeneticSampler(problem, numerator), data, memory=MEMORY, samples=400, rtol=1e-8)
    z = (found.reliability - wanted.reliability) / found.errors
    assert (np.abs(z) < 2).mean() > 0.85


@pytest.mark.parametrize("traits", [1, 2])
def test_fixed_effects_taken_off_change_no_prediction(tmp_path, traits):
    case = Case(5, tmp_path, traits=traits, weights=True)
    model, pedigree, records, design = load(case.path)
    less, fit = design.less_fixed()
    Y = less.records.y
    np.testing.assert_array_equal(np.isnan(Y), np.isnan(records.y))
    assert np.nanmax(np.abs(np.nanmean(Y, axis=0))) < 1e-6  # y is drawn around 3
    data = DesignData(design, model.covariances)
    equations = design.assemble(Numerator(pedigree, library=library()).inverse(), model.covariances)
    C, rhs = equations.matrix.toarray(), data.rhs(np.stack([records.y, Y], axis=-1))
    V = np.linalg.solve(C, rhs)[design.fixed :]
    np.testing.assert_allclose(V[:, 0], V[:, 1], rtol=1e-8, atol=1e-10)
    whole = np.linalg.solve(C, rhs)[: design.fixed]
    np.testing.assert_allclose(whole[:, 1] + fit, whole[:, 0], rtol=1e-8, atol=1e-8)


@pytest.mark.statistical
def test_variances_of_a_model_file(tmp_path):
    """Two random effects beside the genetic one: the scores are zero at what is found, with fresh simulations."""
    case = Case(8, tmp_path, permanent=True, weights=True)
    _, pedigree, _, design = load(case.path)
    numerator = Numerator(pedigree, library=library())
    model = design_model(design, genomic_of(pedigree), sparse.csr_array(numerator.inverse()), library=library())
    found = estimate(model, numerator, start=np.ones(4), memory=MEMORY, simulations=100, rtol=1e-7)
    assert found.variances.shape == (4,)
    assert np.abs(found.scores[-1])[[i for i in range(3) if i not in found.bound]].max(initial=0) < 0.05
