"""Vectors on their way to a GPU and back, of whatever library they are."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from bench.kernels._cuda.gpu import pinned


def received(cupy: Any, X: Any, dtype: Any = np.float64) -> Any:
    """X as C-contiguous dtype on the current device: a copy of a host array, another library's array as it is."""
    if not isinstance(X, np.ndarray | cupy.ndarray):
        X = cupy.from_dlpack(X)
    return cupy.ascontiguousarray(cupy.asarray(X), dtype=dtype)


def returned(cupy: Any, out: Any, like: Any, dtype: np.dtype) -> Any:
    """`out` of the device as an array of dtype and of the library of `like`; on the host it is there on return."""
    out = out.astype(dtype, copy=False)
    if isinstance(like, np.ndarray):
        return out.get(out=pinned(out.shape, dtype))
    if isinstance(like, cupy.ndarray):
        return out
    # The array API's own word for it: jax.numpy, torch and others have it.
    library = type(like).__module__.partition(".")[0]
    namespace = importlib.import_module({"jaxlib": "jax.numpy", "jax": "jax.numpy"}.get(library, library))
    return namespace.from_dlpack(out)
