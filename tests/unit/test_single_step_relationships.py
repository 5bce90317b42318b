"""The blended relationships of real populations, solved densely, against solutions of other programs."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.build import installed
from bench.genotypes.checks import check_genotypes, parent_pairs
from bench.genotypes.packed import PackedGenotypes
from bench.relationships.codings import snp_coding
from bench.relationships.numerator import GenotypedNumerator, Numerator
from bench.relationships.pedigree import Pedigree, from_table
from bench.relationships.tuning import blend
from salmon import DATA, read_salmon, reference_file

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ on this machine")


def library() -> Path:
    made = installed("pedigree").library
    assert made is not None
    return made


def blended(packed: PackedGenotypes, pedigree: Pedigree, genotyped: np.ndarray, **options) -> np.ndarray:
    """Gw as a matrix, from the three numbers."""
    numerator = GenotypedNumerator(pedigree, genotyped, library=library())
    coding = snp_coding(packed, min_maf=options.pop("min_maf", 0.0))
    found = blend(packed, coding, numerator, **options)
    M = coding.block(packed, slice(0, packed.n_snps))
    return found.marker_variance * M @ M.T + found.constant + found.polygenic * numerator.matmul(np.eye(len(M)))


def single_step(pedigree: Pedigree, genotyped: np.ndarray, Gw: np.ndarray) -> np.ndarray:
    """H⁻¹ (Legarra et al. 2009; Christensen & Lund 2010), dense."""
    A = Numerator(pedigree, library=library()).matmul(np.eye(len(pedigree)))
    inverse = np.linalg.inv(A)
    among = np.ix_(genotyped, genotyped)
    inverse[among] += np.linalg.inv(Gw) - np.linalg.inv(A[among])
    return inverse


def solved(inverse: np.ndarray, rows: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """μ and û of y = 1μ + u[rows] + e; inverse: that of var(u); weights: 1/var(e)."""
    W = np.zeros((y.size, 1 + len(inverse)))
    W[:, 0], W[np.arange(y.size), 1 + rows] = 1, 1
    left = W.T @ (weights[:, None] * W)
    left[1:, 1:] += inverse
    return np.linalg.solve(left, W.T @ (weights * y))


def test_mrode_s_example_11_6_as_blupf90_solves_it():
    file = reference_file("mrode_blupf90_reference.json")
    example = json.loads(file.read_text())["mrode2014_ex11.6_ssGBLUP_BLUPF90"]
    animals = pd.DataFrame(example["data"]).set_index("animal")
    founders = pd.DataFrame({"animal": range(1, 13), "sire": 0, "dam": 0}).set_index("animal")
    table = pd.concat([founders, animals[["sire", "dam"]]]).reset_index().rename(columns={"animal": "id"})
    pedigree = from_table(table.astype(str))
    rows = {int(animal): row for row, animal in enumerate(pedigree.ids)}
    genotyped = np.array([rows[a] for a in example["genotyped"]])
    packed = PackedGenotypes.from_dosages(np.array(animals.loc[example["genotyped"], "geno"].tolist(), np.int8))
    Gw = blended(packed, pedigree, genotyped, w=example["beta"])
    inverse = single_step(pedigree, genotyped, Gw) / example["s2u"]
    records = animals.loc[example["records"]]
    where = np.array([rows[a] for a in example["records"]])
    found = solved(inverse, where, records["DYD"].to_numpy(float), records["EDC"].to_numpy(float) / example["s2e"])
    assert found[0] == pytest.approx(example["published_mu"], rel=1e-6)
    ebv = found[1:][[rows[a] for a in range(1, 27)]]
    np.testing.assert_allclose(ebv, example["published_u"], rtol=1e-6, atol=1e-6)


@pytest.fixture(scope="module")
def salmon() -> tuple[PackedGenotypes, Pedigree, np.ndarray, pd.DataFrame]:
    """Genotypes, pedigree, the genotyped animals' rows in it, and the reference solution."""
    ids, dosages = read_salmon()
    table = pd.read_csv(DATA / "salmon" / "ped.csv", dtype=str).set_axis(["id", "sire", "dam"], axis=1)
    pedigree = from_table(table)
    rows = pedigree.rows(ids, of="salmon")
    reference = pd.read_csv(reference_file("ss_salmon_load_all.csv")).set_index("id")
    return PackedGenotypes.from_dosages(dosages), pedigree, rows, reference


def test_salmon_against_the_reference_solution(salmon):
    packed, pedigree, rows, reference = salmon
    Gw = blended(packed, pedigree, rows, w=0.05, min_maf=0.01)
    ids = pedigree.ids[rows]
    np.testing.assert_allclose(np.diag(Gw), reference.loc[ids, "Hdiag"], rtol=1e-10)
    records = pd.read_csv(DATA / "salmon" / "pheno.csv").set_index("ID")["amoebic_load"].reindex(ids)
    known = records.notna().to_numpy()
    y = records.to_numpy(float)
    V = Gw[np.ix_(known, known)] + 3.07366 * np.eye(known.sum())
    one = np.ones(known.sum())
    solution = np.linalg.solve(V, np.column_stack([one, y[known]]))
    mu = one @ solution[:, 1] / (one @ solution[:, 0])
    ebv = Gw[:, known] @ (solution[:, 1] - mu * solution[:, 0])
    np.testing.assert_allclose(ebv, reference.loc[ids, "ebv"], atol=1e-4)  # the ratio is stated to six digits


def test_salmon_s_parents_are_not_genotyped_and_no_fish_stands_there_twice(salmon):
    packed, pedigree, rows, _ = salmon
    snps = np.arange(packed.n_snps).astype(str)
    pairs = parent_pairs(pedigree.sire, pedigree.dam, rows)
    report = check_genotypes(packed, individuals=pedigree.ids[rows], snps=snps, pairs=pairs)
    assert len(report.parents) == 0
    assert report.duplicates.empty
