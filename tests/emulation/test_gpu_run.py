"""`bench gpu` under the emulation of a GPU, at toy sizes and with clocks that tell what they are told."""

import contextlib
import dataclasses
import json
import subprocess
import sys
import types
from pathlib import Path

import cupy_stand_in
import numpy as np
import pytest
from compiler import compiled

from bench import collect
from bench.__main__ import main
from bench.errors import BenchError
from bench.gpu import check, device, figure, generate, predict, profile, report, run, stages, tables, times
from bench.gpu.session import Session, Settings
from bench.kernels._cuda import nvrtc
from bench.kernels._cuda.gpu import Gpu
from bench.kernels.gpu_2bit.matrix import GpuMatrix
from bench.machine import this_machine
from bench.measure import Clock
from bench.record import Document

TOY = Settings(
    sizes=(700,), snps=300, columns=(2,), slices=(7,), checked=(300, 1100), checked_columns=(2,), checked_slices=(7,),
    missing=0.02, repeats=2, seconds=10_000, buffer=1 << 16, rounds=3, steps=6, others=(),
)  # fmt: skip


class Ticking:
    """A clock of which each reading is `step` seconds later."""

    def __init__(self, step: float = 0.001):
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def clock(step: float = 0.001) -> Clock:
    return Clock(Ticking(step), Ticking(step))


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """(folder, session) of a whole run on an emulated A100; the tests below read what it wrote."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "cupy", cupy_stand_in)
        patch.setitem(sys.modules, "cupyx", types.SimpleNamespace(empty_pinned=cupy_stand_in.empty_pinned))
        patch.setattr(nvrtc, "compiled", compiled)
        patch.setattr(nvrtc, "lacks", lambda: None)
        patch.setattr(nvrtc, "lacks_headers", lambda: None)
        patch.setattr(nvrtc, "version", lambda: "13.0")
        patch.setattr(profile.shutil, "which", lambda _: None)
        patch.setattr(run, "exclusive", contextlib.nullcontext)
        patch.setattr(cupy_stand_in, "STATE", cupy_stand_in.State(capability="8.0", shared=163 << 10))
        folder = tmp_path_factory.mktemp("gpu")
        yield folder, run.run(folder, TOY, clock(), lambda _: None)


@pytest.fixture
def frame(toy):
    return collect.collect([toy[0] / "gpu.json"])


@pytest.fixture
def emulated(gpu, monkeypatch):
    """The state of an emulated A100, for runs that get not far."""
    gpu.capability, gpu.shared = "8.0", 163 << 10
    monkeypatch.setattr(nvrtc, "version", lambda: "13.0")
    monkeypatch.setattr(run, "exclusive", contextlib.nullcontext)  # nothing here is timed
    return gpu


def session_in(folder: Path, settings: Settings = TOY, step: float = 0.001) -> Session:
    return Session(folder, settings, Document({"experiment": "gpu", "case": "gpu"}), clock(step), lambda _: None)


@pytest.mark.slow
def test_a_run_gives_every_kind_of_row_and_nothing_wrong(toy, frame):
    session = toy[1]
    assert not session.wrong
    assert not session.faults
    assert not session.lost
    ok = frame[frame["status"] == "ok"]
    assert set(ok["phase"].dropna()) == {"device", "limits", "verify", "product", "memory", "solve"}
    refused = frame[frame["status"] != "ok"]
    assert set(refused["phase"].dropna()) <= {"profile", "verify"}
    assert refused["reason"].str.len().min() > 10
    verified = ok[ok["phase"] == "verify"]
    assert set(verified["direction"]) == {"matmul", "rmatmul"}
    assert set(verified["note"].dropna()) == {"3 splits", "5 splits", "streamed", "not finite"}
    assert (ok.loc[ok["metric"].isin(["bits_differ", "integer_mismatches"]), "value"] == 0).all()
    assert ok.loc[ok["metric"] == "rel_error", "value"].max() < 1e-15
    assert set(ok["compiler"]) == {"NVRTC 13.0, CuPy 0 (stand-in)"}
    assert set(ok["gpu"]) == {"Stand-in"}


@pytest.mark.slow
def test_times_are_those_of_the_events_and_have_predictions(frame):
    rows = frame[(frame["phase"] == "product") & frame["method"].isna()]
    for direction in ("matmul", "rmatmul"):
        here = rows[rows["direction"] == direction]
        took = here[here["metric"] == "kernel_time"]
        assert len(took) == TOY.repeats
        # A launch is a millisecond of the stand-in; a product has four, or five where its output is split.
        assert took["value"].between(0.004, 0.008).all()
        assert (took["calls"] >= times.CALLS).all()
        parts = here[here["metric"] == "stage_time"].set_index("part")["value"]
        assert set(parts.index) == set(stages.PARTS.values())
        assert 0.7 < parts.sum() / took["value"].median() < 1.01  # what is no launch is no stage
        whole = here[here["metric"] == "product_time"]
        assert whole["value"].to_numpy(float) == pytest.approx(0.001 / whole["calls"].to_numpy(float))
        limits = predict.limits(frame.to_dict("records"))
        work = here.set_index("metric")["value"]
        predicted = here[here["metric"] == "predicted_time"].set_index("part")["value"]
        assert predicted["bytes"] == pytest.approx(work["work_bytes"] / limits["copy_peak", ""])
        assert predicted["int8"] == pytest.approx(work["work_int8"] / limits["int8_peak", "sm_80"])
    missing = frame[frame["method"].notna() & (frame["metric"] == "kernel_time")]
    assert set(missing["method"]) == {"called", "missing"}
    share = frame.loc[frame["metric"] == "product_share", "value"]
    assert 0 < float(share.iloc[0]) < 1


@pytest.mark.slow
def test_everything_is_drawn_from_the_document(toy, frame):
    said = report.write(toy[0])
    assert said.count("not measured") == len(tables.bars(frame))
    names = {path.name for path in toy[0].iterdir()}
    drawn = {f"gpu_{name}.{end}" for name in ("bars", "times", "limits", "refused") for end in ("csv", "html", "md")}
    assert names == drawn | {"gpu.json", "measurements.parquet", "measurements.csv"} | {
        f"gpu_roofline.{end}" for end in ("svg", "pdf", "png")
    }
    assert len(tables.times(frame)) == 2
    before = (toy[0] / "gpu_times.csv").read_bytes()
    assert main(["gpu", "--out", str(toy[0]), "--draw"]) == 0
    assert (toy[0] / "gpu_times.csv").read_bytes() == before


def splitmix(x: np.ndarray) -> np.ndarray:
    """splitmix64's finaliser in numpy."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def test_the_generated_genotypes_are_those_of_their_definition(emulated, monkeypatch):
    n, m, rate = 403, 90, 0.1
    monkeypatch.setattr(generate, "BLOCK", 40 * 101)  # 40 SNPs at a time
    packed = generate.on_host(Gpu(0, "sm_80"), n, m, seed=7, missing=rate)
    key = splitmix(np.uint64([7]))
    of_snp = splitmix(key ^ np.arange(m, dtype=np.uint64)) & np.uint64(0xFFFF)
    frequency = 3277 + (of_snp * np.uint64(58982) >> np.uint64(16))
    bits = splitmix(key + (np.arange(m, dtype=np.uint64)[:, None] << np.uint64(32) | np.arange(n, dtype=np.uint64)))
    alleles = [(bits >> np.uint64(shift)) & np.uint64(0xFFFF) for shift in (0, 16)]
    dosages = sum((a < frequency[:, None]).astype(int) for a in alleles)
    dosages[(bits >> np.uint64(32) & np.uint64(0xFFFFFF)) < round(rate * 2**24)] = -1
    assert np.array_equal(packed.dosages(), dosages.T)
    assert packed.missing_rate() == pytest.approx(rate, abs=0.01)
    assert frequency.min() >= 0.05 * 65536 - 1
    assert frequency.max() <= 0.95 * 65536 + 1
    p = packed.allele_frequency()
    assert np.abs(p - frequency / 65536).max() < 5 * np.sqrt(0.25 / (2 * n))


