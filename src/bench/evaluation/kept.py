"""What an interrupted run has kept in a file, and of which problem it is: nothing goes on from another's."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from bench.errors import BenchError
from bench.models.model_file import Model
from bench.record import atomic_path

FORMAT = 1  # of these files; raised with every change of what is kept, or of the equations that it is of
CALLS = "genotypes' calls"
PART = 1 << 26  # bytes that a thread hashes at a time
PIECE = 1 << 20


class Kept:
    """Arrays in an .npz file, with the problem that they belong to. problem: {what of it: its hash or value}."""

    def __init__(self, path: Path, problem: Mapping[str, str], again: str):
        """again: what to do without the file, for sentences."""
        self.path, self._problem, self._again = path, dict(problem), again

    def write(self, arrays: Mapping[str, np.ndarray]) -> None:
        """BenchError or OSError: it cannot be written; what was there before still is."""
        header = json.dumps({"format": FORMAT, "problem": self._problem})
        with atomic_path(self.path) as tmp, tmp.open("wb") as file:
            np.savez(file, **{"header": np.array(header), **arrays})  # pyright: ignore[reportArgumentType]

    def read(self, *, may_differ: str | None = None) -> tuple[dict[str, np.ndarray], bool]:
        """The arrays, and whether that part of the problem is another by now which may be.

        BenchError: no file, a damaged one, one of another version, or of another problem.
        """
        if not self.path.exists():
            raise BenchError(f"{self.path}: there is no such checkpoint; {self._again}")
        try:
            with np.load(self.path) as file:
                found = {name: file[name] for name in file.files}  # the checksum of each is looked at
            header = json.loads(str(found.pop("header")))
            version, problem = header["format"], header["problem"]
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise BenchError(f"{self.path}: the checkpoint is damaged ({error}); {self._again}") from None
        if version != FORMAT:
            raise BenchError(
                f"{self.path}: the checkpoint is of another version of this program (format {version}, "
                f"{FORMAT} was needed); {self._again}"
            )
        other = [name for name in {**problem, **self._problem} if problem.get(name) != self._problem.get(name)]
        if unfit := [name for name in other if name != may_differ]:
            raise BenchError(
                f"{self.path}: the checkpoint is of another problem, which differs in its {', '.join(unfit)}; "
                f"{self._again}"
            )
        return found, bool(other)

    def remove(self) -> None:
        """Also what was half-written when a run was killed."""
        self.path.unlink(missing_ok=True)
        for half in self.path.parent.glob(f".{self.path.name}.*"):
            half.unlink(missing_ok=True)


def problem_of(path: Path, model: Model, *, threads: int = 1, **options: object) -> dict[str, str]:
    """What a run of model file `path` depends on: the contents of all files, and options that change its numbers.

    Every byte is read once, which for genotypes costs as much as one or two of a solve's products with them.
    """
    files = {"model file": path, "records": model.records}
    if model.pedigree is not None:
        files |= {"pedigree": model.pedigree.file, "metafounders": model.pedigree.metafounders}
    if (genotypes := model.genotypes) is not None:
        files |= {name: Path(f"{genotypes.plink}{end}") for name, end in
                  ((CALLS, ".bed"), ("SNPs", ".bim"), ("genotyped animals", ".fam"))}  # fmt: skip
        files |= {"allele frequencies": genotypes.frequencies, "SNP weights": genotypes.weights}
    hashes = {name: _hash(file, threads) for name, file in files.items() if file is not None}
    return hashes | {name.replace("_", " "): str(value) for name, value in options.items()}


def _hash(path: Path, threads: int) -> str:
    """sha256 of the sha256 of each part, which threads take."""

    def of_part(begin: int) -> bytes:
        digest = hashlib.sha256()
        with path.open("rb") as file:
            file.seek(begin)
            for _ in range(PART // PIECE):
                digest.update(file.read(PIECE))
        return digest.digest()

    with ThreadPoolExecutor(threads) as pool:
        parts = pool.map(of_part, range(0, path.stat().st_size, PART))
        return hashlib.sha256(b"".join(parts)).hexdigest()
