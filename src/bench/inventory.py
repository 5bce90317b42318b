"""What `bench machine`, `bench kernels`, `bench plan` and `bench dataset` print."""

from __future__ import annotations

import tempfile
from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import kernels, plan
from bench.build import LIMITS, build
from bench.errors import BenchError
from bench.experiments.limits import measure_all
from bench.machine import (
    blas_libraries,
    built_limits,
    caches,
    compilers,
    memory_available,
    memory_limit,
    this_machine,
)
from bench.measure import exclusive
from bench.record import Document

# Column of `bench machine` → the measured limit in it.
SHOWN = {
    "float64": "fma_peak f8",
    "float32": "fma_peak f4",
    "int8": "int8_peak",
    "look up 8": "lookup_peak k8 15552",
    "from L2": "lookup_peak k8 124416",
    "look up 4": "lookup_peak k4 7776",
    "read": "read_peak 268435456",
    "copy": "copy_peak 134217728",
}
UNITS = """\
float64, float32, int8: G multiply-adds/s. look up 8, 4: G lookups/s of 8 and 4 doubles in a table that the first
cache holds; from L2: of 8 doubles in eight tables. read, copy: GB/s, a copy counting what it reads and writes."""

if TYPE_CHECKING:
    from bench.config import Config
    from bench.genotypes.dataset import Dataset

PLINK_MISSING = -9
FEWEST_RECORDS = 3  # that GBLUP of a trait takes: one for the intercept, two for the variances
FEW_TARGETS = 3  # so many have a line each


