"""What the GPU does at the most: bytes copied and read, and the operations that bound the kernels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench import measure
from bench.errors import BenchError
from bench.gpu.session import Session
from bench.kernels._cuda.gpu import THREADS, Gpu
from bench.kernels.gpu_2bit import wgmma

HERE = Path(__file__).parent
SOURCE = HERE / "rates.cu"
CHAINS, WARP = 8, 32  # rates.cu
BLOCKS = 8  # of a multiprocessor
TRIES = 5
WGMMA_TILES = 10


@dataclass(frozen=True)
class Rate:
    """A micro-benchmark. per_thread: operations of a thread and round. result: what a thread writes after so many."""

    metric: str
    kernel: str
    per_thread: float
    result: Callable[[int], int]
    arguments: tuple[int, ...] = ()
    source: Path = SOURCE
    macros: dict[str, int] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    shared: int = 0


def _conversions(rounds: int) -> int:
    words = (np.arange(rounds)[:, None] + np.arange(CHAINS)).astype(float).view(np.uint64)
    return int(np.bitwise_xor.reduce((words >> np.uint64(32)).ravel() ^ (words & np.uint64(0xFFFFFFFF)).ravel()))


MMA = 16 * 8 * 32 / WARP  # multiply-adds of m16n8k32, a thread's share
WGMMA = 4 * 64 * 8 * WGMMA_TILES * 32 / (4 * WARP)
RATES = (
    Rate("int8_peak", "mma_rate", CHAINS * MMA, lambda rounds: CHAINS * 4 * 32 * rounds),
    Rate("and_popc_peak", "and_popc_rate", CHAINS * 8 * MMA, lambda rounds: CHAINS * 4 * 256 * rounds),
    Rate("conversion_peak", "conversion_rate", CHAINS, _conversions),
    Rate("fma_peak", "fma_rate", CHAINS, lambda rounds: CHAINS * rounds, arguments=(1,)),
)
OF_HOPPER = Rate(
    "int8_peak",
    "wgmma_rate",
    WGMMA,
    lambda rounds: 4 * WGMMA_TILES * 4 * 32 * rounds,
    source=HERE / "wgmma_rate.cu",
    macros={"TILES": WGMMA_TILES},
    headers={"wgmma.h": wgmma.header(WGMMA_TILES)},
    shared=WGMMA_TILES * 8 * 128,
)


def operations(session: Session, gpu: Gpu) -> None:
    """Operations a second: of mma.sync, of bits, conversions of integers to float64 and float64 multiply-adds; on
    sm_90a of wgmma."""
    for rate in (OF_HOPPER,) if gpu.arch == "sm_90a" else RATES:
        for repeat, per_second in enumerate(_tries(session, gpu, rate)):
            dtype = {"dtype": "f8"} if rate.metric == "fma_peak" else {}
            session.add(rate.metric, per_second, "1/s", phase="limits", target=gpu.arch, repeat=repeat, **dtype)


def _tries(session: Session, gpu: Gpu, rate: Rate) -> list[float]:
    kernel = gpu.kernel(rate.source, rate.kernel, rate.macros, rate.headers)
    blocks, rounds = BLOCKS * gpu.multiprocessors, session.settings.rounds
    with gpu.used():
        out = gpu.cupy.zeros(blocks * THREADS, np.int64)

        def call() -> None:
            gpu.launch(kernel, (blocks,), rounds, *rate.arguments, out, shared=rate.shared)

        samples = measure.repeats(call, least=TRIES, most=TRIES, clock=measure.stream_clock(gpu.cupy.cuda))
        if not bool((out == rate.result(rounds)).all()):
            raise BenchError(f"{rate.kernel}: the operations that were timed were not all done")
    return [blocks * THREADS * rounds * rate.per_thread / sample.wall for sample in samples]


def bandwidth(session: Session, gpu: Gpu) -> None:
    """Bytes a second of a copy on the GPU, read and written, and of reading."""
    size = min(session.settings.buffer, gpu.free_memory() // 4)
    kernel, blocks = gpu.kernel(SOURCE, "read_words"), BLOCKS * gpu.multiprocessors
    with gpu.used():
        xp, clock = gpu.cupy, measure.stream_clock(gpu.cupy.cuda)
        words = np.random.default_rng(session.settings.seed).integers(0, 1 << 62, size // 8 // 2 * 2, np.uint64)
        there, copy = xp.asarray(words), xp.empty(words.size, np.uint64)
        found = xp.zeros(blocks * THREADS, np.uint64)

        def copied() -> None:
            copy[...] = there

        def read() -> None:
            gpu.launch(kernel, (blocks,), there, words.size // 2, found)

        for metric, call, counted in (("copy_peak", copied, 2), ("read_peak", read, 1)):
            for repeat, sample in enumerate(measure.repeats(call, least=TRIES, most=2 * TRIES, clock=clock)):
                rate = counted * words.nbytes / sample.wall
                session.add(metric, rate, "B/s", phase="limits", size=words.nbytes, repeat=repeat)
        if np.bitwise_xor.reduce(found.get()) != np.bitwise_xor.reduce(words) or not bool((copy == there).all()):
            raise BenchError("the buffer that was copied and read is not what it was: the bandwidth is of nothing")
