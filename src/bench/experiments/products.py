"""Time Z V and Z'U through one kernel, after both have been verified in the same process.

One job is a session: data set × kernel × target × dtype × threads. The matrix is prepared once; k and
the direction vary inside.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench import kernels, measure
from bench.build import Build
from bench.errors import BenchError
from bench.experiments.oracle import Oracle
from bench.genotypes.dataset import Dataset
from bench.genotypes.packed import PackedGenotypes
from bench.kernels import GenotypeOperator, Problem
from bench.machine import best_limits, memory_available, this_machine
from bench.provenance import collect_provenance
from bench.record import Document, sha256_of

VERSION = 1
TOLERANCE = {"f4": 1e-4, "f8": 1e-12}  # of the largest entry; a wrong product is off by far more
DIRECTIONS = {"matmul": ("V", "ZV"), "rmatmul": ("U", "ZtU")}


@dataclass(frozen=True)
class Inputs:
    """What a session reads. memory: bytes it may use, None for what is free now."""

    dataset: Dataset
    build: Build | None
    oracle: Path | None
    limits: Path
    timing: dict[str, Any]
    memory: int | None = None


def begin(case: dict[str, Any], inputs: Inputs) -> Document:
    """The document of a session, refused already where data, library or machine will not do."""
    data, build = inputs.dataset, inputs.build
    doc = Document(
        identity={"case_" if key == "case" else key: value for key, value in case.items() if key != "k"},
        provenance=collect_provenance(
            version=VERSION,
            dataset_hash=data.bed_sha256,
            source_hash=build.source_hash if build else sha256_of(kernels.sources(case["kernel"])),
            library_hash=build.library_hash if build else "",
            compiler=build.version if build else "",
            flags=build.flags if build else "",
        ),
    )
    if data.status != "ok":
        return doc.refuse(data.reason or "the data set was refused")
    n = case.get("samples") or data.n_samples
    if n > data.n_samples:
        return doc.refuse(f"asks for {n} individuals, {data.name} has {data.n_samples}")
    doc.identity |= {"n": n, "m": data.n_snps, "missing_rate": data.missing_rate, "seed": data.seed}
    if build and build.status != "ok":
        return doc.refuse(build.reason or "the kernel was not built")
    problem = Problem(n, data.n_snps, max(case["k"]), case["dtype"], case["threads"])
    memory = min(memory_available(), inputs.memory or memory_available())
    machine = this_machine()
    kernel = kernels.load(case["kernel"])
    if case["threads"] > machine.cores:
        return doc.refuse(f"asks for {case['threads']} threads, this machine has {machine.cores} cores")
    if reason := kernel.refuses(problem, case["target"], machine, memory=memory):
        return doc.refuse(reason)
    return doc


def run(case: dict[str, Any], inputs: Inputs) -> Document:
    """Verify, then time every k and direction of one session."""
    doc = begin(case, inputs)
    if doc.status != "ok":
        return doc
    if inputs.oracle is None:
        raise BenchError("a products session needs the data set's oracle; make it with `bench oracle`")
    oracle = Oracle.read(inputs.oracle)
    packed = inputs.dataset.packed().head(doc.identity["n"])
    with measure.exclusive():
        try:
            operator = prepare(doc, case, packed, inputs.build)
            if wrong := verify(doc, operator, oracle, case):
                return doc.wrong(wrong)
            time_limits(doc, case, inputs.limits)
            for k in case["k"]:
                for direction in DIRECTIONS:
                    time_product(doc, product(operator, oracle, direction, k, case["dtype"]), direction, k, inputs.timing)
            time_limits(doc, case, inputs.limits)
        except MemoryError as error:
            return doc.end("oom", f"out of memory: {error}")
    doc.add("peak_rss", measure.peak_rss(), "B", phase="memory")
    operator.close()
    return doc


def prepare(
    doc: Document, case: dict[str, Any], packed: PackedGenotypes, build: Build | None, **place: Any
) -> GenotypeOperator:
    """Open the matrix in a kernel; its time and memory go into `doc`."""
    before = measure.current_rss()
    made: list[GenotypeOperator] = []
    kernel = kernels.load(case["kernel"])
    library = build.library if build else None

    def work() -> None:
        made.append(kernel.prepare(packed, dtype=case["dtype"], library=library, threads=case["threads"]))

    took = measure.once(work)
    gc.collect()
    problem = Problem(*packed.shape, max(case["k"]), case["dtype"], case["threads"])
    doc.add("prepare_time", took.wall, "s", phase="prepare", **place)
    doc.add("prepare_cpu", took.cpu, "s", phase="prepare", **place)
    doc.add("bytes_held", made[0].bytes_held, "B", phase="memory", **place)
    doc.add("bytes_needed", kernel.bytes_needed(problem), "B", phase="memory", **place)
    doc.add("prepare_rss", max(0, measure.current_rss() - before), "B", phase="memory", **place)
    return made[0]


def product(
    operator: GenotypeOperator, oracle: Oracle, direction: str, k: int, dtype: str
) -> Callable[[], np.ndarray]:
    """The call to time: one product of the first k columns of the oracle's normal input."""
    values = np.ascontiguousarray(oracle.normals[DIRECTIONS[direction][0]][:, :k].astype(dtype))
    function = getattr(operator, direction)
    return lambda: function(values)


def verify(
    doc: Document, operator: GenotypeOperator, oracle: Oracle, case: dict[str, Any], **place: Any
) -> str | None:
    """Compare every k and direction with the oracle; the sentence that says what is wrong, or None."""
    dtype, problems = case["dtype"], []
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
            if mismatches or not error <= TOLERANCE[dtype]:
                problems.append(
                    f"{direction} with k = {k}: {mismatches} of {got.size} integer results differ, "
                    f"relative error {error:.2g} (allowed {TOLERANCE[dtype]:.0e})"
                )
    return "; ".join(problems) or None


def time_product(
    doc: Document, call: Callable[[], object], direction: str, k: int, timing: dict[str, Any], **place: Any
) -> None:
    """Every repeat of one cell, wall and CPU."""
    for repeat, sample in enumerate(measure.repeats(call, **timing)):
        where = {"phase": "product", "direction": direction, "k": k, "repeat": repeat, **place}
        doc.add("product_time", sample.wall, "s", **where)
        doc.add("product_cpu", sample.cpu, "s", **where)


def time_limits(doc: Document, case: dict[str, Any], folder: Path) -> None:
    """The machine's multiply-add peak and read bandwidth at this thread count, now, in this process."""
    limits = best_limits(folder)
    if limits is None:
        return
    earlier = sum(row["metric"] == "fma_peak" for row in doc.rows)
    for i, rate in enumerate(limits.fma_rate(threads=case["threads"], dtype=case["dtype"])):
        doc.add("fma_peak", rate, "1/s", phase="limits", repeat=earlier + i)
    for i, rate in enumerate(limits.read_rate(threads=case["threads"])):
        doc.add("read_peak", rate, "B/s", phase="limits", repeat=earlier + i)
