"""The program of one side: a process with the `bench` of one revision that does what it is told, a line at a time.

Run as a script, so that `import bench` is the revision's and not the one that this file lies in. It reads one JSON
object a line, {"do": ...} with the arguments of the function of that name, and answers with one.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

GIVEN = {"matmul": ("V", "ZV"), "rmatmul": ("U", "ZtU")}  # input and result of a product, in the oracle
# A solve small enough for every kernel: λ of a heritability of 0.5, the tolerance of the experiment gblup.
RTOL, LAMBDA, STEPS = 1e-8, 1.0, 2000


class Worker:
    """What a side holds between two lines."""

    def __init__(self) -> None:
        self.operator: Any = None
        self.packed: Any = None
        self.inputs: dict[tuple[str, int], Any] = {}

    def describe(self) -> dict[str, Any]:
        """Where the package lies, how it takes time, and its kernels with what this machine lacks for each target."""
        import bench
        from bench import kernels, measure
        from bench.machine import this_machine

        found: dict[str, Any] = {}
        for name in kernels.names():
            kernel = kernels.load(name)
            lacks = {target: kernel.lacks(target, this_machine()) for target in kernel.all_targets}
            found[name] = {"gpu": kernel.gpu, "native": kernel.native is not None, "lacks": lacks}
            if kernel.native:
                found[name]["flags"] = {target: kernel.native.cpu_flags(target) for target in kernel.all_targets}
        return {"package": str(Path(bench.__file__).parent), "protocol": measure.PROTOCOL, "kernels": found}

    def prepare(self, kernel: str, target: str, library: str | None, bed: str, n: int, m: int) -> dict[str, Any]:
        """Open the matrix; the bytes that it holds."""
        from bench import kernels
        from bench.genotypes.packed import PackedGenotypes

        self.packed = PackedGenotypes.open(Path(bed), n_samples=n, n_snps=m)
        self.tolerance = kernels.load(kernel).allowed_error("f8", target)
        self.before = peak()
        path = Path(library) if library else None
        self.operator = kernels.load(kernel).prepare(self.packed, target=target, dtype="f8", library=path, threads=1)
        return {"bytes": self.operator.bytes_held}

    def check(self, oracle: str, direction: str, k: int) -> dict[str, Any]:
        """How many integers of a product are wrong; the error of one of normals, relative to its largest entry."""
        import numpy as np

        given, wanted = GIVEN[direction]
        multiply = getattr(self.operator, direction)
        with np.load(oracle) as file:
            exact = multiply(np.ascontiguousarray(file[f"integers_{given}"][:, :k]))
            mismatches = int((exact != file[f"integers_{wanted}"][:, :k]).sum())
            self.inputs[direction, k] = np.ascontiguousarray(file[f"normals_{given}"][:, :k])
            want = file[f"normals_{wanted}"][:, :k]
        error = float(np.abs(multiply(self.inputs[direction, k]) - want).max() / np.abs(want).max())
        return {"mismatches": mismatches, "error": error, "allowed": self.tolerance}

    def product(self, direction: str, k: int, calls: int) -> dict[str, Any]:
        """Seconds of wall and CPU time of `calls` products, one after the other."""
        from bench import measure

        multiply, X = getattr(self.operator, direction), self.inputs[direction, k]

        def work() -> None:
            for _ in range(calls):
                multiply(X)

        sample = measure.once(work)
        return {"wall": sample.wall, "cpu": sample.cpu}

    def solve(self) -> dict[str, Any]:
        """Iterations of GBLUP's equations, through this kernel, of records that are the same for all revisions."""
        import numpy as np

        from bench.models.gblup import Records, fit_pcg
        from bench.relationships.genomic import Centred, Gram, grm_diagonal, vanraden1
        from bench.relationships.missing import missing_calls

        coding = vanraden1(self.packed)
        gram = Gram(Centred(self.operator, coding, missing_calls(self.packed)), coding.divisor)
        records = Records.of(np.random.default_rng(1).standard_normal(self.packed.n_samples))
        diagonal = grm_diagonal(self.packed, coding)
        _, solution = fit_pcg(gram, records, LAMBDA, diagonal=diagonal, rtol=RTOL, max_steps=STEPS)
        return {"iterations": solution.steps, "converged": bool(solution.converged.all())}

    def usage(self) -> dict[str, Any]:
        """How far the process grew since before the matrix was prepared, in bytes."""
        return {"memory": peak() - self.before}


def peak() -> int:
    """The largest resident set so far, in bytes. ru_maxrss would not do: it starts with that of the parent."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024


def main() -> None:
    # Whatever a library prints goes to stderr: the first stdout is for answers alone.
    with os.fdopen(os.dup(1), "w", buffering=1) as answers:
        os.dup2(2, 1)
        worker = Worker()
        for line in sys.stdin:
            command = json.loads(line)
            try:
                answer = getattr(worker, command.pop("do"))(**command)
            except Exception as error:  # whatever a revision may raise: the other side says what it means
                traceback.print_exc()
                answer = {"failed": f"{type(error).__name__}: {error}".splitlines()[0]}
            answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
