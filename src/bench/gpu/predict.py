"""The time that a product cannot undercut: bytes over the measured bandwidth, operations over the measured rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench import kernels
from bench.kernels import Problem
from bench.kernels._cuda.architectures import architecture, padded
from bench.kernels.gpu_2bit import slices_of, wgmma
from bench.kernels.gpu_2bit.geometry import groups

RATE = {"bytes": "copy_peak", "fma": "fma_peak", "int8": "int8_peak"}


def limits(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], float]:
    """{(metric, architecture, "" for those of all)}: the best of the tries of a run's limits."""
    found: dict[tuple[str, str], float] = {}
    for row in rows:
        if row.get("phase") == "limits" and row.get("status", "ok") == "ok":
            key = row["metric"], row.get("target") or ""
            found[key] = max(found.get(key, 0.0), row["value"])
    return found


def amounts(kernel: str, target: str, n: int, m: int, k: int, direction: str) -> dict[str, float]:
    """Bytes that a product moves, and operations that it takes, padding included; vectors are read and written."""
    problem = Problem(n, m, k)
    declared = kernels.load(kernel).work
    assert declared
    work = declared(problem, direction, target)
    work["bytes"] += problem.vector_bytes
    if "int8" in work:
        work["int8"] = float(padded(n)) * padded(m) * _columns(k, slices_of(target), target)
    return work


def _columns(k: int, slices: int, target: str) -> int:
    """Columns of digits, of all groups, up to the width that the tensor cores take."""
    tiles = [-(-width * slices // 8) for _, width in groups(k, slices)]
    if architecture(target) == "sm_90a":
        tiles = [next(t for t in wgmma.TILES if t >= of) for of in tiles]
    return 8 * sum(tiles)


def seconds(work: Mapping[str, float], target: str, limits: Mapping[tuple[str, str], float]) -> dict[str, float]:
    """What each of `amounts` takes at the measured rates; of what was not measured there is none."""
    arch, found = architecture(target), {}
    for what, amount in work.items():
        metric = RATE[what]
        # Multiply-adds in float64 were measured once, of the plain architecture.
        places = arch, arch.rstrip("a"), ""
        rates = [limits[metric, place] for place in places if (metric, place) in limits]
        if rates:
            found[what] = amount / rates[0]
    return found
