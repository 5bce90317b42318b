"""Products of large matrices: the GPU's time, the whole call's, that of each kernel, and the memory they take."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from bench import kernels, measure
from bench.errors import BenchError
from bench.gpu import generate, predict, stages
from bench.gpu.check import DIRECTIONS, prepared, relative_error
from bench.gpu.session import Session
from bench.kernels import Problem
from bench.kernels._cuda.architectures import PANEL
from bench.kernels._cuda.gpu import Gpu
from bench.kernels._cuda.panels import Panels
from bench.kernels.gpu_2bit import SLICES, device_bytes
from bench.kernels.gpu_2bit.matrix import GpuMatrix

CALLS = 4  # of a sample at the least: the GPU has the next one's work before the last has ended
SAMPLED = 4  # outputs of a large product that are compared with sums in long double


class Vectors:
    """Normal deviates for products with a matrix, on the host; the first k columns of the same ones."""

    def __init__(self, session: Session, n: int):
        asked = session.settings
        random = np.random.default_rng([asked.seed, n])
        widest = max(asked.columns)
        self._of = {
            "matmul": random.standard_normal((asked.snps, widest)),
            "rmatmul": random.standard_normal((n, widest)),
        }

    def host(self, direction: str, k: int) -> np.ndarray:
        """(m or n, k), C-contiguous."""
        return np.ascontiguousarray(self._of[direction][:, :k])


def time_size(session: Session, devices: list[Gpu], n: int) -> None:
    """All products of gpu_2bit at n individuals, the others beside it, and then with missing calls."""
    asked, gpu = session.settings, devices[0]
    m, k = asked.snps, asked.columns[0]
    place = {"phase": "product", "n": n, "m": m, "missing_rate": 0.0, "kernel": "gpu_2bit", "dtype": "f8"}
    held: list[Panels] = []
    vectors = Vectors(session, n)

    def make(rate: float = 0.0) -> None:
        need, free = device_bytes(Problem(n, m, max(asked.columns))) + generate.BLOCK, gpu.free_memory()
        if need > free:
            raise BenchError(f"needs {need / 1e9:.1f} GB of the GPU's memory, {free / 1e9:.1f} GB are free")
        held.append(generate.panels(gpu, n, m, seed=asked.seed, missing=rate))
        with gpu.used():
            gpu.cupy.cuda.get_current_stream().synchronize()

    size = f"{n} x {m}"
    needs = 5 + 2e-6 * n
    if session.step(f"genotypes {size}", make, needs=needs, **place):
        for columns, slices in _ordered(asked.columns, asked.slices):
            for own in devices:
                target = own.arch if slices == SLICES else f"{own.arch}_s{slices}"
                here = place | {"target": target, "k": columns}
                session.step(
                    f"times {size}, {target}, k = {columns}",
                    lambda t=target, h=here: _time(session, held[0], t, vectors, h),
                    needs=3 + 2e-7 * n * columns,
                    **here,
                )
        for other in asked.others:
            here = place | {"against": other, "k": k}
            session.step(
                f"pair {size}, {other}",
                lambda o=other, h=here: _pair(session, devices, held[0], o, vectors, h),
                needs=5 + 2e-5 * n,
                **here,
            )
    held.clear()
    _give_back(gpu)
    if n == asked.sizes[0] and asked.missing:
        here = place | {"missing_rate": asked.missing, "k": k}
        case = f"times {size}, missing calls"
        session.step(
            case,
            lambda: (make(asked.missing), _missing(session, devices, held[0], vectors, here)),
            needs=needs + 5,
            **here,
        )
        held.clear()
        _give_back(gpu)


def _ordered(columns: tuple[int, ...], slices: tuple[int, ...]) -> list[tuple[int, int]]:
    """(k, S), those first whose places in the lists add up to the least."""
    found = [(k, s) for k in columns for s in slices]
    return sorted(found, key=lambda ks: columns.index(ks[0]) + slices.index(ks[1]))


def _give_back(gpu: Gpu) -> None:
    with gpu.used():
        gpu.cupy.get_default_memory_pool().free_all_blocks()


def _time(session: Session, panels: Panels, target: str, vectors: Vectors, place: dict[str, Any]) -> None:
    """One target and k, both directions. BenchError: its products were wrong."""
    _trusted(session, f"gpu_2bit/{target}")
    Z = GpuMatrix.of_panels(panels, target=target)
    for direction in DIRECTIONS:
        time_product(session, Z, panels, vectors, place | {"direction": direction})
    _memory(session, Z, panels, place)


def _trusted(session: Session, kernel: str) -> None:
    if kernel in session.wrong:
        raise BenchError(f"{kernel}: its products were wrong, so it is not timed")


def time_product(session: Session, Z: Any, panels: Panels, vectors: Vectors, place: dict[str, Any]) -> None:
    """The GPU's time with vectors there, that of each stage, the whole call's with vectors of the host, the error of
    some outputs, and what the measured limits predict."""
    direction, k = place["direction"], place["k"]
    asked, product = session.settings, getattr(Z, direction)
    X = vectors.host(direction, k)
    there = Z.place(X)
    for repeat, sample in enumerate(device_samples(panels.gpu, lambda: product(there), asked.repeats)):
        session.add("kernel_time", sample.wall, "s", repeat=repeat, calls=sample.calls, **place)
    for part, took in stages.seconds(Z.gpu, lambda: product(there)).items():
        session.add("stage_time", took, "s", part=part, **place)
    whole = measure.repeats(lambda: product(X), least=asked.repeats, most=asked.repeats, clock=session.clock)
    for repeat, sample in enumerate(whole):
        session.add("product_time", sample.wall, "s", repeat=repeat, calls=sample.calls, **place)
    session.add("rel_error", _error(panels, direction, X, product(X), asked.seed), "1", **place)
    predicted(session, place)


def predicted(session: Session, place: dict[str, Any]) -> None:
    """What the product moves and takes, and the time of each at the measured limits: the largest is the model's."""
    work = predict.amounts(place["kernel"], place["target"], place["n"], place["m"], place["k"], place["direction"])
    for what, amount in work.items():
        session.add(f"work_{what}", amount, "1", **place)
    limits = predict.limits(session.document.rows)
    for what, took in predict.seconds(work, place["target"], limits).items():
        session.add("predicted_time", took, "s", part=what, **place)


