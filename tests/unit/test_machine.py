"""What the machine says of itself, read from files and programs that stand in for it."""

import io
import os
import re
import shutil
import stat
import sys
from pathlib import Path

import numpy as np
import pytest

from bench import kernels, machine, memory
from bench.build import LIMITS, build
from bench.errors import BenchError
from bench.inventory import describe, kernel_lines, to_text
from bench.kernels import LOOKUP_COLUMNS
from bench.machine import Machine, best_limits, this_machine

CPUINFO = """\
processor\t: 0
model name\t: A CPU @ 3 GHz
flags\t\t: fpu avx2 fma

processor\t: 1
model name\t: Another
flags\t\t: fpu
"""


@pytest.fixture(autouse=True)
def cores():
    """What a test says of the cores is asked anew, and forgotten after it."""
    machine.usable_cpus.cache_clear()
    yield
    machine.usable_cpus.cache_clear()


@pytest.fixture
def files(monkeypatch):
    """{path: text} that Path finds in place of the machine's own below /proc and /sys."""
    texts: dict[str, str] = {}
    exists, read, opened = Path.exists, Path.read_text, Path.open

    def known(path):
        return str(path).startswith(("/proc", "/sys"))

    monkeypatch.setattr(Path, "exists", lambda p, **k: str(p) in texts if known(p) else exists(p, **k))
    monkeypatch.setattr(Path, "read_text", lambda p, *a, **k: texts[str(p)] if known(p) else read(p, *a, **k))
    monkeypatch.setattr(
        Path, "open", lambda p, *a, **k: io.StringIO(texts[str(p)]) if known(p) else opened(p, *a, **k)
    )
    return texts


@pytest.fixture
def fresh():
    this_machine.cache_clear()
    yield
    this_machine.cache_clear()


def test_the_cpu_and_its_features_are_the_first_processor_s(files, fresh):
    files["/proc/cpuinfo"] = CPUINFO
    here = this_machine()
    assert here.cpu == "A CPU @ 3 GHz"
    assert here.cpu_flags == {"fpu", "avx2", "fma"}


def test_the_features_of_an_arm_cpu_are_found(files, fresh):
    files["/proc/cpuinfo"] = "processor\t: 0\nFeatures\t: asimd sve\n"
    assert this_machine().cpu_flags == {"asimd", "sve"}
    assert this_machine().cpu


def test_cores_are_those_that_this_process_may_use(fresh):
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert this_machine().cores == 1
    finally:
        os.sched_setaffinity(0, allowed)


TOTAL = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def cgroups(tmp_path, monkeypatch):
    """Write a file of a cgroup; this process is in /jobs/7, of version 2 and of version 1's memory and cpu."""
    own = tmp_path / "own"
    own.write_text("4:memory:/jobs/7\n3:cpu,cpuacct:/jobs/7\n0::/jobs/7\n")
    monkeypatch.setattr(memory, "OWN_CGROUPS", own)
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)

    def write(path, text):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    return write


@pytest.mark.parametrize(
    ("path", "text", "limit"),
    [
        ("jobs/7/memory.max", "1000000\n", 1_000_000),
        ("jobs/memory.max", "1500000\n", 1_500_000),
        ("memory.max", "1600000\n", 1_600_000),
        ("jobs/8/memory.max", "1000000\n", TOTAL),
        ("jobs/7/memory.max", "max\n", TOTAL),
        ("memory/jobs/7/memory.limit_in_bytes", "2000000\n", 2_000_000),
        ("memory/jobs/7/memory.limit_in_bytes", "9223372036854771712\n", TOTAL),
    ],
)
def test_the_memory_is_the_machine_s_or_its_cgroup_s_or_one_above(cgroups, path, text, limit):
    cgroups(path, text)
    assert machine.memory_limit() == limit


def test_the_smallest_limit_counts(cgroups):
    cgroups("jobs/7/memory.max", "3000000")
    cgroups("jobs/memory.max", "2000000")
    assert machine.memory_limit() == 2_000_000


def test_available_memory_is_no_more_than_the_cgroup_allows(cgroups):
    cgroups("jobs/7/memory.max", "1000000")
    assert machine.memory_available() == 1_000_000


@pytest.mark.parametrize(("text", "number"), [("150000 100000", 2), ("50000 100000", 1), ("max 100000", 3)])
def test_the_cores_are_those_of_the_affinity_or_the_cgroup_s_quota(cgroups, monkeypatch, text, number):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    cgroups("jobs/cpu.max", text)
    assert machine._core_count() == number


def test_cores_stay_those_of_the_start_when_openmp_binds_a_thread(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    machine.usable_cpus()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {2})
    assert machine.usable_cpus() == {0, 1, 2}


