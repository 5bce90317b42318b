"""Products of genotypes that are larger than the memory given, against the disk's and the kernel's own rates.

In each round, in random order: the file read from end to end; every product streamed; every product of one chunk that
is in memory. The page cache is emptied of the file before it is read or streamed, and a row says if that failed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydantic import Field, field_validator

from bench import config, kernels, measure, surroundings
from bench.build import Build
from bench.errors import BenchError
from bench.experiments import Files, products
from bench.experiments.products import DIRECTIONS
from bench.genotypes.dataset import Dataset
from bench.genotypes.packed import PackedGenotypes
from bench.kernels import Problem
from bench.machine import memory_available
from bench.memory import bytes_of
from bench.oracle import Oracle
from bench.plan import Case, expand, thread_counts, variants
from bench.record import Document
from bench.streamed import Source, StreamedMatrix, chunk_snps, streamable

VERSION = 1
ROUNDS = 5
PIECE = 8 << 20  # bytes that are read at a time


class Stanza(config.Stanza):
    """Keys of the experiment in the configuration. memory: bytes, or such as "800MB"."""

    datasets: config.Names
    kernels: list[str] = Field(default=["auto"], min_length=1)
    memory: int | str = "800MB"
    threads: config.ThreadCounts = ["all"]
    k: config.Counts = [1, 10, 32]

    @field_validator("kernels")
    @classmethod
    def _exist(cls, given: list[str]) -> list[str]:
        for name in given:
            config.known("kernel", name, kernels.names())
        return given

    @field_validator("memory")
    @classmethod
    def _bytes(cls, given: int | str) -> int | str:
        try:
            bytes_of(given)
        except BenchError as error:
            raise ValueError(str(error)) from None
        return given


def cases(stanza: Stanza, config: config.Config) -> dict[str, Case]:
    """A session per data set × kernel × target × threads, in float64."""
    return expand(
        "streamed",
        {
            "dataset": stanza.datasets,
            "kernel,target": variants(stanza.kernels, config.targets),
            "threads": thread_counts(stanza.threads),
        },
        dtype="f8",
        k=sorted(set(stanza.k)),
        streamed={"memory": bytes_of(stanza.memory)},
    )


def run(case: Case, files: Files) -> Document:
    """Verify every product, then time all in turn."""
    data, build = Dataset.read(files.dataset), products.read_build(files.build)
    doc = products.begin(case, files, build, data, version=VERSION)
    if doc.status != "ok":
        return doc
    oracle, packed = products.read_oracle(files), data.packed()
    try:
        matrix = _open(case, packed, build)
    except BenchError as error:
        return doc.refuse(str(error))
    with measure.exclusive():
        try:
            measure.forget_peak_rss()
            before = measure.current_rss()
            if wrong := products.verify(doc, matrix, oracle, case):
                return doc.wrong(wrong)
            with surroundings.watched(doc, case["threads"]):
                _in_turn(doc, case, matrix, oracle, files.process)
        except MemoryError as error:
            return doc.end("oom", f"out of memory: {error}")
    doc.add("memory_given", case["streamed"]["memory"], "B", phase="memory")
    doc.add("bytes_held", matrix.bytes_held, "B", phase="memory")
    doc.add("streamed_rss", max(0, measure.peak_rss() - before), "B", phase="memory")
    doc.add("peak_rss", measure.peak_rss(), "B", phase="memory")
    matrix.close()
    return doc


def _open(case: Case, packed: PackedGenotypes, build: Build | None) -> StreamedMatrix:
    """BenchError: genotypes or a kernel that cannot be streamed, too little memory for a chunk."""
    kernel = kernels.load(case["kernel"])
    if not streamable(kernel, packed):
        raise BenchError(f"kernel {kernel.name} holds its genotypes on a GPU, and streams them by itself")
    problem = Problem(*packed.shape, max(case["k"]), case["dtype"], case["threads"])
    memory = min(case["streamed"]["memory"], memory_available())
    source = Source(kernel, case["target"], case["dtype"], build.library if build else None, case["threads"])
    return StreamedMatrix(packed, source, chunk=chunk_snps(kernel, problem, memory=memory))


def _in_turn(doc: Document, case: Case, matrix: StreamedMatrix, oracle: Oracle, process: int) -> None:
    path, whole = matrix.packed.path, matrix.packed.codes.nbytes
    assert path is not None
    order, cells = products.order_of(case, process), products.shuffled(case, process)
    for repeat in range(ROUNDS):
        turns: list[Callable[[], None]] = [lambda repeat=repeat: _read(doc, path, repeat)]
        for k, direction in cells:
            call = products.product(matrix, oracle, direction, k, case["dtype"])
            place = {"method": "streamed", "direction": direction, "k": k, "repeat": repeat, "size": whole}

            def turn(call=call, place=place) -> None:
                note = forget_cached(path)
                measure.settle(case["threads"])
                products.add_sample(doc, measure.once(call), note=note, **place)

            turns.append(turn)
        turns.append(lambda repeat=repeat: _resident(doc, case, matrix, oracle, cells, repeat))
        for i in order.permutation(len(turns)):
            turns[i]()


def _read(doc: Document, path: Path, repeat: int) -> None:
    note = forget_cached(path)
    took = measure.once(lambda: read_through(path))
    doc.add("reading_time", took.wall, "s", phase="reading", repeat=repeat, size=path.stat().st_size, note=note)


def _resident(
    doc: Document, case: Case, matrix: StreamedMatrix, oracle: Oracle, cells: list[tuple[int, str]], repeat: int
) -> None:
    """Products of the last chunk, which stays prepared when a pass is over."""
    *_, (snps, chunk, packed) = matrix.chunks()
    for k, direction in cells:
        given = np.ascontiguousarray(oracle.normals[DIRECTIONS[direction][0]][:, :k])
        X = given[snps] if direction == "matmul" else given
        multiply = getattr(chunk, direction)
        measure.settle(case["threads"])
        sample = measure.once(lambda multiply=multiply, X=X: multiply(X))
        place = {"method": "resident", "direction": direction, "k": k, "repeat": repeat, "size": packed.codes.nbytes}
        products.add_sample(doc, sample, **place)


def read_through(path: Path) -> None:
    """Read a file from end to end, PIECE bytes at a time."""
    piece = bytearray(PIECE)
    with path.open("rb", buffering=0) as file:
        while file.readinto(piece):
            pass


def forget_cached(path: Path) -> str:
    """Have the system drop a file from its page cache; "dropped", or "cached" where it does not let us."""
    with path.open("rb") as file:
        try:
            os.fsync(file.fileno())  # a page that is not written yet stays
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError:
            return "cached"
    return "dropped"
