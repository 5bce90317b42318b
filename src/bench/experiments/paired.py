"""Two kernels in one process, timed in turn: the ratio of a pair is free of the machine's drift.

Within each repeat the order of the two is random. Rows carry the kernel and target that they are of;
readers pair them by `repeat`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from bench import measure
from bench.build import Build
from bench.errors import BenchError
from bench.experiments import products
from bench.experiments.oracle import Oracle
from bench.experiments.products import DIRECTIONS, Inputs
from bench.record import Document

VERSION = 1
ROUNDS = 15


def run(case: dict[str, Any], inputs: Inputs, against_build: Build | None) -> Document:
    """Verify both kernels, then alternate them; `case["against"]` is the second one as "kernel/target"."""
    kernel, _, target = case["against"].partition("/")
    other_case = case | {"kernel": kernel, "target": target}
    other = products.begin(other_case, replace(inputs, build=against_build))
    doc = products.begin(case, inputs)
    if doc.status != "ok":
        return doc
    if other.status != "ok":
        return doc.refuse(f"{case['against']}: {other.reason}")
    if inputs.oracle is None:
        raise BenchError("a paired session needs the data set's oracle; make it with `bench oracle`")
    oracle = Oracle.read(inputs.oracle)
    packed = inputs.dataset.packed().head(doc.identity["n"])
    with measure.exclusive():
        sides = []
        for side, build in ((case, inputs.build), (other_case, against_build)):
            place = {"kernel": side["kernel"], "target": side["target"]}
            operator = products.prepare(doc, side, packed, build, **place)
            sides.append((operator, place))
            if wrong := products.verify(doc, operator, oracle, side, **place):
                return doc.wrong(f"{place['kernel']}/{place['target']}: {wrong}")
        products.time_limits(doc, case, inputs.limits)
        _alternate(doc, case, sides, oracle)
        products.time_limits(doc, case, inputs.limits)
    return doc


def _alternate(doc: Document, case: dict[str, Any], sides: list[Any], oracle: Oracle) -> None:
    order = np.random.default_rng(0)
    for k in case["k"]:
        for direction in DIRECTIONS:
            calls = [(products.product(op, oracle, direction, k, case["dtype"]), place) for op, place in sides]
            for call, _ in calls:
                call()
            for repeat in range(ROUNDS):
                for i in order.permutation(2):
                    call, place = calls[i]
                    sample = measure.once(call)
                    where = {"phase": "product", "direction": direction, "k": k, "repeat": repeat, **place}
                    doc.add("product_time", sample.wall, "s", **where)
                    doc.add("product_cpu", sample.cpu, "s", **where)