def test_a_part_of_the_memory_is_left_to_the_system():
    assert Machine("h", "c", frozenset(), 1, 1000).usable_memory == 900


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Write a program that is then the only one on the path."""

    def write(name, script):
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    monkeypatch.setenv("PATH", str(tmp_path))
    return write


def test_gpus_are_listed_with_their_driver(programs, fresh):
    programs("nvidia-smi", "echo 'NVIDIA H100, 550.1, 81559'; echo 'NVIDIA A100, 550.1, 40960'")
    assert this_machine().gpus == ("NVIDIA H100", "NVIDIA A100")
    assert (this_machine().driver, this_machine().gpu_memory) == ("550.1", 81559 << 20)


def test_a_gpu_that_does_not_tell_its_memory_has_none_to_plan_with(programs, fresh):
    programs("nvidia-smi", "echo 'GRID, 550.1, [N/A]'")
    assert (this_machine().gpus, this_machine().gpu_memory) == (("GRID",), 0)


@pytest.mark.parametrize("script", ["exit 9", "echo 'No devices were found'", "echo 'a, b, 1'; exit 9"])
def test_a_driver_without_a_gpu_is_no_gpu(programs, fresh, script):
    programs("nvidia-smi", script)
    assert this_machine().gpus == ()


def test_without_a_driver_there_is_no_gpu(programs, fresh):
    assert this_machine().gpus == ()
    assert this_machine().driver == ""


def test_compilers_are_those_on_the_path_with_their_versions(programs):
    programs("g++", "echo 'g++ (Debian 99.1.0-14+deb12u1) 99.1.0'; echo more 1.0")
    programs("nvcc", "echo 'nvcc: a compiler driver'; echo 'tools, release 13.0, V13.0.88'")
    assert machine.compilers() == {"g++": "99.1.0", "nvcc": "13.0.88"}


def test_this_machine_has_caches_and_a_blas():
    assert all(size > 0 for size in machine.caches().values())
    assert any(blas["internal_api"] in {"openblas", "mkl", "blis"} for blas in machine.blas_libraries())


@pytest.fixture(scope="module")
def limits(tmp_path_factory):
    if shutil.which("g++") is None:
        pytest.skip("no g++ on this machine")
    folder = tmp_path_factory.mktemp("limits")
    for target in LIMITS.targets:
        build("limits", target, folder / target)
    return folder


def test_measured_ceilings_are_possible(limits):
    made = best_limits(limits)
    rates = made.fma_rate(threads=1, seconds=0.02, tries=3)
    assert len(rates) == 3
    assert all(1e8 < rate < 1e12 for rate in rates)
    assert all(1e8 < rate < 1e12 for rate in made.read_rate(threads=1, size=1 << 24, tries=2))


def test_float32_has_more_multiply_adds_than_float64(limits):
    if not {"avx2", "fma"} <= this_machine().cpu_flags:
        pytest.skip("needs vector instructions")
    made = best_limits(limits)
    f4, f8 = (max(made.fma_rate(threads=1, dtype=d, seconds=0.1)) for d in ("f4", "f8"))
    assert f4 > 1.4 * f8


def test_the_widest_vectors_that_the_cpu_has_are_taken(limits, monkeypatch):
    loaded = []
    monkeypatch.setattr(machine, "Limits", loaded.append)
    for flags, target in ((AVX2, "avx2"), (set(), "scalar"), (AVX512, "avx512"), (VNNI, "avx512vnni")):
        here = Machine("h", "c", frozenset(flags), 1, 1)
        monkeypatch.setattr(machine, "this_machine", lambda here=here: here)
        best_limits(limits)
        assert loaded[-1] == limits / target / "limits.so"


AVX2 = {"avx2", "fma", "bmi2"}
AVX512 = AVX2 | {"avx512f", "avx512bw"}
VNNI = AVX512 | {"avx512_vnni"}


def each_target(limits):
    return [(made.target, machine.Limits(made.library)) for made in machine.built_limits(limits)]


@pytest.mark.parametrize("threads", [1, 2])
def test_multiply_adds_come_to_what_they_should(limits, threads):
    for target, made in each_target(limits):
        for dtype in ("f8", "f4"):
            done, checksum = made.fma(50, threads=threads, dtype=dtype)
            chain = 0.001
            for _ in range(50):
                chain = 0.999 * chain + 0.001
            assert checksum == pytest.approx(done / 50 * chain, rel=1e-4 if dtype == "f4" else 1e-12), target


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("tables", [1, 8])
@pytest.mark.parametrize("columns", LOOKUP_COLUMNS)
def test_lookups_sum_the_entries_that_the_words_name(limits, columns, tables, threads):
    rounds = 777  # each two words; the words repeat after 512
    codes = np.arange(512 * 8) * 89 % 243
    looked_up = codes.reshape(512, 8)[np.arange(2 * rounds) % 512]
    entry = 1 + looked_up + 243 * (np.arange(8) % tables)
    wanted = sum((entry + 1944 * column).sum() for column in range(columns))
    for target, made in each_target(limits):
        done, checksum = made.lookups(rounds, columns=columns, tables=tables, threads=threads)
        assert done == 16 * rounds * threads
        assert checksum == wanted * threads, target


def test_the_codes_of_the_lookups_are_used_equally_often():
    counts = np.bincount(np.arange(512 * 8) * 89 % 243, minlength=243)
    assert counts.size == 243
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize(("columns", "tables"), [(3, 1), (16, 8), (8, 2), (8, 0)])
def test_lookups_that_are_not_compiled_are_refused(limits, columns, tables):
    made = best_limits(limits)
    with pytest.raises(ValueError, match=f"no lookups of {columns} columns in {tables} tables"):
        made.lookups(1, columns=columns, tables=tables)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("rounds", [1, 1000, 3_000_000])
def test_8_bit_products_sum_to_what_they_should(limits, rounds, threads):
    for target, made in each_target(limits):
        done, checksum = made.int8(rounds, threads=threads)
        bytes_each, rest = divmod(done, 12 * rounds * threads)
        i = np.arange(bytes_each)
        dot = int((i % 3 * (37 * i % 256 - 128)).sum())
        assert rest == 0
        assert bytes_each == {"avx2": 32, "avx512": 64, "avx512vnni": 64}.get(target, bytes_each)
        assert checksum == dot * 12 * rounds * threads % 2**32, target


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("size", [8, 64, 1000, 4096, 100_000])
def test_reading_sees_every_word_of_every_line_and_copying_every_byte(limits, size, threads):
    source = np.random.default_rng(size).integers(0, 2**63, size // 8, dtype=np.uint64)
    for target, made in each_target(limits):
        assert made.read(source, threads=threads) == np.bitwise_xor.reduce(source[: size // 64 * 8]), target
        to = np.zeros_like(source)
        assert made.copy(to, source, threads=threads) == 2 * source.nbytes
        assert (to == source).all()


def test_every_rate_is_positive_in_every_target(limits):
    brief = {"threads": 1, "seconds": 0.002, "tries": 2}
    for _, made in each_target(limits):
        found = [
            *made.fma_rate(**brief),
            *made.lookup_rate(columns=8, tables=8, **brief),
            *made.int8_rate(**brief),
            *made.read_rate(threads=1, size=1 << 20, tries=2),
            *made.copy_rate(threads=1, buffer=np.ones(1 << 18), tries=2),
        ]
        assert len(found) == 10
        assert all(1e7 < rate < 1e13 for rate in found)


def test_without_a_build_there_are_no_ceilings(tmp_path):
    assert best_limits(tmp_path) is None
    build("limits", "scalar", tmp_path / "scalar", compiler="no-such-compiler")
    assert best_limits(tmp_path) is None


def test_the_inventory_without_a_compiler_says_what_is_missing():
    facts = describe(compiler="no-such-compiler")
    assert facts["measured"] == []
    assert "is there a C++ compiler?" in to_text(facts)
    assert facts["cpu"] in to_text(facts)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("KERNEL = (\n", r"own\.py: line 1: '\(' was never closed"),
        ("import os\nKERNEL = Kernel(name='own')\n", r"own\.py: line 2: NameError: name 'Kernel' is not defined"),
        ("", r"own\.py: it defines no KERNEL"),
    ],
)
def test_a_kernel_that_cannot_be_loaded_is_a_sentence_and_the_others_are_listed(tmp_path, monkeypatch, text, said):
    for name in ("dense_blas", "own"):
        (tmp_path / f"{name}.py").write_text(text if name == "own" else (kernels.HERE / f"{name}.py").read_text())
    monkeypatch.setattr(kernels, "HERE", tmp_path)
    monkeypatch.setattr(kernels, "__path__", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "bench.kernels.own", raising=False)
    with pytest.raises(BenchError, match=said):
        kernels.load("own")
    lines = kernel_lines()
    assert any(line.startswith("dense_blas: ") for line in lines)
    assert re.search(f"^own: cannot be loaded: .*{said}", lines[-1])


def test_every_kernel_is_listed_with_whether_it_runs_here():
    lines = "\n".join(kernel_lines())
    assert "decompress:" in lines
    assert "dense_blas:" in lines
    assert "runs here" in lines
    if not this_machine().gpus:
        assert "cannot run here: needs an NVIDIA GPU" in lines
        gpu = [name for name in kernels.names() if kernels.load(name).gpu]
        assert lines.count("needs an NVIDIA GPU") == len(gpu)  # a line for each, whatever its number of targets
        targets = kernels.load(gpu[0]).all_targets
        assert f"{targets[0]} to {targets[-1]}, {len(targets)} targets: cannot run here" in lines
