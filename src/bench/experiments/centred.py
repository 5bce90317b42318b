"""What centring, and the mean imputation of missing calls, cost on top of a kernel's raw products.

All are made from one operator in one process and timed in turn: the raw product, the centred one in which a missing
call counts 0, and, where calls are missing, the centred one in which it takes its SNP's mean.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field, field_validator

from bench import config, kernels, measure, surroundings
from bench.build import installed
from bench.errors import BenchError, DeviceLost
from bench.experiments import Files, products
from bench.experiments.paired import in_turn
from bench.experiments.products import DIRECTIONS, order_of, shuffled
from bench.genotypes.dataset import Dataset
from bench.oracle import Oracle
from bench.plan import Case, expand, thread_counts, variants
from bench.record import Document
from bench.relationships.genomic import BlockCentred, Centred, vanraden1
from bench.relationships.missing import missing_of
from bench.solvers.operator import Operator

VERSION = 1
TOLERANCE = 1e-9  # of a centred product's largest entry, beside the error that the kernel's raw product is allowed


class Stanza(config.Stanza):
    """Keys of the experiment in the configuration. kernels: None for those of the configuration."""

    datasets: config.Names
    kernels: list[str] | None = Field(default=None, min_length=1)
    threads: config.ThreadCounts = [1]
    k: config.Counts = [10]

    @field_validator("kernels")
    @classmethod
    def _exist(cls, given: list[str] | None) -> list[str] | None:
        for name in given or []:
            config.known("kernel", name, kernels.names())
        return given


def cases(stanza: Stanza, config: config.Config) -> dict[str, Case]:
    """A session per data set × kernel × target × threads, in float64."""
    return expand(
        "centred",
        {
            "dataset": stanza.datasets,
            "kernel,target": variants(stanza.kernels or config.kernels, config.targets),
            "threads": thread_counts(stanza.threads),
        },
        dtype="f8",
        k=sorted(set(stanza.k)),
    )


def run(case: Case, files: Files) -> Document:
    """Verify the raw and the centred products, then time them in turn."""
    data, build = Dataset.read(files.dataset), products.read_build(files.build)
    doc = products.begin(case, files, build, data, version=VERSION)
    if doc.status != "ok":
        return doc
    packed, library = data.packed(), installed("missing")
    try:
        coding = vanraden1(packed)
    except BenchError as error:  # no SNP varies
        return doc.refuse(str(error))
    if data.missing_rate and library.status != "ok":  # scipy's sums would be timed in their place
        return doc.refuse(f"the sums at missing calls: {library.reason}")
    oracle = products.read_oracle(files)
    with measure.exclusive():
        try:
            operator = products.prepare(doc, case, packed, build)
            if wrong := products.verify(doc, operator, oracle, case):
                return doc.wrong(wrong)
            operators: dict[str, Operator] = {"raw": operator, "centred": Centred(operator, coding)}
            missing = missing_of(operator, packed, threads=case["threads"], library=library.library)
            if missing is not None:
                operators["imputed"] = Centred(operator, coding, missing)
            if wrong := _verify(doc, case, operators, BlockCentred(packed, coding), oracle):
                return doc.wrong(wrong)
            with surroundings.watched(doc, case["threads"]):
                _in_turn(doc, case, operators, oracle, files.process)
        except (MemoryError, DeviceLost) as error:
            return doc.broken(error)
    doc.add("peak_rss", measure.peak_rss(), "B", phase="memory")
    operator.close()
    return doc


def _verify(
    doc: Document, case: Case, operators: dict[str, Operator], reference: BlockCentred, oracle: Oracle
) -> str | None:
    """Compare the last of `operators` with W decoded by numpy; the sentence that says what is wrong, or None.

    The last is the imputed one, or the centred one where no call is missing; of missing calls as 0 there is no W.
    """
    method = list(operators)[-1]
    of_kernel = kernels.load(case["kernel"]).allowed_error(case["dtype"], case["target"])
    problems = []
    for direction, (given, raw) in DIRECTIONS.items():
        every_wanted = getattr(reference, direction)(oracle.normals[given][:, : max(case["k"])])
        for k in case["k"]:
            found = products.product(operators[method], oracle, direction, k, case["dtype"])()
            wanted = every_wanted[:, :k]
            largest = max(np.abs(wanted).max(), np.finfo(float).tiny)
            error = float(np.abs(found - wanted).max() / largest)
            doc.add("rel_error", error, "1", phase="verify", method=method, direction=direction, k=k)
            # Centring takes away from the entries, not from the error.
            allowed = TOLERANCE + of_kernel * np.abs(oracle.normals[raw][:, :k]).max() / largest
            if not error <= allowed:
                problems.append(
                    f"{method} {direction} with k = {k}: relative error {error:.2g} (allowed {allowed:.0e})"
                )
    return "; ".join(problems) or None


def _in_turn(doc: Document, case: Case, operators: dict[str, Operator], oracle: Oracle, process: int) -> None:
    order = order_of(case, process)
    for k, direction in shuffled(case, process):
        calls = [
            (products.product(operator, oracle, direction, k, case["dtype"]), {"method": method})
            for method, operator in operators.items()
        ]
        in_turn(doc, calls, order, case["threads"], direction=direction, k=k)
