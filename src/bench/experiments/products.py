"""Time Z V and Z'U through one kernel, after both have been verified in the same process.

One job is a session: data set × kernel × target × dtype × threads. The matrix is prepared once; k and
the direction vary inside.
"""

from __future__ import annotations

import gc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench import config, kernels, measure, surroundings
from bench.build import Build
from bench.errors import BenchError, DeviceLost
from bench.experiments import Files, identity
from bench.genotypes.dataset import Dataset
from bench.genotypes.packed import PackedGenotypes
from bench.kernels import GenotypeOperator, Problem
from bench.machine import best_limits, memory_available, this_machine
from bench.oracle import Oracle
from bench.plan import Case, case_id, expand, thread_counts, variants
from bench.provenance import blas_in_use, collect_provenance
from bench.record import Document, sha256_of
from bench.solvers.operator import Operator

VERSION = 2
DIRECTIONS = {"matmul": ("V", "ZV"), "rmatmul": ("U", "ZtU")}


class Stanza(config.Stanza):
    """Keys of the experiment in the configuration."""

    datasets: config.Names
    dtypes: config.Dtypes = ["f8"]
    threads: config.ThreadCounts = [1, "all"]
    k: config.Counts = [1, 10, 32]


def cases(stanza: Stanza, config: config.Config) -> dict[str, Case]:
    """A session per data set × kernel × target × dtype × threads."""
    return expand(
        "products",
        {
            "dataset": stanza.datasets,
            "kernel,target": variants(config.kernels, config.targets),
            "dtype": stanza.dtypes,
            "threads": thread_counts(stanza.threads),
        },
        k=sorted(set(stanza.k)),
    )


def begin(case: Case, files: Files, build: Build | None, data: Dataset, *, version: int) -> Document:
    """The document of a session, refused already where data, library or machine will not do."""
    kernel = kernels.load(case["kernel"])
    doc = Document(
        identity=identity(case),
        provenance=collect_provenance(
            version=version, dataset_hash=data.bed_sha256 or "", **code_provenance(kernel.name, build)
        ),
    )
    if data.status != "ok":
        return doc.refuse(data.reason or "the data set was refused")
    n = case.get("samples") or data.n_samples
    if n > data.n_samples:
        return doc.refuse(f"asks for {n} individuals, {data.name} has {data.n_samples}")
    doc.identity |= {"n": n, "m": data.n_snps, "missing_rate": data.missing_rate, "seed": data.source.get("seed")}
    if build and build.status != "ok":
        return doc.refuse(build.reason or "the kernel was not built")
    problem = Problem(n, data.n_snps, max(case["k"]), case["dtype"], case["threads"])
    memory = min(memory_available(), files.memory or memory_available())
    machine = this_machine()
    if case["threads"] > machine.cores:
        return doc.refuse(f"asks for {case['threads']} threads, this machine has {machine.cores} cores")
    if "streamed" in case:  # what does not fit is what it is about
        memory = max(memory, kernel.memory_needed(problem))
    if reason := kernel.refuses(problem, case["target"], machine, memory=memory):
        return doc.refuse(reason)
    return doc


def code_provenance(kernel: str, build: Build | None) -> dict[str, str]:
    """The columns that say which code of `kernel` was run."""
    return {
        "source_hash": build.source_hash if build else sha256_of(kernels.sources(kernel)),
        "library_hash": build.library_hash if build else "",
        "compiler": build.version if build else "",
        "flags": build.flags if build else "",
    }


def read_build(path: Path | None) -> Build | None:
    return Build.read(path) if path else None


def read_oracle(files: Files) -> Oracle:
    if files.oracle is None:
        raise BenchError("a timed session needs the data set's oracle; make it with `bench oracle`")
    return Oracle.read(files.oracle)


def run(case: Case, files: Files) -> Document:
    """Verify, then time every k and direction of one session."""
    data, build = Dataset.read(files.dataset), read_build(files.build)
    doc = begin(case, files, build, data, version=VERSION)
    if doc.status != "ok":
        return doc
    oracle = read_oracle(files)
    packed = data.packed().head(doc.identity["n"])
    with measure.exclusive():
        try:
            operator = prepare(doc, case, packed, build)
            if wrong := verify(doc, operator, oracle, case):
                return doc.wrong(wrong)
            with surroundings.watched(doc, case["threads"]):
                time_limits(doc, case, files.limits)
                for k, direction in shuffled(case, files.process):
                    add_work(doc, case, direction, k)
                    call = product(operator, oracle, direction, k, case["dtype"])
                    time_product(doc, call, direction, k, files.timing)
                time_limits(doc, case, files.limits)
        except (MemoryError, DeviceLost) as error:
            return doc.broken(error)
    doc.add("peak_rss", measure.peak_rss(), "B", phase="memory")
    operator.close()
    return doc


def order_of(case: Case, process: int) -> np.random.Generator:
    """Random numbers for the order of what a session times: its own for each case and process, the same each time."""
    return np.random.default_rng([zlib.crc32(case_id(case).encode()), process])


def shuffled(case: Case, process: int) -> list[tuple[int, str]]:
    """Every (k, direction) of a session, in random order: what drifts along a session hits none of them always."""
    cells = [(k, direction) for k in case["k"] for direction in DIRECTIONS]
    return [cells[i] for i in order_of(case, process).permutation(len(cells))]