def test_panels_made_on_the_gpu_are_those_that_are_uploaded(emulated):
    gpu = Gpu(0, "sm_80")
    panels = generate.panels(gpu, 515, 70, seed=3, missing=0.05)
    packed = generate.on_host(gpu, 515, 70, seed=3, missing=0.05)
    uploaded = GpuMatrix(packed, dtype="f8", target="sm_80", threads=1)
    made = GpuMatrix.of_panels(panels, target="sm_80")
    assert made.missing is not None
    assert np.array_equal(made.place(np.zeros(1)).get(), np.zeros(1))
    assert (uploaded._held[0].codes == panels.codes).all()
    assert times._dosages(panels, "rmatmul", 69).tolist() == np.maximum(packed.dosages()[:, 69], 0).tolist()
    assert times._dosages(panels, "matmul", 514).tolist() == np.maximum(packed.dosages()[514], 0).tolist()


def test_without_time_everything_is_refused_and_written(emulated, tmp_path):
    session = run.run(tmp_path, dataclasses.replace(TOY, seconds=0.0), clock(), lambda _: None)
    frame = collect.collect([tmp_path / "gpu.json"])
    assert not session.faults
    assert set(frame["status"]) == {"refused"}
    assert frame["value"].isna().all()
    assert frame["reason"].str.contains("s of the run were left").all()
    assert emulated.launched == []
    report.write(tmp_path)
    assert "not measured" in (tmp_path / "gpu_bars.md").read_text()


