"""X X' of the raw dosages by different methods, each verified in the same process before it is timed.

gram is this package's; dsyrk multiplies a resident float64 matrix, float32 decodes blocks of SNPs for the BLAS,
and plink2 makes its own relationship matrix from the .bed file, reading and writing included.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from scipy.linalg import get_blas_funcs

from bench import config, experiments, measure, surroundings
from bench.build import GRAM, Build, sources
from bench.errors import BenchError, DeviceLost
from bench.experiments import Files
from bench.genotypes.dataset import Dataset
from bench.genotypes.packed import PackedGenotypes
from bench.machine import best_target, memory_available, this_machine
from bench.plan import Case, expand, thread_counts
from bench.provenance import blas_in_use, collect_provenance
from bench.record import Document, sha256_of
from bench.relationships.genomic import add_lower_product
from bench.relationships.gram import gram, gram_bytes

VERSION = 1
Method = Literal["gram", "dsyrk", "float32", "plink2"]
METHODS: list[Method] = ["gram", "dsyrk", "float32", "plink2"]
LIBRARY = {"dsyrk": "scipy", "float32": "numpy", "plink2": "plink2"}  # target of a method that is not compiled here
CHECKED = 64  # individuals whose rows are compared with the reference
PLINK_TOLERANCE = 1e-10  # of plink2's entries, which are float64, relative to the largest
BLOCK_BYTES = 64 << 20  # of decoded genotypes at a time
PLINK_MEMORY = 1 << 30  # beside its matrix


class Stanza(config.Stanza):
    """Keys of the experiment in the configuration."""

    datasets: config.Names
    methods: Annotated[list[Method], Field(min_length=1)] = METHODS
    threads: config.ThreadCounts = [1]


def cases(stanza: Stanza, config: config.Config) -> dict[str, Case]:
    """A session per data set × method × target × threads; gram in the builds that the configuration names."""
    wanted = [
        t for t in GRAM.targets if t in config.targets or ("best" in config.targets and t == best_target("gram"))
    ]
    pairs = [(m, t) for m in dict.fromkeys(stanza.methods) for t in (wanted if m == "gram" else [LIBRARY[m]])]
    axes = {"dataset": stanza.datasets, "method,target": pairs, "threads": thread_counts(stanza.threads)}
    return expand("gram", axes)


def run(case: Case, files: Files) -> Document:
    """Verify one method, then time it."""
    data, build = Dataset.read(files.dataset), Build.read(files.build) if files.build else None
    doc = _begin(case, files, build, data)
    if doc.status != "ok":
        return doc
    packed = data.packed()
    with measure.exclusive(), tempfile.TemporaryDirectory() as scratch:
        try:
            product = _product(doc, case, packed, build, Path(scratch))
            if wrong := _verify(doc, case["method"], product(), packed):
                return doc.wrong(wrong)
            with surroundings.watched(doc, case["threads"]):
                samples = measure.repeats(product, **files.timing, warm=False)
            for repeat, sample in enumerate(samples):
                place = {"phase": "gram", "repeat": repeat, "calls": sample.calls}
                doc.add("gram_time", sample.wall, "s", **place)
                doc.add("gram_cpu", sample.cpu, "s", **place)
        except (MemoryError, DeviceLost) as error:
            return doc.broken(error)
        peak = measure.peak_rss_of_children() if case["method"] == "plink2" else measure.peak_rss()
        doc.add("peak_rss", peak, "B", phase="memory")
        doc.provenance["blas"] = blas_in_use()
    return doc


def _begin(case: Case, files: Files, build: Build | None, data: Dataset) -> Document:
    """The document of a session, refused already where data, library, program or machine will not do."""
    code = sources("gram") if case["method"] == "gram" else []
    told = {"source_hash": sha256_of(code) if code else "", "dataset_hash": data.bed_sha256 or ""}
    if build:
        told |= {"library_hash": build.library_hash, "compiler": build.version, "flags": build.flags}
    doc = Document(experiments.identity(case), collect_provenance(version=VERSION, **told))
    if data.status != "ok":
        return doc.refuse(data.reason or "the data set was refused")
    doc.identity |= {"n": data.n_samples, "m": data.n_snps, "missing_rate": data.missing_rate}
    doc.identity |= {"seed": data.source.get("seed")}
    need = bytes_needed(case["method"], data.n_samples, data.n_snps)
    doc.add("bytes_needed", need, "B", phase="memory")
    reason = _lacks(case, build) or _too_large(case["method"], need, files.memory)
    return doc.refuse(reason) if reason else doc


def bytes_needed(method: Method, n: int, m: int) -> int:
    """The most memory that a method takes: its result, what it keeps of the genotypes, its work space."""
    square, block = 8 * n * n, 2 * BLOCK_BYTES + 8 * CHECKED * m
    return (
        block
        + {
            "gram": gram_bytes(n),
            "dsyrk": square + 8 * n * m,
            "float32": square + 4 * n * 2048,
            "plink2": 2 * square + PLINK_MEMORY,
        }[method]
    )


def _lacks(case: Case, build: Build | None) -> str | None:
    """Why this machine cannot run the method at all, in words; None if it can."""
    machine = this_machine()
    if case["threads"] > machine.cores:
        return f"asks for {case['threads']} threads, this machine has {machine.cores} cores"
    if case["method"] == "plink2" and shutil.which("plink2") is None:
        return "there is no plink2 on this machine; Debian's package is called plink2"
    if case["method"] != "gram":
        return None
    absent = [f for f in GRAM.cpu_flags(case["target"]) if f not in machine.cpu_flags]
    if absent:
        return f"the {case['target']} build needs the CPU features {', '.join(absent)}, which {machine.cpu} lacks"
    if build is None:
        raise BenchError("the gram method needs its compiled library; build it with `bench build gram`")
    return None if build.status == "ok" else build.reason or "the library was not built"


def _too_large(method: Method, need: int, memory: int | None) -> str | None:
    free = min(memory_available(), memory or memory_available())
    if need > free:
        return f"{method} needs {need / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB can be used"
    return None


def _product(
    doc: Document, case: Case, packed: PackedGenotypes, build: Build | None, scratch: Path
) -> Callable[[], np.ndarray]:
    """The call to time. What it may keep from call to call is prepared here; dsyrk's dense matrix is a row."""
    threads = case["threads"]
    if case["method"] == "gram":
        assert build is not None
        assert build.library is not None
        library = build.library
        return lambda: gram(packed, library=library, threads=threads)
    if case["method"] == "plink2":
        command = _plink(packed, threads, scratch)
        return lambda: _plink_matrix(command, packed.n_samples, scratch)
    if case["method"] == "float32":
        return lambda: _float32(packed)
    made: list[np.ndarray] = []
    doc.add("prepare_time", measure.once(lambda: made.append(_dense(packed))).wall, "s", phase="prepare")
    (dsyrk,) = get_blas_funcs(("syrk",), made)
    return lambda: dsyrk(1.0, made[0], lower=1)


