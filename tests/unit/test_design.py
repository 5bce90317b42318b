"""The mixed model equations against generalised least squares with explicit matrices, and published ones."""

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from bench.build import installed
from bench.models.load import load
from bench.relationships.numerator import Numerator
from model_case import Case, tabular


@given(
    st.integers(0, 10**6), st.sampled_from([1, 2, 3]), st.booleans(), st.booleans(), st.booleans(),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_solutions_are_those_of_generalised_least_squares(seed, traits, permanent, maternal, weights):
    with tempfile.TemporaryDirectory() as folder:
        case = Case(seed, Path(folder), traits=traits, permanent=permanent, maternal=maternal, weights=weights)
        model, _, _, design = load(case.path)
    equations = design.assemble(sparse.csr_array(np.linalg.inv(case.A)), model.covariances)
    v = np.linalg.solve(equations.matrix.toarray(), equations.rhs)
    Z, K = case.genetic()
    X, y = case.X(), case.records()
    V = Z @ K @ Z.T + case.environments() + case.residual()
    b, P_y = gls(X, V, y)
    np.testing.assert_allclose(v[: design.fixed], b, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(equations.genetic(v).ravel(), K @ Z.T @ P_y, rtol=1e-7, atol=1e-8)
    projected = design.projected(v, model.covariances)
    np.testing.assert_allclose(projected[design.records.observed], P_y, rtol=1e-6, atol=1e-8)


def gls(X: np.ndarray, V: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """b and V⁻¹(y − Xb)."""
    inverse = np.linalg.inv(V)
    b = np.linalg.solve(X.T @ inverse @ X, X.T @ inverse @ y)
    return b, inverse @ (y - X @ b)


@given(st.integers(0, 10**6), st.booleans())
@settings(max_examples=25, deadline=None)
def test_each_trait_may_have_effects_of_its_own_and_slopes_within_levels(seed, weights):
    with tempfile.TemporaryDirectory() as folder:
        case = Case(seed, Path(folder), traits=2, weights=weights)
        case.file["fixed"] = {"t0": {"herd": "class", "age": "covariate within herd"}, "t1": {"age": "covariate"}}
        model, _, _, design = load(case.rewritten())
    equations = design.assemble(sparse.csr_array(np.linalg.inv(case.A)), model.covariances)
    v = np.linalg.solve(equations.matrix.toarray(), equations.rhs)
    labels = design.labels().iloc[: design.fixed]
    X = np.zeros((len(case.rows()), design.fixed))
    for column, (effect, level, trait) in enumerate(labels[["effect", "level", "trait"]].itertuples(index=False)):
        for row, (i, j) in enumerate(case.rows()):
            if trait == f"t{j}" and level in ("", f"h{case.herd[i]}"):
                X[row, column] = case.age[i] if effect.startswith("age") else 1.0
    assert set(labels["effect"]) == {"intercept", "herd", "age within herd", "age"}
    Z, K = case.genetic()
    b, projected = gls(X, Z @ K @ Z.T + case.environments() + case.residual(), case.records())
    np.testing.assert_allclose(v[: design.fixed], b, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(equations.genetic(v).ravel(), K @ Z.T @ projected, rtol=1e-6, atol=1e-7)


@given(st.integers(0, 10**6), st.sampled_from([1, 2]))
@settings(max_examples=20, deadline=None)
def test_groups_are_as_fixed_effects_written_out(seed, traits):
    with tempfile.TemporaryDirectory() as folder:
        case = Case(seed, Path(folder), traits=traits)
        model, _, _, design = load(case.path)
    share = np.random.default_rng(seed).uniform(0, 1, case.n)
    Q, Ai = np.column_stack([share, 1 - share]), np.linalg.inv(case.A)
    inverse = np.block([[Ai, -Ai @ Q], [-Q.T @ Ai, Q.T @ Ai @ Q]])
    equations = design.assemble(sparse.csr_array(inverse), model.covariances)
    v = np.linalg.lstsq(equations.matrix.toarray(), equations.rhs, rcond=1e-11)[0]
    Z, K = case.genetic()
    second = Z @ np.kron(Q[:, 1:], np.eye(traits))  # the first group at 0: the herds hold the mean
    X = np.hstack([case.X(), second])
    b, projected = gls(X, Z @ K @ Z.T + case.environments() + case.residual(), case.records())
    u = (K @ Z.T @ projected + np.kron(Q[:, 1:], np.eye(traits)) @ b[-traits:]).reshape(-1, traits)
    found = equations.genetic(v)[: case.n]
    np.testing.assert_allclose(found - found[0], u - u[0], rtol=1e-6, atol=1e-6)


MRODE = {
    "sire": [0, 0, 0, 1, 3, 1, 4, 3],
    "dam": [0, 0, 0, 0, 2, 2, 5, 6],
    "records": [(4, "M", 4.5), (5, "F", 2.9), (6, "F", 3.9), (7, "M", 3.5), (8, "M", 5.0)],
    # Mrode (2014), as solved by BLUPF90: example 3.1, and 3.4 with group 9 at 0
    "example 3.1": [
        3.4044301, 4.35850233, 0.09844458, -0.0187701, -0.0410842, -0.00866312, -0.1857321, 0.17687209, -0.24945855,
        0.18261469,
    ],
    "example 3.4": [
        4.31342367, 5.45807483, -0.76706148, -0.92310585, -0.96296296, -1.2679075, -1.09907877, -0.72776838,
        -1.33840948, -0.7679075, 0, -1.76875353,
    ],
}  # fmt: skip


def mrode(folder: Path) -> tuple:
    """The model, design and A of example 3.1: sexes F and M, animals 1 to 8."""
    pedigree = pd.DataFrame({"id": range(1, 9), "sire": MRODE["sire"], "dam": MRODE["dam"]})
    pedigree.to_csv(folder / "pedigree.txt", sep=" ", index=False)
    table = pd.DataFrame(MRODE["records"], columns=["calf", "sex", "gain"])
    table.to_csv(folder / "gain.csv", index=False)
    (folder / "model.yaml").write_text(
        "records: gain.csv\nanimal: calf\ntraits: [gain]\nfixed: {sex: class}\npedigree: {file: pedigree.txt}\n"
        "variances: {genetic: 20, residual: 40}\n"
    )
    model, _, _, design = load(folder / "model.yaml")
    parents = (np.array(MRODE[p]) - 1 for p in ("sire", "dam"))
    return model, design, tabular(*parents)


def test_mrode_3_1_has_the_published_solutions(tmp_path):
    model, design, A = mrode(tmp_path)
    equations = design.assemble(sparse.csr_array(np.linalg.inv(A)), model.covariances)
    v = np.linalg.solve(equations.matrix.toarray(), equations.rhs)
    np.testing.assert_allclose(v, MRODE["example 3.1"], atol=1e-6)
    assert design.labels().to_dict("list") == {
        "effect": ["sex", "sex"], "kind": ["fixed", "fixed"], "level": ["F", "M"], "trait": ["gain", "gain"]
    }  # fmt: skip


def test_mrode_3_4_has_the_published_solutions_with_groups(tmp_path):
    model, design, A = mrode(tmp_path)
    Q = np.zeros((8, 2))
    for i, (s, d) in enumerate(zip(MRODE["sire"], MRODE["dam"], strict=True)):
        Q[i] = ((Q[s - 1] if s else np.eye(2)[0]) + (Q[d - 1] if d else np.eye(2)[1])) / 2  # sires of 9, dams of 10
    Ai = np.linalg.inv(A)
    inverse = np.block([[Ai, -Ai @ Q], [-Q.T @ Ai, Q.T @ Ai @ Q]])
    equations = design.assemble(sparse.csr_array(inverse), model.covariances)
    assert (equations.groups, equations.size) == (2, 12)
    v = np.linalg.lstsq(equations.matrix.toarray(), equations.rhs, rcond=None)[0]  # the groups' level is free
    level = equations.genetic(v)[8, 0]
    v = v + np.r_[np.full(2, level), np.full(10, -level)]
    np.testing.assert_allclose(v, MRODE["example 3.4"], atol=1e-6)


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ on this machine")
def test_the_solution_of_blupf90s_lab_is_that_of_henderson_s_equations_written_out(tmp_path):
    folder = Path(os.environ.get("BENCH_DATA", "")) / "blupf90_lab"
    if not folder.is_dir():
        pytest.skip("BENCH_DATA names no folder with blupf90_lab")
    table = pd.read_csv(folder / "phenotypes.txt", sep=r"\s+", names=["mean", "id", "y", "generation"])
    table.to_csv(tmp_path / "records.csv", index=False)
    parents = pd.read_csv(folder / "pedigree.txt", sep=r"\s+", names=["id", "sire", "dam", "generation"])
    parents[["id", "sire", "dam"]].to_csv(tmp_path / "pedigree.csv", index=False)
    (tmp_path / "model.yaml").write_text(
        "records: records.csv\ntraits: [y]\nfixed: {generation: class}\npedigree: {file: pedigree.csv}\n"
        "variances: {genetic: 0.3, residual: 0.7}\n"
    )
    model, pedigree, _, design = load(tmp_path / "model.yaml")
    made = installed("pedigree").library
    assert made is not None
    inverse = Numerator(pedigree, library=made).inverse()
    equations = design.assemble(inverse, model.covariances)
    options = {"permc_spec": "MMD_AT_PLUS_A", "diag_pivot_thresh": 0.0, "options": {"SymmetricMode": True}}
    v = scipy.sparse.linalg.splu(equations.matrix.tocsc(), **options).solve(equations.rhs)

    n, F = len(pedigree), Numerator(pedigree, library=made).inbreeding
    T = sparse.eye_array(n).tolil()
    d = np.empty(n)
    for i, both in enumerate(zip(pedigree.sire, pedigree.dam, strict=True)):
        known = [p for p in both if p >= 0]
        d[i] = 0.5 - 0.25 * sum(F[p] if p >= 0 else -1.0 for p in both)
        for p in known:
            T[i, p] -= 0.5
    X = np.eye(6)[table["generation"]]
    Z = sparse.csr_array((np.ones(n), (np.arange(n), pedigree.rows(table["id"].astype(str).tolist(), of="test"))))
    whole = sparse.block_array(
        [[sparse.csr_array(X.T @ X), sparse.csr_array(X.T @ Z)],
         [sparse.csr_array(Z.T @ X), Z.T @ Z + 0.7 / 0.3 * (T.T @ sparse.diags_array(1 / d) @ T)]]
    ).tocsc()  # fmt: skip
    y = table["y"].to_numpy()
    expected = scipy.sparse.linalg.splu(whole, **options).solve(np.r_[X.T @ y, Z.T @ y])
    np.testing.assert_allclose(v, expected, rtol=1e-6, atol=1e-9)


def test_the_equations_are_symmetric_and_other_records_have_their_own_right_hand_side(tmp_path):
    case = Case(5, tmp_path, traits=2, permanent=True, maternal=True, weights=True)
    model, _, records, design = load(case.path)
    equations = design.assemble(sparse.csr_array(np.linalg.inv(case.A)), model.covariances)
    np.testing.assert_allclose(equations.matrix.toarray(), equations.matrix.toarray().T, rtol=1e-12)
    np.testing.assert_allclose(design.rhs(records.y, model.covariances), equations.rhs, rtol=1e-12)
    Y = np.stack([records.y, 2 * records.y, np.zeros_like(records.y)], axis=2)
    found = design.rhs(Y, model.covariances, groups=1)
    assert found.shape == (equations.size + 4, 3)
    np.testing.assert_allclose(found[:-4], np.outer(equations.rhs, [1, 2, 0]), rtol=1e-12)
    assert not found[-4:].any()
    v = np.random.default_rng(1).standard_normal((equations.size, 3))
    many = design.residual_quadratic(v, model.covariances, Y)
    for k in range(3):
        one = design.residual_quadratic(v[:, k], model.covariances, Y[:, :, k])
        np.testing.assert_allclose(many[:, :, k], one, rtol=1e-10)
        np.testing.assert_allclose(design.fitted(v)[:, :, k], design.fitted(v[:, k]))


def test_the_residual_quadratic_is_the_slope_of_the_weighted_sum_of_squares(tmp_path):
    case = Case(8, tmp_path, traits=2, weights=True)
    model, _, _, design = load(case.path)
    equations = design.assemble(sparse.csr_array(np.linalg.inv(case.A)), model.covariances)
    v = np.linalg.solve(equations.matrix.toarray(), equations.rhs)
    found = design.residual_quadratic(v, model.covariances)

    def sum_of_squares(R0):  # (y − Xb)'V⁻¹(y − Xb): its slope in r_jk is −y'P V_jk P y
        case.R0 = R0
        Z, K = case.genetic()
        X, y = case.X(), case.records()
        inverse = np.linalg.inv(Z @ K @ Z.T + case.environments() + case.residual())
        return y @ inverse @ y - y @ inverse @ X @ np.linalg.solve(X.T @ inverse @ X, X.T @ inverse @ y)

    R0, step = case.R0.copy(), 1e-5
    for j, k in ((0, 0), (0, 1), (1, 1)):
        E = np.zeros((2, 2))
        E[j, k] = E[k, j] = 1
        slope = (sum_of_squares(R0 + step * E) - sum_of_squares(R0 - step * E)) / (2 * step)
        assert -slope == pytest.approx(np.sum(found * E), rel=1e-6)


def test_simulated_records_have_the_covariance_of_the_model(tmp_path):
    case = Case(2, tmp_path, traits=2, permanent=True, weights=True)
    model, _, records, design = load(case.path)
    rng, k = np.random.default_rng(3), 40_000
    u = np.einsum("ab,bjk->ajk", np.linalg.cholesky(case.A), rng.standard_normal((case.n, 2, k)))
    u = np.einsum("ajk,ij->aik", u, np.linalg.cholesky(case.G))
    Y = design.simulate(rng, u, model.covariances)
    np.testing.assert_array_equal(np.isnan(Y[:, :, 0]), np.isnan(records.y))
    drawn = Y[records.observed]
    Z, K = case.genetic()
    V = Z @ K @ Z.T + case.environments() + case.residual()
    # Of k draws, a covariance has the standard error √((v_ii v_jj + v_ij²)/k); 6 of them for some thousand entries.
    error = np.sqrt((np.outer(np.diag(V), np.diag(V)) + V**2) / k)
    assert (np.abs(drawn @ drawn.T / k - V) < 6 * error).all()
    assert design.simulate(rng, u[:, :, 0], model.covariances).shape == records.y.shape
