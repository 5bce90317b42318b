"""Fixtures that more than one folder of tests uses."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from xdist.scheduler import LoadFileScheduling

from bench import measure
from bench.build import installed
from bench.genotypes.dataset import Dataset, import_plink
from bench.oracle import Oracle
from evaluation_case import make_population
from small_plink import write_plink

# A test that runs a case in this process must not bind it, and every test and program after it, to one core.
os.environ.setdefault("OMP_PROC_BIND", "false")
# Small models are compiled by the hundred: what XLA's optimiser takes is half of the time of their tests.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")
# The tests of these files look at one finished run of the workflow.
OF_ONE_RUN = {f"tests/workflow/{name}.py" for name in ("test_exclusive", "test_report", "test_workflow")}


class ByFile(LoadFileScheduling):
    """The tests of a file, or of OF_ONE_RUN, go to the same worker: what they share is made once."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "one run" if file in OF_ONE_RUN else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByFile:
    config.option.loadscopereorder = False  # by the number of tests, of which the longest files have few
    return ByFile(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Workers begin with the workflow, whose files take longest, so that none is left with one of them at the end."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.path.parent.name != "workflow")


@pytest.fixture
def plink_files(tmp_path: Path) -> Path:
    """Prefix of a small PLINK data set of 23 × 57 with missing calls, and its PREFIX.tsv of records."""
    return write_plink(tmp_path / "own" / "sheep")


@pytest.fixture
def small_dataset(plink_files: Path, tmp_path: Path) -> Path:
    """The manifest of `plink_files`."""
    manifest = tmp_path / "data" / "sheep" / "dataset.json"
    bed, bim, fam, tsv = (plink_files.with_suffix(suffix) for suffix in (".bed", ".bim", ".fam", ".tsv"))
    import_plink("sheep", bed=bed, bim=bim, fam=fam, phenotypes=tsv).write(manifest)
    return manifest


@pytest.fixture
def oracle(small_dataset: Path, tmp_path: Path) -> Path:
    """The oracle of `small_dataset` for up to 4 columns."""
    path = tmp_path / "oracle.npz"
    Oracle.compute(Dataset.read(small_dataset).packed(), 4).write(path)
    return path


@pytest.fixture
def own_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock of timed jobs is this test's own: it does not wait for a run on this machine."""
    everybody = measure.exclusive
    monkeypatch.setattr(measure, "exclusive", lambda: everybody(tmp_path / "lock"))


@pytest.fixture(scope="session")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small livestock population (evaluation_case.py), not to be changed."""
    library = installed("genedrop").library
    if library is None or installed("pedigree").library is None:
        pytest.skip("g++ is needed for populations and pedigrees")
    return make_population(tmp_path_factory.mktemp("farm"), library)


@pytest.fixture
def full_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk without a free byte."""
    with _mounted(tmp_path / "full", "size=64k") as folder:
        try:
            with (folder / "ballast").open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
        except OSError:
            pass
        yield folder


@pytest.fixture
def read_only_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that nobody, root included, can write to."""
    with _mounted(tmp_path / "read_only", "ro,size=64k") as folder:
        yield folder


class _mounted:
    """A tmpfs at `folder`; the test is skipped where this process may not mount one."""

    def __init__(self, folder: Path, options: str):
        self.folder, self.options = folder, options

    def __enter__(self) -> Path:
        self.folder.mkdir()
        if os.geteuid() != 0:
            pytest.skip("mounting a small disk needs root")
        command = ["mount", "-t", "tmpfs", "-o", self.options, "tmpfs", str(self.folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
        return self.folder

    def __exit__(self, *exception: object) -> None:
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)
