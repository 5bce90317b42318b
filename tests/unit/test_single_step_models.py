"""Every exact variant against BLUP with a dense H, for whole models: from files, through Design and build_problem."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_single_step import problem_of

import single_step_oracle as oracle
from bench.errors import BenchError
from bench.genotypes.packed import PackedGenotypes
from bench.solvers.operator import Dense
from single_step_chain import EXACT, build, difference, ebv, effects
from single_step_model import GenotypedCase

NO_CONSTANT_BELOW_0 = ("ss_t", "ssgtablup", "sssnpblup", "taskinen")  # they would need a negative variance
MODELS = {
    "seed": st.integers(0, 100_000),
    "n": st.integers(6, 30),
    "genotyped": st.floats(0, 1),
    "m": st.integers(1, 60),
    "w": st.sampled_from([1e-3, 0.01, 0.05, 0.3, 0.9]),
    "traits": st.integers(1, 3),
    "permanent": st.booleans(),
    "maternal": st.booleans(),
    "weights": st.booleans(),
    "tuning": st.sampled_from(["none", "vitezica", "chen", "vanraden", "blupf90"]),
}


def check(folder: str, *, seed, n, genotyped, m, tuning, **options) -> None:
    g = max(2, round(genotyped * n))
    case = GenotypedCase(seed, Path(folder), n=n, g=g, m=m, **options)
    with np.errstate(all="ignore"):
        constant, Gw = case.blended(tuning)
    assume(np.isfinite(Gw).all())
    assume(constant > -np.inf)
    assume(np.linalg.eigvalsh(Gw)[0] > 1e-5)
    assume(case.kind == "metafounders" or case.Q[:n].any(axis=0).all())  # of a group without animals nothing is known
    problem = case.problem(tuning)
    # A group whose animals are all genotyped, none of them with a record, has an equation of zeros.
    assume((problem.equations.matrix.diagonal() > 0).all())
    u, fitted = case.blup(Gw)
    for name in EXACT:
        if name == "taskinen" and problem.shares is not None:
            continue
        if name == "prior_pcg_exact" and case.groups and case.kind == "fixed":
            with pytest.raises(BenchError, match="fixed unknown-parent groups are confounded"):
                ebv(name, problem)
            continue
        if name in NO_CONSTANT_BELOW_0 and problem.genomic.constant < 0:
            with pytest.raises(BenchError, match="needs the constant to be a variance"):
                ebv(name, problem)
            continue
        if name == "taskinen" and problem.genomic.polygenic >= 1:  # tuning has raised it
            with pytest.raises(BenchError, match="polygenic share in"):
                ebv(name, problem)
            continue
        v = effects(name, problem)
        found, scale = problem.equations.genetic(v), np.abs(u).max()
        if case.groups and case.kind == "fixed":
            values = case.X() @ v[: case.X().shape[1]] + case.genetic_incidence() @ found.ravel()
            assert difference(values, fitted) < 1e-8, name
            scale = max(scale, np.abs(found).max())  # groups can take all that records say, and leave u = 0
            found = found - case.Q @ found[n:]
        assert np.abs(found - u).max() < 1e-8 * scale, name


@settings(max_examples=30, deadline=None)
@given(**MODELS)
def test_models_without_groups(**drawn):
    with tempfile.TemporaryDirectory() as folder:
        check(folder, **drawn)


@settings(max_examples=20, deadline=None)
@given(**MODELS, groups=st.integers(1, 3), kind=st.sampled_from(["random", "metafounders"]))
def test_models_with_random_groups_and_metafounders(**drawn):
    with tempfile.TemporaryDirectory() as folder:
        check(folder, **drawn)


@settings(max_examples=15, deadline=None)
@given(**MODELS, groups=st.integers(1, 3))
def test_models_with_unknown_parent_groups(**drawn):
    """Groups are confounded with herds: values fitted and deviations from groups are not."""
    with tempfile.TemporaryDirectory() as folder:
        check(folder, **drawn)


def simple(folder: Path, **options) -> GenotypedCase:
    return GenotypedCase(7, folder, **({"n": 20, "g": 8, "m": 30, "w": 0.05} | options))


def agrees(case: GenotypedCase, tuning: str = "none") -> None:
    problem, (u, _) = case.problem(tuning), case.blup(case.blended(tuning)[1])
    for name in EXACT:
        assert difference(ebv(name, problem), u) < 1e-8, name


@pytest.mark.parametrize("m", [1, 2, 7, 8, 9, 200])
def test_fewer_and_more_snps_than_animals(tmp_path, m):
    agrees(simple(tmp_path, m=m))


@pytest.mark.parametrize("traits", [1, 2])
def test_every_animal_genotyped(tmp_path, traits):
    agrees(simple(tmp_path, g=20, traits=traits))


def test_a_monomorphic_snp_and_one_without_calls(tmp_path):
    case = simple(tmp_path)
    case.dosages[:, 3], case.dosages[:, 4], case.dosages[:, 5] = 2, 0, -1
    agrees(case)


def test_all_snps_but_one_left_out(tmp_path):
    case = simple(tmp_path)
    case.dosages[:, 1:] = 0
    path, packed = case.path, PackedGenotypes.from_dosages(case.dosages)
    problem, (u, _) = build(path, packed, case.ids, w=0.05, min_maf=0.01), case.blup(case.blended("none")[1])
    for name in EXACT:
        assert difference(ebv(name, problem), u) < 1e-8, name
    case.dosages[:] = 1
    with pytest.raises(BenchError, match="all 30 SNPs are monomorphic or missing"):
        case.problem("none")


def test_duplicated_genotypes_with_a_small_polygenic_share(tmp_path):
    """Of the two animals only their pedigree differs; Gw is nearly singular, and all variants agree still."""
    case = simple(tmp_path, w=1e-6)
    case.dosages[4] = case.dosages[3]
    problem, (u, _) = case.problem("none"), case.blup(case.blended("none")[1])
    for name in EXACT:
        assert difference(ebv(name, problem), u) < 1e-6, name


def test_without_a_polygenic_share_duplicated_genotypes_are_solved_by_two_variants(tmp_path):
    case = simple(tmp_path, w=0.0, m=5)
    case.dosages[4] = case.dosages[3]
    problem, (u, _) = case.problem("none"), case.blup(case.blended("none")[1])
    for name in ("prior_pcg", "fernando"):
        assert difference(ebv(name, problem), u) < 1e-8, name
    for name in EXACT:
        if not name.startswith("prior_pcg"):
            with pytest.raises(BenchError, match="needs a polygenic share above 0"):
                ebv(name, problem)


def test_a_genotyped_animal_without_relatives(tmp_path):
    case = simple(tmp_path)
    alone = case.genotyped[2]
    for parent in (case.sire, case.dam):
        parent[alone] = -1
        parent[parent == alone] = -1
    case.changed()
    agrees(case)


def test_one_genotyped_animal(tmp_path):
    """Its own frequencies say nothing of it; in the coding of metafounders, 2p = 1, it has a relationship."""
    case = simple(tmp_path, g=1)
    with pytest.raises(BenchError, match="all 30 SNPs are monomorphic or missing among 1 individuals"):
        case.problem("none")
    case = oracle.draw(3, g=3, m=20, traits=2)
    case.genotyped, case.dosages = case.genotyped[:1], case.dosages[2:]
    M = case.dosages - 0.9
    problem = problem_of(case)
    problem = replace(problem, genomic=replace(problem.genomic, markers=Dense(M), marker_variance=0.1))
    A = oracle.tabular(case.sire, case.dam)
    P = A[:, case.genotyped] / A[np.ix_(case.genotyped, case.genotyped)]
    Gw = 0.1 * M @ M.T + case.share * A[np.ix_(case.genotyped, case.genotyped)]
    _, u = oracle.blup(case, A + P @ (Gw - A[np.ix_(case.genotyped, case.genotyped)]) @ P.T)
    for name in EXACT:
        assert difference(ebv(name, problem), u) < 1e-8, name


def test_a_trait_recorded_in_ungenotyped_animals_alone(tmp_path):
    case = simple(tmp_path, traits=2)
    case.y[np.isin(case.animal, case.genotyped), 1] = np.nan
    assert not np.isnan(case.y[:, 1]).all()
    case.changed()
    agrees(case)


@pytest.mark.parametrize("genotyped", [True, False])
def test_records_of_one_animal_alone(tmp_path, genotyped):
    """They have the same breeding value, which the mean takes: nothing is left for any animal."""
    case = simple(tmp_path)
    case.animal[:] = case.genotyped[0] if genotyped else np.setdiff1d(np.arange(case.n), case.genotyped)[0]
    case.changed()
    problem = case.problem("none")
    for name in EXACT:
        assert np.abs(ebv(name, problem)).max() < 1e-9, name
