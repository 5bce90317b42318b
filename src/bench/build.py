"""Compile a declared kernel for one target, and say how it was done."""

from __future__ import annotations

import hashlib
import shlex
import shutil
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import PACKAGE, kernels
from bench.cache import cache_folder
from bench.errors import BenchError
from bench.kernels import Native
from bench.machine import this_machine
from bench.record import atomic_path, read_json, sha256_of, write_json, write_text

ALWAYS = ("-std=c++17", "-shared", "-fPIC", "-fopenmp", "-Wall")
AVX512 = ("-mavx512f", "-mavx512bw", "-mfma", "-mbmi2", "-mprefer-vector-width=512")


def _jax_headers() -> Path:
    import jax  # takes half a second: only where this library is compiled or asked for

    return Path(jax.ffi.include_dir())


LIMITS = Native(
    source="limits.cc",
    targets={
        "scalar": ("-O2",),
        "avx2": ("-O3", "-mavx2", "-mfma", "-mbmi2"),
        "avx512": ("-O3", *AVX512),
        "avx512vnni": ("-O3", "-mavx512vnni", *AVX512),
    },
)
MISSING = Native(
    source="kernels/_missing/missing.cc",
    targets={"scalar": ("-O3",), "avx2": ("-O3", *kernels.AVX2), "avx512": ("-O3", *kernels.AVX512)},
    shares=("isa.h",),
)
GRAM = Native(
    source="kernels/_gram/gram.cc",
    targets={
        "scalar": ("-O2",),
        "avx2": ("-O3", "-mavx2"),
        "avx512": ("-O3", "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512vbmi", "-mprefer-vector-width=512"),
    },
    shares=("isa.h",),
)
PEDIGREE = Native(
    source="kernels/_pedigree/pedigree.cc",
    targets={"scalar": ("-O3",), "avx2": ("-O3", *kernels.AVX2)},
    shares=("isa.h", *(f"_pedigree/{name}.h" for name in ("counts", "incomplete", "inverse"))),
)
GENEDROP = Native(
    source="kernels/_genedrop/genedrop.cc",
    targets={
        "scalar": ("-O3",),
        "avx2": ("-O3", "-mavx2"),
        "avx512": ("-O3", "-mavx512f", "-mprefer-vector-width=512"),
    },
    shares=("isa.h",),
)
JAX = Native(source="kernels/_jax/bridge.cc", targets={"scalar": ("-O2",)}, shares=("isa.h",), headers=_jax_headers)
# Libraries that are no kernels; their sources lie below the package.
OTHERS = {"limits": LIMITS, "missing": MISSING, "gram": GRAM, "pedigree": PEDIGREE, "genedrop": GENEDROP, "jax": JAX}


@dataclass(frozen=True)
class Build:
    """The outcome of compiling one target: the content of build.json.

    library: the shared library, beside build.json; None when status is "refused".
    """

    name: str
    target: str
    status: str
    reason: str | None = None
    library: Path | None = None
    compiler: str = ""
    version: str = ""
    flags: str = ""
    library_hash: str = ""
    source_hash: str = ""

    @classmethod
    def read(cls, path: Path) -> Build:
        fields = read_json(path)
        library = path.parent / fields["library"] if fields["library"] else None
        if library is not None and not library.exists():
            raise BenchError(f"{library}: the compiled kernel is gone; delete {path} and run again")
        return cls(**fields | {"library": library})

    def write(self, path: Path) -> None:
        write_json(path, asdict(self) | {"library": self.library and self.library.name})


def declared(name: str) -> tuple[Native, Path]:
    """How kernel `name`, or one of OTHERS, is compiled, and its source file."""
    if name in OTHERS:
        return OTHERS[name], PACKAGE / OTHERS[name].source
    native = kernels.load(name).native
    if native is None:
        raise BenchError(f"kernel {name} is not native: there is nothing to compile")
    return native, kernels.HERE / name / native.source


def sources(name: str) -> list[str]:
    """The files that the library of kernel `name`, or one of OTHERS, is compiled from."""
    if name in OTHERS:
        native = OTHERS[name]
        foreign = sorted(map(str, native.headers().rglob("*.h"))) if native.headers else []
        return [str(PACKAGE / native.source), *(str(kernels.HERE / header) for header in native.shares), *foreign]
    return [*kernels.sources(name), *map(str, kernels.HEADERS)]


