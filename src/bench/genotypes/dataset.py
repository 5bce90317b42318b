"""A data set on disk: genotypes, records and what goes with them, named by one manifest.

What reads tables is imported where it is used: pandas takes a second to import, which a timed session that
needs only the manifest and the .bed does not wait for.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError
from bench.genotypes.packed import PackedGenotypes
from bench.record import atomic_path, read_json, write_json

if TYPE_CHECKING:
    import pandas as pd

PATHS = (
    "bed",
    "bim",
    "fam",
    "phenotypes_path",
    "breeding_values_path",
    "pedigree_path",
    "folds_path",
    "records_path",
)
LATER = {"records_path"}  # what manifests of earlier versions do not name


@dataclass(frozen=True)
class Dataset:
    """The manifest `dataset.json` of a data set; a refused one has a reason, and neither paths nor sizes.

    phenotypes_path, breeding_values_path: tables of id and a column per trait. pedigree_path: id, sire, dam
    (0 = unknown), sex, generation; of livestock born and herd instead, and every animal in it has breeding values.
    folds_path: id, fold, where the source gives cross-validation folds. records_path: of livestock, instead of
    phenotypes_path: id, herd_year, age, weight where there are weights, a column per trait; several lines an animal.
    source: the entry of datasets.yaml it was made from, seed included.
    """

    name: str
    n_samples: int = 0
    n_snps: int = 0
    missing_rate: float = 0.0
    traits: tuple[str, ...] = ()
    bed: Path | None = None
    bim: Path | None = None
    fam: Path | None = None
    bed_sha256: str | None = None
    phenotypes_path: Path | None = None
    breeding_values_path: Path | None = None
    pedigree_path: Path | None = None
    folds_path: Path | None = None
    records_path: Path | None = None
    status: str = "ok"
    reason: str | None = None
    source: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def refused(cls, name: str, reason: str, source: dict[str, Any] | None = None) -> Dataset:
        """A data set that cannot be had here, and why."""
        return cls(name=name, status="refused", reason=reason, source=source or {})

    @classmethod
    def read(cls, manifest: Path) -> Dataset:
        """Read a manifest; its relative paths start at its folder."""
        manifest = Path(manifest)
        entries: Any = read_json(manifest)
        names = {f.name for f in fields(cls)}
        if not isinstance(entries, dict) or set(entries) | LATER != names:
            found = ", ".join(sorted(entries)) if isinstance(entries, dict) else type(entries).__name__
            raise BenchError(f"{manifest}: not a data set manifest (found {found}); make the data set again")
        entries |= {key: manifest.parent / entries[key] for key in PATHS if entries.get(key) is not None}
        entries["traits"] = tuple(entries["traits"])
        return cls(**entries)

    def write(self, manifest: Path) -> None:
        """Write the manifest: sorted keys, paths relative if the file lies below it, absolute otherwise."""
        manifest = Path(manifest)
        entries = {f.name: getattr(self, f.name) for f in fields(self)}
        for key in PATHS:
            if entries[key] is not None:
                entries[key] = _relative(entries[key], manifest.parent)
        write_json(manifest, entries | {"traits": list(self.traits)})

    def packed(self) -> PackedGenotypes:
        """The genotypes, memory-mapped."""
        return PackedGenotypes.open(self._path("bed"), n_samples=self.n_samples, n_snps=self.n_snps)

    def snps(self) -> pd.DataFrame:
        """(m rows) the .bim table."""
        from bench.genotypes.bim_fam import read_bim

        return read_bim(self._path("bim"))

    def sample_ids(self) -> list[str]:
        """The n ids of the .fam file."""
        from bench.genotypes.bim_fam import read_fam

        return read_fam(self._path("fam"))["id"].tolist()

    def phenotypes(self) -> pd.DataFrame:
        """(n rows in the order of the .fam file, a column per trait) records, NaN where there is none."""
        from bench.genotypes.phenotypes import read_phenotypes

        return read_phenotypes(self._path("phenotypes_path"), self.sample_ids())

    def breeding_values(self) -> pd.DataFrame | None:
        """(n rows in the order of the .fam file, a column per trait) true breeding values, if known."""
        import pandas as pd

        if self.breeding_values_path is None:
            return None
        table = pd.read_csv(self.breeding_values_path, sep="\t", dtype={"id": str})
        return table.set_index("id").loc[self.sample_ids()]

    def records(self) -> pd.DataFrame:
        """The records of livestock, in the order of the file: id and herd_year as text, the rest as numbers."""
        import pandas as pd

        text = {"id": str, "herd_year": str}
        return pd.read_csv(self._path("records_path"), sep="\t", dtype=text)

    def pedigree(self) -> pd.DataFrame | None:
        """The pedigree as the file has it, every column as text, if there is one."""
        return None if self.pedigree_path is None else _read_text_table(self.pedigree_path)

    def folds(self) -> pd.Series | None:
        """(n,) fold of each individual in the order of the .fam file, if the source gives folds."""
        if self.folds_path is None:
            return None
        return _read_text_table(self.folds_path).set_index("id")["fold"].loc[self.sample_ids()].astype(int)

    def _path(self, key: str) -> Path:
        if self.status != "ok":
            raise BenchError(f"data set {self.name!r} is refused: {self.reason}")
        path = getattr(self, key)
        if path is None:
            raise BenchError(f"data set {self.name!r}: its manifest names no {key}")
        return path


def import_plink(
    name: str,
    *,
    bed: Path,
    bim: Path,
    fam: Path,
    phenotypes: Path,
    pedigree: Path | None = None,
    source: dict[str, Any] | None = None,
) -> Dataset:
    """A data set of a user's own files, which stay where they are; every one is read and checked first."""
    from bench.genotypes.bim_fam import read_bim, read_fam
    from bench.genotypes.phenotypes import read_phenotypes

    ids = read_fam(fam)["id"].tolist()
    packed = PackedGenotypes.open(bed, n_samples=len(ids), n_snps=len(read_bim(bim)))
    if len(ids) < 2:
        raise BenchError(f"{fam}: one individual; at least two are needed for a relationship")
    traits = read_phenotypes(phenotypes, ids).columns
    if pedigree is not None and not Path(pedigree).is_file():
        raise BenchError(f"{pedigree}: no such file; it was named as the pedigree of data set {name!r}")
    return Dataset(
        name=name,
        n_samples=packed.n_samples,
        n_snps=packed.n_snps,
        missing_rate=packed.missing_rate(),
        traits=tuple(traits),
        bed=Path(bed).resolve(),
        bim=Path(bim).resolve(),
        fam=Path(fam).resolve(),
        bed_sha256=bed_sha256(Path(bed)),
        phenotypes_path=Path(phenotypes).resolve(),
        pedigree_path=None if pedigree is None else Path(pedigree).resolve(),
        source=source or {},
    )


def bed_sha256(path: Path) -> str:
    """sha256 of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_table(path: Path, table: pd.DataFrame, *, header: bool = True) -> None:
    """Tab-separated, unix line ends, NA where there is no value, floats as short as they read back exactly."""
    with atomic_path(path) as tmp:
        table.to_csv(tmp, sep="\t", index=False, header=header, na_rep="NA", lineterminator="\n")


def _read_text_table(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        return pd.read_csv(path, sep=None, engine="python", dtype=str, keep_default_na=False)
    except (OSError, ValueError, pd.errors.ParserError) as error:
        raise BenchError(f"{path}: not a table ({error})") from None


def _relative(path: Path, folder: Path) -> str:
    path, folder = path.resolve(), folder.resolve()
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
