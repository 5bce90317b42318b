"""X X' against exact integers: sizes, targets, threads, files, memory, bad input."""

from __future__ import annotations

import ctypes as ct
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from bench.build import GRAM, build, sources
from bench.errors import BenchError
from bench.genotypes.packed import PackedGenotypes
from bench.kernels import HERE
from bench.machine import best_target, runnable
from bench.relationships import gram as module
from bench.relationships.gram import gram, gram_bytes


@pytest.fixture(scope="session")
def libraries(tmp_path_factory) -> dict[str, Path]:
    """The library of every target that this machine runs, compiled without a warning."""
    if shutil.which("g++") is None:
        pytest.skip("no g++ on this machine")
    made = {t: build("gram", t, tmp_path_factory.mktemp(t), flags=("-Wextra", "-Werror")) for t in runnable("gram")}
    assert {m.status for m in made.values()} == {"ok"}, [m.reason for m in made.values()]
    return {target: m.library for target, m in made.items() if m.library}


@pytest.fixture(params=GRAM.targets)
def library(request, libraries) -> Path:
    if request.param not in libraries:
        pytest.skip(f"this machine does not run {request.param}")
    return libraries[request.param]


@pytest.fixture
def best(libraries) -> Path:
    return libraries[best_target("gram")]


def draw(n: int, m: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1, 3, (n, m)).astype(np.int8)


def exact(dosages: np.ndarray) -> np.ndarray:
    Z = np.maximum(dosages, 0).astype(np.int64)
    return Z @ Z.T


# Around a byte of the .bed (4), a vector and a block of individuals (64, 256), a group, a round and a chunk of
# SNPs (4, 124, 4096).
SIZES = [
    (1, 1), (1, 4097), (2, 3), (3, 4), (4, 5), (5, 123), (63, 124), (64, 125), (65, 255), (127, 256), (255, 257),
    (256, 512), (257, 513), (511, 7), (513, 1), (31, 4095), (33, 4096), (35, 4097), (260, 8193),
]  # fmt: skip


@pytest.mark.parametrize(("n", "m"), SIZES)
def test_awkward_sizes_are_exact(library, n, m):
    dosages = draw(n, m)
    found = gram(PackedGenotypes.from_dosages(dosages), library=library)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, exact(dosages))


@pytest.mark.parametrize("value", [-1, 0, 1, 2])
def test_all_calls_alike_are_exact_also_where_sums_are_largest(library, value):
    dosages = np.full((70, 12_301), value, np.int8)
    np.testing.assert_array_equal(gram(PackedGenotypes.from_dosages(dosages), library=library), exact(dosages))


@pytest.mark.parametrize("dtype", ["i4", "i8", "f8"])
def test_many_tiles_give_a_symmetric_matrix_of_the_dtype_asked_for(library, dtype, monkeypatch):
    monkeypatch.setattr(module, "TILE", 128)
    dosages = draw(301, 77)
    found = gram(PackedGenotypes.from_dosages(dosages), library=library, dtype=dtype, threads=2)
    assert found.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(found, exact(dosages))


def test_the_first_individuals_are_a_problem_of_their_own(library):
    dosages = draw(302, 50)
    found = gram(PackedGenotypes.from_dosages(dosages).head(257), library=library)
    np.testing.assert_array_equal(found, exact(dosages[:257]))


def test_rows_wider_than_their_codes_and_codes_past_the_end_never_count(library):
    dosages = draw(66, 90)
    codes = PackedGenotypes.from_dosages(dosages).codes
    wide = np.full((90, 40), 255, np.uint8)
    wide[:, :17] = codes | np.array([0] * 16 + [0xF0], np.uint8)
    for given_codes in (wide, np.asfortranarray(wide), wide[:, :17], np.repeat(wide, 2, axis=0)[::2], wide[::-1]):
        np.testing.assert_array_equal(gram(PackedGenotypes(given_codes, 66), library=library), exact(dosages))


