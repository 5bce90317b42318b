"""Two kernels or more in one process, timed in turn: the ratio of a pair is free of the machine's drift.

Within each round the order is random. Rows carry the kernel and target that they are of; readers pair the first with
each of the others by `repeat`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from pydantic import field_validator

from bench import config, kernels, measure, surroundings
from bench.build import Build
from bench.errors import DeviceLost
from bench.experiments import Files, products
from bench.genotypes.dataset import Dataset
from bench.kernels import Problem
from bench.machine import memory_available
from bench.oracle import Oracle
from bench.plan import Case, best, expand, kernels_of, thread_counts, variants
from bench.record import Document

VERSION = 2
ROUNDS = 15


class Stanza(config.Stanza):
    """Keys of the experiment in the configuration. pairs: [kernel, partner, …]."""

    datasets: config.Names
    pairs: list[list[str]]
    dtypes: config.Dtypes = ["f8"]
    threads: config.ThreadCounts = [1]
    k: config.Counts = [10]

    @field_validator("pairs", mode="before")
    @classmethod
    def _two_names(cls, pairs: Any) -> Any:
        for pair in pairs if isinstance(pairs, list) else []:
            if not isinstance(pair, list | tuple) or len(pair) < 2:
                raise ValueError(f"a pair is [first, second], found {pair!r}")
        return pairs

    @field_validator("pairs")
    @classmethod
    def _exist(cls, pairs: list[list[str]]) -> list[list[str]]:
        for name in (name for pair in pairs for name in pair):
            config.known("kernel", name, kernels.names())
        return pairs


def cases(stanza: Stanza, config: config.Config) -> dict[str, Case]:
    """A session per data set × pair × dtype × threads; native kernels meet in one target, or each in its best."""
    pairs = [
        (*held[0], ",".join(f"{kernel}/{target}" for kernel, target in held[1:]))
        for names in stanza.pairs
        for held in itertools.product(*(variants([name], config.targets) for name in names))
        if len(set(held)) == len(held)
        and all(_meet(*one, *other, config.targets) for one, other in itertools.combinations(held, 2))
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
    """Verify all kernels, then alternate them; `case["against"]` names those after the first, as "kernel/target"."""
    pairs = kernels_of(case)
    sides = [case | {"kernel": kernel, "target": target} for kernel, target in pairs]
    given = {(build.name, build.target): build for build in map(Build.read, files.against_builds)}
    builds = [products.read_build(files.build), *(given.get(pair) for pair in pairs[1:])]
    data = Dataset.read(files.dataset)
    doc = products.begin(case, files, builds[0], data, version=VERSION)
    if doc.status != "ok":
        return doc
    for side, build in zip(sides[1:], builds[1:], strict=True):
        other = products.begin(side, files, build, data, version=VERSION)
        if other.status != "ok":
            return doc.refuse(f"{side['kernel']}/{side['target']}: {other.reason}")
    if reason := _too_large(doc, sides, files):
        return doc.refuse(reason)
    oracle = products.read_oracle(files)
    packed = data.packed().head(doc.identity["n"])
    with measure.exclusive():
        try:
            ready = []
            for side, build in zip(sides, builds, strict=True):
                place = {"kernel": side["kernel"], "target": side["target"]}
                place |= products.code_provenance(side["kernel"], build)
                operator = products.prepare(doc, side, packed, build, **place)
                ready.append((operator, place))
                if wrong := products.verify(doc, operator, oracle, side, **place):
                    return doc.wrong(f"{place['kernel']}/{place['target']}: {wrong}")
            with surroundings.watched(doc, case["threads"]):
                products.time_limits(doc, case, files.limits)
                _alternate(doc, case, ready, oracle, files.process)
                products.time_limits(doc, case, files.limits)
        except (MemoryError, DeviceLost) as error:
            return doc.broken(error)
    doc.add("peak_rss", measure.peak_rss(), "B", phase="memory")
    return doc


def _too_large(doc: Document, sides: list[Case], files: Files) -> str | None:
    """Why the matrices of all kernels do not fit memory together: they are held at once."""
    need = 0
    for side in sides:
        problem = Problem(doc.identity["n"], doc.identity["m"], max(side["k"]), side["dtype"], side["threads"])
        need += kernels.load(side["kernel"]).bytes_needed(problem) + problem.vector_bytes
    memory = min(memory_available(), files.memory or memory_available())
    if need > memory:
        return f"the kernels need {need / 1e9:.1f} GB of memory together, {memory / 1e9:.1f} GB can be used"
    return None


def _alternate(doc: Document, case: Case, sides: list[Any], oracle: Oracle, process: int) -> None:
    order = products.order_of(case, process)
    for k, direction in products.shuffled(case, process):
        calls = [(products.product(op, oracle, direction, k, case["dtype"]), place) for op, place in sides]
        in_turn(doc, calls, order, case["threads"], direction=direction, k=k)


def in_turn(
    doc: Document,
    calls: Sequence[tuple[Callable[[], object], dict[str, Any]]],
    order: np.random.Generator,
    threads: int,
    **where: Any,
) -> None:
    """Time each (call, its columns) once a round, in random order; a call of each beforehand is not counted."""
    counts = [measure.calls_of_a_sample(call, measure.once(call)) for call, _ in calls]
    for repeat in range(ROUNDS):
        for i in order.permutation(len(calls)):
            call, place = calls[i]
            measure.settle(threads)
            products.add_sample(doc, measure.once(call, calls=counts[i]), repeat=repeat, **where, **place)
