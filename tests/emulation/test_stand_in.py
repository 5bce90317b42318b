"""The stand-in against CuPy itself, where that is installed; it needs no GPU to be asked what it has."""

from __future__ import annotations

import inspect

import cupy_stand_in
import numpy as np
import pytest


@pytest.fixture(scope="module")
def cupy():
    return pytest.importorskip("cupy", reason="CuPy is not installed: extras cuda12 and cuda13")


def test_numpy_functions_of_the_stand_in_are_cupys(cupy):
    for name in sorted(cupy_stand_in.FUNCTIONS):
        found = cupy
        for part in name.split("."):
            found = getattr(found, part)
        assert callable(found)


def test_methods_of_arrays_are_cupys(cupy):
    mine = {n for n in vars(cupy_stand_in.ndarray) if not n.startswith("_")} - {"device", "fence"}
    assert mine <= set(dir(cupy.ndarray))


def test_names_of_modules_are_cupys(cupy):
    for name in ("empty", "zeros", "asarray", "ascontiguousarray", "concatenate", "from_dlpack", "RawModule"):
        assert hasattr(cupy, name)
    for name in vars(cupy_stand_in.cuda):
        assert hasattr(cupy.cuda, name)
    for name in vars(cupy_stand_in.cuda.runtime):
        assert hasattr(cupy.cuda.runtime, name)
    for name in ("free_bytes", "free_all_blocks"):
        assert hasattr(cupy.get_default_memory_pool(), name)
    for mine, theirs in ((cupy_stand_in.Stream, cupy.cuda.Stream), (cupy_stand_in.Event, cupy.cuda.Event)):
        public = {n for n in vars(mine) if not n.startswith("_")} - {"default", "run"}
        assert public <= set(dir(theirs))
    import cupyx

    assert "dtype" in inspect.signature(cupyx.empty_pinned).parameters
    assert {"path"} <= set(inspect.signature(cupy.RawModule.__init__).parameters) or "path" in cupy.RawModule.__doc__


def test_the_stand_in_is_as_strict_as_cupy(gpu):
    there, host = cupy_stand_in.asarray(np.ones(3)), np.ones(3)
    for mixed in (lambda: there + host, lambda: host + there, lambda: np.add(there, host), lambda: np.asarray(there)):
        with pytest.raises(TypeError):
            mixed()
    with pytest.raises(TypeError):
        there[:] = host
    with pytest.raises(TypeError):
        np.subtract(there, there, order="C")
    with pytest.raises(TypeError):
        np.linalg.svd(there)  # that nothing here has been shown to work with
    assert isinstance(np.asarray(host, like=there), cupy_stand_in.ndarray)
    assert float((there * 2.0).sum()) == 6.0


def test_arrays_of_two_devices_do_not_mix(gpu):
    gpu.devices = 2
    first = cupy_stand_in.asarray(np.ones(3))
    with cupy_stand_in.Device(1):
        second = cupy_stand_in.asarray(np.ones(3))
    with pytest.raises(AssertionError, match="another device"):
        first + second


def test_work_on_a_stream_waits_for_its_event(gpu):
    to, host = cupy_stand_in.zeros(3), np.ones(3)
    stream, done = cupy_stand_in.Stream(non_blocking=True), cupy_stand_in.Event()
    with stream:
        to.set(host)
    done.record(stream)
    assert float(to.sum()) == 0.0
    cupy_stand_in.Stream.default.wait_event(done)
    assert float(to.sum()) == 3.0


@pytest.mark.parametrize("kind", ["__array_ufunc__", "__array_function__"])
def test_cupy_arrays_obey_numpys_functions(cupy, kind):
    assert hasattr(cupy.ndarray, kind)