@settings(max_examples=60, deadline=None)
@given(
    dosages=arrays.arrays(
        np.int8, st.tuples(st.integers(1, 70), st.integers(1, 140)), elements=st.sampled_from([-1, 0, 1, 2])
    ),
    threads=st.integers(1, 3),
)
def test_any_genotypes_are_exact(libraries, dosages, threads):
    for library in libraries.values():
        found = gram(PackedGenotypes.from_dosages(dosages), library=library, threads=threads)
        np.testing.assert_array_equal(found, exact(dosages))


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_the_result_does_not_depend_on_the_threads(library, threads):
    packed = PackedGenotypes.from_dosages(draw(700, 4200))
    np.testing.assert_array_equal(gram(packed, library=library, threads=threads), gram(packed, library=library))


def test_a_file_holds_the_same_numbers_and_opens_as_npy(best, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "TILE", 128)
    dosages = draw(301, 77)
    packed = PackedGenotypes.from_dosages(dosages)
    for dtype in ("i4", "f8"):
        found = gram(packed, library=best, dtype=dtype, out=tmp_path / "new" / f"{dtype}.npy")
        assert isinstance(found, np.memmap)
        assert not found.flags.writeable
        np.testing.assert_array_equal(np.load(tmp_path / "new" / f"{dtype}.npy"), exact(dosages))
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["f8.npy", "i4.npy"]


def test_an_interruption_between_tiles_leaves_no_file(best, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "TILE", 128)
    calls = iter([None, None])

    class Interrupted:
        def __init__(self, lib: ct.CDLL):
            self.lib = lib

        def gram_tile(self, *arguments):
            if next(calls, "stop") == "stop":
                raise KeyboardInterrupt
            return self.lib.gram_tile(*arguments)

    load = module.load
    monkeypatch.setattr(module, "load", lambda *given, **named: Interrupted(load(*given, **named)))
    with pytest.raises(KeyboardInterrupt):
        gram(PackedGenotypes.from_dosages(draw(301, 77)), library=best, out=tmp_path / "g.npy")
    assert not list(tmp_path.iterdir())


def test_a_process_that_is_killed_leaves_nothing_under_the_file_s_name(best, tmp_path):
    script = f"""
        import numpy as np
        from pathlib import Path
        from bench.genotypes.packed import PackedGenotypes
        from bench.relationships import gram as module
        whole = module._fill
        def fill(*arguments):
            whole(*arguments)
            print("filled", flush=True)
            input()
        module._fill = fill
        packed = PackedGenotypes.from_dosages(np.ones((50, 9), np.int8))
        module.gram(packed, library=Path({str(best)!r}), out=Path({str(tmp_path)!r}) / "g.npy")
    """
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], **pipes) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "filled\n"
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    assert not (tmp_path / "g.npy").exists()


def test_a_full_disk_is_a_sentence_and_leaves_no_file(best, full_folder):
    with pytest.raises(BenchError, match=r"cannot write .*free some space"):
        gram(PackedGenotypes.from_dosages(draw(200, 9)), library=best, out=full_folder / "g.npy")
    assert [p.name for p in full_folder.iterdir()] == ["ballast"]


def test_too_little_memory_is_said_before_anything_is_allocated(best, monkeypatch):
    packed = PackedGenotypes(np.zeros((1, 250_000), np.uint8), 1_000_000)
    with pytest.raises(BenchError, match=r"1000000 x 1000000 products need 4e\+03 GB of memory, .*out="):
        gram(packed, library=best)
    monkeypatch.setattr(module, "memory_available", lambda: 1000)
    with pytest.raises(BenchError, match=r"10 x 10 products need .* 1e-06 GB can be used"):
        gram(packed.head(10), library=best)


def test_a_file_needs_memory_for_its_tiles_only(best, tmp_path):
    packed = PackedGenotypes.from_dosages(draw(300, 40))
    enough = gram_bytes(300, "f8", in_file=True)
    assert enough < gram_bytes(300, "f8")
    gram(packed, library=best, dtype="f8", out=tmp_path / "g.npy", memory=enough)
    with pytest.raises(BenchError, match="of memory") as said:
        gram(packed, library=best, dtype="f8", out=tmp_path / "h.npy", memory=enough - 1)
    assert "out=" not in str(said.value)
    assert not (tmp_path / "h.npy").exists()


