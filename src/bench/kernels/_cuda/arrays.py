"""Vectors on their way to a GPU and back, of whatever library they are."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from bench.kernels._cuda.gpu import pinned

ON_HOST = 1  # DLPack's kDLCPU


def received(cupy: Any, X: Any, dtype: Any = np.float64) -> Any:
    """X as C-contiguous dtype on the current device: a copy of a host array, another library's there as it is."""
    if not isinstance(X, np.ndarray | cupy.ndarray):
        X = (np if _on_host(X) else cupy).from_dlpack(X)
    return cupy.ascontiguousarray(cupy.asarray(X), dtype=dtype)


def returned(cupy: Any, out: Any, like: Any, dtype: np.dtype) -> Any:
    """`out` of the device as an array of dtype and of the library of `like`; on the host it is there on return."""
    out = out.astype(dtype, copy=False)
    if isinstance(like, np.ndarray):
        return out.get(out=pinned(out.shape, dtype))
    if isinstance(like, cupy.ndarray):
        return out
    if _on_host(like):
        out = out.get(out=pinned(out.shape, dtype))
    else:  # the other library may use the memory of `like` again before this stream has read it
        cupy.cuda.get_current_stream().synchronize()
    # The array API's own word for it: jax.numpy, torch and others have it.
    library = type(like).__module__.partition(".")[0]
    namespace = importlib.import_module({"jaxlib": "jax.numpy", "jax": "jax.numpy"}.get(library, library))
    return namespace.from_dlpack(out)


def _on_host(X: Any) -> bool:
    """Whether another library's array lies in the host's memory: a JAX without CUDA has no others."""
    return X.__dlpack_device__()[0] == ON_HOST
