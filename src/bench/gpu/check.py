"""Products on the GPU against exact ones, and against themselves cut otherwise."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

from bench import kernels
from bench.errors import BenchError
from bench.genotypes.packed import PackedGenotypes
from bench.gpu import generate
from bench.gpu.session import Session
from bench.kernels._cuda.architectures import PANEL, panel_bytes
from bench.kernels._cuda.gpu import MEMORY, Gpu
from bench.kernels._cuda.panels import Panels
from bench.kernels._cuda.stream import SHARE, STREAMED
from bench.kernels.gpu_2bit import SLICES
from bench.kernels.gpu_2bit.matrix import GpuMatrix

DIRECTIONS = ("matmul", "rmatmul")
SAMPLED = 40  # outputs that are compared with sums in long double
LARGEST = 1000  # of the integers
SPLITS = (3, 5)
SHARE_OF_TIME = 0.4  # of what is left, that checks may take


class Reference:
    """Exact products of genotypes in the host's memory. Z: (n, m) float64 dosages, a missing call 0."""

    def __init__(self, packed: PackedGenotypes, seed: int):
        self.packed, self._seed = packed, seed
        self.Z = np.maximum(packed.dosages(), 0).astype("f8")

    @cache  # noqa: B019 - there are two, for the whole run
    def integers(self, direction: str, k: int) -> tuple[np.ndarray, np.ndarray]:
        """(X, product): sums below 2^53, so that float64 has them exactly."""
        rows = self.Z.shape[direction == "matmul"]
        X = self._random(direction).integers(-LARGEST, LARGEST + 1, (rows, k)).astype("f8")
        return X, (self.Z if direction == "matmul" else self.Z.T) @ X

    @cache  # noqa: B019
    def normals(self, direction: str, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(X, indices, outputs): normal deviates, and some of their product's outputs, summed in long double."""
        random = self._random(direction)
        matrix = self.Z if direction == "matmul" else self.Z.T
        X = random.standard_normal((matrix.shape[1], k))
        indices = np.sort(random.choice(len(matrix), min(SAMPLED, len(matrix)), replace=False))
        return X, indices, matrix[indices].astype(np.longdouble) @ X.astype(np.longdouble)

    def _random(self, direction: str) -> np.random.Generator:
        return np.random.default_rng([self._seed, DIRECTIONS.index(direction)])


def relative_error(found: np.ndarray, exact: np.ndarray) -> float:
    """The largest error, relative to the largest entry."""
    return float(np.abs(found - exact).max() / np.abs(exact).max())


def check_all(session: Session, devices: list[Gpu]) -> None:
    """Every target, number of columns, direction, with missing calls and without; then the other kernels and X X'.

    devices: the GPU, once for each architecture that it runs.
    """
    asked, floor = session.settings, session.left() * (1 - SHARE_OF_TIME)
    n, m = asked.checked
    held: dict[float, tuple[Panels, Reference]] = {}
    for rate in (0.0, asked.missing):
        how = {"seed": asked.seed, "missing": rate}

        def make(rate: float = rate, how: dict[str, Any] = how) -> None:
            made = generate.panels(devices[0], n, m, **how), generate.on_host(devices[0], n, m, **how)
            held[rate] = made[0], Reference(made[1], asked.seed)

        case = f"genotypes to check, {n} x {m}, {rate:g} missing"
        session.step(case, make, needs=5, metric="rel_error", phase="verify", n=n, m=m, missing_rate=rate)
    products = list(itertools.product(asked.checked_slices, asked.checked_columns, held, devices))
    for slices, k, rate, gpu in products:
        target = gpu.arch if slices == SLICES else f"{gpu.arch}_s{slices}"
        place = {
            "phase": "verify",
            "n": n,
            "m": m,
            "missing_rate": rate,
            "kernel": "gpu_2bit",
            "target": target,
            "k": k,
        }

        def check(rate: float = rate, place: dict[str, Any] = place) -> None:
            verify(session, GpuMatrix.of_panels(held[rate][0], target=place["target"]), held[rate][1], place)

        case = f"check {target}, k = {k}, {rate:g} missing"
        session.step(case, check, needs=3, leave=floor, metric="rel_error", **place)
    if not held:
        return
    rate = max(held)
    for gpu in devices:
        place = {"phase": "verify", "n": n, "m": m, "missing_rate": rate, "kernel": "gpu_2bit", "target": gpu.arch}
        _cut_otherwise(session, *held[rate], place | {"k": asked.checked_columns[0]})
    reference = held[rate][1]
    for name in asked.others:
        place = {
            "phase": "verify",
            "n": n,
            "m": m,
            "missing_rate": rate,
            "kernel": name,
            "k": asked.checked_columns[0],
        }

        def other(name: str = name, place: dict[str, Any] = place) -> None:
            Z, target = prepared(name, reference.packed)
            verify(session, Z, reference, place | {"target": target})
            Z.close()

        session.step(f"check {name}", other, needs=5, metric="rel_error", **place)
    place = {"phase": "verify", "n": n, "m": m, "missing_rate": rate, "method": "gram"}
    session.step(
        "check of X X'",
        lambda: _gram(session, reference, place),
        needs=10,
        metric="integer_mismatches",
        **place,
    )


def prepared(name: str, packed: PackedGenotypes) -> tuple[Any, str]:
    """Another GPU kernel's matrix in float64, and its target. BenchError: there is none for this GPU."""
    declared = kernels.load(name)
    lacks = {target: declared.requires(target) for target in declared.all_targets}
    runs = [target for target, reason in lacks.items() if reason is None]
    if not runs:
        raise BenchError(f"{name}: {next(iter(lacks.values()))}")
    return declared.prepare(packed, target=runs[0]), runs[0]


def verify(session: Session, Z: Any, reference: Reference, place: dict[str, Any]) -> None:
    """Both directions of one matrix: exact on integers, and close enough on normal deviates; else it is wrong."""
    allowed = kernels.load(place["kernel"]).allowed_error("f8", place["target"])
    for direction in DIRECTIONS:
        product, where = getattr(Z, direction), place | {"direction": direction}
        X, exact = reference.integers(direction, place["k"])
        mismatches = int((product(X) != exact).sum())
        X, at, outputs = reference.normals(direction, place["k"])
        error = relative_error(product(X)[at], outputs)
        if mismatches or not error <= allowed:
            session.wrong.add(f"{place['kernel']}/{place['target']}")
            reason = f"{mismatches} integer outputs differ; the error is {error:.1e}, {allowed:.1e} is allowed"
            where |= {"status": "wrong", "reason": reason}
            session.say(f"  WRONG, {direction}: {reason}")
        session.add("integer_mismatches", mismatches, "1", **where)
        session.add("rel_error", error, "1", **where)


def _cut_otherwise(session: Session, panels: Panels, reference: Reference, place: dict[str, Any]) -> None:
    """The same products in more blocks, from the host in chunks, and with columns that are not finite."""
    target, k = place["target"], place["k"]

    def split() -> None:
        plain = GpuMatrix.of_panels(panels, target=target)
        for splits in SPLITS:
            other = GpuMatrix.of_panels(panels, target=target, splits=splits)
            _same(session, plain, other, reference, place | {"note": f"{splits} splits"})

    def streamed() -> None:
        plain = GpuMatrix.of_panels(panels, target=target)
        with _device_memory(round(STREAMED / SHARE) * panel_bytes(panels.n, PANEL)):
            other = GpuMatrix(reference.packed, dtype="f8", target=target, threads=1)
        if not other.streamed:
            raise BenchError("the genotypes are too few to be streamed in chunks")
        _same(session, plain, other, reference, place | {"note": "streamed"})
        other.close()

    parts: tuple[tuple[str, Callable[[], None]], ...] = (
        ("splits", split),
        ("streamed", streamed),
        ("not finite", lambda: _not_finite(session, panels, reference, place)),
    )
    for note, call in parts:
        case = f"check {target}, {note}, k = {k}"
        session.step(case, call, needs=5, metric="bits_differ", note=note, **place)


@contextmanager
def _device_memory(size: int) -> Iterator[None]:
    """Only so many bytes of the GPU may be used inside."""
    before = os.environ.get(MEMORY)
    os.environ[MEMORY] = str(size)
    try:
        yield
    finally:
        os.environ.pop(MEMORY)
        if before is not None:
            os.environ[MEMORY] = before


def _same(session: Session, one: GpuMatrix, other: GpuMatrix, reference: Reference, place: dict[str, Any]) -> None:
    """How many outputs of two matrices differ in a bit; the integers of the first are checked elsewhere."""
    for direction in DIRECTIONS:
        X = reference.normals(direction, place["k"])[0]
        differ = int((getattr(one, direction)(X) != getattr(other, direction)(X)).sum())
        _tell(session, differ, place | {"direction": direction})


def _not_finite(session: Session, panels: Panels, reference: Reference, place: dict[str, Any]) -> None:
    """A column with NaN and one with infinity are as in a dense product, and change no other column."""
    Z = GpuMatrix.of_panels(panels, target=place["target"])
    for direction in DIRECTIONS:
        X, exact = (a.copy() for a in reference.integers(direction, max(3, place["k"])))
        X[1, 0], X[2, 1] = np.nan, np.inf
        matrix = reference.Z if direction == "matmul" else reference.Z.T
        with np.errstate(invalid="ignore"):
            for column, input_ in ((0, 1), (1, 2)):  # 0 · NaN and 0 · ∞ are NaN, whatever a BLAS makes of them
                exact[:, column] = exact[:, column] + matrix[:, input_] * X[input_, column]
        found = getattr(Z, direction)(X)
        differ = int((~((found == exact) | (np.isnan(found) & np.isnan(exact)))).sum())
        _tell(session, differ, place | {"direction": direction, "note": "not finite"})


def _tell(session: Session, differ: int, place: dict[str, Any]) -> None:
    if differ:
        session.wrong.add(f"{place['kernel']}/{place['target']}")
        place = place | {"status": "wrong", "reason": f"{differ} outputs differ"}
        session.say(f"  WRONG, {place['direction']}, {place['note']}: {differ} outputs differ")
    session.add("bits_differ", differ, "1", **place)


def _gram(session: Session, reference: Reference, place: dict[str, Any]) -> None:
    from bench.matrix import GenotypeMatrix

    Z = GenotypeMatrix(reference.packed, kernel="gpu_2bit")
    mismatches = int((Z.gram() != reference.Z @ reference.Z.T).sum())
    Z.close()
    wrong = {"status": "wrong", "reason": f"{mismatches} entries differ"} if mismatches else {}
    session.add("integer_mismatches", mismatches, "1", kernel="gpu_2bit", **place, **wrong)
