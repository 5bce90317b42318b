"""What happened beside a session, from made-up trees of /proc and /sys: rows, verdict, and what is not told."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from bench import surroundings
from bench.measure import Clock
from bench.record import Document
from bench.surroundings import Snapshot, Sources, add_rows, ranges, settings, take, verdict, watched

TWO = frozenset({0, 1})
QUIET = Snapshot(wall=100.0, cpu=10.0, switches=0, minor_faults=0, major_faults=0, busy=50.0, steal=1.0, idle=90.0)


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def stat(*cores: tuple[int, ...]) -> str:
    """/proc/stat in ticks: user, nice, system, idle, iowait, irq, softirq, steal, guest, guest_nice."""
    lines = [f"cpu{i} {' '.join(map(str, core))}" for i, core in enumerate(cores)]
    return "\n".join(["cpu  0 0 0 0 0 0 0 0 0 0", *lines, "intr 1 2", "ctxt 5"]) + "\n"


def pressure(total: int) -> str:
    return f"some avg10=0.00 avg60=0.00 avg300=0.00 total={total}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n"


@pytest.fixture
def tree(tmp_path):
    """A machine of three cores, of which two may be used, that tells everything."""
    write(tmp_path / "proc", {
        "stat": stat((100, 10, 20, 500, 5, 1, 2, 3, 9, 0), (200, 0, 30, 400, 5, 1, 1, 7, 0, 0), (9,) * 10),
        "loadavg": "0.89 1.68 1.89 1/93 17258\n",
        "pressure/cpu": pressure(2_500_000), "pressure/memory": pressure(0), "pressure/io": pressure(125_000),
    })  # fmt: skip
    write(tmp_path / "sys", {
        **{f"devices/system/cpu/cpu{i}/cpufreq/scaling_cur_freq": f"{khz}\n"
           for i, khz in enumerate((2_000_000, 3_000_000, 9))},
        **{f"devices/system/cpu/cpu{i}/cpufreq/scaling_governor": "performance\n" for i in range(3)},
        "devices/system/node/node0/cpulist": "0-2", "devices/system/node/node1/cpulist": "",
        "devices/system/node/possible": "0-1",
        "kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
        "class/powercap/intel-rapl:0/energy_uj": "5000000\n",
        "class/powercap/intel-rapl:0/max_energy_range_uj": "262143328850\n",
        "class/powercap/intel-rapl:1/energy_uj": "1000000\n",
        "class/powercap/intel-rapl:1/max_energy_range_uj": "262143328850\n",
        "class/powercap/intel-rapl:0:0/energy_uj": "4000000\n",
    })  # fmt: skip
    return Sources(tmp_path / "proc", tmp_path / "sys", TWO, Clock(wall=lambda: 7.0, cpu=lambda: 0.0))


@pytest.fixture(autouse=True)
def tick_of_10_ms(monkeypatch):
    monkeypatch.setattr(surroundings.os, "sysconf", lambda name: 100)


def test_a_snapshot_counts_the_usable_cores_alone(tree):
    found = take(tree)
    assert found.wall == 7.0
    assert found.busy == pytest.approx((100 + 10 + 20 + 1 + 2 + 200 + 30 + 1 + 1) / 100)  # guests are in user
    assert found.steal == pytest.approx(0.1)
    assert found.idle == pytest.approx((505 + 405) / 100)
    assert found.load == 0.89
    assert found.frequency == 2.5e9
    assert found.pressure == {"cpu": 2.5, "memory": 0.0, "io": 0.125}
    assert found.energy["cpu intel-rapl:0"][0] == pytest.approx(5.0)
    assert "cpu intel-rapl:0:0" not in found.energy  # a part of the package


def test_settings_are_columns(tree, monkeypatch):
    for name in surroundings.PINNING:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_PLACES", "cores")
    assert settings(tree) == {
        "affinity": "0-1", "pinning": "OMP_PLACES=cores", "governor": "performance", "numa_nodes": 2,
        "huge_pages": "madvise",
    }  # fmt: skip


def test_what_a_system_does_not_tell_is_no_row_and_no_reason(tmp_path):
    clock = iter((1.0, 3.0))
    nothing = Sources(tmp_path / "proc", tmp_path / "sys", TWO, Clock(wall=lambda: next(clock), cpu=lambda: 0.0))
    doc = Document({})
    with watched(doc, 2, nothing):
        pass
    assert {row["metric"] for row in doc.rows} == {"elapsed", "own_cpu", "switches", "minor_faults", "major_faults"}
    assert doc.provenance["contaminated"] is None
    assert settings(nothing) | {"pinning": ""} == {
        "affinity": "0-1", "pinning": "", "governor": None, "numa_nodes": None, "huge_pages": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("stat", ""),
        ("stat", "cpu0 1 2 3\ncpu1 1 2 3\n"),  # of a kernel before 2.6.11
        ("stat", "cpu0 a b c d e f g h\ncpu1 1 2 3 4 5 6 7 8\n"),
        ("stat", "cpu0 1 2 3 4 5 6 7 8\n"),  # the other core is offline
        ("loadavg", "none"),
        ("pressure/cpu", ""),
        ("pressure/io", "some avg10=0.00"),
        ("pressure/memory", "some total=many"),
    ],
)
def test_a_damaged_file_is_unknown(tree, file, text):
    write(tree.proc, {file: text})
    found = take(tree)
    known = {"stat": found.busy, "loadavg": found.load}
    assert known.get(file, found.pressure.get(Path(file).name)) is None


def test_frequency_is_that_of_cpuinfo_where_there_is_no_cpufreq(tree):
    (tree.sys / "devices/system/cpu/cpu0/cpufreq/scaling_cur_freq").unlink()
    assert take(tree).frequency is None
    cores = "\n\n".join(f"processor\t: {i}\ncpu MHz\t\t: {mhz}\n" for i, mhz in enumerate((2000.0, 2600.5, 9.0)))
    write(tree.proc, {"cpuinfo": cores})
    assert take(tree).frequency == pytest.approx(2300.25e6)


def test_differences_are_rows_and_a_counter_that_wraps_goes_on():
    before = Snapshot(
        10.0, 1.0, 5, 100, 1, busy=20.0, steal=1.0, idle=5.0, load=0.5, frequency=2e9,
        pressure={"cpu": 1.0, "io": 3.0}, energy={"cpu a": (90.0, 100.0), "gpu 0": (1.0, 9.0)},
    )  # fmt: skip
    after = Snapshot(
        12.0, 2.5, 8, 140, 1, busy=22.0, steal=1.25, idle=6.5, load=0.75, frequency=3e9,
        pressure={"cpu": 1.5}, energy={"cpu a": (15.0, 100.0), "gpu 0": (4.0, 9.0)},
    )  # fmt: skip
    doc = Document({})
    add_rows(doc, before, after)
    found = {(row["metric"], row.get("repeat")): row["value"] for row in doc.rows}
    assert found == {
        ("elapsed", None): 2.0, ("own_cpu", None): 1.5, ("others_cpu", None): 0.5, ("steal", None): 0.25,
        ("idle", None): 1.5, ("pressure_cpu", None): 0.5, ("switches", None): 3, ("minor_faults", None): 40,
        ("major_faults", None): 0, ("energy_cpu", None): 25.0, ("energy_gpu", None): 3.0,
        ("load", 0): 0.5, ("load", 1): 0.75, ("frequency", 0): 2e9, ("frequency", 1): 3e9,
    }  # fmt: skip
    assert {row["phase"] for row in doc.rows} == {"surroundings"}
    assert {row["unit"] for row in doc.rows if row["metric"].startswith("energy")} == {"J"}


def ten_seconds(**changes) -> Snapshot:
    """QUIET after ten seconds in which one thread of this process ran on, unless `changes` say otherwise."""
    grown = {"wall": 10.0, "cpu": 10.0, "busy": 10.0, "idle": 10.0} | changes
    return Snapshot(**vars(QUIET) | {name: getattr(QUIET, name) + by for name, by in grown.items()})


HERE = Sources(Path("/nowhere"), Path("/nowhere"), TWO)


def judged(threads=1, **changes):
    return verdict(QUIET, ten_seconds(**changes), threads, HERE)


def test_a_quiet_session_is_clean():
    assert judged() is None
    assert judged(threads=2, cpu=20.0, busy=20.0, idle=0.0) is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"busy": 13.0}, "other processes took 15% of the usable cores"),
        ({"steal": 1.0}, "the hypervisor took 5% of the usable cores"),
        ({"switches": 900}, "90 involuntary switches a second"),
        ({"cpu": 7.0, "busy": 7.0}, "one thread ran in 70% of the time"),
    ],
)
def test_each_disturbance_is_told(changes, said):
    assert judged(**changes) == said


@pytest.mark.parametrize("changes", [{"busy": 11.5}, {"steal": 0.3}, {"switches": 400}, {"cpu": 9.2, "busy": 9.2}])
def test_a_little_of_each_is_no_reason(changes):
    assert judged(**changes) is None


def test_several_disturbances_are_all_told():
    assert judged(busy=20.0, cpu=5.0, steal=2.0).count(";") == 2


def test_waiting_threads_are_no_reason_where_there_are_several():
    assert judged(threads=2, cpu=7.0, busy=7.0) is None


def test_a_session_too_short_for_the_ticks_of_proc_stat_is_not_judged_by_them():
    after = Snapshot(**vars(QUIET) | {"wall": 100.05, "cpu": 10.05, "busy": 50.1, "steal": 1.02})
    assert verdict(QUIET, after, 1, HERE) is None


def test_a_clock_that_went_back_is_a_reason_and_never_a_negative_time():
    assert "went backwards" in judged(wall=-1.0)
    assert "stood still" in judged(wall=0.0)
    doc = Document({})
    add_rows(doc, QUIET, ten_seconds(wall=-1.0))
    assert all(row["value"] >= 0 for row in doc.rows if row["metric"] == "elapsed")


@pytest.mark.parametrize(("cpus", "counts"), [({0, 1, 2}, True), ({0, 1}, False)])
def test_pressure_counts_where_all_cores_may_be_used(tree, cpus, counts):
    sources = Sources(tree.proc, tree.sys, frozenset(cpus), tree.clock)
    before = Snapshot(0.0, 0.0, 0, 0, 0, pressure={"cpu": 0.0, "memory": 0.0, "io": 0.0})
    after = Snapshot(10.0, 10.0, 0, 0, 0, pressure={"cpu": 4.0, "memory": 0.0, "io": 2.0})
    said = "some task waited for cpu in 40% of the time"
    assert verdict(before, after, 1, sources) == (said if counts else None)


def test_a_watched_session_carries_its_verdict_in_its_provenance(tree):
    walls = iter((0.0, 10.0))
    sources = Sources(tree.proc, tree.sys, TWO, Clock(wall=lambda: next(walls), cpu=lambda: 0.0))
    doc = Document({})
    with watched(doc, 2, sources):
        write(tree.proc, {"stat": stat((900, 10, 20, 500, 5, 1, 2, 3), (900, 0, 30, 400, 5, 1, 1, 7), (9,) * 8)})
    assert doc.provenance["contaminated"] == "other processes took 75% of the usable cores"


def test_energy_of_gpus_is_read_through_pynvml_where_it_is_installed(monkeypatch):
    class NVMLError(Exception):
        pass

    def consumption(handle):
        if handle:
            raise NVMLError("not supported")
        return 2500  # mJ

    fake = types.SimpleNamespace(
        NVMLError=NVMLError, nvmlInit=lambda: None, nvmlShutdown=lambda: None, nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda number: number, nvmlDeviceGetTotalEnergyConsumption=consumption,
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    assert surroundings._nvml() == {"gpu 0": (2.5, float("inf"))}
    monkeypatch.setitem(sys.modules, "pynvml", None)  # importing it fails
    assert surroundings._nvml() == {}


@pytest.mark.parametrize(
    ("numbers", "text"), [({0, 1, 2, 3, 8}, "0-3,8"), ({5}, "5"), (set(), ""), ({1, 3, 5, 6}, "1,3,5-6")]
)
def test_ranges_are_written_as_the_kernel_does(numbers, text):
    assert ranges(frozenset(numbers)) == text


def test_this_machine_can_be_looked_at():
    doc = Document({})
    with watched(doc, 1):
        sum(range(1000))
    assert {"elapsed", "own_cpu"} <= {row["metric"] for row in doc.rows}
    assert "contaminated" in doc.provenance
