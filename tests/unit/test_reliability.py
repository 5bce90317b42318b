"""Exact reliabilities against a dense inverse, sampled ones against the exact."""

import gzip
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from test_single_step import MEMORY, grouped, library, pedigree_of, problem_of

import single_step_oracle as oracle
from bench.errors import BenchError
from bench.models.equations import Equations
from bench.relationships.numerator import GenotypedNumerator, Numerator
from bench.relationships.pedigree import read_pedigree
from bench.single_step.problem import Genomic, single_step_problem
from bench.single_step.reliability import BATCH, check_sampled, exact, sampled, sampled_bytes
from bench.single_step.samples import GeneticSampler, generators
from bench.solvers.operator import Dense

REFERENCE = Path(os.environ.get("BENCH_DATA", "")).parent / "reference" / "ss_salmon_load_all.csv"
SALMON = {"Vu": 2.580102171924764, "lambda": 3.07366}


class CaseData:
    """The records of a case, as what reliabilities draw again. groups: columns of zeros that follow Z's."""

    def __init__(self, case, groups=0):
        self.case, self._groups = case, groups
        self._weighted = np.linalg.solve(case.R, np.hstack([case.X, case.Z]))
        self._root = np.linalg.cholesky(case.R)

    def simulate(self, rng, u):
        n = self.case.Z.shape[1]
        y = self.case.Z @ u.ravel()[:n] + self._root @ rng.standard_normal(len(self.case.y))
        return y[:, None]

    def rhs(self, Y):
        found = self._weighted.T @ Y[:, 0]
        return np.concatenate([found, np.zeros((self._groups, found.shape[1]))])


def numerator_of(case):
    return Numerator(pedigree_of(case), library=library())


def prediction_variances(case, H, X=None):
    """PEV of u by V alone: K − K Z'PZ K with P = V⁻¹ − V⁻¹X(X'V⁻¹X)⁻X'V⁻¹."""
    X = case.X if X is None else X
    K = np.kron(H, case.G0)
    Vi = np.linalg.inv(case.Z @ K @ case.Z.T + case.R)
    P = Vi - Vi @ X @ np.linalg.pinv(X.T @ Vi @ X, rcond=1e-11, hermitian=True) @ X.T @ Vi
    ZK = case.Z @ K
    return (K - ZK.T @ P @ ZK).diagonal().reshape(len(case.sire), -1)


def assert_exact(found, case, H, pev, rtol=1e-8):
    np.testing.assert_allclose(found.pev, pev, rtol=rtol)
    np.testing.assert_allclose(found.relationship, H.diagonal(), rtol=rtol)
    wanted = 1 - pev / (H.diagonal()[:, None] * case.G0.diagonal())
    np.testing.assert_allclose(found.reliability, wanted, atol=rtol)
    assert found.errors is None


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    traits=st.integers(1, 3),
    share=st.sampled_from([1e-3, 0.05, 0.3]),
    genotyped=st.integers(3, 40),
    markers=st.integers(4, 60),
    repeats=st.booleans(),
    constant=st.sampled_from([0.0, 0.07, -0.02]),
)
def test_exact_equals_the_variances_of_prediction(seed, traits, share, genotyped, markers, repeats, constant):
    case = oracle.draw(seed, g=genotyped, m=markers, traits=traits, share=share, repeats=repeats)
    constant = max(constant, -share / 10)
    H, _ = oracle.relationships(case, constant=constant)
    found = exact(problem_of(case, constant=constant), memory=MEMORY)
    assert_exact(found, case, H, prediction_variances(case, H), 1e-7)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000), traits=st.integers(1, 2), groups=st.integers(1, 3))
def test_with_groups_reliabilities_are_those_of_the_deviations(seed, traits, groups):
    """The groups are confounded with the herds, as they always are."""
    case = oracle.draw(seed, n=60, g=20, m=30, traits=traits, missing=0.0)
    problem, Q = grouped(case, seed, groups)
    H, _ = oracle.relationships(case)
    X = np.hstack([case.X, case.Z @ np.kron(Q, np.eye(traits))])
    assert_exact(exact(problem, memory=MEMORY), case, H, prediction_variances(case, H, X), 1e-7)


