"""What the machine says of itself, read from files and programs that stand in for it."""

import io
import os
import re
import shutil
import stat
import sys
from pathlib import Path

import pytest

from bench import kernels, machine
from bench.build import LIMITS, build
from bench.errors import BenchError
from bench.inventory import describe, kernel_lines, to_text
from bench.machine import Machine, best_limits, this_machine

CPUINFO = """\
processor\t: 0
model name\t: A CPU @ 3 GHz
flags\t\t: fpu avx2 fma

processor\t: 1
model name\t: Another
flags\t\t: fpu
"""


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
    monkeypatch.setattr(machine, "OWN_CGROUPS", own)
    monkeypatch.setattr(machine, "CGROUPS", tmp_path)

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


@pytest.mark.parametrize(("text", "cores"), [("150000 100000", 2), ("50000 100000", 1), ("max 100000", 3)])
def test_the_cores_are_those_of_the_affinity_or_the_cgroup_s_quota(cgroups, monkeypatch, text, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    cgroups("jobs/cpu.max", text)
    assert machine._core_count() == cores


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
    programs("nvidia-smi", "echo 'NVIDIA H100, 550.1'; echo 'NVIDIA A100, 550.1'")
    assert this_machine().gpus == ("NVIDIA H100", "NVIDIA A100")
    assert this_machine().driver == "550.1"


@pytest.mark.parametrize("script", ["exit 9", "echo 'No devices were found'", "echo 'a, b'; exit 9"])
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
    for flags, target in (({"avx2", "fma"}, "avx2"), (set(), "scalar"), ({"avx2", "fma", "avx512f"}, "avx512")):
        here = Machine("h", "c", frozenset(flags), 1, 1)
        monkeypatch.setattr(machine, "this_machine", lambda here=here: here)
        best_limits(limits)
        assert loaded[-1] == limits / target / "limits.so"


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
