"""GBLUP by PCG on the GPU: what share of an iteration is inside the products."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench import measure
from bench.errors import BenchError
from bench.gpu import generate
from bench.gpu.session import Session
from bench.kernels._cuda.gpu import Gpu
from bench.kernels.gpu_2bit.matrix import GpuMatrix
from bench.models.gblup import Records, RecordVariance
from bench.relationships.genomic import Centred, Coding, Gram
from bench.solvers.pcg import jacobi, pcg

RATIO = 1.5  # of the residual variance to the genetic one
INSIDE, OUTSIDE = "products", "rest"


class Timed:
    """A matrix on a GPU whose products a stopwatch counts apart."""

    def __init__(self, matrix: Any, watch: measure.Stopwatch):
        self._matrix, self._watch = matrix, watch
        self.shape: tuple[int, int] = matrix.shape
        self.place = matrix.place

    def matmul(self, V: Any) -> Any:
        with self._watch.part(INSIDE):
            return self._matrix.matmul(V)

    def rmatmul(self, U: Any) -> Any:
        with self._watch.part(INSIDE):
            return self._matrix.rmatmul(U)


def coding_of(Z: GpuMatrix) -> Coding:
    """VanRaden's first coding (2008) of genotypes without missing calls, from their sums on the GPU."""
    mean = Z.rmatmul(np.ones((Z.shape[0], 1)))[:, 0] / Z.shape[0]
    return Coding("vanraden1", mean, np.ones(Z.shape[1]), float(np.sum(mean * (1 - mean / 2))))


def time_pcg(session: Session, gpu: Gpu, n: int) -> None:
    """A number of iterations with several right-hand sides at once. A reading of the clock waits for the GPU, so that
    the time of what is between the products is what it is when nothing runs beside it."""
    asked, k = session.settings, session.settings.columns[0]
    kernel = f"gpu_2bit/{gpu.arch}"
    if kernel in session.wrong:
        raise BenchError(f"{kernel}: its products were wrong, so it is not timed")
    place = {
        "phase": "solve",
        "n": n,
        "m": asked.snps,
        "kernel": "gpu_2bit",
        "target": gpu.arch,
        "k": k,
        "solver": "pcg",
    }
    panels = generate.panels(gpu, n, asked.snps, seed=asked.seed)
    Z = GpuMatrix.of_panels(panels, target=gpu.arch)
    coding = coding_of(Z)
    y = np.random.default_rng([asked.seed, 2]).standard_normal((n, k))
    with gpu.used():
        watch = measure.Stopwatch(measure.stream_clock(gpu.cupy.cuda))
        gram = Gram(Centred(Timed(Z, watch), coding), coding.divisor)
        variance = RecordVariance(gram, Records.of(y[:, 0]), RATIO)
        diagonal = np.full(n, 1.0 + RATIO)  # about what G + λI has for individuals that are not inbred
        rhs = Z.place(y)
        how: dict[str, Any] = {"preconditioner": jacobi(diagonal), "rtol": 1e-300}
        pcg(variance, rhs, max_steps=1, **how)  # compilations of CuPy's own kernels
        watch.seconds.clear()
        with watch.part(OUTSIDE):
            found = pcg(variance, rhs, max_steps=asked.steps, **how)
    products, total = watch.seconds[INSIDE], watch.total()
    session.add("solve_time", total, "s", **place)
    session.add("solve_time", products, "s", part=INSIDE, **place)
    session.add("product_share", products / total, "1", **place)
    session.add("iterations", found.steps, "1", **place)
    norms = found.residual_norms
    if not norms[-1].max() < 0.5 * norms[0].max():
        raise BenchError(f"after {found.steps} steps the residual is {norms[-1].max():.1e} of the right-hand side")
