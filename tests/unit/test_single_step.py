"""Every single-step variant against BLUP with a dense H."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

import single_step_oracle as oracle
from bench.build import installed
from bench.errors import BenchError
from bench.models.equations import Equations
from bench.relationships.numerator import GenotypedNumerator, Numerator
from bench.relationships.pedigree import Pedigree
from bench.single_step import variants
from bench.single_step.preconditioners import deflation_bytes
from bench.single_step.problem import Genomic, single_step_problem
from bench.single_step.solve import prepare, solve
from bench.single_step.system import Blocked
from bench.solvers.operator import Dense

EXACT = [name for name in variants.names() if variants.load(name).exact and name != "fernando"]
MEMORY = 10**9


def library():
    made = installed("pedigree")
    if made.library is None:
        pytest.skip(str(made.reason))
    return made.library


def pedigree_of(case):
    ids = np.array([f"a{i}" for i in range(len(case.sire))], dtype=object)
    return Pedigree(ids, case.sire.astype(np.int32), case.dam.astype(np.int32))


def problem_of(case, constant=0.0, scale=1.0):
    """The case as the package has it; its equations from the same X, Z and R."""
    pedigree, q = pedigree_of(case), len(case.G0)
    inverse = Numerator(pedigree, library=library()).inverse()
    W = np.hstack([case.X, case.Z])
    Ri = np.linalg.inv(case.R)
    matrix = sparse.csr_array(W.T @ Ri @ W)
    prior = sparse.block_diag(
        [sparse.csr_array((case.X.shape[1],) * 2), sparse.kron(inverse, np.linalg.inv(case.G0))], format="csr"
    )
    equations = Equations(
        sparse.csr_array(matrix + prior),
        W.T @ Ri @ case.y,
        case.X.shape[1],
        len(pedigree),
        0,
        tuple(f"t{i}" for i in range(q)),
        case.G0,
    )
    M, c = oracle.vanraden(case)
    genomic = Genomic(
        case.genotyped,
        Dense(M),
        scale * (1 - case.share) / c,
        scale * case.share,
        GenotypedNumerator(pedigree, case.genotyped, library=library()),
        constant,
    )
    return single_step_problem(equations, genomic, inverse, library=library())


def ebv(name, problem, rtol=1e-13, **options):
    found = solve(prepare(name, problem, memory=MEMORY, **options), rtol=rtol)
    return problem.equations.genetic(found.effects), found


def assert_close(found, wanted, rtol=1e-8):
    assert np.abs(found - wanted).max() <= rtol * np.abs(wanted).max()


@pytest.mark.parametrize("name", EXACT)
@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    traits=st.integers(1, 3),
    share=st.sampled_from([1e-3, 0.05, 0.3, 0.9]),
    genotyped=st.integers(3, 30),
    markers=st.integers(4, 60),
    repeats=st.booleans(),
)
def test_exact_variants_equal_dense_H(name, seed, traits, share, genotyped, markers, repeats):
    case = oracle.draw(seed, g=genotyped, m=markers, traits=traits, share=share, repeats=repeats)
    H, _ = oracle.relationships(case)
    _, wanted = oracle.blup(case, H)
    found, _ = ebv(name, problem_of(case))
    assert_close(found, wanted)


@pytest.mark.parametrize("name", ["fernando", "prior_pcg"])
@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 10_000), traits=st.integers(1, 2), genotyped=st.integers(3, 30), markers=st.integers(4, 60)
)
def test_without_a_polygenic_share_G_may_be_singular(name, seed, traits, genotyped, markers):
    case = oracle.draw(seed, g=genotyped, m=markers, traits=traits, share=0.0)
    H, _ = oracle.relationships(case)
    _, wanted = oracle.blup(case, H)
    found, _ = ebv(name, problem_of(case))
    assert_close(found, wanted, 1e-7)


@pytest.mark.parametrize("name", [name for name in variants.names() if not variants.load(name).singular])
def test_variants_that_need_a_polygenic_share_say_so(name):
    with pytest.raises(BenchError, match=r"polygenic share above 0.*fernando and prior_pcg"):
        prepare(name, problem_of(oracle.draw(1, share=0.0)), memory=MEMORY)


@pytest.mark.parametrize("name", EXACT)
def test_a_tuned_prior(name):
    case = oracle.draw(5, traits=2, share=0.1)
    H, _ = oracle.relationships(case, constant=0.07, scale=0.94)
    _, wanted = oracle.blup(case, H)
    found, _ = ebv(name, problem_of(case, constant=0.07, scale=0.94))
    assert_close(found, wanted)


@pytest.mark.parametrize("name", EXACT)
def test_a_tuning_that_subtracts(name):
    case = oracle.draw(5, share=0.2)
    problem = problem_of(case, constant=-0.02)
    if name in ("ss_h", "ss_h_tilde", "prior_pcg", "prior_pcg_exact"):
        H, _ = oracle.relationships(case, constant=-0.02)
        assert_close(ebv(name, problem)[0], oracle.blup(case, H)[1])
    else:
        with pytest.raises(BenchError, match="needs the constant to be a variance"):
            ebv(name, problem)


def test_apy_with_all_but_one_in_the_core_is_exact_and_with_half_is_close():
    case = oracle.draw(8, n=80, g=40, m=200, share=0.05)
    problem = problem_of(case)
    H, _ = oracle.relationships(case)
    _, wanted = oracle.blup(case, H)
    assert_close(ebv("apy", problem, options={"core": 39})[0], wanted)
    half, _ = ebv("apy", problem, options={"core": 0.5})
    assert np.abs(half - wanted).max() > 1e-6
    assert np.corrcoef(half.ravel(), wanted.ravel())[0, 1] > 0.95
    with pytest.raises(BenchError, match="a core of 40 was asked for, of 40 genotyped animals 1 to 39"):
        ebv("apy", problem, options={"core": 40})


def test_ssgtblup_is_exact_for_its_own_relationships():
    case = oracle.draw(9, traits=2, share=0.1)
    A = oracle.tabular(case.sire, case.dam)
    M, c = oracle.vanraden(case)
    g = case.genotyped
    Gw = 0.9 * M @ M.T / c + 0.1 * np.eye(len(g))
    P = A[:, g] @ np.linalg.inv(A[np.ix_(g, g)])
    wanted = oracle.blup(case, A + P @ (Gw - A[np.ix_(g, g)]) @ P.T)[1]
    assert_close(ebv("ssgtblup", problem_of(case))[0], wanted)


@pytest.mark.parametrize("name", [*EXACT, "fernando"])
def test_marker_effects_are_those_of_the_breeding_values(name):
    case = oracle.draw(11, traits=2, share=0.0 if name == "fernando" else 0.1)
    _, Gw = oracle.relationships(case)
    M, c = oracle.vanraden(case)
    problem = problem_of(case)
    u, found = ebv(name, problem)
    wanted = (1 - case.share) / c * M.T @ np.linalg.lstsq(Gw, u[case.genotyped], rcond=1e-10)[0]
    assert_close(found.marker_effects, wanted, 1e-6)
    if case.share == 0:
        assert_close(M @ found.marker_effects, u[case.genotyped], 1e-6)


@pytest.mark.parametrize("name", variants.names())
def test_every_preconditioner_finds_the_same(name):
    variant = variants.load(name)
    case = oracle.draw(12, traits=2, share=0.0 if name == "fernando" else 0.1)
    problem = problem_of(case)
    solutions = [ebv(name, problem, preconditioner=p)[0] for p in variant.preconditioners]
    for other in solutions[1:]:
        assert_close(other, solutions[0])


def grouped(case, seed, groups):
    """The case with unknown-parent groups drawn, as Quaas and Pollak have them; and their shares Q (n, groups)."""
    rng, n, traits = np.random.default_rng(seed), len(case.sire), len(case.G0)
    of = rng.integers(0, groups, (n, 2))
    Q = np.zeros((n, groups))
    for i in range(n):
        for parent, group in ((case.sire[i], of[i, 0]), (case.dam[i], of[i, 1])):
            Q[i] += Q[parent] / 2 if parent >= 0 else np.eye(groups)[group] / 2
    A_inverse = np.linalg.inv(oracle.tabular(case.sire, case.dam))
    whole = np.block([[A_inverse, -A_inverse @ Q], [-Q.T @ A_inverse, Q.T @ A_inverse @ Q]])
    whole[np.abs(whole) < 1e-12] = 0
    plain = problem_of(case)
    W = np.hstack([case.X, case.Z, np.zeros((len(case.y), groups * traits))])
    data = W.T @ np.linalg.solve(case.R, W)
    p = case.X.shape[1]
    data[p:, p:] += np.kron(whole, np.linalg.inv(case.G0))
    equations = Equations(
        sparse.csr_array(data),
        W.T @ np.linalg.solve(case.R, case.y),
        p,
        n,
        groups,
        plain.equations.components,
        case.G0,
    )
    problem = single_step_problem(
        equations, plain.genomic, sparse.csr_array(whole), library=library(), shares=Q[case.genotyped]
    )
    return problem, Q


@pytest.mark.parametrize("name", ["ss_t", "sssnpblup", "prior_pcg"])
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000), traits=st.integers(1, 2), groups=st.integers(1, 3))
def test_unknown_parent_groups_equal_the_explicit_model(name, seed, traits, groups):
    """u* = Qγ + u with γ fixed, against generalised least squares with WQ among the covariates."""
    case = oracle.draw(seed, n=60, g=20, m=30, traits=traits, missing=0.0)
    problem, Q = grouped(case, seed, groups)
    n, (H, _), G0 = len(case.sire), oracle.relationships(case), case.G0
    explicit = np.hstack([case.X, case.Z @ np.kron(Q, np.eye(traits))])
    V = case.Z @ np.kron(H, G0) @ case.Z.T + case.R
    VX = np.linalg.solve(V, explicit)
    b = np.linalg.lstsq(explicit.T @ VX, VX.T @ case.y, rcond=None)[0]
    u = np.kron(H, G0) @ case.Z.T @ np.linalg.solve(V, case.y - explicit @ b)
    wanted = u.reshape(n, traits) + Q @ b[case.X.shape[1] :].reshape(groups, traits)
    found, _ = ebv(name, problem, rtol=1e-12)
    # Levels of groups are confounded with the herds' up to a constant: contrasts within a trait are not.
    difference = found[:n] - wanted
    assert np.ptp(difference, axis=0).max() <= 1e-6 * np.abs(wanted).max()


def test_preconditioners_and_options_that_there_are_not():
    problem = problem_of(oracle.draw(1))
    with pytest.raises(BenchError, match="ss_h has no preconditioner 'prior'; it has jacobi, block"):
        prepare("ss_h", problem, memory=MEMORY, preconditioner="prior")
    with pytest.raises(BenchError, match="no single-step variant 'ss_x'; there are apy, "):
        prepare("ss_x", problem, memory=MEMORY)
    with pytest.raises(BenchError, match="ss_h has no option 'core'; it has none"):
        prepare("ss_h", problem, memory=MEMORY, options={"core": 3})


def test_a_variant_that_does_not_fit_is_refused_before_it_is_set_up():
    problem = problem_of(oracle.draw(1))
    for name in variants.names():
        if name != "fernando":
            with pytest.raises(BenchError, match=r"needs .* GB of memory, 1e-07 GB can be used"):
                prepare(name, problem, memory=100)


def test_deflation_that_does_not_fit_is_refused():
    problem = problem_of(oracle.draw(1))
    system = prepare("sssnpblup", problem, memory=MEMORY).system
    assert isinstance(system, Blocked)
    need = deflation_bytes(system)
    prepare("sssnpblup", problem, memory=need, preconditioner="deflation")
    with pytest.raises(BenchError, match=r"deflation needs .* GB of memory, .* GB can be used"):
        prepare("sssnpblup", problem, memory=need - 1, preconditioner="deflation")


def test_duplicated_genotypes_make_G_singular_with_a_sentence():
    case = oracle.draw(3, g=10, m=50, share=1e-17)
    case.dosages[5] = case.dosages[6]
    with pytest.raises(BenchError, match="Gw of 10 genotyped animals is not positive definite: look for duplicated"):
        prepare("ss_h", problem_of(case), memory=MEMORY)


def test_the_history_starts_at_one_and_each_rule_is_found_in_it():
    _, found = ebv("prior_pcg", problem_of(oracle.draw(4, n=80, g=30)), rtol=1e-10)
    norms = found.solution.residual_norms[:, 0]
    assert norms[0] == 1
    assert norms[-1] <= 1e-10
    assert found.steps_to(1e-10) == found.solution.steps
    assert norms[found.steps_to(1e-4)] <= 1e-4 < norms[found.steps_to(1e-4) - 1]
    assert found.steps_to(1e-30) is None