@pytest.mark.parametrize("groups", [0, 2])
def test_some_animals_of_a_pedigree(groups):
    case = oracle.draw(12, n=60, g=20, m=30, traits=2, missing=0.0)
    problem = grouped(case, 12, groups)[0] if groups else problem_of(case)
    whole, wanted = exact(problem, memory=MEMORY), np.array([3, 40, 41, case.genotyped[0]])
    some = exact(problem, memory=MEMORY, animals=wanted)
    for found, of in ((some.pev, whole.pev), (some.relationship, whole.relationship)):
        np.testing.assert_allclose(found[wanted], of[wanted], rtol=1e-9)
        assert np.isnan(np.delete(found, wanted, axis=0)).all()


def test_what_exact_cannot_do_is_said():
    problem = problem_of(oracle.draw(1))
    with pytest.raises(BenchError, match=r"40 levels × 1 components need .* GB of memory, 1e-06 GB.*sample them"):
        exact(problem, memory=1000)
    with pytest.raises(BenchError, match="need a polygenic share above 0; sampled ones take 0"):
        exact(problem_of(oracle.draw(1, share=0.0)), memory=MEMORY)


def test_confounded_fixed_effects_are_said():
    case = oracle.draw(1)
    case.X = np.hstack([case.X, case.X[:, :1] + case.X[:, 1:2]])
    with pytest.raises(BenchError, match="the fixed effects are confounded"):
        exact(problem_of(case), memory=MEMORY)
    case.X = np.hstack([case.X[:, :-1], np.zeros((len(case.y), 1))])
    with pytest.raises(BenchError, match="1 of the fixed effects have no records"):
        exact(problem_of(case), memory=MEMORY)


def sample(case, problem=None, *, groups=0, **options):
    problem = problem or problem_of(case)
    sampler = GeneticSampler(problem, numerator_of(case))
    return sampled(problem, sampler, CaseData(case, groups), memory=MEMORY, **options)


@pytest.mark.statistical
@pytest.mark.parametrize("share", [0.0, 0.1])
def test_draws_have_the_covariance_of_H(share):
    """Whitened, the n²/2 covariances of 4,000 draws are independent, with a variance of 1/4000."""
    case, count = oracle.draw(7, n=30, g=10, m=30, share=share), 4000
    H, _ = oracle.relationships(case, constant=0.1)
    U = GeneticSampler(problem_of(case, constant=0.1), numerator_of(case)).draw(generators(5, 0, count))
    U = np.linalg.solve(np.linalg.cholesky(H), U)
    z = (U @ U.T / count - np.eye(30))[np.tril_indices(30, -1)] * np.sqrt(count)
    assert 0.8 < (z**2).mean() < 1.2
    assert np.abs(z).max() < 4.5


@pytest.mark.statistical
@pytest.mark.parametrize("traits", [1, 2])
@pytest.mark.parametrize("known", [True, False])
def test_sampled_reliabilities_are_calibrated(traits, known):
    """The errors of 10 cases × 40 animals, solved tightly, in units of their standard errors."""
    z = []
    for seed in range(10):
        case = oracle.draw(seed, g=15, m=30, traits=traits)
        problem = problem_of(case)
        M, _ = oracle.vanraden(case)
        options = {"gram_diagonal": (M**2).sum(axis=1)} if known else {}
        found = sample(case, problem, samples=200, seed=seed, rtol=1e-8, **options)
        wanted = exact(problem, memory=MEMORY)
        clear = wanted.reliability > 0.01  # an animal that no record says anything of has neither
        z.append(((found.reliability - wanted.reliability) / found.errors)[clear])
        assert (found.reliability >= 0).all()
        if known:
            np.testing.assert_allclose(found.relationship[case.genotyped], wanted.relationship[case.genotyped])
        np.testing.assert_allclose(found.pev, wanted.pev, rtol=0.6)
        np.testing.assert_allclose(found.relationship, wanted.relationship, rtol=0.6)
    z = np.concatenate(z)
    assert 0.92 < (np.abs(z) < 2).mean() < 0.985
    assert abs(z.mean()) < 0.25
    assert 0.85 < z.std() < 1.15


@pytest.mark.statistical
def test_sampled_with_groups_and_without_a_polygenic_share():
    case = oracle.draw(3, n=60, g=20, m=60, missing=0.0)
    problem, _ = grouped(case, 3, 2)
    found = sample(case, problem, groups=2, samples=400, rtol=1e-8)
    z = (found.reliability - exact(problem, memory=MEMORY).reliability) / found.errors
    assert (np.abs(z) < 2).mean() > 0.85

    case = oracle.draw(4, share=0.0)
    H, _ = oracle.relationships(case)
    wanted = 1 - prediction_variances(case, H) / (H.diagonal()[:, None] * case.G0.diagonal())
    found = sample(case, samples=400, rtol=1e-8)
    assert (np.abs(found.reliability - wanted) < 2 * found.errors + 1e-3).mean() > 0.85


