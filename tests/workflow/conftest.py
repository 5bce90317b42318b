"""Checkouts and finished runs that several tests share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from checkout import Checkout, would_run

from bench import figures, tables


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workflow")


@pytest.fixture(scope="module")
def checkout(base: Path, request: pytest.FixtureRequest) -> Checkout:
    """A checkout for the tests of one file."""
    return Checkout.make(base / request.module.__name__)


@pytest.fixture(scope="session")
def finished(base: Path) -> Checkout:
    """A checkout with a finished run of everything, results/tiny; tests leave it as they find it."""
    if shutil.which("g++") is None:
        pytest.skip("no g++ on this machine")
    made = Checkout.make(base / "finished")
    products = {"datasets": ["tall"], "dtypes": ["f8"], "threads": [1], "k": [1, 10]}
    made.configure(
        "tiny",
        kernels=["dense_blas", "decompress", "five_codes", "gpu_2bit"],
        experiments={
            "limits": {"threads": [1]},
            "products": products,
            "scaling": {"datasets": ["tall"], "samples": [50]},
            "paired": {"datasets": ["tall"], "pairs": [["decompress", "dense_blas"]]},
            "gblup": {"datasets": ["tall"], "repeats": 1},
        },
        tables=tables.names(),
        figures=figures.names(),
    )
    made.succeed("--configfile", "tiny.yaml", "--cores", "4")
    assert would_run(made.succeed("--configfile", "tiny.yaml", "-n")) == {}
    return made
