"""Other compilers, another architecture, checkers of memory, and libraries that this processor does not run."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from bench import kernels
from bench.build import ALWAYS, OTHERS, build
from bench.errors import BenchError
from bench.genotypes.packed import PackedGenotypes
from bench.kernels._native import NativeMatrix, bind
from bench.machine import this_machine
from bench.shared_library import load

NATIVE = [name for name in kernels.names() if kernels.load(name).native]
CROSS = "aarch64-linux-gnu-g++"
HARNESS = Path(__file__).parent / "harness.cc"
# The header's own definition is weak, but twice in one file is once too often.
FOREIGN = """
#define gmk_runs unused
#include "gmk.h"
#undef gmk_runs
int gmk_abi(void) { return GMK_ABI; }
extern "C" int gmk_runs(void) { return 0; }
void* gmk_prepare(const uint8_t*, size_t, size_t, size_t, int, int) { return nullptr; }
size_t gmk_bytes(const void*) { return 0; }
int gmk_matmul(const void*, const void*, size_t, void*) { return 1; }
int gmk_rmatmul(const void*, const void*, size_t, void*) { return 1; }
void gmk_free(void*) {}
"""


def test_a_library_for_another_processor_is_a_sentence(tmp_path):
    source, library = tmp_path / "foreign.cc", tmp_path / "foreign.so"
    source.write_text(FOREIGN)
    subprocess.run(["g++", *ALWAYS, f"-I{kernels.HERE}", str(source), "-o", str(library)], check=True)
    with pytest.raises(BenchError, match=r"foreign\.so: compiled for instructions that this processor lacks"):
        bind(library)


def test_what_is_no_kernel_library_is_a_sentence(tmp_path):
    (tmp_path / "text.so").write_text("no library")
    for wrong in (tmp_path / "text.so", tmp_path / "absent.so"):
        with pytest.raises(BenchError, match=r"not a kernel library \(.*\); build it with `bench build`"):
            bind(wrong)
    text = FOREIGN.replace("gmk_runs(void) { return 0; }", "gmk_runs(void) { return 1; }")
    for wrong, said in (
        (
            text.replace("return GMK_ABI;", "return GMK_ABI + 1;"),
            "kernel ABI 2, this version needs 1",
        ),
        (text.replace("gmk_", "other_"), "not a kernel library"),
    ):
        (tmp_path / "wrong.cc").write_text(wrong)
        library = tmp_path / f"{len(said)}.so"
        command = ["g++", *ALWAYS, f"-I{kernels.HERE}", str(tmp_path / "wrong.cc")]
        subprocess.run([*command, "-o", str(library)], check=True)
        with pytest.raises(BenchError, match=said):
            bind(library)


LACKED = [
    (name, target)
    for name in [*OTHERS, *NATIVE]
    for target, flags in (OTHERS.get(name) or kernels.load(name).native).targets.items()
    if name != "limits" and any(flag.startswith("-m") for flag in flags)
    if not set((OTHERS.get(name) or kernels.load(name).native).cpu_flags(target)) <= this_machine().cpu_flags
]


@pytest.mark.skipif(not LACKED, reason="this machine runs every target")
@pytest.mark.parametrize(("name", "target"), LACKED)
def test_a_build_that_this_processor_does_not_run_is_a_sentence(name, target, tmp_path):
    made = build(name, target, tmp_path)
    assert made.library, made.reason
    prefix = name if name in OTHERS else "gmk"
    with pytest.raises(BenchError, match="compiled for instructions that this processor lacks"):
        load(made.library, name, {}, prefix=prefix, build="bench build")


@pytest.mark.skipif(shutil.which("clang++") is None, reason="clang++ is not on this machine")
@pytest.mark.parametrize("name", NATIVE)
def test_clang_builds_every_target_and_its_products_are_exact(name, tmp_path):
    native = kernels.load(name).native
    assert native is not None
    rng = np.random.default_rng(3)
    for target in native.targets:
        made = build(name, target, tmp_path / target, compiler="clang++", flags=("-Werror",))
        assert made.library, made.reason
        if kernels.load(name).lacks(target, this_machine()):
            continue
        packed = PackedGenotypes(rng.integers(0, 256, (2100, 321), dtype=np.uint8), 1281)
        Z = np.maximum(packed.dosages(), 0).astype("f8")
        operator = NativeMatrix(packed, dtype="f8", library=made.library, threads=2)
        for k in (1, 4, 11):
            V, U = rng.integers(-9, 10, (2100, k)), rng.integers(-9, 10, (1281, k))
            np.testing.assert_array_equal(operator.matmul(V), Z @ V)
            np.testing.assert_array_equal(operator.rmatmul(U), Z.T @ U)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """(kernel, target, options) → a program that compares the target's products with plain loops."""

    @cache
    def harness(compiler: str) -> Path:
        made = tmp_path_factory.mktemp("harness") / "harness.o"
        subprocess.run([compiler, "-std=c++17", "-Wall", "-O2", "-c", str(HARNESS), "-o", str(made)], check=True)
        return made

    def program(name: str, target: str, *options: str, compiler: str = "g++") -> Path:
        native = kernels.load(name).native
        assert native is not None
        made = tmp_path_factory.mktemp("program") / f"{name}-{target}"
        always = [option for option in ALWAYS if option not in ("-shared", "-fPIC")]
        sources = [str(kernels.HERE / name / native.source), str(harness(compiler))]
        flags = [*always, *native.targets[target], *options, f"-I{kernels.HERE}"]
        subprocess.run([compiler, *flags, *sources, "-o", str(made)], check=True)
        return made

    return program


def assert_exact(*command: str | Path) -> None:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip().endswith("40 products are exact")


RUNS_HERE = [
    (name, target)
    for name in NATIVE
    for target in kernels.load(name).all_targets
    if kernels.load(name).lacks(target, this_machine()) is None and "_s" not in target
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "target"), RUNS_HERE)
def test_address_and_undefined_behaviour_sanitizers_find_nothing(name, target, compiled):
    flags = ("-O1", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    assert_exact(compiled(name, target, *flags))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not on this machine")
@pytest.mark.parametrize("name", NATIVE)
def test_memcheck_finds_nothing_in_the_avx2_build(name, compiled):
    if reason := kernels.load(name).lacks("avx2", this_machine()):
        pytest.skip(reason)
    program = compiled(name, "avx2", "-g")
    # Memory that OpenMP keeps for its threads is no leak of ours: only errors count.
    assert_exact("valgrind", "--quiet", "--error-exitcode=9", "--leak-check=no", program)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which(CROSS) is None, reason=f"{CROSS} is not on this machine")
@pytest.mark.skipif(shutil.which("qemu-aarch64") is None, reason="qemu-aarch64 is not on this machine")
@pytest.mark.parametrize("name", ["lut5", "auto"])
def test_the_portable_build_is_exact_on_arm64(name, compiled):
    assert_exact("qemu-aarch64", compiled(name, "portable", "-static", compiler=CROSS))
