"""X X' on a GPU, emulated: the same integers as numpy's and as the processor's, in memory and in files."""

import ctypes as ct
from dataclasses import replace
from pathlib import Path

import cupy_stand_in
import numpy as np
import pytest
from case import Case
from compiler import compiled
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench import matrix
from bench.build import installed
from bench.errors import BenchError, DeviceLost
from bench.genotypes.packed import PackedGenotypes
from bench.kernels._cuda import gram as on_gpu
from bench.kernels._cuda import nvrtc
from bench.kernels._cuda.gram import gram
from bench.machine import this_machine
from bench.relationships.genomic import RELATIONSHIPS, dense_grm
from bench.relationships.gram import gram as on_processor


def herd(n, m, missing=0.0, seed=0):
    """(packed, X X')."""
    case = Case.of(n, m, missing=missing, seed=seed)
    return case.packed, case.counted @ case.counted.T


@pytest.mark.parametrize(
    ("n", "m", "tile", "lazy", "seed"),
    [(70, 1100, 4096, True, 1), (530, 40, 256, True, 2), (770, 20, 512, False, 0)],
)
def test_it_is_numpys_and_the_processors(gpu, n, m, tile, lazy, seed):
    gpu.lazy, gpu.seed = lazy, seed
    packed, wanted = herd(n, m, 0.05)
    found = gram(packed, target="sm_90", tile=tile)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, wanted)
    library = installed("gram").library
    assert library is not None
    np.testing.assert_array_equal(found, on_processor(packed, library=library))


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    n=st.integers(1, 300), m=st.integers(1, 150), dtype=st.sampled_from(["i4", "i8", "f8"]), seed=st.integers(0, 99)
)
def test_it_is_exact_at_any_size(gpu, n, m, dtype, seed):
    packed, wanted = herd(n, m, 0.1, seed)
    found = gram(packed, target="sm_90", dtype=dtype, tile=256)
    assert found.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(found, wanted)


def test_uploads_in_pieces_meet_at_words(gpu, monkeypatch):
    from bench.kernels._cuda import panels

    monkeypatch.setattr(panels, "STAGE", 50 * 33)
    packed, wanted = herd(131, 200, 0.05)
    np.testing.assert_array_equal(gram(packed, target="sm_90"), wanted)


def test_a_file_is_whole_or_absent(gpu, tmp_path, monkeypatch):
    packed, wanted = herd(300, 30)
    out = tmp_path / "products.npy"
    found = gram(packed, target="sm_90", tile=256, out=out, dtype="f8")
    assert isinstance(found, np.memmap)
    np.testing.assert_array_equal(np.load(out), wanted)
    finish, calls = on_gpu._Turn.finish, []

    def lost(self, G):
        calls.append(1)
        gpu.lost = len(calls) > 2
        finish(self, G)

    monkeypatch.setattr(on_gpu._Turn, "finish", lost)
    other = tmp_path / "other.npy"
    with pytest.raises(DeviceLost, match="GPU 0: CuPy says"):
        gram(packed, target="sm_90", tile=256, out=other)
    assert list(tmp_path.iterdir()) == [out]


def test_only_tiles_on_and_below_the_diagonal_are_computed(gpu):
    gram(herd(700, 20)[0], target="sm_90", tile=256)
    assert gpu.launched.count("gram") == 6
    gpu.copied.clear()
    gram(herd(256, 20)[0], target="sm_90", tile=256)
    assert gpu.copied == [20 * 64, 4 * 256**2]  # up and down, once


def test_memory_is_checked_beforehand_with_the_figures(gpu):
    packed, _ = herd(300, 40)
    with pytest.raises(
        BenchError, match=r"300 x 300 products need 0\.13\d GB of memory, 0\.001 GB can be used; name"
    ):
        gram(packed, target="sm_90", tile=256, memory=10**6)
    gpu.free = 10 << 20
    with pytest.raises(
        BenchError, match=r"genotypes: 0\.13\d GB of the memory of GPU 0 are needed, 0\.0105 GB are free"
    ):
        gram(packed, target="sm_90")
    assert gpu.launched == []


