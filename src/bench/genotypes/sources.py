"""Public data sets: fetched by sha256 and rewritten as PLINK files with tables of records."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pooch
import rdata

from bench.errors import BenchError
from bench.genotypes.dataset import Dataset, bed_sha256, write_table
from bench.genotypes.packed import PackedGenotypes, write_bed
from bench.genotypes.spec import Fetched

DATA_FOLDER = "BENCH_DATA"  # the environment variable that names a folder with the source files
TIMEOUT = 30  # seconds without an answer


@dataclass(frozen=True)
class Content:
    """What a reader takes out of a source file: n individuals, m SNPs.

    dosages: (n, m) int8, 0, 1, 2, −1 missing. snps: the .bim columns. sex: PLINK's codes.
    records: a column per trait.
    """

    ids: list[str]
    sex: np.ndarray
    dosages: np.ndarray
    snps: pd.DataFrame
    records: pd.DataFrame
    folds: np.ndarray | None = None


class Unavailable(Exception):
    """The source file cannot be had here; the message says why and what to do."""


def fetch_dataset(spec: Fetched, folder: Path, *, name: str) -> Dataset:
    """Fetch, rewrite as PLINK files in `folder`, and write the manifest.

    Without a network and without the file in BENCH_DATA the manifest says "refused", and why. BenchError: a
    file with another sha256, from wherever it comes.
    """
    source = spec.model_dump(mode="json")
    try:
        path = locate(spec)
    except Unavailable as reason:
        dataset = Dataset.refused(name, str(reason), source)
    else:
        dataset = _write_files(READERS[spec.reader](path), folder, name, source)
    dataset.write(folder / "dataset.json")
    return dataset


def locate(spec: Fetched) -> Path:
    """The source file: BENCH_DATA's, else the cached one, else downloaded; its sha256 is right."""
    if data := os.environ.get(DATA_FOLDER):
        own = Path(data) / spec.file
        if own.is_file():
            if (found := bed_sha256(own)) != spec.sha256:
                raise BenchError(
                    f"{own}: sha256 is {found}, needed {spec.sha256}; replace the file, or unset {DATA_FOLDER} "
                    "to have it downloaded"
                )
            return own
    pooch.get_logger().setLevel("WARNING")
    download: Any = pooch.HTTPDownloader(timeout=TIMEOUT)
    try:
        cached = pooch.retrieve(
            spec.url,
            known_hash=f"sha256:{spec.sha256}",
            fname=f"{spec.sha256[:12]}-{Path(spec.file).name}",
            path=pooch.os_cache("blupbench"),
            downloader=download,
        )
    except ValueError:
        raise BenchError(
            f"{spec.url}: the file there has not the sha256 {spec.sha256} that datasets.yaml asks for; it is not used"
        ) from None
    except OSError as error:
        raise Unavailable(
            f"{spec.url} cannot be fetched ({type(error).__name__}); run where there is a network, or set "
            f"{DATA_FOLDER} to a folder that holds {spec.file}"
        ) from None
    return Path(cached)


def _write_files(content: Content, folder: Path, name: str, source: dict[str, Any]) -> Dataset:
    packed = PackedGenotypes.from_dosages(content.dosages)
    bed = folder / "genotypes.bed"
    write_bed(bed, [packed.codes])
    write_table(folder / "genotypes.bim", content.snps, header=False)
    fam = pd.DataFrame({"family": content.ids, "id": content.ids, "sire": 0, "dam": 0, "sex": content.sex})
    write_table(folder / "genotypes.fam", fam.assign(phenotype=-9), header=False)
    ids = pd.Series(content.ids, name="id")
    records = pd.concat([ids, content.records.reset_index(drop=True)], axis=1)
    write_table(folder / "phenotypes.tsv", records)
    if content.folds is not None:
        write_table(folder / "folds.tsv", pd.DataFrame({"id": ids, "fold": content.folds}))
    return Dataset(
        name=name,
        n_samples=packed.n_samples,
        n_snps=packed.n_snps,
        missing_rate=packed.missing_rate(),
        traits=tuple(content.records.columns),
        bed=bed,
        bim=folder / "genotypes.bim",
        fam=folder / "genotypes.fam",
        bed_sha256=bed_sha256(bed),
        phenotypes_path=folder / "phenotypes.tsv",
        folds_path=None if content.folds is None else folder / "folds.tsv",
        source=source,
    )


