"""`python -m bench.gpu.one_product N M K TARGET SEED`: Z V, then Z'U, once, for the tools of profile.py."""

import sys

import numpy as np

from bench.gpu import generate
from bench.kernels._cuda.architectures import architecture
from bench.kernels._cuda.gpu import Gpu
from bench.kernels.gpu_2bit.matrix import GpuMatrix


def main(n: int, m: int, k: int, target: str, seed: int) -> None:
    gpu = Gpu(0, architecture(target))
    Z = GpuMatrix.of_panels(generate.panels(gpu, n, m, seed=seed), target=target)
    random = np.random.default_rng(seed)
    Z.matmul(random.standard_normal((m, k)))
    Z.rmatmul(random.standard_normal((n, k)))


if __name__ == "__main__":
    rows, snps, columns, on, number = sys.argv[1:]
    main(int(rows), int(snps), int(columns), on, int(number))
