"""What `bench machine`, `bench kernels`, `bench plan` and `bench dataset` print."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from bench import kernels, plan
from bench.build import LIMITS, build
from bench.errors import BenchError
from bench.machine import (
    best_limits,
    blas_libraries,
    caches,
    compilers,
    memory_available,
    memory_limit,
    this_machine,
)
from bench.measure import exclusive

if TYPE_CHECKING:
    from bench.config import Config
    from bench.genotypes.dataset import Dataset

PLINK_MISSING = -9


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
        "measured": measured,
    }


def _ceilings(folder: Path, cores: int) -> list[dict[str, Any]]:
    """Medians of the multiply-add peak and read bandwidth, for one thread and for all."""
    limits = best_limits(folder)
    if limits is None:
        return []
    with exclusive():
        return [
            {
                "threads": threads,
                "fma_f8": median(limits.fma_rate(threads=threads, dtype="f8", seconds=0.5)),
                "fma_f4": median(limits.fma_rate(threads=threads, dtype="f4", seconds=0.5)),
                "read": median(limits.read_rate(threads=threads)),
            }
            for threads in sorted({1, cores})
        ]


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
    lines += [
        f"{row['threads']:>2} thread{'s' if row['threads'] > 1 else ' '}  "
        f"{row['fma_f8'] / 1e9:7.1f} G multiply-adds/s in float64, {row['fma_f4'] / 1e9:.1f} in float32; "
        f"reads {row['read'] / 1e9:.1f} GB/s"
        for row in facts["measured"]
    ]
    if not facts["measured"]:
        lines.append("measured    nothing: the limits could not be compiled (is there a C++ compiler?)")
    return "\n".join(lines)


def kernel_lines() -> list[str]:
    """A line per kernel and target, with what the kernel is and whether this machine runs it."""
    here = this_machine()
    lines = []
    for name in kernels.names():
        try:
            kernel = kernels.load(name)
        except BenchError as error:
            lines.append(f"{name}: cannot be loaded: {error}")
            continue
        lines.append(f"{name}: {kernel.summary}" + (f" [{kernel.cite}]" if kernel.cite else ""))
        for target in kernel.all_targets:
            reason = kernel.lacks(target, here)
            lines.append(f"    {target:<10} {'cannot run here: ' + reason if reason else 'runs here'}")
    return lines


def plan_lines(config: Config) -> list[str]:
    """How many cases each experiment has, how many may run here, and why the others cannot."""
    lines = []
    for name, cases in plan.all_cases(config).items():
        reasons = [plan.refusal(case, config) for case in cases.values()]
        refused = Counter(reason for reason in reasons if reason)
        lines.append(f"{name}: {len(cases)} cases, {reasons.count(None)} may run here, {refused.total()} refused")
        lines += [f"    {count:>4} × {reason}" for reason, count in refused.most_common()]
    return lines


def dataset_lines(dataset: Dataset) -> tuple[list[str], list[str]]:
    """What a data set holds, a line per trait; and warnings."""
    if dataset.status != "ok":
        return [f"{dataset.name}: {dataset.reason}"], []
    rate = f"{dataset.missing_rate:.2%} of the calls missing"
    lines, warnings = [f"{dataset.name}: {dataset.n_samples} individuals, {dataset.n_snps} SNPs, {rate}"], []
    for trait, column in dataset.phenotypes().items():
        known = column.dropna()
        spread = f"mean {known.mean():.6g}, {known.min():.6g} to {known.max():.6g}"
        lines.append(f"    {trait}: {len(known)} records, {spread}")
        if count := int((known == PLINK_MISSING).sum()):
            what = f"{PLINK_MISSING} in {count} of {len(known)} records"
            warnings.append(f"{trait} is {what}, which is a value like any other here; write NA for no record")
    return lines, warnings