def build(name: str, target: str, folder: Path, *, compiler: str = "g++", flags: tuple[str, ...] = ()) -> Build:
    """Compile kernel `name`, or one of OTHERS, for `target` into `folder`, with a build.json and a build.log.

    flags: appended to the target's own. A missing or failing compiler gives status "refused" with the
    reason in words: the kernel's rows carry it, and the rest of a run goes on.
    """
    native, source = declared(name)
    if target not in native.targets:
        raise BenchError(f"{name} has no target {target!r}; it has {', '.join(native.targets)}")
    headers = (f"-isystem{native.headers()}",) if native.headers else ()
    options = (*ALWAYS, *native.targets[target], f"-I{kernels.HERE}", *headers, *flags)
    shown = " ".join(o for o in options if not o.startswith(("-I", "-isystem")))
    made = _compile(name, target, folder, compiler, source, options, shown, sha256_of(sources(name)))
    made.write(folder / "build.json")
    return made


def _compile(
    name: str,
    target: str,
    folder: Path,
    compiler: str,
    source: Path,
    options: tuple[str, ...],
    shown: str,
    source_hash: str,
) -> Build:
    command, version = shlex.split(compiler), compiler_version(compiler)
    if not version:
        reason = (
            f"no C++ compiler {compiler!r} on this machine; install g++ or name another one in config key `compiler`"
        )
        return Build(name, target, "refused", reason, compiler=compiler, flags=shown, source_hash=source_hash)
    library, log = folder / f"{name}.so", folder / "build.log"
    try:
        with atomic_path(library) as tmp:
            _run([*command, *options, str(source), "-o", str(tmp)], log)
    except _CompilerFailed as failure:
        library.unlink(missing_ok=True)
        reason = f"{compiler} failed on {name}/{target}: {failure} (all of it: {log})"
        return Build(name, target, "refused", reason, None, compiler, version, shown, source_hash=source_hash)
    return Build(name, target, "ok", None, library, compiler, version, shown, sha256_of([library]), source_hash)


def installed(name: str, target: str | None = None, *, compiler: str = "g++") -> Build:
    """Kernel `name`, or one of OTHERS, compiled at its first use on this machine and kept in `cache_folder`.

    target: None takes the widest that this machine runs. Another source, compiler or flag is another file.
    """
    native, _ = declared(name)
    if target is None:
        flags = this_machine().cpu_flags
        target = [t for t in native.targets if all(f in flags for f in native.cpu_flags(t))][-1]
    what = (sha256_of(sources(name)), compiler, compiler_version(compiler), *ALWAYS, *native.targets[target])
    folder = cache_folder() / f"{name}-{target}-{hashlib.sha256(repr(what).encode()).hexdigest()[:16]}"
    if (description := folder / "build.json").exists():
        return Build.read(description)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BenchError(f"{folder}: cannot be made ({error.strerror}); name another in BENCH_CACHE") from None
    made = build(name, target, folder, compiler=compiler)
    if made.status != "ok":
        description.unlink(missing_ok=True)  # another day there may be a compiler
    return made


class _CompilerFailed(Exception):
    """Carries the first error line of a compiler that failed."""


def _run(command: list[str], log: Path) -> None:
    """Run the compiler and keep what it printed in `log`."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    write_text(log, f"{shlex.join(command)}\n{done.stdout}{done.stderr}")
    if done.returncode:
        lines = done.stderr.splitlines()
        errors = [line for line in lines if "error" in line.lower()] or lines
        raise _CompilerFailed(errors[0].strip() if errors else f"exit status {done.returncode}")


def compiler_version(compiler: str) -> str:
    """The first line of `compiler --version`; "" where there is no such compiler."""
    command = shlex.split(compiler)
    if not command or shutil.which(command[0]) is None:
        return ""
    done = subprocess.run([command[0], "--version"], capture_output=True, text=True, check=False)
    return (done.stdout.splitlines() or [command[0]])[0]
