"""Compile CUDA C++ for one architecture with NVIDIA's NVRTC, which needs no GPU.

A compilation is kept in the cache folder by its text and options. One whose registers do not suffice, so that
variables go through memory, is refused: such a kernel would be slow without saying so.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.cache import cache_folder
from bench.errors import BenchError
from bench.record import atomic_path, write_json

HERE = Path(__file__).parent
EXTRAS = "install the extra cuda12 or cuda13, whichever your driver takes (docs/gpu.md)"
# One kernel's lines in what ptxas says; what it uses comes after its name.
COMPILED = re.compile(
    r"entry function '(?P<name>\w+)'.*?(?P<stack>\d+) bytes stack frame, (?P<stored>\d+) bytes spill stores, "
    r"(?P<loaded>\d+) bytes spill loads.*?Used (?P<registers>\d+) registers(?:.*?(?P<shared>\d+) bytes smem)?",
    re.DOTALL,
)


@dataclass(frozen=True)
class Resources:
    """What a thread of a kernel uses, as ptxas reports it. spilled: bytes stored to and loaded from memory."""

    registers: int
    spilled: int
    stack: int


@dataclass(frozen=True)
class Cubin:
    """Machine code for one architecture, in a file. kernels: name → what it uses."""

    file: Path
    kernels: dict[str, Resources]


def lacks() -> str | None:
    """Why nothing can be compiled here, in words; None if it can."""
    try:
        version()
    except BenchError as error:
        return str(error)
    return None


def lacks_headers() -> str | None:
    """Why CuPy cannot compile its own kernels here, for sums and copies, in words; None if it can."""
    if importlib.import_module("cuda.pathfinder").find_nvidia_header_directory("cudart") is None:  # as CuPy asks
        return f"the headers of CUDA's runtime, which CuPy needs, are not installed; {EXTRAS}"
    return None


def architectures() -> frozenset[str]:
    """What the installed NVRTC compiles for, such as sm_80."""
    nvrtc = _nvrtc()
    found = _checked(nvrtc.nvrtcGetSupportedArchs())[0]
    return frozenset(f"sm_{number}" for number in found)


def compiled(source: Path, arch: str, macros: Mapping[str, int], headers: Mapping[str, str] | None = None) -> Cubin:
    """`source` for `arch` with `macros`, from the cache if it was compiled before.

    headers: name → text of headers that are no files. BenchError: no NVRTC, an architecture that it does not know, an
    error in the source, registers that spill.
    """
    texts = {file.name: file.read_text() for folder in (HERE, source.parent) for file in sorted(folder.glob("*.h"))}
    texts |= headers or {}
    options = ("-std=c++17", f"-arch={arch}", "--ptxas-options=-v", *(f"-D{k}={v}" for k, v in macros.items()))
    what = (version(), options, source.read_text(), texts)
    name = f"{source.stem}-{arch}-{hashlib.sha256(repr(what).encode()).hexdigest()[:24]}"
    file, facts = cache_folder() / "cuda" / f"{name}.cubin", cache_folder() / "cuda" / f"{name}.json"
    if not facts.exists():  # written last
        code, log = _compile(source, arch, options, texts)
        made = resources(log)
        _refuse_spills(made, f"{source.name} for {arch}")
        with atomic_path(file) as tmp:
            tmp.write_bytes(code)
        write_json(facts, {k: asdict(v) for k, v in made.items()})
    return Cubin(file, {k: Resources(**v) for k, v in json.loads(facts.read_text()).items()})


def _refuse_spills(kernels: dict[str, Resources], where: str) -> None:
    for name, used in kernels.items():
        if used.spilled:
            raise BenchError(
                f"{where}: {name} needs more than its {used.registers} registers and moves {used.spilled} bytes "
                "through memory; give it fewer columns"
            )


def _compile(source: Path, arch: str, options: tuple[str, ...], headers: Mapping[str, str]) -> tuple[bytes, str]:
    """The machine code, and what the compiler says."""
    nvrtc = _nvrtc()
    if arch.rstrip("a") not in architectures():
        known = ", ".join(sorted(architectures(), key=lambda a: int(a[3:])))
        raise BenchError(f"NVRTC {version()} does not compile for {arch}; it knows {known}")
    texts, names = [t.encode() for t in headers.values()], [n.encode() for n in headers]
    program = _checked(
        nvrtc.nvrtcCreateProgram(source.read_text().encode(), source.name.encode(), len(names), texts, names)
    )[0]
    status = nvrtc.nvrtcCompileProgram(program, len(options), [o.encode() for o in options])[0]
    log = bytearray(_checked(nvrtc.nvrtcGetProgramLogSize(program))[0])
    _checked(nvrtc.nvrtcGetProgramLog(program, log))
    said = log.decode(errors="replace").strip("\0\n ")
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        errors = [line for line in said.splitlines() if "error" in line] or [said or status.name]
        raise BenchError(f"{source.name} for {arch}: NVRTC {version()} says: {errors[0].strip()}")
    code = bytearray(_checked(nvrtc.nvrtcGetCUBINSize(program))[0])
    _checked(nvrtc.nvrtcGetCUBIN(program, code))
    nvrtc.nvrtcDestroyProgram(program)
    return bytes(code), said


def resources(log: str) -> dict[str, Resources]:
    """kernel → what it uses, of what ptxas says with -v."""
    found = {}
    for part in re.split(r"(?=Compiling entry function)", log):
        if match := COMPILED.search(part):
            spilled = int(match["stored"]) + int(match["loaded"])
            found[match["name"]] = Resources(int(match["registers"]), spilled, int(match["stack"]))
    return found


def version() -> str:
    """Of NVRTC, such as 13.0. BenchError: it is not installed."""
    major, minor = _checked(_nvrtc().nvrtcVersion())
    return f"{major}.{minor}"


def _nvrtc() -> Any:
    """NVIDIA's binding of NVRTC. BenchError: it, or the library, is not installed."""
    try:
        nvrtc = importlib.import_module("cuda.bindings.nvrtc")
        nvrtc.nvrtcVersion()
    except ImportError:
        raise BenchError(f"the package cuda-bindings is not installed; {EXTRAS}") from None
    except RuntimeError as error:  # the binding is there, the library is not
        raise BenchError(f"NVRTC, the CUDA compiler, is not installed ({_first_line(error)}); {EXTRAS}") from None
    return nvrtc


def _checked(result: tuple) -> tuple:
    """What a function of the binding returned, after its status."""
    status, *values = result
    if status.value:
        raise BenchError(f"NVRTC: {status.name}")
    return tuple(values)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