def test_what_has_been_measured_is_there_when_the_time_ends(emulated, tmp_path):
    session = session_in(tmp_path, dataclasses.replace(TOY, seconds=10.0))
    assert session.step("one", lambda: session.add("copy_peak", 1.0, "B/s"), needs=1)
    assert session.left() < 10
    assert not session.step("two", lambda: pytest.fail("was begun"), needs=5, leave=6)
    frame = collect.collect([tmp_path / "gpu.json"])
    assert frame["status"].tolist() == ["ok", "refused"]
    assert frame["case"].tolist() == ["one", "two"]
    assert "6 s of them kept for what is more important" in frame["reason"][1]


def test_a_step_needs_time_for_its_size(emulated, tmp_path, monkeypatch):
    """The last one begun must end in time as well: at 3.1 million and 32 columns, vectors alone take seconds."""
    settings, needs = dataclasses.replace(TOY, columns=(2, 32)), {}
    session = session_in(tmp_path, settings)
    monkeypatch.setattr(session, "step", lambda case, call, **how: needs.setdefault(case, how["needs"]))
    times.time_size(session, [Gpu(0, "sm_80")], 100_000)
    narrow, wide = (needs[f"times 100000 x 300, sm_80, k = {k}"] for k in (2, 32))
    assert wide - narrow == pytest.approx(2e-7 * 100_000 * 30)


def test_a_gpu_that_is_lost_loses_nothing(emulated, tmp_path):
    emulated.lost_after = 25
    session = run.run(tmp_path, TOY, clock(), lambda _: None)
    assert "cudaErrorDeviceUnavailable" in session.lost
    frame = collect.collect([tmp_path / "gpu.json"])
    assert (frame["metric"] == "copy_peak").sum() >= 5
    assert (frame["status"] == "ok").any()
    reasons = frame.loc[frame["status"] == "refused", "reason"]
    assert reasons.iloc[0].startswith("the GPU failed or was lost: ")
    assert reasons.iloc[1:].str.startswith("the GPU was lost before: ").all()
    assert len(emulated.launched) == 25


def test_an_error_that_the_gpu_outlives_ends_only_its_step(emulated, tmp_path):
    session = session_in(tmp_path)

    def fails() -> None:
        raise cupy_stand_in.CUDARuntimeError("cudaErrorInvalidValue: invalid argument")

    assert not session.step("one", fails, needs=0)
    assert session.lost == ""
    assert session.step("two", lambda: None, needs=0)


