"""Adapters for kernels of others: what is handed over, what is declined, and how an absent one is said.

Their products are tested in test_kernels.py, like everybody's; here that file is run once more with a stand-in for
miraculix's library.
"""

from __future__ import annotations

import ctypes as ct
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench import kernels
from bench.errors import BenchError
from bench.genotypes.packed import PackedGenotypes
from bench.kernels import Problem, adelie, miraculix
from bench.kernels.scipy_sparse import ScipySparse
from bench.machine import this_machine

HERE = Path(__file__).parent
MACHINE = this_machine()


def random_packed(n: int, m: int) -> PackedGenotypes:
    rng = np.random.default_rng([n, m])
    return PackedGenotypes(rng.integers(0, 256, (m, -(-n // 4)), dtype=np.uint8), n)


def compiled(source: Path, library: Path) -> Path:
    if shutil.which("g++") is None:
        pytest.skip("no g++ to compile the stand-in with")
    flags = ["-O2", "-std=c++17", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"]
    done = subprocess.run(["g++", *flags, source, "-o", library], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return library


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(HERE / "miraculix_stand_in.cc", tmp_path_factory.mktemp("miraculix") / "stand_in.so")


@pytest.fixture
def named(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(miraculix.LIBRARY, str(stand_in))
    monkeypatch.delenv(miraculix.VARIANTS, raising=False)
    return stand_in


def state(library: Path) -> tuple[list[int], int, float]:
    """Options, matrices that are open, and the sum of the last frequencies, as the stand-in received them."""
    options, matrices, frequencies = (ct.c_int * 10)(), ct.c_int(), ct.c_double()
    ct.CDLL(str(library)).stand_in_state(options, ct.byref(matrices), ct.byref(frequencies))
    return list(options), matrices.value, frequencies.value


class TestMiraculix:
    @pytest.mark.slow
    def test_a_library_with_its_interface_passes_the_conformance_tests(self, stand_in):
        given = {miraculix.LIBRARY: str(stand_in), miraculix.VARIANTS: "0"}
        tests = ["-q", "-p", "no:cacheprovider", HERE / "test_kernels.py", "-k", "miraculix"]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *tests],
            env=os.environ | given, cwd=HERE.parents[1], capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-4000:]
        assert int(done.stdout.split(" passed")[0].split()[-1]) >= 20

    def test_it_is_asked_for_raw_products_in_doubles_on_the_cpu(self, named):
        packed = PackedGenotypes.from_dosages(np.array([[0, 1, 2], [2, -1, 2], [1, 0, 2]]))
        matrix = miraculix.Miraculix(packed, threads=2, target="v256")
        options, matrices, frequencies = state(named)
        # gpu, cores, floats, mean, ignore missings, do not center, normalize, own frequencies, variant, print
        assert options == [0, 2, 0, 0, 1, 1, 0, 0, 256, 0]
        assert frequencies == pytest.approx(3 / 6 + 1 / 6 + 1)  # a missing call is handed over as dosage 0
        assert matrices == 1
        matrix.close()
        matrix.close()
        assert state(named)[1] == 0

    def test_more_columns_than_were_announced_come_in_several_calls(self, named):
        packed = random_packed(13, 9)
        V = np.arange(9.0 * 600).reshape(9, 600)
        Z = np.maximum(packed.dosages(), 0).astype(float)
        np.testing.assert_array_equal(miraculix.Miraculix(packed).matmul(V), Z @ V)

    @pytest.mark.parametrize("n", [64, 128, 1024, 8192])
    def test_sizes_that_its_recoder_never_ends_with_are_refused(self, named, n):
        kernel = kernels.load("miraculix")
        reason = kernel.refuses(Problem(n, 10, 1), "v0", MACHINE, memory=2**50)
        assert "never ended" in (reason or "")
        assert f"{n:,}" in (reason or "")
        with pytest.raises(BenchError, match="never ended"):
            kernel.prepare(random_packed(n, 3), target="v0")

    @pytest.mark.parametrize("n", [1, 32, 63, 1000, 10240])
    def test_other_sizes_are_not(self, named, n):
        assert kernels.load("miraculix").refuses(Problem(n, 1024, 1), "v0", MACHINE, memory=2**50) is None

    def test_sizes_beyond_a_c_int_are_refused(self, named):
        reason = kernels.load("miraculix").refuses(Problem(5, 2**31, 1), "v0", MACHINE, memory=2**60)
        assert "32-bit" in (reason or "")

    def test_float32_is_refused(self, named):
        reason = kernels.load("miraculix").refuses(Problem(5, 5, 1, "f4"), "v0", MACHINE, memory=2**60)
        assert "has no f4 path" in (reason or "")
        with pytest.raises(BenchError, match="double precision"):
            miraculix.Miraculix(random_packed(5, 5), dtype="f4")

    def test_only_the_variants_that_are_named_run(self, named, monkeypatch):
        lacks = kernels.load("miraculix").lacks
        assert lacks("v0", MACHINE) is None
        assert "does not list 512; it is '0'" in (lacks("v512", MACHINE) or "")
        monkeypatch.setenv(miraculix.VARIANTS, "256 512")
        assert lacks("v512", MACHINE) is None
        assert "does not list 0" in (lacks("v0", MACHINE) or "")

    def test_its_library_is_one_of_its_sources(self, named, monkeypatch):
        assert str(named) in kernels.sources("miraculix")
        monkeypatch.delenv(miraculix.LIBRARY)
        assert kernels.sources("miraculix") == [str(kernels.HERE / "miraculix.py")]

    def test_no_library_is_said(self, monkeypatch):
        monkeypatch.delenv(miraculix.LIBRARY, raising=False)
        assert "BENCH_MIRACULIX names no miraculix library" in (miraculix.requires("v0") or "")
        with pytest.raises(BenchError, match="names no miraculix library"):
            miraculix.Miraculix(random_packed(5, 5))

    def test_a_library_that_is_absent_or_none_is_said(self, monkeypatch, tmp_path):
        monkeypatch.setenv(miraculix.LIBRARY, str(tmp_path / "absent.so"))
        assert "absent.so: there is no such file" in (miraculix.requires("v0") or "")
        assert len(kernels.sources("miraculix")) == 1
        (tmp_path / "text.so").write_text("no library")
        monkeypatch.setenv(miraculix.LIBRARY, str(tmp_path / "text.so"))
        reason = miraculix.requires("v0") or ""
        assert "cannot be loaded as a shared library" in reason
        assert "\n" not in reason

    def test_another_library_is_said_with_what_it_lacks(self, monkeypatch, tmp_path):
        (tmp_path / "other.cc").write_text('extern "C" void free_compressed(void**) {}\n')
        monkeypatch.setenv(miraculix.LIBRARY, str(compiled(tmp_path / "other.cc", tmp_path / "other.so")))
        reason = miraculix.requires("v0") or ""
        assert "it is not miraculix's library" in reason
        assert "lacks setOptions_compressed, plink2compressed, dgemm_compressed" in reason


class TestAdelie:
    def test_its_absence_is_said(self, monkeypatch):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        reason = kernels.load("adelie").lacks("snp_unphased", MACHINE)
        assert "the Python package adelie is not installed" in (reason or "")
        assert adelie.compiled() is None
        with pytest.raises(BenchError, match="is not installed"):
            adelie.Adelie(random_packed(5, 5))

    def test_a_broken_installation_is_said(self, monkeypatch, tmp_path):
        (tmp_path / "adelie").mkdir()
        (tmp_path / "adelie" / "__init__.py").write_text("raise ImportError('needs numpy < 2')")
        for module in [m for m in sys.modules if m.split(".")[0] == "adelie"]:
            monkeypatch.delitem(sys.modules, module)
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(BenchError, match=r"adelie cannot be imported \(needs numpy < 2\)"):
            adelie.Adelie(random_packed(5, 5))

    @pytest.mark.skipif(adelie.requires("") is not None, reason=str(adelie.requires("")))
    def test_its_compiled_part_is_one_of_its_sources_and_no_file_is_left(self, monkeypatch, tmp_path):
        assert any("adelie_core" in file for file in kernels.sources("adelie"))
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        monkeypatch.setattr("tempfile.tempdir", None)
        adelie.Adelie(random_packed(50, 5)).close()
        assert not list(tmp_path.iterdir())


class TestScipySparse:
    @pytest.mark.parametrize(("dtype", "each"), [("f8", 12), ("f4", 8)])
    def test_only_nonzero_dosages_are_held(self, dtype, each):
        packed = random_packed(301, 40)
        nonzero = int((packed.dosages() > 0).sum())
        assert ScipySparse(packed, dtype=dtype).bytes_held == each * nonzero + 4 * 41

    def test_more_than_one_thread_is_refused(self):
        kernel = kernels.load("scipy_sparse")
        reason = kernel.refuses(Problem(9, 9, 1, threads=2), "csc", MACHINE, memory=2**40)
        assert reason == "scipy.sparse multiplies on one thread"
        with pytest.raises(BenchError, match="one thread"):
            kernel.prepare(random_packed(9, 9), target="csc", threads=2)

    def test_long_indices_are_counted_where_short_ones_may_not_do(self):
        needed = kernels.load("scipy_sparse").bytes_needed
        short, long = (needed(Problem(n, 2**16, 1)) for n in (2**15 - 1, 2**15))
        assert short == pytest.approx(2**31 * 12.25, rel=1e-2)
        assert long == pytest.approx(2**31 * 16.25, rel=1e-2)
