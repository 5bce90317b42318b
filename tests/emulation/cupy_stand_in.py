"""A stand-in for what kernels and solvers use of CuPy: numpy arrays in a coat that is as strict as CuPy's.

What CuPy refuses is refused: numpy arrays in an operation, implicit copies to the host, arrays of another device.
Kernels are the emulated ones. If `lazy`, work on streams other than the default one waits until an event asks for it.
"""

from __future__ import annotations

import ctypes as ct
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

# numpy functions that reach CuPy through __array_function__; a test holds them against CuPy where it is there. Not
# einsum and linalg.norm: of few long columns CuPy makes them slowly (solvers.operator.column_sums).
FUNCTIONS = {
    "array", "asarray", "ascontiguousarray", "broadcast_to", "column_stack", "concatenate", "copy", "empty",
    "full", "where", "zeros", "zeros_like", "empty_like", "ones_like", "sum",
}  # fmt: skip


class OutOfMemoryError(MemoryError):
    """cupy.cuda.memory's."""


class CUDARuntimeError(RuntimeError):
    """cupy.cuda.runtime's."""


@dataclass
class State:
    """The machine that is stood in for, and what was done on it."""

    capability: str = "9.0"
    devices: int = 1
    free: int = 1 << 30
    shared: int = 227 << 10
    lazy: bool = True
    seed: int = 1
    lost: bool = False
    device: int = 0
    copied: list[int] = field(default_factory=list)  # bytes of each copy between host and device
    launched: list[str] = field(default_factory=list)
    stream: Any = None
    now: float = 0.0  # seconds, as events tell them: a millisecond a launch
    lost_after: int = -1  # launches, then the device is lost; -1: never
    pinned: list[int] = field(default_factory=list)  # bytes of each piece of pinned memory


STATE = State()
FENCE = 64 << 10  # bytes


class ndarray(NDArrayOperatorsMixin):
    """An array of a device."""

    __array_priority__ = 100

    def __init__(self, held: np.ndarray, device: int | None = None, fence: np.ndarray | None = None):
        """fence: bytes after the array's memory that nobody may write."""
        self._held, self.device = held, STATE.device if device is None else device
        self.fence = fence

    shape = property(lambda self: self._held.shape)
    dtype = property(lambda self: self._held.dtype)
    size = property(lambda self: self._held.size)
    ndim = property(lambda self: self._held.ndim)
    nbytes = property(lambda self: self._held.nbytes)
    T = property(lambda self: ndarray(self._held.T, self.device))
    flags = property(lambda self: self._held.flags)

    def __len__(self) -> int:
        return len(self._held)

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def __bool__(self) -> bool:
        return bool(self.get())

    def __float__(self) -> float:
        return float(self.get())

    def __getitem__(self, key: Any) -> ndarray:
        return ndarray(np.asarray(self._held[_opened(key)]), self.device, self.fence)

    def __setitem__(self, key: Any, value: Any) -> None:
        if isinstance(value, np.ndarray):
            raise TypeError("Unsupported type <class 'numpy.ndarray'>")
        STATE.now += 1e-3
        self._held[_opened(key)] = _opened(value)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **options: Any) -> Any:
        if "order" in options:
            raise TypeError("Wrong arguments {'order'}")
        opened = tuple(_strict(x, self.device) for x in inputs)
        if out is not None:
            getattr(ufunc, method)(*opened, out=tuple(_strict(o, self.device) for o in out), **options)
            return out[0]
        return ndarray(np.asarray(getattr(ufunc, method)(*opened, **options)), self.device)

    def __array_function__(self, function: Any, of: Any, arguments: Any, options: dict[str, Any]) -> Any:
        name = f"{function.__module__}.{function.__name__}".removeprefix("numpy.")
        if name not in FUNCTIONS or any(not issubclass(t, ndarray) for t in of):
            return NotImplemented
        making = name in {"array", "asarray"}  # these two take what is not on the device
        options = {key: value for key, value in options.items() if key != "like"}
        opened = [_opened(a) if making else _strict(a, self.device) for a in arguments]
        if making and isinstance(arguments[0], np.ndarray):
            STATE.copied.append(arguments[0].nbytes)
        made = function(*opened, **options)
        if isinstance(made, tuple):
            return tuple(ndarray(np.asarray(m), self.device) for m in made)
        return ndarray(np.array(made) if making else np.asarray(made), self.device)

    def __dlpack__(self, **options: Any) -> Any:
        return self._held.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return 2, self.device

    def get(self, out: np.ndarray | None = None, blocking: bool = True) -> np.ndarray:
        STATE.copied.append(self.nbytes)
        _alive()
        if out is None:
            out = np.empty_like(self._held)
        elif not (out.flags.c_contiguous and out.shape == self.shape and out.dtype == self.dtype):
            raise ValueError("Shape mismatch")
        (_now if blocking else _do)(lambda: np.copyto(out, self._held))
        return out

    def set(self, host: np.ndarray) -> None:
        assert isinstance(host, np.ndarray)
        assert host.shape == self.shape
        STATE.copied.append(host.nbytes)
        _do(lambda: np.copyto(self._held, host))

    def fill(self, value: float) -> None:
        self._held.fill(value)

    def astype(self, dtype: Any, copy: bool = True) -> ndarray:
        return ndarray(self._held.astype(dtype, copy=copy), self.device)

    def reshape(self, *shape: Any) -> ndarray:
        return ndarray(self._held.reshape(*shape), self.device, self.fence)

    def copy(self) -> ndarray:
        return ndarray(self._held.copy(), self.device)

    def view(self, dtype: Any) -> ndarray:
        return ndarray(self._held.view(dtype), self.device)

    def _reduced(name: str) -> Callable[..., ndarray]:
        return lambda self, axis=None: ndarray(np.asarray(getattr(self._held, name)(axis=axis)), self.device)

    sum, all, any, max = map(_reduced, ("sum", "all", "any", "max"))


