"""The bars of the regression gate, measured: python tests/regression/bars.py [--compare 20] [--bars 1234].

1. Comparisons of a revision with itself, two busy processes beside them: none may say `slower`.
2. 5 % more instructions in an inner loop, in each native kernel: the counts catch each.
3. Half of an inner loop's work done twice, in each native kernel: paired times catch each, with the machine idle and
   with two busy processes.
4. One whole gate, every kernel that runs here: its minutes.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

from injections import FIVE_PERCENT, HALF_AGAIN, commit_all, copy_checkout, inject

from bench.measure import CLOCK
from bench.regression.gate import Comparison, Settings, compare
from bench.regression.revisions import revision


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Processes that do nothing but use a core."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def run(base: str, head: str, tree: Path, **settings: object) -> Comparison:
    folder = tree / "results"
    sides = (revision(ref, tree, folder) for ref in (base, head))
    return compare(*sides, Settings(**settings), folder, out=io.StringIO())  # type: ignore[arg-type]


def of_time(made: Comparison) -> Counter[str]:
    return Counter(finding.verdict for finding in made.findings if finding.gate == "time")


def identical(tree: Path, commit: str, comparisons: int, kernels: tuple[str, ...]) -> bool:
    """Bar 1. The sides are two commits with the same sources: each has a tree and builds of its own."""
    (tree / "README").write_text("another commit\n")
    other = commit_all(tree, "the same again")
    told: Counter[str] = Counter()
    ratios: list[float] = []
    for i in range(comparisons):
        with busy(2):
            made = run(commit, other, tree, kernels=kernels, k=(1, 10), gates=("counters", "time"), seed=i)
        told.update(finding.verdict for finding in made.findings)
        ratios += [f.ratio for f in made.findings if f.gate == "time" and f.ratio]
        slower = [f.reason for f in made.findings if f.verdict in ("slower", "wrong")]
        print(f"  {i + 1}: {dict(of_time(made))} {made.seconds:.0f} s {slower}", flush=True)
    print(f"identical builds under load: {dict(told)} in {comparisons} comparisons; ratios of CPU time "
          f"{min(ratios):.3f} to {max(ratios):.3f}")  # fmt: skip
    return not told["slower"] and not told["wrong"]


def five_percent(folder: Path) -> bool:
    """Bar 2."""
    caught = 0
    for kernel, changes in FIVE_PERCENT.items():
        tree = copy_checkout(folder / f"five-{kernel}")
        commit = commit_all(tree, "before")
        inject(tree, changes)
        made = run(commit, ".", tree, kernels=(kernel,), gates=("counts",))
        more = [f"{f.ratio - 1:+.1%}" for f in made.findings if f.metric == "instructions" and f.ratio]
        caught += made.verdict == "slower"
        print(f"  {kernel}: {made.verdict}, instructions {', '.join(more)}", flush=True)
    print(f"5 % more instructions in the inner loop: {caught} of {len(FIVE_PERCENT)} caught by the counts")
    return caught == len(FIVE_PERCENT)


def half_again(folder: Path, load: int) -> bool:
    """Bar 3."""
    caught = 0
    for kernel, changes in HALF_AGAIN.items():
        tree = copy_checkout(folder / f"half-{kernel}-{load}")
        commit = commit_all(tree, "before")
        inject(tree, changes)
        with busy(load):
            made = run(commit, ".", tree, kernels=(kernel,), k=(10,), gates=("time",))
        ratios = [f"× {f.ratio:.2f} {f.verdict}" for f in made.findings if f.ratio]
        caught += made.verdict == "slower"
        print(f"  {kernel}: {made.verdict}, {', '.join(ratios)}", flush=True)
    print(f"half of the inner loop twice, {load} busy processes: {caught} of {len(HALF_AGAIN)} caught by times")
    return caught == len(HALF_AGAIN)


def whole(tree: Path, commit: str) -> bool:
    """Bar 4, nothing built beforehand."""
    start = CLOCK.wall()
    made = run(commit, ".", tree)
    minutes = (CLOCK.wall() - start) / 60
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = (used.ru_utime + used.ru_stime + CLOCK.cpu()) / 60
    told = dict(Counter(f.verdict for f in made.findings))
    print(f"a whole gate: {minutes:.1f} minutes, {cpu:.1f} of CPU time, {made.verdict}; {told}; {made.skipped}")
    for finding in made.findings:
        if finding.verdict != "same":
            print(f"  {finding.verdict}: {finding.kernel} {finding.direction} {finding.k}: {finding.reason}")
    return minutes <= 10 and made.verdict not in ("slower", "wrong")


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--compare", type=int, default=20, help="comparisons of identical builds")
    options.add_argument("--kernels", default="auto,decompress,dense_blas", help="that these compare")
    options.add_argument("--bars", default="1234", help="which of the bars")
    options.add_argument("--loads", default="0,2", help="busy processes beside the slowdowns that are timed")
    given = options.parse_args()
    held = []
    with tempfile.TemporaryDirectory() as scratch:
        tree = copy_checkout(Path(scratch) / "same")
        commit = commit_all(tree, "the same")
        if "4" in given.bars:
            held.append(whole(tree, commit))
        if "2" in given.bars:
            held.append(five_percent(Path(scratch)))
        if "3" in given.bars:
            held += [half_again(Path(scratch), int(load)) for load in given.loads.split(",")]
        if "1" in given.bars:
            held.append(identical(tree, commit, given.compare, tuple(given.kernels.split(","))))
    print("all bars hold" if all(held) else "NOT ALL BARS HOLD")
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