def read_wheat(path: Path) -> Content:
    """599 inbred lines, 1279 DArT markers (absent or present), yield in environments 1, 2, 4 and 5.

    A line is homozygous: absent is dosage 0 (allele A), present dosage 2 (allele B). Markers have no
    position. Folds are those of BGLR's wheat.sets. Crossa et al. (2010), doi:10.1534/genetics.110.118521.
    """
    markers, yields, sets = _objects(path, "wheat.X", "wheat.Y", "wheat.sets")
    ids = [str(i) for i in yields.coords["dim_0"].values]
    snps = pd.DataFrame({"chromosome": "0", "snp": markers.coords["dim_1"].values.astype(str)})
    environments = [f"env{e}" for e in yields.coords["dim_1"].values]
    return Content(
        ids=ids,
        sex=np.zeros(len(ids), int),
        dosages=(2 * _whole(path, markers.values, (0, 1))).astype(np.int8),
        snps=snps.assign(cm=0, bp=0, allele1="A", allele2="B"),
        records=pd.DataFrame(yields.values, columns=environments),
        folds=np.asarray(sets, int),
    )


MICE_COVARIATES = ("Litter", "CageDensity", "Biochem.Age")  # numeric, but no traits; nor is any date


def read_mice(path: Path) -> Content:
    """1814 heterogeneous-stock mice, 10,346 SNPs, and every measured quantity as a trait.

    The allele that a SNP's name ends with is taken for the counted one, as PLINK's --recode A names its
    columns; the source does not say. Valdar et al. (2006), doi:10.1038/ng1840.
    """
    markers, pheno, positions = _objects(path, "mice.X", "mice.pheno", "mice.map")
    names = positions["snp_id"].astype(str)
    counted = names.str.rsplit("_", n=1).str[1]
    first, second = (positions["alleles"].str.split(";").str[i].astype(str) for i in (0, 1))
    snps = pd.DataFrame(
        {
            "chromosome": positions["chr"].astype(str),
            "snp": names,
            "cm": 0,
            "bp": (positions["mbp"] * 1e6).round().astype("int64"),
            "allele1": second.where(counted == first, first),
            "allele2": counted,
        }
    )
    sex = pheno["GENDER"].astype(str).map({"M": 1, "F": 2}).fillna(0).astype(int)
    numeric = pheno.select_dtypes("number").astype("float64")
    traits = [c for c in numeric if ".Date." not in c and c not in MICE_COVARIATES and numeric[c].nunique() > 1]
    return Content(
        ids=[str(i) for i in markers.coords["dim_0"].values],
        sex=sex.to_numpy(),
        dosages=_whole(path, markers.values, (0, 1, 2)),
        snps=snps,
        records=numeric[traits],
    )


READERS: dict[str, Callable[[Path], Content]] = {"wheat": read_wheat, "mice": read_mice}


def _objects(path: Path, *names: str) -> list[Any]:
    """The named R objects of an RData file."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Unknown encoding", UserWarning)  # the file does not say ASCII; it is
        content = rdata.read_rda(path)
    if absent := [name for name in names if name not in content]:
        raise BenchError(f"{path}: has no {', '.join(absent)}; it has {', '.join(content)}")
    return [content[name] for name in names]


def _whole(path: Path, values: np.ndarray, allowed: tuple[int, ...]) -> np.ndarray:
    """`values` as int8; they are among `allowed`, or NaN, which becomes −1."""
    if not (np.isin(values, allowed) | np.isnan(values)).all():
        raise BenchError(f"{path}: marker values other than {allowed} and missing")
    return np.where(np.isnan(values), -1, values).astype(np.int8)
