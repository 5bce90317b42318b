"""The kernels' CUDA C++ as a shared library for this processor, in the place of NVRTC's machine code."""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from bench.cache import cache_folder
from bench.errors import BenchError
from bench.kernels._cuda import nvrtc
from bench.record import atomic_path

HERE = Path(__file__).parent
KERNEL = re.compile(r"__global__ void(?:\s+__launch_bounds__\([^)]*\))?\s+(\w+)\(")


def compiled(
    source: Path, arch: str, macros: Mapping[str, int], headers: Mapping[str, str] | None = None, *, text: str = ""
) -> nvrtc.Cubin:
    """As bench.kernels._cuda.nvrtc.compiled. text: in the place of the source's own, for planted faults."""
    text = text or source.read_text()
    files = [*HERE.glob("*.h"), HERE / "launcher.cc", *nvrtc.HERE.glob("*.h"), *source.parent.glob("*.h")]
    what = (text, sorted(macros.items()), [file.read_text() for file in sorted(files)])
    name = f"{source.stem}-{hashlib.sha256(repr(what).encode()).hexdigest()[:24]}"
    library = cache_folder() / "emulated" / f"{name}.so"
    if not library.exists():
        names = KERNEL.findall(text)
        with atomic_path(library.with_suffix(".cu")) as made:
            made.write_text(text)
        with atomic_path(library) as tmp:
            command = [
                "g++", "-O1", "-std=c++17", "-w", "-shared", "-fPIC", "-DBENCH_EMULATED",
                f"-I{HERE}", f"-I{nvrtc.HERE}", f"-I{source.parent}", f'-DSOURCE="{library.with_suffix(".cu")}"',
                f"-DKERNELS={' '.join(f'X({kernel})' for kernel in names)}",
                *(f"-D{key}={value}" for key, value in macros.items()), str(HERE / "launcher.cc"), "-o", str(tmp),
            ]  # fmt: skip
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise BenchError(done.stderr)
    return nvrtc.Cubin(library, {})