def device_samples(gpu: Gpu, call: Any, count: int) -> list[measure.Sample]:
    """`count` times of `call` by the GPU's events, each the mean of several calls in a row."""
    with gpu.used():
        clock = measure.stream_clock(gpu.cupy.cuda)
        first = measure.once(call, clock)
        calls = max(CALLS, measure.calls_of_a_sample(call, first, clock))
        return [measure.once(call, clock, calls=calls) for _ in range(count)]


def _error(panels: Panels, direction: str, X: np.ndarray, found: np.ndarray, seed: int) -> float:
    """Of a few outputs of a large product, from the genotypes as they lie on the GPU, in long double."""
    outputs = panels.m if direction == "rmatmul" else panels.n
    at = np.random.default_rng([seed, outputs]).integers(0, outputs, SAMPLED)
    exact = np.array(
        [_dosages(panels, direction, int(i)).astype(np.longdouble) @ X.astype(np.longdouble) for i in at]
    )
    return relative_error(found[at], exact)


def _dosages(panels: Panels, direction: str, i: int) -> np.ndarray:
    """A SNP's (rmatmul) or an individual's dosages, from the panels; a missing call 0."""
    with panels.gpu.used():
        if direction == "rmatmul":
            codes = panels.gpu.cupy.ascontiguousarray(panels.codes[:, i]).get().reshape(-1)
            codes = (codes[:, None] >> np.array([0, 2, 4, 6], np.uint8)).reshape(-1)[: panels.n] & 3
        else:
            within = i % PANEL
            codes = panels.gpu.cupy.ascontiguousarray(panels.codes[i // PANEL, : panels.m, within // 4]).get()
            codes = codes >> np.uint8(2 * (within % 4)) & 3
    return np.where(codes == 3, 0, codes)


def _memory(session: Session, Z: GpuMatrix, panels: Panels, place: dict[str, Any]) -> None:
    """Bytes that CuPy's pool has taken of the GPU for the matrix, its work space and the vectors of a product, the
    more of both directions; and those of a .bed file and of the vectors."""
    pool, problem = panels.gpu.cupy.get_default_memory_pool(), Problem(panels.n, panels.m, place["k"])
    taken = 0
    for direction in DIRECTIONS:
        _give_back(panels.gpu)
        with panels.gpu.used():
            getattr(Z, direction)(Z.place(np.ones((panels.m if direction == "matmul" else panels.n, place["k"]))))
            taken = max(taken, pool.total_bytes())
    place = place | {"phase": "memory"}
    session.add("device_bytes", taken, "B", **place)
    session.add("packed_bytes", problem.packed_bytes, "B", **place)
    session.add("vector_bytes", problem.vector_bytes, "B", **place)


def _pair(
    session: Session, devices: list[Gpu], panels: Panels, other: str, vectors: Vectors, place: dict[str, Any]
) -> None:
    """gpu_2bit in its last path and another kernel, in turn, in random order. Rows of a repeat belong together."""
    asked, gpu = session.settings, devices[0]
    mine = devices[-1].arch
    _trusted(session, f"gpu_2bit/{mine}")
    declared, problem = kernels.load(other), Problem(panels.n, panels.m, place["k"])
    need, free = (declared.device_bytes(problem) if declared.device_bytes else 0), gpu.free_memory()
    if need > free:
        raise BenchError(f"{other} needs {need / 1e9:.1f} GB of the GPU's memory, {free / 1e9:.1f} GB are free")
    packed = generate.on_host(gpu, panels.n, panels.m, seed=asked.seed)
    Z, target = prepared(other, packed)
    del packed
    _trusted(session, f"{other}/{target}")
    sides = {"gpu_2bit": (GpuMatrix.of_panels(panels, target=mine), mine), other: (Z, target)}
    order = np.random.default_rng([asked.seed, panels.n])
    try:
        for direction in DIRECTIONS:
            there = sides["gpu_2bit"][0].place(vectors.host(direction, place["k"]))
            _in_turn(session, gpu, sides, order, there, place | {"phase": "pair", "direction": direction})
    finally:
        Z.close()


def _in_turn(
    session: Session, gpu: Gpu, sides: dict[str, Any], order: np.random.Generator, there: Any, place: dict[str, Any]
) -> None:
    calls: dict[str, Callable[[], object]] = {
        name: partial(getattr(Z, place["direction"]), there) for name, (Z, _) in sides.items()
    }
    with gpu.used():
        clock = measure.stream_clock(gpu.cupy.cuda)
        counts = {n: measure.calls_of_a_sample(call, measure.once(call, clock), clock) for n, call in calls.items()}
        for repeat in range(session.settings.pairs):
            for name in order.permutation(list(calls)).tolist():
                sample = measure.once(calls[name], clock, calls=counts[name])
                where = place | {"kernel": name, "target": sides[name][1], "repeat": repeat}
                session.add("kernel_time", sample.wall, "s", calls=sample.calls, **where)
    for name, (_, target) in sides.items():
        if name != "gpu_2bit":
            predicted(session, place | {"kernel": name, "target": target})


def _missing(session: Session, devices: list[Gpu], panels: Panels, vectors: Vectors, place: dict[str, Any]) -> None:
    """The product that skips missing calls, and the pass that multiplies with their indicator."""
    for gpu in devices:
        _trusted(session, f"gpu_2bit/{gpu.arch}")
        Z = GpuMatrix.of_panels(panels, target=gpu.arch)
        for direction in DIRECTIONS:
            where = place | {"target": gpu.arch, "direction": direction}
            there = Z.place(vectors.host(direction, place["k"]))
            passes = [("called", Z)] + ([("missing", Z.missing)] if Z.missing else [])
            for method, matrix in passes:
                call = partial(getattr(matrix, direction), there)
                for repeat, sample in enumerate(device_samples(panels.gpu, call, session.settings.repeats)):
                    how = {"method": method, "repeat": repeat, "calls": sample.calls}
                    session.add("kernel_time", sample.wall, "s", **how, **where)
