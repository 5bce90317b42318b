"""2-bit genotypes on an NVIDIA GPU: declared, so that plans and tables name it; it has no code yet.

The targets are CUDA architectures. A machine without a GPU refuses the kernel for that; a machine with one
refuses it because this version cannot run it.
"""

from bench.errors import BenchError
from bench.genotypes.packed import PackedGenotypes
from bench.kernels import GenotypeOperator, Kernel

REASON = "gpu_2bit has no GPU code in this version; use a CPU kernel, such as decompress"


def prepare(packed: PackedGenotypes, *, dtype: str, target: str, threads: int = 1) -> GenotypeOperator:
    raise BenchError(REASON)


KERNEL = Kernel(
    name="gpu_2bit",
    open="bench.kernels.gpu_2bit:prepare",
    targets=("sm_80", "sm_90"),
    dtypes=("f4", "f8"),
    gpu=True,
    bytes_needed=lambda problem: 2 * problem.packed_bytes,
    requires=lambda target: REASON,
    summary="2-bit genotypes in GPU memory; declared only",
)
