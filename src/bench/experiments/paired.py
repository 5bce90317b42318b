"""Two kernels in one process, timed in turn: the ratio of a pair is free of the machine's drift.

Within each repeat the order of the two is random. Rows carry the kernel and target that they are of;
readers pair them by `repeat`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from pydantic import field_validator

from bench import config, kernels, measure
from bench.experiments import Files, products
from bench.experiments.products import DIRECTIONS
from bench.genotypes.dataset import Dataset
from bench.kernels import Problem
from bench.machine import memory_available
from bench.oracle import Oracle
from bench.plan import Case, best, expand, kernels_of, thread_counts, variants
from bench.record import Document

VERSION = 1
ROUNDS = 15


class Stanza(config.Stanza):
    """Keys of the experiment in the configuration. pairs: [kernel, partner]."""

    datasets: config.Names
    pairs: list[tuple[str, str]]
    dtypes: config.Dtypes = ["f8"]
    threads: config.ThreadCounts = [1]
    k: config.Counts = [10]

    @field_validator("pairs", mode="before")
    @classmethod
    def _two_names(cls, pairs: Any) -> Any:
        for pair in pairs if isinstance(pairs, list) else []:
            if not isinstance(pair, list | tuple) or len(pair) != 2:
                raise ValueError(f"a pair is [first, second], found {pair!r}")
        return pairs

    @field_validator("pairs")
    @classmethod
    def _exist(cls, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
        for name in (name for pair in pairs for name in pair):
            config.known("kernel", name, kernels.names())
        return pairs


def cases(stanza: Stanza, config: config.Config) -> dict[str, Case]:
    """A session per data set × pair × dtype × threads; native kernels meet in one target, or each in its best."""
    pairs = [
        (kernel, target, f"{other}/{other_target}")
        for first, second in stanza.pairs
        for kernel, target in variants([first], config.targets)
        for other, other_target in variants([second], config.targets)
        if _meet(first, target, second, other_target, config.targets)
    ]
    return expand(
        "paired",
        {
            "dataset": stanza.datasets,
            "kernel,target,against": pairs,
            "dtype": stanza.dtypes,
            "threads": thread_counts(stanza.threads),
        },
        k=sorted(set(stanza.k)),
    )


def _meet(first: str, target: str, second: str, other_target: str, targets: list[str]) -> bool:
    """Whether two builds are compared: those of one target, and the two that "best" stands for."""
    one, other = kernels.load(first), kernels.load(second)
    if target == other_target or not (one.native and other.native):
        return True
    return "best" in targets and (target, other_target) == (best(one), best(other))


def run(case: Case, files: Files) -> Document:
    """Verify both kernels, then alternate them; `case["against"]` is the second one as "kernel/target"."""
    kernel, target = kernels_of(case)[1]
    other_case = case | {"kernel": kernel, "target": target}
    data = Dataset.read(files.dataset)
    builds = [products.read_build(files.build), products.read_build(files.against_build)]
    doc = products.begin(case, files, builds[0], data, version=VERSION)
    other = products.begin(other_case, files, builds[1], data, version=VERSION)
    if doc.status != "ok":
        return doc
    if other.status == "ok":
        other = _both_fit(doc, other, case, other_case, files)
    if other.status != "ok":
        return doc.refuse(f"{case['against']}: {other.reason}")
    oracle = products.read_oracle(files)
    packed = data.packed().head(doc.identity["n"])
    with measure.exclusive():
        try:
            sides = []
            for side, build in zip((case, other_case), builds, strict=True):
                place = {"kernel": side["kernel"], "target": side["target"]}
                place |= products.code_provenance(side["kernel"], build)
                operator = products.prepare(doc, side, packed, build, **place)
                sides.append((operator, place))
                if wrong := products.verify(doc, operator, oracle, side, **place):
                    return doc.wrong(f"{place['kernel']}/{place['target']}: {wrong}")
            products.time_limits(doc, case, files.limits)
            _alternate(doc, case, sides, oracle)
            products.time_limits(doc, case, files.limits)
        except MemoryError as error:
            return doc.end("oom", f"out of memory: {error}")
    return doc


def _both_fit(doc: Document, other: Document, case: Case, other_case: Case, files: Files) -> Document:
    """Refuse the partner where the two matrices do not fit memory together: both are held at once."""
    n, m = doc.identity["n"], doc.identity["m"]
    need = 0
    for side in (case, other_case):
        problem = Problem(n, m, max(case["k"]), case["dtype"], case["threads"])
        need += kernels.load(side["kernel"]).bytes_needed(problem) + problem.vector_bytes
    memory = min(memory_available(), files.memory or memory_available())
    if need > memory:
        return other.refuse(f"the two need {need / 1e9:.1f} GB of memory together, {memory / 1e9:.1f} GB can be used")
    return other


def _alternate(doc: Document, case: Case, sides: list[Any], oracle: Oracle) -> None:
    order = np.random.default_rng(0)
    for k in case["k"]:
        for direction in DIRECTIONS:
            calls = [(products.product(op, oracle, direction, k, case["dtype"]), place) for op, place in sides]
            in_turn(doc, calls, order, direction=direction, k=k)


def in_turn(
    doc: Document,
    calls: Sequence[tuple[Callable[[], object], dict[str, Any]]],
    order: np.random.Generator,
    **where: Any,
) -> None:
    """Time each (call, its columns) once a round, in random order; a call of each beforehand is not counted."""
    for call, _ in calls:
        call()
    for repeat in range(ROUNDS):
        for i in order.permutation(len(calls)):
            call, place = calls[i]
            sample = measure.once(call)
            doc.add("product_time", sample.wall, "s", phase="product", repeat=repeat, **where, **place)
            doc.add("product_cpu", sample.cpu, "s", phase="product", repeat=repeat, **where, **place)