def _dense(packed: PackedGenotypes) -> np.ndarray:
    """(n, m) float64 in Fortran order, as dsyrk takes it without a copy; a missing call is 0."""
    Z = np.empty(packed.shape, order="F")
    for snps in packed.blocks(_snps(packed)):
        np.maximum(packed.dosages(snps), 0, out=Z[:, snps])
    return Z


def _float32(packed: PackedGenotypes) -> np.ndarray:
    """The lower half of Z Z' in float64, from exact float32 products of blocks of SNPs."""
    G = np.zeros((packed.n_samples, packed.n_samples))
    for snps in packed.blocks(_snps(packed)):
        add_lower_product(G, np.maximum(packed.dosages(snps), 0).astype("f4", order="F"))
    return G


def _snps(packed: PackedGenotypes) -> int:
    return min(max(1, BLOCK_BYTES // (6 * packed.n_samples)), 1 << 22)


def _plink(packed: PackedGenotypes, threads: int, scratch: Path) -> list[str]:
    """The command, with a .bim and a .fam of its own: every SNP autosomal, every individual a founder."""
    bim = "".join(f"1\ts{j}\t0\t{j + 1}\tA\tC\n" for j in range(packed.n_snps))
    (scratch / "x.bim").write_text(bim)
    (scratch / "x.fam").write_text("".join(f"0\ti{i}\t0\t0\t0\t-9\n" for i in range(packed.n_samples)))
    files = ["--bed", packed.path, "--bim", scratch / "x.bim", "--fam", scratch / "x.fam", "--out", scratch / "x"]
    memory = 2 * 8 * packed.n_samples**2 + PLINK_MEMORY
    how = ["--threads", threads, "--memory", memory >> 20, "--bad-freqs", "--make-rel", "bin"]
    return ["plink2", *map(str, files), *map(str, how)]


def _plink_matrix(command: list[str], n: int, scratch: Path) -> np.ndarray:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise BenchError(f"plink2 ended with status {done.returncode}: {said[0] if said else 'it said nothing'}")
    return np.memmap(scratch / "x.rel.bin", np.float64, "r", shape=(n, n))


def _verify(doc: Document, method: Method, found: np.ndarray, packed: PackedGenotypes) -> str | None:
    """Compare the rows of some individuals with a reference that shares no code; what is wrong, or None."""
    n = packed.n_samples
    some = np.unique(np.linspace(0, n - 1, min(CHECKED, n)).astype(int))
    lower = np.tri(n, dtype=bool)[some] if method != "gram" else np.ones((some.size, n), bool)
    if method == "plink2":
        wanted = plink_rows(packed, some)
        error = float(np.nanmax(np.abs(found[some] - wanted)) / np.nanmax(np.abs(wanted)))
        doc.add("rel_error", error, "1", phase="verify")
        if not error <= PLINK_TOLERANCE:
            return f"plink2: relative error {error:.2g} of its own formula (allowed {PLINK_TOLERANCE:.0e})"
        return None
    wrong = int(((found[some] != integer_rows(packed, some)) & lower).sum())
    doc.add("integer_mismatches", wrong, "1", phase="verify")
    return f"{method}: {wrong} of {int(lower.sum())} integer products differ" if wrong else None


def integer_rows(packed: PackedGenotypes, some: np.ndarray) -> np.ndarray:
    """The rows `some` of Z Z', in float64, whose sums are whole numbers and exact."""
    out = np.zeros((some.size, packed.n_samples))
    for snps in packed.blocks(_snps(packed)):
        Z = np.maximum(packed.dosages(snps), 0).astype("f8")
        out += Z[some] @ Z.T
    return out


def plink_rows(packed: PackedGenotypes, some: np.ndarray) -> np.ndarray:
    """The rows `some` of what plink2 --make-rel computes: the mean over the SNPs called in both individuals of
    (x − 2p)(y − 2p)/(2p(1 − p)), where a SNP that does not vary counts as 0 (Yang et al. 2011, equation 3)."""
    p = packed.allele_frequency()
    varies = (p > 0) & (p < 1)
    scale = np.divide(1.0, np.sqrt(2 * p * (1 - p)), out=np.zeros_like(p), where=varies)
    sums, pairs = np.zeros((2, some.size, packed.n_samples))
    for snps in packed.blocks(_snps(packed)):
        Z = packed.dosages(snps).astype("f8")
        called = (Z >= 0).astype("f8")
        W = np.where(called > 0, (Z - 2 * np.nan_to_num(p[snps])) * scale[snps], 0.0)
        sums += W[some] @ W.T
        pairs += called[some] @ called.T
    with np.errstate(invalid="ignore"):
        return sums / pairs
