"""From a model file and dosages to a single-step problem, by all the parts that `bench solve` is made of."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from bench.build import installed
from bench.genotypes.packed import PackedGenotypes
from bench.matrix import GenotypeMatrix
from bench.models.load import gamma, inverse, load
from bench.relationships.codings import snp_coding
from bench.relationships.genomic import Centred
from bench.relationships.missing import missing_calls
from bench.single_step import variants
from bench.single_step.build import build_problem
from bench.single_step.problem import Problem
from bench.single_step.solve import prepare, solve

WITHOUT = {"fernando"} if find_spec("cvxopt") else {"fernando", "prior_pcg_exact"}
EXACT = [name for name in variants.names() if variants.load(name).exact and name not in WITHOUT]
PAIRS = [(name, p) for name in EXACT for p in variants.load(name).preconditioners]
MEMORY = 4 * 10**9


def library() -> Path:
    if shutil.which("g++") is None:
        pytest.skip("no g++ on this machine")
    made = installed("pedigree").library
    assert made is not None
    return made


def write_model(
    folder: Path, pedigree: pd.DataFrame, records: pd.DataFrame, variances: dict[str, object], **more: object
) -> Path:
    """model.yaml in `folder` with its pedigree (id, sire, dam) and records (id, …)."""
    pedigree.to_csv(folder / "pedigree.csv", index=False)
    records.to_csv(folder / "records.csv", index=False, na_rep="NA", float_format="%.17g")
    model = {"records": "records.csv", "pedigree": {"file": "pedigree.csv"}, "variances": variances, **more}
    path = folder / "model.yaml"
    path.write_text(yaml.safe_dump(model, sort_keys=False))
    return path


def build(
    path: Path, packed: PackedGenotypes, ids: list[str], *, w: float, tuning="none", min_maf: float = 0.0
) -> Problem:
    """The problem of a model file and the genotypes of the animals `ids`."""
    model, pedigree, _, design = load(path)
    coding = snp_coding(packed, "metafounder" if model.pedigree.metafounders else "vanraden1", min_maf=min_maf)
    missing = missing_calls(packed, library=installed("missing").library)
    return build_problem(
        design,
        pedigree,
        model.covariances,
        packed,
        coding,
        Centred(GenotypeMatrix(packed, threads=1).products, coding, missing),
        pedigree.rows(ids, of="genotypes"),
        library=library(),
        gram_library=installed("gram").library,
        inverse=inverse(model, pedigree, library=library()),
        gamma=gamma(model),
        polygenic=w,
        tuning=tuning,
    )


def effects(name: str, problem: Problem, preconditioner: str | None = None, *, rtol: float = 1e-13) -> np.ndarray:
    """(size,) solutions by a variant: others, then levels × components."""
    return solve(prepare(name, problem, memory=MEMORY, preconditioner=preconditioner), rtol=rtol).effects


def ebv(name: str, problem: Problem, preconditioner: str | None = None, *, rtol: float = 1e-13) -> np.ndarray:
    """(levels, q)."""
    return problem.equations.genetic(effects(name, problem, preconditioner, rtol=rtol))


def difference(found: np.ndarray, wanted: np.ndarray) -> float:
    """The largest difference, relative to the largest value that is wanted."""
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())
