"""How long each kernel of a product took, by events around its launch that nothing waits for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from bench.kernels._cuda.gpu import Gpu

PARTS = {  # kernel → stage
    "largest_magnitudes": "digits",
    "to_digits": "digits",
    "product": "product",
    "dense": "finish",
    "to_doubles": "finish",
}


def seconds(gpu: Gpu, call: Callable[[], object]) -> dict[str, float]:
    """Stage → seconds of its kernels during one `call`, which must use this GPU's kernels."""
    cuda = gpu.cupy.cuda
    with gpu.used(), _noted(gpu) as launches:
        call()
        cuda.get_current_stream().synchronize()
        found: dict[str, float] = {}
        for name, before, after in launches:
            part = PARTS.get(name, name)
            found[part] = found.get(part, 0.0) + cuda.get_elapsed_time(before, after) / 1e3
    return found


@contextmanager
def _noted(gpu: Gpu) -> Iterator[list[tuple[str, Any, Any]]]:
    """The launches inside: (kernel, event before, event after)."""
    launches: list[tuple[str, Any, Any]] = []
    launch = gpu.launch

    def noting(kernel: Any, blocks: tuple[int, ...], *arguments: Any, **how: Any) -> None:
        before, after = gpu.cupy.cuda.Event(), gpu.cupy.cuda.Event()
        before.record()
        launch(kernel, blocks, *arguments, **how)
        after.record()
        launches.append((kernel.name, before, after))

    gpu.launch = noting  # type: ignore[method-assign]
    try:
        yield launches
    finally:
        del gpu.launch