@pytest.mark.parametrize("n", [300, 2500])
def test_the_memory_that_is_declared_suffices(best, n):
    script = f"""
        import numpy as np, resource
        from pathlib import Path
        from bench.genotypes.packed import PackedGenotypes
        from bench.relationships.gram import gram, gram_bytes
        used = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        packed = PackedGenotypes.from_dosages(np.ones(({n}, 4100), np.int8))
        gram(packed.head(4), library=Path({str(best)!r}))
        before = used()
        gram(packed, library=Path({str(best)!r}), dtype="f8")
        print(used() - before, gram_bytes({n}, "f8"))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    grown, declared = map(int, done.stdout.split())
    assert grown <= declared


def test_bad_input_is_a_sentence(best, tmp_path, monkeypatch):
    packed = PackedGenotypes.from_dosages(draw(5, 9))
    with pytest.raises(BenchError, match="asked for 0 threads, at least 1 is needed"):
        gram(packed, library=best, threads=0)
    with pytest.raises(BenchError, match="f4 does not hold every product exactly; i4, i8, f8 do"):
        gram(packed, library=best, dtype="f4")  # type: ignore[arg-type]
    with pytest.raises(BenchError, match=r"of memory, 0 GB can be used"):
        gram(packed, library=best, memory=0)
    (tmp_path / "no.so").write_text("no library")
    for wrong in (tmp_path / "no.so", tmp_path / "absent.so"):
        with pytest.raises(BenchError, match=r"not a gram library \(.*\); build it with `bench build gram`"):
            gram(packed, library=wrong)
    assert build("limits", "scalar", tmp_path).library
    with pytest.raises(BenchError, match="not a gram library"):
        gram(packed, library=tmp_path / "limits.so")
    monkeypatch.setattr(module, "LARGEST", 35)
    with pytest.raises(BenchError, match="9 SNPs; a product of more than 8 has no room"):
        gram(packed, library=best)


def test_a_library_for_another_processor_is_a_sentence(tmp_path):
    source = Path(sources("gram")[0]).read_text()
    head, _, rest = source.partition("int gram_runs(void) {")
    (tmp_path / "other.cc").write_text(head + "int gram_runs(void) { return 0;" + rest)
    command = ["g++", "-std=c++17", "-shared", "-fPIC", "-fopenmp", f"-I{HERE}", "other.cc", "-o", "other.so"]
    subprocess.run(command, cwd=tmp_path, check=True)
    with pytest.raises(BenchError, match="instructions that this processor lacks; build another target"):
        gram(PackedGenotypes.from_dosages(draw(5, 9)), library=tmp_path / "other.so")


@pytest.mark.slow
def test_memory_is_never_read_or_written_out_of_bounds(tmp_path):
    """Under AddressSanitizer and UBSan, in every target that this machine runs."""
    asan = subprocess.run(["g++", "-print-file-name=libasan.so"], capture_output=True, text=True, check=False)
    if not Path(asan.stdout.strip()).is_absolute():
        pytest.skip("no AddressSanitizer")
    for target in runnable("gram"):
        made = build("gram", target, tmp_path / target, flags=("-g", "-O1", "-fsanitize=address,undefined"))
        script = f"""
            import numpy as np
            from pathlib import Path
            from bench.genotypes.packed import PackedGenotypes
            from bench.relationships.gram import gram
            for n, m in ((1, 1), (5, 9), (257, 4101), (300, 130)):
                d = np.random.default_rng(n).integers(-1, 3, (n, m)).astype(np.int8)
                Z = np.maximum(d, 0).astype(int)
                assert (gram(PackedGenotypes.from_dosages(d), library=Path({str(made.library)!r})) == Z @ Z.T).all()
        """
        told = {
            "LD_PRELOAD": asan.stdout.strip(),
            "ASAN_OPTIONS": "detect_leaks=0",
            "UBSAN_OPTIONS": "halt_on_error=1",
        }
        command = [sys.executable, "-c", textwrap.dedent(script)]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | told, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
