"""Every exact variant, from the model file on, against what other programs found and against direct solves."""

from __future__ import annotations

import json
import os

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.sparse.linalg import splu

from bench.genotypes.packed import PackedGenotypes
from bench.relationships.numerator import Numerator
from bench.relationships.pedigree import Pedigree, read_pedigree
from bench.single_step.problem import Problem
from bench.single_step.reliability import exact
from salmon import DATA, read_salmon, reference_file
from single_step_chain import EXACT, MEMORY, PAIRS, build, difference, ebv, effects, library, write_model

# The reference states the ratio with six digits, 3.07366, with which EBVs differ by 4e-6 of the largest. Its file has
# 17 digits: σu² = PEV/((1 − r²)H_ii) is the same number in every row to 2e-16; and the ratio that reproduces the EBVs
# of the first ten genotyped animals best reproduces those of all 1,561 to 2e-14.
SALMON_VARIANCE, SALMON_RATIO = 2.580102171924764, 3.0736573708313695
DENSE_MARKERS = ("ss_t", "ssgtablup")  # they hold m × m numbers


@pytest.fixture(scope="module")
def salmon(tmp_path_factory) -> tuple[Problem, Problem, pd.DataFrame]:
    """The problem with SNPs left out by the coding, the problem without them, and the reference."""
    ids, dosages = read_salmon()
    reference = pd.read_csv(reference_file("ss_salmon_load_all.csv")).set_index("id")
    pedigree = pd.read_csv(DATA / "salmon" / "ped.csv", dtype=str).set_axis(["id", "sire", "dam"], axis=1)
    records = pd.read_csv(DATA / "salmon" / "pheno.csv").rename(columns={"ID": "id"})
    variances = {"genetic": SALMON_VARIANCE, "residual": SALMON_VARIANCE * SALMON_RATIO}
    path = write_model(tmp_path_factory.mktemp("salmon"), pedigree, records, variances, traits=["amoebic_load"])
    packed = PackedGenotypes.from_dosages(dosages)
    p = np.ma.masked_less(dosages, 0).mean(axis=0) / 2
    common = PackedGenotypes(packed.codes[np.minimum(p, 1 - p) >= 0.01], packed.n_samples)
    assert common.n_snps == 11_397
    problems = (build(path, of, ids, w=0.05, min_maf=0.01) for of in (packed, common))
    return *problems, reference.loc[list(read_pedigree(DATA / "salmon" / "ped.csv").ids)]


def check_salmon(problem: Problem, reference: pd.DataFrame, name: str, preconditioner: str) -> None:
    found = ebv(name, problem, preconditioner)[:, 0]
    np.testing.assert_allclose(found, reference["ebv"], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "preconditioner"), [pair for pair in PAIRS if pair[0] not in DENSE_MARKERS])
def test_salmon_s_breeding_values(salmon, name, preconditioner):
    small = preconditioner == "deflation"  # it holds unknowns × SNPs/5 numbers
    check_salmon(salmon[small], salmon[2], name, preconditioner)


@pytest.mark.slow
@pytest.mark.skipif("BENCH_LONG" not in os.environ, reason="takes five minutes: BENCH_LONG=1 runs it")
@pytest.mark.parametrize("name", DENSE_MARKERS)
def test_salmon_s_breeding_values_through_dense_marker_equations(salmon, name):
    """One preconditioner: setting them up takes a minute, with a matrix of 1 GB."""
    check_salmon(salmon[1], salmon[2], name, "jacobi")


@pytest.mark.slow
def test_salmon_s_reliabilities(salmon):
    problem, _, reference = salmon
    found = exact(problem, memory=MEMORY)
    np.testing.assert_allclose(found.relationship, reference["Hdiag"], rtol=1e-9)
    np.testing.assert_allclose(found.pev[:, 0], reference["pev"], rtol=1e-9)
    np.testing.assert_allclose(found.reliability[:, 0], reference["rel"], rtol=1e-9)


