"""The GPU as it is: properties, versions, clocks."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

from bench.errors import BenchError
from bench.gpu.session import Session
from bench.kernels._cuda import nvrtc
from bench.kernels._cuda.architectures import ARCHITECTURES
from bench.kernels._cuda.gpu import capability, cupy
from bench.machine import this_machine

PROPERTIES = {  # of cudaDeviceProp → metric, unit
    "totalGlobalMem": ("device_memory", "B"),
    "multiProcessorCount": ("multiprocessors", "1"),
    "l2CacheSize": ("cache_size", "B"),
    "sharedMemPerBlockOptin": ("shared_memory", "B"),
}
STATE = {  # what nvidia-smi is asked for → metric, factor, unit
    "clocks.sm": ("clock_sm", 1e6, "1/s"),
    "clocks.max.sm": ("clock_sm_most", 1e6, "1/s"),
    "clocks.mem": ("clock_memory", 1e6, "1/s"),
    "power.draw": ("power", 1.0, "1"),
    "temperature.gpu": ("temperature", 1.0, "1"),
}


def targets() -> list[str]:
    """The architectures of which this GPU's kernels are, mma.sync's first. BenchError: it is unknown."""
    found = capability(cupy(), 0)
    made = sorted(name for name, needed in ARCHITECTURES.items() if needed == found)
    if not made:
        raise BenchError(
            f"{name()}: no kernel is made for compute capability {found}; there are {', '.join(ARCHITECTURES)}"
        )
    return made


def name() -> str:
    """Such as NVIDIA H100 80GB HBM3."""
    return cupy().cuda.runtime.getDeviceProperties(0)["name"].decode()


def provenance() -> dict[str, Any]:
    """The columns that say which GPU, driver and compiler."""
    module = _working_cupy()
    return {
        "gpu": name(),
        "driver": _asked(["driver_version"])[0] or f"CUDA {module.cuda.runtime.driverGetVersion()}",
        "compiler": f"NVRTC {nvrtc.version()}, CuPy {module.__version__}",
    }


def _working_cupy() -> Any:
    try:
        return cupy()
    except BenchError as error:
        if this_machine().gpus:
            raise
        raise BenchError(f"an NVIDIA GPU is needed, and this machine lists none ({error})") from None


def properties(session: Session) -> None:
    """A row for each property."""
    facts = cupy().cuda.runtime.getDeviceProperties(0)
    for key, (metric, unit) in PROPERTIES.items():
        if key in facts:
            session.add(metric, facts[key], unit, phase="device")
    state(session, "before")


def state(session: Session, when: str) -> None:
    """Clocks, power (watts) and temperature (°C) of now, as far as nvidia-smi tells. when: a note."""
    for (metric, factor, unit), said in zip(STATE.values(), _asked(list(STATE)), strict=True):
        try:
            session.add(metric, factor * float(said), unit, phase="device", note=when)
        except ValueError:
            continue  # [N/A]


def _asked(what: list[str]) -> list[str]:
    """What nvidia-smi says of the first GPU; empty where it says nothing."""
    nothing = [""] * len(what)
    if shutil.which("nvidia-smi") is None:
        return nothing
    bus = cupy().cuda.runtime.deviceGetPCIBusId(0)  # its own numbers are of all GPUs, CUDA's of those that a job has
    command = ["nvidia-smi", "-i", bus, f"--query-gpu={','.join(what)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return nothing
    said = done.stdout.strip().split("\n")[0].split(", ")
    return said if not done.returncode and len(said) == len(what) else nothing
