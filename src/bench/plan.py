"""Turn the configuration into cases, each with a stable id; know before a job starts what cannot run."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import experiments, kernels
from bench.genotypes import cost
from bench.genotypes.spec import Livestock, Simulated
from bench.kernels import Kernel, Problem
from bench.machine import this_machine

if TYPE_CHECKING:
    from bench.config import Config

Case = dict[str, Any]
SLUG_KEYS = (
    "dataset",
    "samples",
    "trait",
    "relationship",
    "variant",
    "preconditioner",
    "kernel",
    "method",
    "target",
    "against",
    "dtype",
    "threads",
)


def case_id(case: Case) -> str:
    """A readable slug and a hash of the whole case; the same case has the same id on every machine."""
    digest = hashlib.sha256(json.dumps(case, sort_keys=True).encode()).hexdigest()[:8]
    shown = [f"t{case[key]}" if key == "threads" else str(case[key]) for key in SLUG_KEYS if case.get(key)]
    return "-".join([*(re.sub(r"[^A-Za-z0-9_.-]+", "_", text.replace("/", "-")) for text in shown), digest])


def expand(experiment: str, axes: dict[str, Iterable[Any]], **common: Any) -> dict[str, Case]:
    """Every combination of `axes` as {id: case}; an axis of tuples spreads over several keys: "kernel,target"."""
    cases = {}
    for values in itertools.product(*axes.values()):
        case: Case = {"experiment": experiment, **common}
        for key, value in zip(axes, values, strict=True):
            keys = key.split(",")
            case.update(zip(keys, value if len(keys) > 1 else [value], strict=True))
        cases[case_id(case)] = case
    return cases


def variants(names: Sequence[str], targets: Sequence[str]) -> list[tuple[str, str]]:
    """(kernel, target) for every kernel; native kernels and those for GPUs only in the builds that `targets` names.

    "best" stands for the last of a kernel's declared targets, the widest, that this machine runs. A kernel for GPUs
    has that one also where `targets` names builds for processors alone.
    """
    pairs = []
    for name in names:
        kernel = kernels.load(name)
        wanted = list(kernel.all_targets)
        if kernel.native or kernel.gpu:
            wanted = [t for t in kernel.all_targets if t in targets or ("best" in targets and t == best(kernel))]
        if kernel.gpu and not wanted:
            wanted = [best(kernel)]
        pairs += [(name, target) for target in wanted]
    return pairs


def best(kernel: Kernel) -> str:
    """The widest target of a kernel that this machine runs; where it runs none, one to be refused."""
    runs = [t for t in kernel.all_targets if kernel.lacks(t, this_machine()) is None]
    return (runs or kernel.all_targets)[-1] if kernel.gpu else (runs or kernel.all_targets[:1])[-1]


def kernels_of(case: Case) -> list[tuple[str, str]]:
    """(kernel, target) of a case; in a paired case its partners follow."""
    named = case["against"].split(",") if "against" in case else []
    partners = [name.partition("/") for name in named]
    return [(case["kernel"], case["target"]), *((name, target) for name, _, target in partners)]


def thread_counts(threads: Iterable[int | str]) -> list[int]:
    """Thread counts with "all" resolved to this machine's cores; duplicates dropped, order kept."""
    cores = this_machine().cores
    return list(dict.fromkeys(cores if t == "all" else int(t) for t in threads))


def all_cases(config: Config) -> dict[str, dict[str, Case]]:
    """{experiment: {id: case}} of every experiment that the configuration names."""
    return {name: experiments.load(name).cases(stanza, config) for name, stanza in config.experiments.items()}


def usable_memory(config: Config) -> int:
    """Bytes that a job may plan with."""
    asked = config.budget.memory_gb
    return int(asked * 1e9) if asked else this_machine().usable_memory


def usable_disk(config: Config) -> int:
    """Bytes that a data set may take."""
    asked = config.budget.disk_gb
    return (
        int(asked * 1e9)
        if asked
        else shutil.disk_usage(
            next(p for p in (Path(config.results).absolute(), *Path(config.results).absolute().parents) if p.exists())
        ).total
    )


def refusal(case: Case, config: Config) -> str | None:
    """Why `case` cannot run here, known from sizes alone; None if it may.

    The sizes of a data set that has yet to be read are not known here: its jobs ask again.
    """
    machine = this_machine()
    pairs = kernels_of(case) if "kernel" in case else []
    for name, target in pairs:
        if reason := kernels.load(name).lacks(target, machine):
            return _said_of(name, target, reason, case)
    if (threads := case.get("threads", 1)) > machine.cores:
        return f"asks for {threads} threads, this machine has {machine.cores} cores"
    if "dataset" not in case:
        return None
    spec, memory, hours = config.datasets[case["dataset"]], usable_memory(config), config.budget.hours
    if reason := cost.refusal(spec, memory=memory, disk=usable_disk(config), hours=hours):
        return f"data set {case['dataset']}: {reason}"
    if not isinstance(spec, Simulated | Livestock):
        return None
    n, k = case.get("samples") or spec.n_samples, max(case.get("k", [1]))
    problem = Problem(n, spec.n_snps, k, case.get("dtype", "f8"), threads)
    for name, target in pairs:
        kernel = kernels.load(name)
        enough = max(memory, kernel.memory_needed(problem)) if "streamed" in case else memory
        if reason := kernel.refuses(problem, target, machine, memory=enough):
            return _said_of(name, target, reason, case)
    return None


def _said_of(name: str, target: str, reason: str, case: Case) -> str:
    """A kernel's reason; a partner's in a pair names it."""
    return f"{name}/{target}: {reason}" if f"{name}/{target}" in case.get("against", "").split(",") else reason