def _opened(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return type(value)(map(_opened, value))
    return value._held if isinstance(value, ndarray) else value


def _strict(value: Any, device: int) -> Any:
    """The numpy array inside; TypeError for one that is not on the device."""
    if isinstance(value, tuple | list):
        return type(value)(_strict(v, device) for v in value)
    if isinstance(value, np.ndarray) and value.ndim:
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    if isinstance(value, ndarray):
        assert value.device == device, "an array of another device"
        return value._held
    return value


def _poisoned(shape: Any, dtype: Any) -> np.ndarray:
    made = np.empty(shape, dtype)
    made.view(np.uint8).reshape(-1)[:] = 0xA5 if made.size else 0
    return made


def empty(shape: Any, dtype: Any = float) -> ndarray:
    count = int(np.prod(shape)) * np.dtype(dtype).itemsize
    _take(count)
    memory = np.full(count + FENCE, 0xA5, np.uint8)
    return ndarray(memory[:count].view(dtype).reshape(shape), fence=memory[count:])


def zeros(shape: Any, dtype: Any = float) -> ndarray:
    made = empty(shape, dtype)
    made.fill(0)
    return made


def _take(count: int) -> None:
    _alive()
    if count > STATE.free:
        raise OutOfMemoryError(f"Out of memory allocating {count:,} bytes (allocated so far: 0 bytes).")


def asarray(value: Any, dtype: Any = None) -> ndarray:
    if isinstance(value, ndarray) and value.device == STATE.device:
        return value if dtype is None else value.astype(dtype, copy=False)
    if isinstance(value, np.ndarray):
        STATE.copied.append(value.nbytes)
    return ndarray(np.array(_opened(value), dtype))


def ascontiguousarray(value: ndarray, dtype: Any = None) -> ndarray:
    assert isinstance(value, ndarray)
    return ndarray(np.ascontiguousarray(value._held, dtype), value.device)


def concatenate(parts: list[ndarray]) -> ndarray:
    return ndarray(np.concatenate([_strict(p, STATE.device) for p in parts]))


def from_dlpack(value: Any) -> ndarray:
    if value.__dlpack_device__()[0] == 1:
        raise TypeError("CPU arrays cannot be directly imported to CuPy.")
    return ndarray(np.from_dlpack(value))


def _alive() -> None:
    if STATE.lost:
        raise CUDARuntimeError("cudaErrorDeviceUnavailable: CUDA-capable device(s) is/are busy or unavailable")


class Stream:
    """What was asked of it and not done yet."""

    default: ClassVar[Any] = None

    def __init__(self, non_blocking: bool = False):
        self.waiting: list[Callable[[], object]] = []

    def __enter__(self) -> Stream:
        self._before, STATE.stream = STATE.stream, self
        return self

    def __exit__(self, *_: object) -> None:
        STATE.stream = self._before

    def synchronize(self) -> None:
        self.run(len(self.waiting))

    def run(self, until: int) -> None:
        for _ in range(until):
            self.waiting.pop(0)()

    def wait_event(self, event: Event) -> None:
        (self.waiting.append if self is not Stream.default and STATE.lazy else lambda do: do())(event.synchronize)


Stream.default = Stream()


def _do(work: Callable[[], object]) -> None:
    """Now on the default stream, later on another."""
    if STATE.stream not in (None, Stream.default) and STATE.lazy:
        STATE.stream.waiting.append(work)
    else:
        work()


def _now(work: Callable[[], object]) -> None:
    """Once all that waits in the current stream is done."""
    if STATE.stream is not None:
        STATE.stream.synchronize()
    work()


class Event:
    """A place in a stream."""

    def __init__(self) -> None:
        self._work: list[Any] = []
        self._stream: Stream | None = None

    def record(self, stream: Stream | None = None) -> None:
        _alive()
        STATE.now += 1e-5
        self.at = STATE.now
        self._stream = stream or STATE.stream or Stream.default
        self._reached = False
        self._stream.waiting.append(self._pass)
        if self._stream is Stream.default or not STATE.lazy:
            self._stream.synchronize()

    def _pass(self) -> None:
        self._reached = True

    def synchronize(self) -> None:
        while self._stream is not None and not self._reached:
            self._stream.run(1)


class Device:
    """The current device, inside a `with`."""

    def __init__(self, number: int = 0):
        assert 0 <= number < STATE.devices
        self.number = number
        self.attributes = {"MultiProcessorCount": 4}

    def __enter__(self) -> Device:
        self._before, STATE.device = STATE.device, self.number
        return self

    def __exit__(self, *_: object) -> None:
        STATE.device = self._before


class Function:
    """A kernel of an emulated module."""

    def __init__(self, library: ct.CDLL, name: str):
        self._library, self._name = library, name
        self.name = name
        self.max_dynamic_shared_size_bytes = 48 << 10

    def __call__(
        self, grid: tuple[int, ...], block: tuple[int, ...], arguments: tuple[Any, ...], shared_mem: int = 0
    ):
        assert len(block) == 1
        assert shared_mem <= self.max_dynamic_shared_size_bytes <= STATE.shared
        assert all(0 < size < 2**31 for size in grid)
        assert all(size < 65_536 for size in grid[1:])
        fences = [a.fence for a in arguments if isinstance(a, ndarray) and a.fence is not None]
        opened = tuple(_strict(a, STATE.device) if isinstance(a, ndarray) else a for a in arguments)
        STATE.launched.append(self._name)
        STATE.now += 1e-3
        STATE.lost = STATE.lost or len(STATE.launched) == STATE.lost_after
        _alive()
        _do(lambda: self._run(grid, block[0], opened, shared_mem, fences))

    def _run(self, grid: tuple[int, ...], threads: int, arguments: tuple[Any, ...], shared: int, fences: Any) -> None:
        values = []
        for a in arguments:
            if isinstance(a, np.ndarray):
                assert a.flags.c_contiguous
                values.append(ct.c_uint64(a.ctypes.data))
            else:
                assert isinstance(a, np.int64 | np.uint64), a
                values.append(ct.c_int64(int(a)))
        pointers = (ct.c_void_p * len(values))(*(ct.addressof(v) for v in values))
        gy = grid[1] if len(grid) > 1 else 1
        said = self._library.emulated_launch(
            self._name.encode(), grid[0], gy, threads, ct.c_size_t(shared), pointers, int(STATE.lazy), STATE.seed
        )
        assert said is not None, f"no kernel {self._name}"
        assert not said, f"{self._name}: {said.decode()}"
        assert all((fence == 0xA5).all() for fence in fences), f"{self._name} writes past the end of an array"


class RawModule:
    """An emulated compilation."""

    loaded: ClassVar[list[ct.CDLL]] = []

    def __init__(self, path: str):
        self._library = ct.CDLL(path)
        self._library.emulated_launch.restype = ct.c_char_p
        RawModule.loaded.append(self._library)

    def get_function(self, name: str) -> Function:
        return Function(self._library, name)


class _Pool:
    free_bytes = staticmethod(lambda: 0)
    free_all_blocks = staticmethod(lambda: None)
    total_bytes = staticmethod(lambda: 1 << 20)


get_default_memory_pool = get_default_pinned_memory_pool = _Pool


def _properties(number: int) -> dict[str, Any]:
    major, minor = STATE.capability.split(".")
    return {"name": b"Stand-in", "major": int(major), "minor": int(minor), "totalGlobalMem": STATE.free}


def _count() -> int:
    if not STATE.devices:
        raise CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")
    return STATE.devices


def _memory() -> tuple[int, int]:
    _alive()
    return STATE.free + (256 << 20), 1 << 40


def _pinned_memory(size: int) -> np.ndarray:
    STATE.pinned.append(size)
    return _poisoned(size, np.uint8)


cuda = types.SimpleNamespace(
    Device=Device,
    Event=Event,
    Stream=Stream,
    get_current_stream=lambda: STATE.stream or Stream.default,
    get_elapsed_time=lambda one, other: 1e3 * (other.at - one.at),
    runtime=types.SimpleNamespace(
        getDeviceCount=_count,
        getDeviceProperties=_properties,
        memGetInfo=_memory,
        driverGetVersion=lambda: 13000,
        deviceGetPCIBusId=lambda number: f"0000:0{number}:00.0",
    ),
    PinnedMemory=_pinned_memory,
    PinnedMemoryPointer=lambda memory, offset: memory[offset:],
)
__version__ = "0 (stand-in)"


def empty_pinned(shape: Any, dtype: Any = float) -> np.ndarray:
    """cupyx's, of the pool, which rounds up to a power of two."""
    STATE.pinned.append(1 << (int(np.prod(shape)) * np.dtype(dtype).itemsize).bit_length())
    return _poisoned(shape, dtype)
