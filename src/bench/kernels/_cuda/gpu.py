"""A GPU as the kernels use it: through CuPy, which is imported when the first GPU kernel is opened."""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bench.errors import BenchError, DeviceLost
from bench.kernels._cuda import nvrtc
from bench.kernels._cuda.architectures import ARCHITECTURES, architecture

COUNT, MEMORY = "BENCH_GPUS", "BENCH_GPU_MEMORY"  # environment: how many GPUs, and bytes of each that may be used
THREADS = 256  # of a block
SHARED_AT_ONCE = 48 << 10  # bytes of shared memory that a kernel has without being asked
NO_MEMORY = ("cudaErrorMemoryAllocation", "CUDA_ERROR_OUT_OF_MEMORY", "CUBLAS_STATUS_ALLOC_FAILED")  # pinned as well
NO_LIBRARY = "Failure finding"  # as cuda.pathfinder says that a library of CUDA, such as cuBLAS, is not there
RESERVED = 256 << 20  # of a device's free memory: left to modules and to CuPy's pool


def lacks(target: str) -> str | None:
    """Why this machine cannot run `target`, whose architecture stands before its first "_s", in words."""
    try:
        module = cupy()
        found = capability(module, 0)
    except BenchError as error:
        return str(error)
    needed = ARCHITECTURES[architecture(target)]
    if found != needed:
        name = module.cuda.runtime.getDeviceProperties(0)["name"].decode()
        return f"{target} is for GPUs of compute capability {needed}; this one, {name}, has {found}"
    return nvrtc.lacks() or nvrtc.lacks_headers()


def cupy() -> Any:
    """The module. BenchError: not installed, or no driver, or one that is too old for it, or no GPU."""
    try:
        module = importlib.import_module("cupy")
    except ImportError as error:
        raise BenchError(f"CuPy cannot be imported ({error}); {nvrtc.EXTRAS}") from None
    try:
        count = module.cuda.runtime.getDeviceCount()
    except Exception as error:  # no driver, or one that is older than this CuPy needs
        raise BenchError(f"no GPU can be used: CuPy says {_first_line(error)}; {nvrtc.EXTRAS}") from None
    if not count:
        raise BenchError("no GPU can be used: the driver lists none")
    return module


def pinned(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """A host array that a device reads and writes by itself; of CuPy's pool, which keeps what is given back."""
    return importlib.import_module("cupyx").empty_pinned(shape, dtype)


def pinned_exactly(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """The same, but not of the pool, which rounds up to a power of two: for what is large, and given back at once."""
    cuda, size = importlib.import_module("cupy").cuda, math.prod(shape) * np.dtype(dtype).itemsize
    return np.ndarray(shape, dtype, buffer=cuda.PinnedMemoryPointer(cuda.PinnedMemory(size), 0))


def capability(module: Any, number: int) -> str:
    """The compute capability of GPU `number`, such as 9.0."""
    facts = module.cuda.runtime.getDeviceProperties(number)
    return f"{facts['major']}.{facts['minor']}"


@contextmanager
def told(where: str) -> Iterator[None]:
    """CuPy's errors as ours: MemoryError, which has its own outcome, DeviceLost, and BenchError for a library that is
    not installed. where: the device, in words."""
    try:
        yield
    except Exception as error:
        name = type(error).__name__
        if name == "OutOfMemoryError" or any(word in str(error) for word in NO_MEMORY):
            raise MemoryError(f"{where}: {_first_line(error)}") from None
        if name in {"CUDARuntimeError", "CUDADriverError", "CUBLASError"}:
            raise DeviceLost(f"{where}: CuPy says {_first_line(error)}") from None
        if isinstance(error, ImportError) and NO_LIBRARY in str(error):
            said = f"{where}: a library of CUDA is missing ({_first_line(error)})"
            raise BenchError(f"{said}; {nvrtc.EXTRAS}") from None
        raise


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


class Gpu:
    """One device: its arrays, and kernels compiled for it."""

    def __init__(self, number: int, arch: str):
        self.cupy = cupy()
        self.number, self.arch = number, arch
        self._modules: dict[Any, Any] = {}
        self._kernels: dict[Any, Any] = {}
        with self.used():
            self.multiprocessors = int(self.cupy.cuda.Device(number).attributes["MultiProcessorCount"])

    @contextmanager
    def used(self) -> Iterator[None]:
        """Arrays made inside lie on this device, and kernels run there."""
        with told(f"GPU {self.number}"), self.cupy.cuda.Device(self.number):
            yield

    def free_memory(self) -> int:
        """Bytes that can be allocated: free on the device or in CuPy's pool, and at most BENCH_GPU_MEMORY."""
        with self.used():
            free = self.cupy.cuda.runtime.memGetInfo()[0] + self.cupy.get_default_memory_pool().free_bytes()
        asked = os.environ.get(MEMORY, "")
        if asked and not asked.isdigit():
            raise BenchError(f"{MEMORY}: a number of bytes was needed, found {asked!r}")
        return min(max(0, free - RESERVED), int(asked or free))

    def kernel(
        self, source: Path, name: str, macros: Mapping[str, int] | None = None, headers: dict[str, str] | None = None
    ) -> Any:
        """The kernel `name` of `source`, compiled with `macros` at its first use."""
        key = (source, tuple(sorted((macros or {}).items())))
        with self.used():
            if key not in self._modules:
                made = nvrtc.compiled(source, self.arch, macros or {}, headers)
                self._modules[key] = self.cupy.RawModule(path=str(made.file))
            if (key, name) not in self._kernels:
                self._kernels[key, name] = self._modules[key].get_function(name)
        return self._kernels[key, name]

    def launch(self, kernel: Any, blocks: tuple[int, ...], *arguments: Any, shared: int = 0) -> None:
        """Start `kernel` on the current stream. arguments: arrays, None for a null pointer, integers (64 bits)."""
        if shared > max(SHARED_AT_ONCE, kernel.max_dynamic_shared_size_bytes):
            kernel.max_dynamic_shared_size_bytes = shared
        kernel(blocks, (THREADS,), tuple(map(_argument, arguments)), shared_mem=shared)

    def over(self, kernel: Any, elements: int, *arguments: Any, columns: int = 1) -> None:
        """Start `kernel` with a thread for each of `elements`, once for each of `columns`."""
        self.launch(kernel, (-(-elements // THREADS), columns), *arguments)


def _argument(value: Any) -> Any:
    if value is None:
        return np.uint64(0)
    return np.int64(value) if isinstance(value, int | np.integer) else value


def gpus(target: str) -> list[Gpu]:
    """The first BENCH_GPUS devices (one, if it is not set), which must all be of the target's architecture."""
    module, arch = cupy(), architecture(target)
    there, asked = module.cuda.runtime.getDeviceCount(), os.environ.get(COUNT, "1")
    if not asked.isdigit() or not 1 <= int(asked) <= there:
        raise BenchError(f"{COUNT}: a number of GPUs from 1 to {there} was needed, found {asked!r}")
    for number in range(int(asked)):
        if (found := capability(module, number)) != (needed := ARCHITECTURES[arch]):
            raise BenchError(f"GPU {number} has compute capability {found}, {arch} needs {needed}")
    return [Gpu(number, arch) for number in range(int(asked))]
