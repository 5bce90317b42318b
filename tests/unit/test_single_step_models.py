"""Every exact variant against BLUP with a dense H, for whole models: from files, through Design and build_problem."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bench.errors import BenchError
from single_step_chain import EXACT, difference, ebv, effects
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
    problem = case.problem(tuning)
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
        if name == "taskinen" and problem.genomic.polygenic >= 1:
            with pytest.raises(BenchError, match="polygenic share in"):
                ebv(name, problem)
            continue
        v = effects(name, problem)
        found = problem.equations.genetic(v)
        if case.groups and case.kind == "fixed":
            X = case.X() @ v[: case.X().shape[1]] + case.genetic_incidence() @ found.ravel()
            assert difference(X, fitted) < 1e-8, name
            found = found - case.Q @ found[n:]
        assert difference(found, u) < 1e-8, (name, difference(found, u))


@settings(max_examples=60, deadline=None)
@given(**MODELS)
def test_models_without_groups(**drawn):
    with tempfile.TemporaryDirectory() as folder:
        check(folder, **drawn)


@settings(max_examples=30, deadline=None)
@given(**MODELS, groups=st.integers(1, 3), kind=st.sampled_from(["random", "metafounders"]))
def test_models_with_random_groups_and_metafounders(**drawn):
    with tempfile.TemporaryDirectory() as folder:
        check(folder, **drawn)


@settings(max_examples=25, deadline=None)
@given(**MODELS, groups=st.integers(1, 3))
def test_models_with_unknown_parent_groups(**drawn):
    """Groups are confounded with herds: values fitted and deviations from groups are not."""
    with tempfile.TemporaryDirectory() as folder:
        check(folder, **drawn)