def test_a_fault_of_one_part_is_a_row_and_the_rest_goes_on(emulated, tmp_path, capsys):
    session = session_in(tmp_path)
    assert not session.step("one", lambda: 1 // 0, needs=0, phase="verify")
    assert session.step("two", lambda: session.add("rel_error", 0.0, "1"), needs=0)
    assert session.faults == 1
    assert "ZeroDivisionError" in capsys.readouterr().err
    frame = collect.collect([tmp_path / "gpu.json"])
    assert "fault of the program: ZeroDivisionError" in frame["reason"][0]


def test_what_does_not_fit_the_memory_is_refused_with_the_figures(emulated, tmp_path):
    session = session_in(tmp_path, dataclasses.replace(TOY, snps=50_241))
    times.time_size(session, [Gpu(0, "sm_80")], 751_000)
    frame = collect.collect([session.folder / "gpu.json"])
    assert "needs 10." in frame["reason"][0]
    assert "GB of the GPU's memory, 1.1 GB are free" in frame["reason"][0]
    emulated.free = 1000
    assert not session.step("more", lambda: generate.panels(Gpu(0, "sm_80"), 10_000, 100, seed=1), needs=0)
    assert session.document.rows[-1]["status"] == "oom"
    assert "Out of memory allocating" in session.document.rows[-1]["reason"]


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("cupy", "CuPy cannot be imported"),
        ("gpu", "an NVIDIA GPU is needed, and this machine lists none (CuPy cannot be imported"),
        ("devices", "no GPU can be used"),
        ("driver", "cudaErrorInsufficientDriver"),
        ("capability", "no kernel is made for compute capability 3.5"),
        ("nvrtc", "NVRTC, the CUDA compiler, is not installed"),
        ("headers", "the headers are not installed"),
    ],
)
def test_what_a_run_cannot_do_without_is_a_sentence(emulated, tmp_path, monkeypatch, capsys, broken, said):
    def old() -> int:
        raise cupy_stand_in.CUDARuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient")

    def absent() -> str:
        raise BenchError("NVRTC, the CUDA compiler, is not installed")

    listed = () if broken == "gpu" else ("Stand-in",)
    monkeypatch.setattr(device, "this_machine", lambda: dataclasses.replace(this_machine(), gpus=listed))
    if broken in ("cupy", "gpu"):
        monkeypatch.setitem(sys.modules, "cupy", None)
    elif broken == "devices":
        emulated.devices = 0
    elif broken == "driver":
        monkeypatch.setattr(cupy_stand_in.cuda.runtime, "getDeviceCount", old)
    elif broken == "capability":
        emulated.capability = "3.5"
    elif broken == "headers":
        monkeypatch.setattr(nvrtc, "lacks_headers", lambda: "the headers are not installed")
    else:
        monkeypatch.setattr(nvrtc, "version", absent)
    assert main(["gpu", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
    document = json.loads((tmp_path / "gpu.json").read_text())
    assert document["status"] == "refused"
    assert said in document["reason"]


class Wrong:
    """A matrix of which one output is off by one."""

    def __init__(self, reference: check.Reference):
        self._Z = reference.Z

    def matmul(self, V: np.ndarray) -> np.ndarray:
        out = self._Z @ V
        out[0, 0] += 1
        return out

    def rmatmul(self, U: np.ndarray) -> np.ndarray:
        return self._Z.T @ U


def test_a_wrong_product_is_a_wrong_row_and_is_not_timed(emulated, tmp_path):
    session = session_in(tmp_path)
    packed = generate.on_host(Gpu(0, "sm_80"), 40, 30, seed=1)
    reference = check.Reference(packed, 1)
    place = {"kernel": "gpu_2bit", "target": "sm_80_s4", "k": 2, "phase": "verify"}
    check.verify(session, Wrong(reference), reference, place)
    rows = session.document.rows
    assert [row.get("status", "ok") for row in rows] == ["wrong", "wrong", "ok", "ok"]
    assert "1 integer outputs differ" in rows[0]["reason"]
    assert session.wrong == {"gpu_2bit/sm_80_s4"}
    with pytest.raises(BenchError, match="products were wrong"):
        times._trusted(session, "gpu_2bit/sm_80_s4")
    times._trusted(session, "gpu_2bit/sm_80")


def planted(*, share: dict[int, float], fma: float, memory: float, products: float) -> Document:
    """A run at the size of the bars on a GPU that copies 3 TB/s."""
    document = Document({"experiment": "gpu", "case": "gpu"})
    n, m, k = tables.N, tables.M, tables.K
    document.add("copy_peak", 3e12, "B/s", phase="limits")
    document.add("int8_peak", 1e15, "1/s", phase="limits", target="sm_90a")
    document.add("fma_peak", 3e13, "1/s", phase="limits", target="sm_90", dtype="f8")
    ideal = (m * -(-n // 4) + 8 * (n + m) * k) / 3e12
    place = {"n": n, "m": m, "k": k, "kernel": "gpu_2bit", "missing_rate": 0.0}
    for slices, reached in share.items():
        target = "sm_90a" if slices == 7 else f"sm_90a_s{slices}"
        for direction in ("matmul", "rmatmul"):
            where = place | {"phase": "product", "target": target, "direction": direction}
            for repeat in range(10):
                took = ideal / reached * (1 + 0.001 * (repeat - 4.5))
                document.add("kernel_time", took, "s", repeat=repeat, **where)
            document.add("predicted_time", ideal / 0.8, "s", part="int8", **where)
            document.add("predicted_time", ideal, "s", part="bytes", **where)
    for direction in ("matmul", "rmatmul"):
        where = place | {"phase": "pair", "against": "gpu_fma", "direction": direction}
        for repeat in range(10):
            drift = 1 + 0.1 * repeat
            document.add("kernel_time", 0.004 * drift, "s", repeat=repeat, **where | {"target": "sm_90a"})
            other = where | {"kernel": "gpu_fma", "target": "sm_90"}
            document.add("kernel_time", 0.004 * fma * drift, "s", repeat=repeat, **other)
        document.add(
            "predicted_time", 12 * ideal, "s", part="fma", **where | {"kernel": "gpu_fma", "target": "sm_90"}
        )
    packed, vectors = m * -(-n // 4), 8 * (n + m) * k
    for metric, size in (
        ("device_bytes", memory * packed + vectors),
        ("packed_bytes", packed),
        ("vector_bytes", vectors),
    ):
        document.add(metric, size, "B", **place | {"phase": "memory", "target": "sm_90a"})
    document.add("product_share", products, "1", **place | {"phase": "solve"})
    return document


@pytest.mark.parametrize("good", [True, False])
def test_the_bars_are_those_of_planted_numbers(tmp_path, good):
    numbers = {"share": {7: 0.7, 4: 0.9}, "fma": 14.0, "memory": 1.02, "products": 0.9}
    if not good:
        numbers = {"share": {7: 0.5, 4: 0.7}, "fma": 8.0, "memory": 1.3, "products": 0.6}
    planted(**numbers).write(tmp_path / "gpu.json")
    bars = tables.bars(collect.collect([tmp_path / "gpu.json"]))
    assert bars["meets"].tolist() == ["yes" if good else "no"] * 8
    expected = [numbers["share"][7]] * 2 + [numbers["share"][4]] * 2 + [numbers["fma"]] * 2
    assert bars["measured"].tolist() == pytest.approx([*expected, numbers["memory"], numbers["products"]], rel=1e-3)
    assert bars["predicted"][:4].tolist() == pytest.approx([0.8] * 4)
    assert bars["predicted"][4] == pytest.approx(12 * 0.8)
    assert bars.loc[4, "measured_low"] == pytest.approx(numbers["fma"])  # drift that both have cancels


def test_an_interval_across_a_bar_is_inconclusive():
    row = tables._bar("x", "", 0.6, tables.Interval(0.61, 0.59, 0.63), 0.7)
    assert row["meets"] == "inconclusive"
    assert tables._bar("x", "", 1.05, tables.Interval(1.04, 1.03, 1.06), 0.7, most=True)["meets"] == "inconclusive"


def test_the_roofline_has_a_panel_per_size_and_the_measured_slope(tmp_path):
    planted(share={7: 0.7, 4: 0.9}, fma=14, memory=1, products=1).write(tmp_path / "gpu.json")
    drawn = figure.draw(collect.collect([tmp_path / "gpu.json"]))
    (axes,) = drawn.axes
    x, y = axes.lines[0].get_data()
    assert np.allclose(y, 3 * x)
    heights = [line.get_ydata()[0] for line in axes.lines[1:4]]
    assert heights == pytest.approx([1e3 / 7, 1e3 / 4, 30.0])  # of wgmma, although gpu_fma's sm_90 has no such rate


def test_the_tools_of_nvidia_are_read(emulated, tmp_path, monkeypatch):
    session = session_in(tmp_path)
    said = {
        "memcheck": "========= ERROR SUMMARY: 0 errors\n",
        "racecheck": "========= RACECHECK SUMMARY: 2 hazards displayed (2 errors, 0 warnings)\n",
        "ncu": '==PROF== x\n"ID","Kernel Name","Metric Name","Metric Value"\n'
        '"0","product","dram__throughput.avg.pct_of_peak_sustained_elapsed","81.5"\n'
        '"0","product","sm__inst_executed_pipe_tensor.sum","1,000"\n'
        '"1","product","dram__throughput.avg.pct_of_peak_sustained_elapsed","70"\n',
    }

    def tool(command: list[str], **_: object) -> subprocess.CompletedProcess:
        assert command[-6] == profile.ONE
        return subprocess.CompletedProcess(command, 0, said[command[2] if command[0] != "ncu" else "ncu"], "")

    monkeypatch.setattr(profile.shutil, "which", lambda name: name)
    monkeypatch.setattr(profile.subprocess, "run", tool)
    profile.sanitize(session, "memcheck", "sm_80", 10)
    profile.sanitize(session, "racecheck", "sm_80", 10)
    profile.count(session, 700, "sm_80", 10)
    rows = session.document.rows
    assert [row["value"] for row in rows] == [0, 2, 0.815, 1000, 0.7]
    assert rows[1]["status"] == "wrong"
    assert [row.get("direction") for row in rows[2:]] == ["matmul", "matmul", "rmatmul"]

    def slow(command: list[str], timeout: float, **_: object) -> None:
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(profile.subprocess, "run", slow)
    with pytest.raises(BenchError, match="ncu had not ended after 10 s"):
        profile.count(session, 700, "sm_80", 10)


ABSENT = "pydantic msprime tskit snakemake equinox optax jax pooch rdata bed_reader cupy"
IMPORTS = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT.split()!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import pkgutil, importlib, bench.gpu, bench.matrix
for found in pkgutil.iter_modules(bench.gpu.__path__):
    importlib.import_module("bench.gpu." + found.name)
from bench.__main__ import main
sys.exit(main(["gpu", "--out", sys.argv[1]]))
"""


def test_clocks_are_those_of_the_gpu_that_is_used(emulated, tmp_path, monkeypatch):
    """nvidia-smi's GPU 0 is another one where a job was given some of a node's."""
    asked, said = [], "1980, 1980, 2619, 310.5, [N/A]"
    monkeypatch.setattr(device.shutil, "which", lambda _: "nvidia-smi")
    answer = types.SimpleNamespace(returncode=0, stdout=f"{said}\n")
    monkeypatch.setattr(device.subprocess, "run", lambda command, **_: asked.append(command) or answer)
    monkeypatch.setattr(cupy_stand_in.cuda.runtime, "deviceGetPCIBusId", lambda number: f"0000:5{number}:00.0")
    session = session_in(tmp_path)
    device.state(session, "before")
    assert asked[0][:3] == ["nvidia-smi", "-i", "0000:50:00.0"]
    found = {row["metric"]: row["value"] for row in session.document.rows}
    assert found == {"clock_sm": 1.98e9, "clock_sm_most": 1.98e9, "clock_memory": 2.619e9, "power": 310.5}


def test_a_machine_without_the_other_packages_suffices(tmp_path):
    done = subprocess.run([sys.executable, "-c", IMPORTS, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "CuPy cannot be imported" in done.stderr