@pytest.fixture(scope="module")
def mrode(tmp_path_factory) -> tuple[Problem, dict]:
    """Example 11.6: animals 1 to 26, of which 18 to 26 are genotyped."""
    example = json.loads(reference_file("mrode_blupf90_reference.json").read_text())
    example = example["mrode2014_ex11.6_ssGBLUP_BLUPF90"]
    animals = pd.DataFrame(example["data"]).rename(columns={"animal": "id"})
    founders = pd.DataFrame({"id": range(1, 13), "sire": 0, "dam": 0})
    pedigree = pd.concat([founders, animals[["id", "sire", "dam"]]])
    animals = animals.set_index("id")
    records = animals.loc[example["records"], ["DYD", "EDC"]].reset_index()
    variances = {"genetic": example["s2u"], "residual": example["s2e"]}
    path = write_model(tmp_path_factory.mktemp("mrode"), pedigree, records, variances, traits=["DYD"], weights="EDC")
    packed = PackedGenotypes.from_dosages(np.array(animals.loc[example["genotyped"], "geno"].tolist(), np.int8))
    return build(path, packed, [str(a) for a in example["genotyped"]], w=example["beta"]), example


@pytest.mark.parametrize(("name", "preconditioner"), PAIRS)
def test_mrode_11_6_as_blupf90_solves_it(mrode, name, preconditioner):
    """BLUPF90's solutions are 2e-7 from those of the same equations solved densely in R, which the file has too."""
    problem, example = mrode
    found = effects(name, problem, preconditioner)
    np.testing.assert_allclose(found[0], example["published_mu"], rtol=1e-6)
    found = problem.equations.genetic(found)[:, 0]
    assert difference(found, np.array(example["published_u"])) < 1e-6
    assert difference(found, np.array(example["recomputed_u"])) < 1e-9


def test_mrode_11_6_has_the_reliabilities_of_the_same_equations_in_r(mrode):
    problem, example = mrode
    found = exact(problem, memory=MEMORY)
    np.testing.assert_allclose(found.pev[:, 0], example["recomputed_pev"], rtol=1e-9)
    np.testing.assert_allclose(found.reliability[:, 0], example["recomputed_rel"], rtol=1e-8)


@pytest.mark.parametrize("name", [*EXACT, "fernando"])
def test_mrode_11_2_is_single_step_with_every_animal_genotyped(tmp_path, name):
    """SNP-BLUP has no polygenic share; variants that need one have 1e-7, which moves no digit compared."""
    file = json.loads(reference_file("mrode_blupf90_reference.json").read_text())
    animals = pd.DataFrame(file["mrode2014_ex11.6_ssGBLUP_BLUPF90"]["data"]).rename(columns={"animal": "id"})
    example = file["mrode2014_ex11.2_SNPBLUP_unweighted"]
    records = animals[animals["id"].isin(example["records"])][["id", "DYD"]]
    pedigree = animals[["id"]].assign(sire=0, dam=0)
    variances = {"genetic": 35.241, "residual": 245.0}
    path = write_model(tmp_path, pedigree, records, variances, traits=["DYD"])
    packed = PackedGenotypes.from_dosages(np.array(animals["geno"].tolist(), np.int8))
    w = 0.0 if name in ("fernando", "prior_pcg", "prior_pcg_exact") else 1e-7
    found = effects(name, build(path, packed, [str(a) for a in animals["id"]], w=w))
    wanted = np.array([example["recomputed_DGV"][str(a)] for a in animals["id"]])
    assert difference(found[1:], wanted) < 1e-6
    np.testing.assert_allclose(found[0], example["recomputed"][0], rtol=1e-6)


