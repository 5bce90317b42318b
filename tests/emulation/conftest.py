"""A machine with emulated GPUs."""

import sys
import types

import cupy_stand_in
import pytest
from compiler import compiled

from bench.kernels._cuda import nvrtc


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> cupy_stand_in.State:
    """The state of the stand-in: one Hopper GPU, to be changed by the test."""
    monkeypatch.setitem(sys.modules, "cupy", cupy_stand_in)
    monkeypatch.setitem(sys.modules, "cupyx", types.SimpleNamespace(empty_pinned=cupy_stand_in.empty_pinned))
    monkeypatch.setattr(nvrtc, "compiled", compiled)
    monkeypatch.setattr(nvrtc, "lacks", lambda: None)
    monkeypatch.setattr(nvrtc, "lacks_headers", lambda: None)
    monkeypatch.setattr(cupy_stand_in, "STATE", cupy_stand_in.State())
    cupy_stand_in.Stream.default.waiting.clear()
    return cupy_stand_in.STATE
