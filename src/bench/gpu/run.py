"""The run, from the GPU's properties to the profilers: what others need first, what matters most before the rest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bench.errors import BenchError
from bench.gpu import check, compile, device, profile, rates, report, solve, times
from bench.gpu.session import Session, Settings, said
from bench.kernels._cuda import nvrtc
from bench.kernels._cuda.gpu import Gpu
from bench.measure import CLOCK, Clock, exclusive
from bench.provenance import collect_provenance
from bench.record import Document

VERSION = 1
FAULT = 70  # as bench.__main__ has it
TOOL_SECONDS = 60.0  # of a profiler


def run(folder: Path, settings: Settings, clock: Clock = CLOCK, say: Callable[[str], object] = said) -> Session:
    """Measure the first GPU into `folder`/gpu.json, which is whole after every step.

    BenchError: no CuPy, no driver, no GPU, one that no kernel is made for, no NVRTC, no headers; the document then
    says why.
    """
    document = Document({"experiment": "gpu", "case": "gpu"}, collect_provenance(version=VERSION))
    session = Session(folder, settings, document, clock, say)
    try:
        document.provenance |= device.provenance()
        if reason := nvrtc.lacks_headers():
            raise BenchError(reason)
        devices = [Gpu(0, arch) for arch in device.targets()]
    except BenchError as error:
        document.refuse(str(error))
        session.write()
        raise
    session.say(
        f"{document.provenance['gpu']}, driver {document.provenance['driver']}, {', '.join(g.arch for g in devices)}"
    )
    with exclusive():
        _measure(session, devices)
    session.say(f"{session.left():.0f} s left; {session.folder}/gpu.json")
    return session


def measure_and_draw(folder: Path, settings: Settings) -> int:
    """`run`, and what is drawn from it. 0; 1 if a product was wrong or the GPU was lost; FAULT for one of a part."""
    session = run(folder, settings)
    print(report.write(folder))
    return FAULT if session.faults else int(bool(session.wrong or session.lost))


def _measure(session: Session, devices: list[Gpu]) -> None:
    asked, gpu = session.settings, devices[0]
    session.step("properties", lambda: device.properties(session), needs=1, metric="device_memory", phase="device")
    session.step("bandwidth", lambda: rates.bandwidth(session, gpu), needs=10, metric="copy_peak", phase="limits")
    for own in devices:
        session.step(
            f"rates of {own.arch}",
            lambda own=own: rates.operations(session, own),
            needs=10,
            metric="int8_peak",
            target=own.arch,
            phase="limits",
        )
    session.step("compilations", lambda: compile.compile_all(session, devices), needs=30)
    check.check_all(session, devices)
    for number, n in enumerate(asked.sizes):
        times.time_size(session, devices, n)
        if not number:
            session.step(
                f"PCG {n} x {asked.snps}",
                lambda n=n: solve.time_pcg(session, devices[-1], n),
                needs=15,
                metric="product_share",
                phase="solve",
                n=n,
                m=asked.snps,
            )
            _tools(session, n, devices)
    session.step(
        "properties after",
        lambda: device.state(session, "after"),
        needs=1,
        metric="clock_sm",
        phase="device",
    )


def _tools(session: Session, n: int, devices: list[Gpu]) -> None:
    target, place = devices[-1].arch, {"phase": "profile", "kernel": "gpu_2bit"}
    for tool in ("memcheck", "racecheck"):
        session.step(
            f"compute-sanitizer {tool}",
            lambda tool=tool: profile.sanitize(session, tool, target, TOOL_SECONDS),
            needs=20,
            leave=60,
            metric="sanitizer_errors",
            note=tool,
            **place,
        )
    session.step(
        "ncu",
        lambda: profile.count(session, n, target, TOOL_SECONDS),
        needs=30,
        leave=60,
        metric="dram_share",
        n=n,
        **place,
    )