def test_what_cannot_be_is_refused_with_a_sentence(gpu):
    packed, _ = herd(30, 40)
    with pytest.raises(BenchError, match="gram: f4 does not hold every product exactly"):
        gram(packed, target="sm_90", dtype="f4")  # pyright: ignore[reportArgumentType]
    with pytest.raises(BenchError, match=r"compute capability 9\.0, sm_80 needs 8\.0"):
        gram(packed, target="sm_80")
    long = PackedGenotypes(np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), (2**29, 1), (0, 0)), 2)
    gpu.free = 1 << 50
    with pytest.raises(BenchError, match="536870912 SNPs; a product of more than 536870911 has no room"):
        gram(long, target="sm_90")


@pytest.fixture
def equipped(gpu, monkeypatch):
    """A machine whose library finds the GPU."""
    machine = replace(this_machine(), gpus=("Stand-in",), gpu_memory=80 << 30)
    monkeypatch.setattr(matrix, "this_machine", lambda: machine)
    return gpu


@pytest.mark.parametrize("kernel", ["gpu_fma", "gpu_dense"])
def test_a_matrix_on_a_gpu_has_its_relationships_made_there(equipped, kernel):
    random = np.random.default_rng(5)
    dosages = random.integers(0, 3, (90, 60)).astype(np.int8)
    Z = matrix.GenotypeMatrix.from_dosages(dosages, kernel=kernel)
    assert Z.target == "sm_90"
    np.testing.assert_array_equal(Z.gram(dtype="i8"), dosages.astype(int) @ dosages.T)
    equipped.launched.clear()
    G = Z.centred().gram()
    assert "gram" in equipped.launched
    packed = PackedGenotypes.from_dosages(dosages)
    np.testing.assert_array_equal(G, dense_grm(packed, RELATIONSHIPS["vanraden1"](packed)))


def test_missing_calls_and_scaled_codings_keep_the_float64_path(equipped):
    dosages = np.random.default_rng(6).integers(-1, 3, (50, 40)).astype(np.int8)
    Z = matrix.GenotypeMatrix.from_dosages(dosages, kernel="gpu_fma")
    W = Z.centred("standardised")
    equipped.launched.clear()
    G = W.gram()
    assert "gram" not in equipped.launched
    dense = W @ np.eye(40)
    np.testing.assert_allclose(G, dense @ dense.T / W.divisor, atol=1e-12)


def test_shared_memory_is_read_without_bank_conflicts(gpu):
    gram(herd(100, 600)[0], target="sm_90")
    library = next(lib for lib in reversed(cupy_stand_in.RawModule.loaded) if Path(lib._name).name.startswith("gram"))
    counts = (ct.c_uint64 * 4)()
    library.emulated_counts(counts)
    multiplies, loads, conflicts, _ = counts
    assert multiplies
    assert loads
    assert not conflicts


@pytest.mark.slow
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("wait_for_copies<STAGES - 2>();", "wait_for_copies<STAGES - 1>();"),
        ("        __syncthreads();", "        "),
        ("(ROWS + 64 * i + row, piece)", "(64 * i + row, piece)"),
        ("a[2 * tile + i % 2]", "a[2 * tile + i / 2]"),
        ("(4 * step + 2) & 0x03030303u", "(4 * step) & 0x03030303u"),
        ("block_row + row + 64)", "block_row + row)"),
        ("mirror[s * row_count + r]", "mirror[s * column_count + r]"),
    ],
)
def test_planted_faults_are_caught(gpu, monkeypatch, right, wrong):
    text = on_gpu.SOURCE.read_text()
    assert right in text
    monkeypatch.setattr(
        nvrtc,
        "compiled",
        lambda of, *how: compiled(of, *how, text=text.replace(right, wrong) if of == on_gpu.SOURCE else ""),
    )
    packed, wanted = herd(300, 1500, 0.05)
    for seed in range(1, 4):
        gpu.seed, gpu.lazy = seed, seed % 2 == 1
        try:
            np.testing.assert_array_equal(gram(packed, target="sm_90", tile=256), wanted)
        except AssertionError:  # wrong, or the emulator's own finding
            return
    pytest.fail("the fault was not seen")


@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100", "sm_120"])
def test_it_compiles_without_spills(arch):
    if reason := nvrtc.lacks():
        pytest.skip(reason)
    if arch not in nvrtc.architectures():
        pytest.skip(f"this NVRTC does not know {arch}")
    made = nvrtc.compiled(on_gpu.SOURCE, arch, {})
    assert made.kernels["gram"].spilled == 0
    assert made.kernels["gram"].registers <= 255