def metafounders(case, gamma):
    """The case's problem with metafounders, its numerator, and H of the animals."""
    rng, n = np.random.default_rng(1), len(case.sire)
    groups = [np.where(of < 0, rng.integers(0, len(gamma), n), -1).astype(np.int32) for of in (case.sire, case.dam)]
    pedigree = replace(pedigree_of(case), groups=("m0", "m1"), sire_group=groups[0], dam_group=groups[1])
    rows = [np.where(of < 0, group, of + 2) for of, group in zip((case.sire, case.dam), groups, strict=True)]
    A = np.zeros((n + 2, n + 2))
    A[:2, :2] = gamma
    for i in range(2, n + 2):
        s, d = rows[0][i - 2], rows[1][i - 2]
        A[i, :i] = A[:i, i] = (A[s, :i] + A[d, :i]) / 2
        A[i, i] = 1 + A[s, d] / 2
    A, (M, c), g = A[2:, 2:], oracle.vanraden(case), case.genotyped
    Gw = (1 - case.share) * M @ M.T / c + case.share * A[np.ix_(g, g)]
    P = A[:, g] @ np.linalg.inv(A[np.ix_(g, g)])
    H = A + P @ (Gw - A[np.ix_(g, g)]) @ P.T

    numerator = Numerator(pedigree, library=library(), gamma=gamma)
    inverse = numerator.inverse()
    W = np.hstack([case.X, case.Z, np.zeros((len(case.y), 2))])
    data, p = W.T @ np.linalg.solve(case.R, W), case.X.shape[1]
    data[p:, p:] += inverse.toarray() / case.G0[0, 0]
    rhs = W.T @ np.linalg.solve(case.R, case.y)
    equations = Equations(sparse.csr_array(data), rhs, p, n, 2, ("t0",), case.G0)
    genotyped = GenotypedNumerator(pedigree, g, library=library(), gamma=gamma)
    genomic = Genomic(g, Dense(M), (1 - case.share) / c, case.share, genotyped)
    return single_step_problem(equations, genomic, inverse, library=library()), numerator, H


@pytest.mark.statistical
def test_metafounders_are_random_levels():
    case = oracle.draw(9, n=60, g=20, m=60, missing=0.0)
    problem, numerator, H = metafounders(case, np.array([[0.6, 0.2], [0.2, 0.8]]))
    wanted = exact(problem, memory=MEMORY)
    assert_exact(wanted, case, H, prediction_variances(case, H), 1e-7)
    some = exact(problem, memory=MEMORY, animals=np.array([3, 50]))
    np.testing.assert_allclose(some.pev[[3, 50]], wanted.pev[[3, 50]], rtol=1e-9)
    sampler = GeneticSampler(problem, numerator)
    found = sampled(problem, sampler, CaseData(case, 2), memory=MEMORY, samples=400, rtol=1e-8)
    z = (found.reliability - wanted.reliability) / found.errors
    assert (np.abs(z) < 2).mean() > 0.85


def test_a_batch_is_what_fits_and_no_memory_is_said():
    problem = problem_of(oracle.draw(5, traits=2))
    need = sampled_bytes(problem, 100, 5)
    assert check_sampled(problem, 100, MEMORY) == BATCH
    assert check_sampled(problem, 100, need) == 5
    with pytest.raises(BenchError, match=r"sampled reliabilities need .* GB of memory, 1e-09 GB can be used"):
        check_sampled(problem, 100, 1)


def test_results_do_not_depend_on_the_batch_and_progress_is_told():
    case, seen = oracle.draw(5, traits=2), []
    one = sample(case, samples=20, batch=20, rtol=1e-10)
    other = sample(case, samples=20, batch=3, rtol=1e-10, progress=lambda done, of: seen.append((done, of)))
    np.testing.assert_allclose(one.reliability, other.reliability, rtol=1e-6)
    assert seen[0] == (3, 20)
    assert seen[-1] == (20, 20)
    another = sample(case, samples=20, seed=2)
    assert np.abs(one.reliability - another.reliability).max() > 1e-3


