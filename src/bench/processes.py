"""A case in several fresh processes, one after the other, as one document.

What a process settles for all its repeats (where its memory lies, to which cores its threads went) differs between
processes: their spread is the one that a claim about a kernel has to face.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from typing import Any

from bench.errors import BenchError
from bench.experiments import Files, load
from bench.record import Document


def run(case: dict[str, Any], files: Files, count: int) -> Document:
    """Run `case` in `count` fresh processes (1: in this one); the first that is not ok ends it with its outcome."""
    if count == 1:
        return _run(case, files)
    found: list[Document] = []
    for process in range(count):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
            try:
                doc = fresh.submit(_run, case, replace(files, process=process)).result()
            except BrokenProcessPool:
                raise BenchError(
                    f"process {process} of {count} of the case was killed (too little memory?); run again"
                ) from None
        if doc.status != "ok":
            return doc if process == 0 else doc.end(doc.status, f"process {process} of {count}: {doc.reason}")
        found.append(doc)
    return merged(found)


def _run(case: dict[str, Any], files: Files) -> Document:
    return load(case["experiment"]).run(case, files)


def merged(documents: list[Document]) -> Document:
    """One document of those that equal processes wrote: each row says which process it is of, and whether that one
    was contaminated. What they share is the first one's."""
    first = documents[0]
    provenance = {key: value for key, value in first.provenance.items() if key != "contaminated"}
    whole = Document(first.identity, provenance)
    for process, doc in enumerate(documents):
        own = {"process": process, "contaminated": doc.provenance.get("contaminated")}
        whole.rows += [row | own for row in doc.rows]
    return whole