class Lab:
    """BLUPF90's simulated example: 15,800 animals with records, 1,500 of them genotyped at 3,000 SNPs."""

    variances = (0.3, 0.7)

    def __init__(self):
        folder = DATA / "blupf90_lab"
        if not folder.is_dir():
            pytest.skip("BENCH_DATA has no blupf90_lab")
        table = pd.read_csv(folder / "phenotypes.txt", sep=r"\s+", names=["mean", "id", "y", "generation"])
        self.records = table[["id", "y", "generation"]]
        parents = pd.read_csv(folder / "pedigree.txt", sep=r"\s+", names=["id", "sire", "dam", "generation"])
        self.parents = parents[["id", "sire", "dam"]]
        lines = [line.split() for line in (folder / "marker.txt").read_text().splitlines()]
        self.ids = [line[0] for line in lines]
        self.dosages = np.array([np.frombuffer(line[1].encode(), np.uint8) - ord("0") for line in lines], np.int8)

    def problem(self, folder, tuning: str) -> Problem:
        variances = dict(zip(("genetic", "residual"), self.variances, strict=True))
        fixed = {"generation": "class"}
        path = write_model(folder, self.parents, self.records, variances, traits=["y"], fixed=fixed)
        return build(path, PackedGenotypes.from_dosages(self.dosages), self.ids, w=0.05, tuning=tuning)

    def solution(self, folder, tuning: str) -> np.ndarray:
        """(n,) EBVs in the order of the pedigree, by one sparse LU of the H-form, written out here."""
        pedigree = read_pedigree(folder / "pedigree.csv")
        n, genotyped = len(pedigree), pedigree.rows(self.ids, of="lab")
        inverse, A = henderson(pedigree, Numerator(pedigree, library=library()).inbreeding, genotyped)
        p = self.dosages.mean(axis=0) / 2
        M = self.dosages - 2 * p
        G = 0.95 * M @ M.T / (2 * (p * (1 - p)).sum()) + 0.05 * A
        if tuning == "blupf90":  # tunedG 2: the means of the diagonal and of the other elements become those of A_gg
            off = ~np.eye(len(G), dtype=bool)
            scale = (np.diag(A).mean() - A[off].mean()) / (np.diag(G).mean() - G[off].mean())
            G = scale * G + np.diag(A).mean() - scale * np.diag(G).mean()
        added = np.linalg.inv(G) - np.linalg.inv(A)
        rows, columns = np.repeat(genotyped, len(G)), np.tile(genotyped, len(G))
        inverse = inverse + sparse.csc_array((added.ravel(), (rows, columns)), shape=(n, n))
        X = sparse.csr_array(np.eye(6)[self.records["generation"]])
        Z = sparse.csr_array((np.ones(n), (np.arange(n), pedigree.rows(self.records["id"].astype(str), of="lab"))))
        W = sparse.hstack([X, Z], format="csr")
        matrix = sparse.csc_array(W.T @ W / self.variances[1])
        matrix += sparse.block_diag([sparse.csc_array((6, 6)), inverse / self.variances[0]], format="csc")
        rhs = W.T @ self.records["y"].to_numpy(float) / self.variances[1]
        options = {"permc_spec": "MMD_AT_PLUS_A", "diag_pivot_thresh": 0.0, "options": {"SymmetricMode": True}}
        return splu(sparse.csc_matrix(matrix), **options).solve(rhs)[6:]


def henderson(pedigree: Pedigree, inbreeding: np.ndarray, of: np.ndarray) -> tuple[sparse.csc_array, np.ndarray]:
    """A⁻¹ = T'D⁻¹T (Henderson 1976; Quaas 1976), and the rows and columns `of` of A = T⁻¹DT'⁻¹."""
    n = len(pedigree)
    known = [[p for p in both if p >= 0] for both in zip(pedigree.sire, pedigree.dam, strict=True)]
    d = np.array([(2 + 2 - len(parents) - inbreeding[parents].sum()) / 4 for parents in known])
    T = sparse.eye_array(n, format="lil")
    for i, parents in enumerate(known):
        for p in parents:
            T[i, p] -= 0.5
    T = sparse.csr_array(T)
    A = np.zeros((n, of.size))
    A[of, np.arange(of.size)] = 1
    for i in reversed(range(n)):
        for p in known[i]:
            A[p] += A[i] / 2
    A *= d[:, None]
    for i, parents in enumerate(known):
        for p in parents:
            A[i] += A[p] / 2
    return sparse.csc_array(T.T @ sparse.diags_array(1 / d) @ T), A[of]


@pytest.fixture(scope="module", params=["none", "blupf90"])
def lab(request, tmp_path_factory) -> tuple[Problem, np.ndarray]:
    made, folder = Lab(), tmp_path_factory.mktemp("lab")
    problem = made.problem(folder, request.param)
    return problem, made.solution(folder, request.param)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "preconditioner"), PAIRS)
def test_blupf90_lab_equals_a_direct_solve(lab, name, preconditioner):
    problem, wanted = lab
    found = ebv(name, problem, preconditioner, rtol=1e-11)[:, 0]
    assert difference(found, wanted) < 1e-6
