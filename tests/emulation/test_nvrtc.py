"""Every kernel compiles for every architecture, in registers alone; no GPU is needed for that."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from bench import kernels
from bench.errors import BenchError
from bench.kernels import gpu_2bit
from bench.kernels._cuda import nvrtc
from bench.kernels.gpu_2bit import geometry, wgmma

PRODUCT, DIGITS = (Path(gpu_2bit.__file__).parent / name for name in ("product.cu", "digits.cu"))
PANELS = nvrtc.HERE / "panels.cu"
ARCHITECTURES = ("sm_80", "sm_86", "sm_89", "sm_90", "sm_90a", "sm_100", "sm_120")
needs_nvrtc = pytest.mark.skipif(nvrtc.lacks() is not None, reason=str(nvrtc.lacks()))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    return tmp_path / "cuda"


@needs_nvrtc
@pytest.mark.slow
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_widest_products_compile_without_spills(cache, arch):
    """They use the most registers; `bench build gpu_2bit` compiles all. The compiler refuses one that spills."""
    if arch.rstrip("a") not in nvrtc.architectures():
        pytest.skip(f"the installed NVRTC does not compile for {arch}")
    for how in [v for v in geometry.variants(arch) if v.tiles == 10]:
        used = nvrtc.compiled(PRODUCT, arch, how.macros, how.headers).kernels["product"]
        assert (used.spilled, used.stack) == (0, 0), how
        assert used.registers <= 255


def test_a_device_can_be_asked_for_these_products_and_no_others():
    for arch in ARCHITECTURES:
        found = list(geometry.variants(arch))
        tiles = {how.tiles for how in found}
        assert tiles == set(wgmma.TILES if arch == "sm_90a" else range(1, 11))
        assert len(found) == 2 * 3 * len(tiles)


@needs_nvrtc
@pytest.mark.parametrize("source", [DIGITS, PANELS], ids=lambda path: path.stem)
def test_the_other_kernels_compile(cache, source):
    made = nvrtc.compiled(source, "sm_90", {})
    assert set(made.kernels) >= ({"pack"} if source == PANELS else {"to_digits", "to_doubles", "dense"})
    assert all(used.spilled == 0 for used in made.kernels.values())


@needs_nvrtc
def test_hopper_gets_its_own_instructions(cache):
    """Z'U of 80 columns of digits has 4 wgmma a step; their operands are in the machine code's text as IGMMA."""
    how = geometry.variant("sm_90a", 80, transposed=True, decode=0)
    assert how.wgmma
    assert "m64n80k32" in how.headers["wgmma.h"]
    assert how.headers["wgmma.h"].count('"+r"') == 40
    nvrtc.compiled(PRODUCT, "sm_90a", how.macros, how.headers)
    with pytest.raises(BenchError, match=r"NVRTC .* says"):  # a plain sm_90 has none of them
        nvrtc.compiled(PRODUCT, "sm_90", how.macros, how.headers)


@needs_nvrtc
def test_a_compilation_is_kept(cache, monkeypatch):
    first = nvrtc.compiled(PANELS, "sm_80", {})
    monkeypatch.setattr(nvrtc, "_compile", None)
    assert nvrtc.compiled(PANELS, "sm_80", {}) == first
    assert not list(cache.glob(".*"))


@needs_nvrtc
def test_an_error_in_a_source_names_its_line(cache, tmp_path):
    (bad := tmp_path / "bad.cu").write_text('extern "C" __global__ void f() {\n    undeclared = 1;\n}\n')
    with pytest.raises(BenchError, match=r'bad\.cu for sm_80: NVRTC .* says: bad\.cu\(2\): error: .*"undeclared"'):
        nvrtc.compiled(bad, "sm_80", {})


@needs_nvrtc
def test_a_spill_is_refused(cache, tmp_path):
    """200 sums that are all alive do not fit 32 registers."""
    (bad := tmp_path / "wide.cu").write_text(
        """extern "C" __global__ void __launch_bounds__(1024, 2) wide(double* x) {
    double sums[200];
#pragma unroll
    for (int i = 0; i < 200; i++) sums[i] = x[i];
    for (int j = 0; j < 100; j++)
#pragma unroll
        for (int i = 0; i < 200; i++) sums[i] = sums[i] * x[j] + sums[(i + 1) % 200];
#pragma unroll
    for (int i = 0; i < 200; i++) x[i] = sums[i];
}
"""
    )
    with pytest.raises(
        BenchError, match=r"wide needs more than its 32 registers and moves [0-9]+ bytes through memory"
    ):
        nvrtc.compiled(bad, "sm_80", {})
    assert not list(cache.glob("*.json"))


@needs_nvrtc
def test_an_architecture_that_nvrtc_does_not_know_is_named(cache):
    with pytest.raises(BenchError, match=r"does not compile for sm_31; it knows sm_"):
        nvrtc.compiled(PANELS, "sm_31", {})


def test_without_the_binding_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.bindings.nvrtc", None)
    assert nvrtc.lacks() == f"the package cuda-bindings is not installed; {nvrtc.EXTRAS}"


@pytest.mark.parametrize("folder", [None, "/include"])
def test_the_headers_that_cupy_needs_are_looked_for_as_it_does(monkeypatch, folder):
    finder = types.SimpleNamespace(find_nvidia_header_directory={"cudart": folder}.__getitem__)
    monkeypatch.setitem(sys.modules, "cuda.pathfinder", finder)
    reason = nvrtc.lacks_headers()
    assert reason is None if folder else reason.endswith(f"are not installed; {nvrtc.EXTRAS}")


def test_what_ptxas_says_is_read():
    said = """ptxas info    : Compiling entry function 'one' for 'sm_90'
ptxas info    : Function properties for one
ptxas         .     8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 8 bytes cumulative stack size
ptxas info    : Compiling entry function 'two' for 'sm_90'
ptxas info    : Function properties for two
ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 4096 bytes smem"""
    assert nvrtc.resources(said) == {"one": nvrtc.Resources(255, 16, 8), "two": nvrtc.Resources(40, 0, 0)}


def test_targets_are_architectures_with_and_without_a_number_of_slices():
    targets = kernels.load("gpu_2bit").all_targets
    assert {gpu_2bit.slices_of(t) for t in targets} == set(range(3, 9))
    assert {t for t in targets if "_s" not in t[3:]} == set(ARCHITECTURES)
    assert targets[-1] == "sm_90a"  # what `best` takes on Hopper, where sm_90 runs as well