def prepare(
    doc: Document, case: Case, packed: PackedGenotypes, build: Build | None, **place: Any
) -> GenotypeOperator:
    """Open the matrix in a kernel; its time and memory go into `doc`.

    One genotype is prepared first, untimed: that loads libraries and compiles what is compiled on first use.
    """
    made: list[GenotypeOperator] = []
    kernel = kernels.load(case["kernel"])
    library = build.library if build else None

    def work(genotypes: PackedGenotypes) -> None:
        made.append(
            kernel.prepare(
                genotypes, target=case["target"], dtype=case["dtype"], library=library, threads=case["threads"]
            )
        )

    work(PackedGenotypes(packed.codes[:1], 1))
    made.pop().close()
    doc.provenance["blas"] = blas_in_use()  # a kernel may have brought its own
    before = measure.current_rss()
    took = measure.once(lambda: work(packed))
    gc.collect()
    problem = Problem(*packed.shape, max(case["k"]), case["dtype"], case["threads"])
    doc.add("prepare_time", took.wall, "s", phase="prepare", **place)
    doc.add("prepare_cpu", took.cpu, "s", phase="prepare", **place)
    doc.add("bytes_held", made[0].bytes_held, "B", phase="memory", **place)
    doc.add("bytes_needed", kernel.bytes_needed(problem), "B", phase="memory", **place)
    read = kernel.bytes_read(problem) if kernel.bytes_read else made[0].bytes_held
    doc.add("bytes_read", read, "B", phase="memory", **place)
    doc.add("prepare_rss", max(0, measure.current_rss() - before), "B", phase="memory", **place)
    return made[0]


def product(operator: Operator, oracle: Oracle, direction: str, k: int, dtype: str) -> Callable[[], np.ndarray]:
    """The call to time: one product of the first k columns of the oracle's normal input."""
    values = np.ascontiguousarray(oracle.normals[DIRECTIONS[direction][0]][:, :k].astype(dtype))
    function = getattr(operator, direction)
    return lambda: function(values)


def verify(doc: Document, operator: GenotypeOperator, oracle: Oracle, case: Case, **place: Any) -> str | None:
    """Compare every k and direction with the oracle; the sentence that says what is wrong, or None."""
    dtype, problems = case["dtype"], []
    allowed = kernels.load(case["kernel"]).allowed_error(dtype, case["target"])
    for k in case["k"]:
        for direction, (given, wanted) in DIRECTIONS.items():
            where = {"phase": "verify", "k": k, "direction": direction, **place}
            multiply = getattr(operator, direction)
            got = multiply(oracle.integers[given][:, :k].astype(dtype))
            mismatches = int((got != oracle.integers[wanted][:, :k]).sum())
            doc.add("integer_mismatches", mismatches, "1", **where)
            got = multiply(oracle.normals[given][:, :k].astype(dtype)).astype("f8")
            want = oracle.normals[wanted][:, :k]
            error = float(np.abs(got - want).max() / max(np.abs(want).max(), np.finfo(float).tiny))
            doc.add("rel_error", error, "1", **where)
            if mismatches or not error <= allowed:
                problems.append(
                    f"{direction} with k = {k}: {mismatches} of {got.size} integer results differ, "
                    f"relative error {error:.2g} (allowed {allowed:.0e})"
                )
    return "; ".join(problems) or None


def add_work(doc: Document, case: Case, direction: str, k: int) -> None:
    """What the kernel says that one product takes, for the table of bounds."""
    kernel = kernels.load(case["kernel"])
    if kernel.work is None:
        return
    problem = Problem(doc.identity["n"], doc.identity["m"], k, case["dtype"], case["threads"])
    for what, amount in kernel.work(problem, direction, case["target"]).items():
        if what not in kernels.WORK:
            raise ValueError(f"{kernel.name}: work {what!r} is not one of {', '.join(kernels.WORK)}")
        doc.add(f"work_{what}", amount, "1", phase="work", direction=direction, k=k)


def time_product(
    doc: Document, call: Callable[[], object], direction: str, k: int, timing: dict[str, Any], **place: Any
) -> None:
    """Every repeat of one cell."""
    for repeat, sample in enumerate(measure.repeats(call, **timing)):
        add_sample(doc, sample, direction=direction, k=k, repeat=repeat, **place)


def add_sample(doc: Document, sample: measure.Sample, **where: Any) -> None:
    """The rows of one timed product: wall and CPU time, and what disturbed it."""
    place = {"phase": "product", "calls": sample.calls, **where}
    doc.add("product_time", sample.wall, "s", **place)
    doc.add("product_cpu", sample.cpu, "s", **place)
    doc.add("product_switches", sample.switches, "1", **place)
    doc.add("product_minor_faults", sample.minor_faults, "1", **place)
    doc.add("product_major_faults", sample.major_faults, "1", **place)


def time_limits(doc: Document, case: Case, folder: Path | None) -> None:
    """The machine's multiply-add peak and read bandwidth at this thread count, now, in this process."""
    limits = best_limits(folder) if folder else None
    if limits is None:
        return
    earlier = sum(row["metric"] == "fma_peak" for row in doc.rows)
    for i, rate in enumerate(limits.fma_rate(threads=case["threads"], dtype=case["dtype"])):
        doc.add("fma_peak", rate, "1/s", phase="limits", repeat=earlier + i)
    for i, rate in enumerate(limits.read_rate(threads=case["threads"])):
        doc.add("read_peak", rate, "B/s", phase="limits", repeat=earlier + i)
