"""What the machine can do at the most: the ceilings that kernels are held against (docs/limits.md).

One job measures every build of limits.cc that the machine runs, the targets, at each number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bench import config, measure, surroundings
from bench.build import Build, sources
from bench.experiments import Files, identity
from bench.kernels import LOOKUP_COLUMNS
from bench.machine import Limits, built_limits, caches, this_machine
from bench.plan import Case, case_id, thread_counts
from bench.provenance import collect_provenance
from bench.record import Document, sha256_of

VERSION = 2
TABLE_BYTES = 243 * 8  # of a table and column
TABLES = (1, 8)  # 15 KB at 8 columns, which a first-level cache holds, and 124 KB, which a second-level cache does
READ_SIZES = tuple(1 << power for power in (20, 22, 24, 26, 28))  # bytes: a matrix that a cache holds is read faster
ROUNDS = 8
BRIEF: dict[str, Any] = {"seconds": 0.01, "tries": 1}  # shorter than most disturbances are apart


class Stanza(config.Stanza):
    """Keys of the experiment in the configuration: it needs no data set."""

    threads: config.ThreadCounts = [1, "all"]


def cases(stanza: Stanza, config: config.Config) -> dict[str, Case]:
    """One case, of the largest number of threads."""
    counts = sorted(thread_counts(stanza.threads))
    case = {"experiment": "limits", "threads": counts[-1], "thread_counts": counts}
    return {case_id(case): case}


def run(case: Case, files: Files) -> Document:
    """Measure every target; refused where none could be compiled or there are too few cores."""
    provenance = collect_provenance(version=VERSION, source_hash=sha256_of(sources("limits")))
    doc = Document(identity(case), provenance)
    cores = this_machine().cores
    if case["threads"] > cores:
        return doc.refuse(f"asks for {case['threads']} threads, this machine has {cores} cores")
    builds = built_limits(files.limits) if files.limits else []
    if not builds:
        return doc.refuse(
            "the limits could not be compiled; install g++ or name another one in config key `compiler`"
        )
    for name, size in caches().items():
        doc.add("cache_size", size, "B", phase="limits", note=name)
    with measure.exclusive(), surroundings.watched(doc, case["threads"]):
        measure_all(doc, builds, case["thread_counts"])
    return doc


def measure_all(doc: Document, builds: list[Build], thread_counts: list[int]) -> None:
    """Add a row per target, number of threads, limit and try. The tries of a limit are rounds over all of them,
    seconds apart: what disturbs one does not disturb the others."""
    buffer = np.ones(READ_SIZES[-1] // 8)
    for repeat in range(ROUNDS):
        for build in builds:
            assert build.library
            code = {"library_hash": build.library_hash, "compiler": build.version, "flags": build.flags}
            for threads in thread_counts:
                place = {"threads": threads, "target": build.target, "repeat": repeat, **code}
                measure_once(doc, Limits(build.library), buffer, **place)


def measure_once(doc: Document, limits: Limits, buffer: np.ndarray, threads: int, **place: Any) -> None:
    """One try of every limit. `size`: bytes of the tables, or of what is read or copied."""
    where = {"phase": "limits", "threads": threads, **place}
    for dtype in ("f8", "f4"):
        (rate,) = limits.fma_rate(threads=threads, dtype=dtype, **BRIEF)
        doc.add("fma_peak", rate, "1/s", dtype=dtype, **where)
    for columns in LOOKUP_COLUMNS:
        for tables in TABLES:
            (rate,) = limits.lookup_rate(threads=threads, columns=columns, tables=tables, **BRIEF)
            doc.add("lookup_peak", rate, "1/s", k=columns, size=tables * columns * TABLE_BYTES, **where)
    (rate,) = limits.int8_rate(threads=threads, **BRIEF)
    doc.add("int8_peak", rate, "1/s", **where)
    for size in READ_SIZES:
        (rate,) = limits.read_rate(threads=threads, buffer=buffer[: size // 8], tries=1)
        doc.add("read_peak", rate, "B/s", size=size, **where)
    (rate,) = limits.copy_rate(threads=threads, buffer=buffer, tries=1)
    doc.add("copy_peak", rate, "B/s", size=buffer.nbytes // 2, **where)
