"""Compiling declared kernels: what a build says about itself, and every way in which it cannot be had."""

import ctypes
import shutil
import stat
from pathlib import Path

import pytest

from bench import kernels
from bench.build import LIMITS, OTHERS, Build, build, installed, sources
from bench.errors import BenchError
from bench.kernels import Native
from bench.record import read_json, sha256_of

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ on this machine")


@pytest.fixture(scope="module")
def limits(tmp_path_factory) -> Path:
    if shutil.which("g++") is None:
        pytest.skip("no g++ on this machine")
    folder = tmp_path_factory.mktemp("limits")
    assert build("limits", "scalar", folder).status == "ok"
    return folder


def compiler(folder: Path, script: str) -> str:
    path = folder / "compiler"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_a_build_describes_itself(limits):
    said = read_json(limits / "build.json")
    assert said["status"] == "ok"
    assert said["reason"] is None
    assert said["library"] == "limits.so"
    assert (said["name"], said["target"], said["compiler"]) == ("limits", "scalar", "g++")
    assert "g++" in said["version"]
    assert "-O2" in said["flags"].split()
    assert said["library_hash"] == sha256_of([limits / "limits.so"])
    assert said["source_hash"] == sha256_of(sources("limits"))
    assert "limits.cc" in (limits / "build.log").read_text()


def test_a_build_reads_back_with_its_library(limits):
    made = Build.read(limits / "build.json")
    assert made.library == limits / "limits.so"
    assert ctypes.CDLL(str(made.library)).limits_fma


def test_flags_say_nothing_of_where_the_sources_lie(limits):
    assert str(kernels.HERE) not in read_json(limits / "build.json")["flags"]


@needs_compiler
def test_flags_of_the_configuration_come_after_the_target_s(tmp_path):
    made = build("limits", "scalar", tmp_path, flags=("-O1",))
    assert made.status == "ok"
    assert made.flags.split()[-1] == "-O1"
    assert made.flags.index("-O2") < made.flags.index("-O1")


@needs_compiler
def test_a_compiler_may_be_a_command_with_arguments(tmp_path):
    made = build("limits", "scalar", tmp_path, compiler="g++ -fno-plt")
    assert made.status == "ok"
    assert "-fno-plt" in (tmp_path / "build.log").read_text()


def test_a_library_that_is_gone_is_said_with_what_to_do(limits, tmp_path):
    shutil.copy(limits / "build.json", tmp_path)
    with pytest.raises(BenchError, match="compiled kernel is gone; delete"):
        Build.read(tmp_path / "build.json")


@pytest.mark.parametrize("missing", ["no-such-compiler", ""])
def test_without_a_compiler_the_build_is_refused_in_words(tmp_path, missing):
    made = build("limits", "scalar", tmp_path, compiler=missing)
    assert made.status == "refused"
    assert f"no C++ compiler {missing!r}" in made.reason
    assert "config key `compiler`" in made.reason
    assert Build.read(tmp_path / "build.json") == made
    assert not list(tmp_path.glob("*.so"))


def test_a_failing_compiler_is_refused_with_its_first_error_and_the_log(tmp_path):
    failing = compiler(tmp_path, "echo 'note: so far' >&2; echo 'x.cc:3: error: it is broken' >&2; exit 1")
    made = build("limits", "scalar", tmp_path / "out", compiler=failing)
    assert made.status == "refused"
    assert "x.cc:3: error: it is broken" in made.reason
    log = tmp_path / "out" / "build.log"
    assert str(log) in made.reason
    assert "note: so far" in log.read_text()
    assert not (tmp_path / "out" / "limits.so").exists()


def test_a_compiler_that_fails_silently_is_refused_with_its_exit_status(tmp_path):
    made = build("limits", "scalar", tmp_path / "out", compiler=compiler(tmp_path, "exit 3"))
    assert made.status == "refused"
    assert "exit status 3" in made.reason


@needs_compiler
def test_a_flag_that_the_compiler_does_not_know_is_refused(tmp_path):
    made = build("limits", "scalar", tmp_path, flags=("-mno-such-cpu-feature",))
    assert made.status == "refused"
    assert "no-such-cpu-feature" in made.reason


@needs_compiler
def test_a_failure_takes_the_library_of_an_earlier_build_away(tmp_path):
    assert build("limits", "scalar", tmp_path).library.exists()
    made = build("limits", "scalar", tmp_path, flags=("-mno-such-cpu-feature",))
    assert made.status == "refused"
    assert not (tmp_path / "limits.so").exists()


def test_a_target_that_the_kernel_does_not_have_is_an_error():
    with pytest.raises(BenchError, match="limits has no target 'avx1024'; it has scalar, avx2, avx512"):
        build("limits", "avx1024", Path("unused"))


def test_a_kernel_that_is_not_native_is_not_compiled():
    with pytest.raises(BenchError, match="not native"):
        build("dense_blas", "openblas", Path("unused"))


def test_a_kernel_that_does_not_exist_is_an_error():
    with pytest.raises(BenchError, match="no kernel 'absent'"):
        build("absent", "scalar", Path("unused"))


@needs_compiler
@pytest.mark.parametrize("name", [*OTHERS, *(n for n in kernels.names() if kernels.load(n).native)])
def test_every_native_library_compiles_without_a_warning_in_every_target(name):
    for target in (OTHERS.get(name) or kernels.load(name).native).targets:
        made = installed(name, target)
        assert made.status == "ok", made.reason
        assert "warning" not in (made.library.parent / "build.log").read_text()


def test_sources_of_a_kernel_are_its_own_files_and_the_abi():
    found = {Path(f).name for f in sources("decompress")}
    assert {"decompress.cc", "gmk.h", "isa.h", "__init__.py"} <= found
    assert not any("five_codes" in f for f in sources("decompress"))


def test_cpu_flags_of_a_target_are_its_machine_options():
    assert LIMITS.cpu_flags("scalar") == ()
    assert LIMITS.cpu_flags("avx512") == ("avx512f", "avx512bw", "fma", "bmi2")


def test_cpu_flags_are_spelt_as_the_kernel_of_the_system_does():
    flags = ("-mavx512vpopcntdq", "-mavx512vnni", "-mavx512vbmi", "-mprefer-vector-width=512", "-msse4.2")
    native = Native("x.cc", {"wide": flags})
    assert native.cpu_flags("wide") == ("avx512_vpopcntdq", "avx512_vnni", "avx512vbmi", "sse4_2")