def test_what_cannot_be_sampled_is_said():
    case = oracle.draw(1, share=0.2)
    with pytest.raises(BenchError, match=r"subtracts 0\.01 from every genomic relationship"):
        GeneticSampler(problem_of(case, constant=-0.01), numerator_of(case))
    with pytest.raises(BenchError, match="9 samples in batches of 16: 10 and 1 are the least"):
        sample(case, samples=9)
    with pytest.raises(BenchError, match="16 of 16 samples did not reach a residual of 1e-12 in 1 steps"):
        sample(case, rtol=1e-12, max_steps=1)
    with pytest.raises(ValueError, match="A has 39 rows, the equations have 40 levels"):
        GeneticSampler(problem_of(case), numerator_of(oracle.draw(1, n=39)))


def test_the_draws_of_a_pedigree_have_its_relationships():
    """With one standard normal of 1 and the others 0, T⁻¹D^½ column by column."""
    case = oracle.draw(2)

    class Unit:
        def __init__(self, at):
            self.at = at

        def standard_normal(self, size):
            return np.eye(1, size, self.at)[0]

    L = numerator_of(case).draw([Unit(i) for i in range(len(case.sire))])
    np.testing.assert_allclose(L @ L.T, oracle.tabular(case.sire, case.dam), atol=1e-12)


def salmon():
    """1,481 genotyped of 1,561 salmon and their load of amoebae: the problem, its data, the ids' order."""
    if not os.environ.get("BENCH_DATA"):
        pytest.skip("BENCH_DATA does not name a folder with the salmon data")
    folder = Path(os.environ["BENCH_DATA"]) / "salmon"
    if not (REFERENCE.is_file() and (folder / "geno.csv.gz").is_file()):
        pytest.skip("the salmon data are not here")
    with gzip.open(folder / "geno.csv.gz") as file:
        lines = file.read().replace(b"NA", b"9").split(b"\n")[1:-1]
    ids = [line[: line.index(b",")].decode().strip('"') for line in lines]
    M = np.array([np.frombuffer(line[line.index(b",") + 1 :], np.uint8)[::2] for line in lines]) - float(ord("0"))
    M[M > 2] = np.nan
    p = np.nanmean(M, axis=0) / 2
    common = np.minimum(p, 1 - p) >= 0.01
    M, p = M[:, common], p[common]
    M = np.nan_to_num(M - 2 * p)
    pedigree = read_pedigree(folder / "ped.csv")
    rows = pedigree.rows(ids, of="genotypes")
    table = pd.read_csv(folder / "pheno.csv")
    animals = pedigree.rows(table["ID"].tolist(), of="records")
    Z = np.zeros((len(table), len(pedigree)))
    Z[np.arange(len(table)), animals] = 1
    ones, G0 = np.ones((len(table), 1)), np.array([[SALMON["Vu"]]])
    R = np.eye(len(table)) * SALMON["Vu"] * SALMON["lambda"]
    y = table["amoebic_load"].to_numpy()
    case = oracle.Case(pedigree.sire, pedigree.dam, rows, np.zeros((0, 0)), 0.05, G0, ones, Z, R, y)
    numerator = Numerator(pedigree, library=library())
    inverse = numerator.inverse()
    W = sparse.csr_array(np.hstack([ones, Z]))
    prior = sparse.block_diag([sparse.csr_array((1, 1)), inverse / SALMON["Vu"]], format="csr")
    matrix = sparse.csr_array(W.T @ W / R[0, 0] + prior)
    equations = Equations(matrix, W.T @ y / R[0, 0], 1, len(pedigree), 0, ("load",), G0)
    genotyped = GenotypedNumerator(pedigree, rows, library=library())
    variance = 0.95 / float(2 * (p * (1 - p)).sum())
    genomic = Genomic(rows, Dense(M), variance, 0.05, genotyped, gram=lambda: M @ M.T)
    problem = single_step_problem(equations, genomic, inverse, library=library())
    return problem, numerator, case, pedigree.ids


@pytest.mark.slow
def test_salmon_as_another_program_has_it():
    problem, _, _, ids = salmon()
    wanted = pd.read_csv(REFERENCE).set_index("id").loc[list(ids)]
    found = exact(problem, memory=MEMORY)
    np.testing.assert_allclose(found.relationship, wanted["Hdiag"], rtol=1e-6)
    np.testing.assert_allclose(found.pev[:, 0], wanted["pev"], rtol=1e-6)
    np.testing.assert_allclose(found.reliability[:, 0], wanted["rel"], rtol=1e-6)