def counted(count: int, what: str) -> str:
    """`1 case`, `2 cases`."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def describe(*, limits: Path | None = None, compiler: str = "g++") -> dict[str, Any]:
    """This machine's facts and measured ceilings, ready for JSON.

    limits: folder with compiled limits/<target>/build.json; None compiles them into a temporary folder.
    """
    here = this_machine()
    with tempfile.TemporaryDirectory() as scratch:
        if limits is None:
            limits = Path(scratch)
            for target in LIMITS.targets:
                build("limits", target, limits / target, compiler=compiler)
        measured = _ceilings(limits, here.cores)
    interesting = ("avx", "fma", "sse4", "bmi", "gfni", "amx", "asimd", "sve")
    return {
        "host": here.host,
        "cpu": here.cpu,
        "cores": here.cores,
        "flags": sorted(f for f in here.cpu_flags if f.startswith(interesting)),
        "caches": caches(),
        "memory": memory_limit(),
        "memory_available": memory_available(),
        "blas": blas_libraries(),
        "compilers": compilers(),
        "gpus": list(here.gpus),
        "driver": here.driver,
        "gpu_memory": here.gpu_memory,
        "gpu_builds": [
            f"{name}/{target}"
            for name in kernels.names()
            if (kernel := kernels.load(name)).gpu
            for target in kernel.all_targets
            if kernel.lacks(target, here) is None
        ],
        "measured": measured,
    }


def _ceilings(folder: Path, cores: int) -> list[dict[str, Any]]:
    """The best try of every limit, per target that runs here, for one thread and for all; a limit is named with
    what it was measured on, such as "lookup_peak k8 15552"."""
    doc = Document({})
    if not (builds := built_limits(folder)):
        return []
    with exclusive():
        measure_all(doc, builds, sorted({1, cores}))
    found: dict[tuple[str, int], dict[str, float]] = {}
    for row in doc.rows:
        marks = [f"k{row['k']}" if "k" in row else "", row.get("dtype", ""), str(row.get("size", ""))]
        name = " ".join([row["metric"], *filter(None, marks)])
        best = found.setdefault((row["target"], row["threads"]), {})
        best[name] = max(row["value"], best.get(name, 0.0))
    return [{"target": target, "threads": threads, **best} for (target, threads), best in found.items()]


def to_text(facts: dict[str, Any]) -> str:
    """`describe` for the terminal."""
    cache = ", ".join(f"{name} {size >> 10:,} KiB" for name, size in facts["caches"].items())
    blas = "; ".join(f"{b['internal_api']} {b['version']} ({b['architecture']})" for b in facts["blas"])
    compilers = "; ".join(f"{name} {version}" for name, version in facts["compilers"].items())
    lines = [
        f"CPU         {facts['cpu']}, {facts['cores']} cores",
        f"features    {' '.join(facts['flags'])}",
        f"caches      {cache or 'not readable'}",
        f"memory      {facts['memory'] / 1e9:.1f} GB, {facts['memory_available'] / 1e9:.1f} GB free",
        f"BLAS        {blas or 'none found'}",
        f"compilers   {compilers or 'none found'}",
        f"GPUs        {', '.join(facts['gpus']) or 'none'}",
    ]
    if not facts["measured"]:
        return "\n".join([*lines, "measured    nothing: the limits could not be compiled (is there a C++ compiler?)"])
    lines += ["", f"{'target':<11}{'threads':>8}" + "".join(f"{name:>{len(name) + 2}}" for name in SHOWN)]
    for row in facts["measured"]:
        values = "".join(f"{row[limit] / 1e9:>{len(name) + 2}.1f}" for name, limit in SHOWN.items())
        lines.append(f"{row['target']:<11}{row['threads']:>8}{values}")
    return "\n".join([*lines, "", UNITS])


def kernel_lines() -> list[str]:
    """A line per kernel, which says what it is, and a line per target: whether this machine runs it. Many targets
    that lack the same have one line."""
    here = this_machine()
    lines = []
    for name in kernels.names():
        try:
            kernel = kernels.load(name)
        except BenchError as error:
            lines.append(f"{name}: cannot be loaded: {error}")
            continue
        lines.append(f"{name}: {kernel.summary}" + (f" [{kernel.cite}]" if kernel.cite else ""))
        said = [(target, kernel.lacks(target, here)) for target in kernel.all_targets]
        for reason, of in groupby(said, key=lambda pair: pair[1]):
            targets = [target for target, _ in of]
            if reason and len(targets) > FEW_TARGETS:  # a GPU kernel without a GPU
                targets = [f"{targets[0]} to {targets[-1]}, {len(targets)} targets:"]
            lines += [
                f"    {target:<10} {f'cannot run here: {reason}' if reason else 'runs here'}" for target in targets
            ]
    return lines


def plan_lines(config: Config) -> list[str]:
    """How many cases each experiment has, how many may run here, and why the others cannot."""
    lines = []
    for name, cases in plan.all_cases(config).items():
        reasons = [plan.refusal(case, config) for case in cases.values()]
        refused = Counter(reason for reason in reasons if reason)
        lines.append(
            f"{name}: {counted(len(cases), 'case')}, {reasons.count(None)} may run here, {refused.total()} refused"
        )
        lines += [f"    {count:>4} × {reason}" for reason, count in refused.most_common()]
    return lines


def dataset_lines(dataset: Dataset) -> tuple[list[str], list[str]]:
    """What a data set holds, a line per trait; and warnings."""
    if dataset.status != "ok":
        return [f"{dataset.name}: {dataset.reason}"], []
    rate = f"{dataset.missing_rate:.2%} of the calls missing"
    lines, warnings = [f"{dataset.name}: {dataset.n_samples} individuals, {dataset.n_snps} SNPs, {rate}"], []
    table = dataset.records()[list(dataset.traits)] if dataset.records_path else dataset.phenotypes()
    for trait, column in table.items():
        known = column.dropna()
        spread = f"mean {known.mean():.6g}, {known.min():.6g} to {known.max():.6g}"
        lines.append(f"    {trait}: {counted(len(known), 'record')}, {spread}")
        if len(known) < FEWEST_RECORDS:
            warnings.append(f"{trait} has {counted(len(known), 'record')}; GBLUP needs at least {FEWEST_RECORDS}")
        if count := int((known == PLINK_MISSING).sum()):
            what = f"{PLINK_MISSING} in {count} of {len(known)} records"
            warnings.append(f"{trait} is {what}, which is a value like any other here; write NA for no record")
    return lines, warnings
