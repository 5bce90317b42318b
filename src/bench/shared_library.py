"""Load a library that this package compiled, if it is the one that was meant and this processor runs it."""

from __future__ import annotations

import ctypes as ct
from pathlib import Path
from typing import Any

from bench.errors import BenchError

POINTER, SIZE, INT = ct.c_void_p, ct.c_size_t, ct.c_int
Signatures = dict[str, tuple[Any, list[Any]]]  # function → type of its result, types of its arguments


def load(library: Path, kind: str, signatures: Signatures, *, prefix: str, build: str) -> ct.CDLL:
    """`library` with its functions declared. kind: what it has to be, in words; build: the command that makes it.

    PREFIX_runs() says whether the processor has the instructions that it was compiled for (kernels/isa.h).
    BenchError: no shared library, one without these functions, or one for another processor.
    """
    try:
        lib = ct.CDLL(str(library))
        for name, (result, arguments) in {f"{prefix}_runs": (INT, []), **signatures}.items():
            function = getattr(lib, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise BenchError(f"{library}: not a {kind} library ({error}); build it with `{build}`") from None
    if not getattr(lib, f"{prefix}_runs")():
        raise BenchError(f"{library}: compiled for instructions that this processor lacks; build another target")
    return lib


def optional(lib: ct.CDLL, signature: Signatures) -> Any | None:
    """A function that a library may lack, with its types declared; None if it does."""
    ((name, (result, arguments)),) = signature.items()
    function = getattr(lib, name, None)
    if function is not None:
        function.restype, function.argtypes = result, arguments
    return function


def address(function: Any) -> int:
    """Where a function of a loaded library lies, for a caller in C."""
    found = ct.cast(function, POINTER).value
    assert found is not None
    return found
