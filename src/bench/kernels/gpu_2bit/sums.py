"""One GPU's part of a product: inputs → digits → exact integer sums → doubles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.kernels._cuda.architectures import padded
from bench.kernels._cuda.gpu import Gpu
from bench.kernels._cuda.panels import Panels
from bench.kernels.gpu_2bit.geometry import cut, groups, variant

HERE = Path(__file__).parent
DOSAGES, CALLED_DOSAGES, MISSING_CALLS = range(3)  # panels.h: what codes count as; a call in DOSAGES is never missing


class Multiplier:
    """Products with panels on one GPU, in digits of 8 bits. splits: blocks that share an output; None: as fits."""

    def __init__(self, gpu: Gpu, slices: int, *, splits: int | None = None):
        self.gpu, self.slices, self.splits = gpu, slices, splits
        self._spaces: dict[str, Any] = {}
        names = ("largest_magnitudes", "to_digits", "to_doubles", "dense")
        self._kernels = {name: gpu.kernel(HERE / "digits.cu", name) for name in names}

    @property
    def bytes_held(self) -> int:
        return sum(space.nbytes for space in self._spaces.values())

    def space(self, name: str, shape: tuple[int, ...], dtype: Any) -> Any:
        """An array of the device that the next call with this name takes again: no product allocates."""
        count = int(np.prod(shape))
        held = self._spaces.get(name)
        if held is None or held.size < count:
            self._spaces.pop(name, None)
            self._spaces[name] = held = self.gpu.cupy.empty(count, dtype)
        return held[:count].reshape(shape)

    def close(self) -> None:
        self._spaces.clear()

    def largest(self, X: Any, *, transposed: bool) -> Any:
        """(k,) the bits of the largest magnitude of each column of X (rows, k)."""
        rows, k = X.shape
        found = self.space(f"largest {transposed}", (k,), np.uint64)
        found.fill(0)
        blocks = min(4 * self.gpu.multiprocessors, -(-rows // 8)), -(-k // 32)
        self.gpu.launch(self._kernels["largest_magnitudes"], blocks, X, k, rows, found)
        return found

    def digits(self, X: Any, group: tuple[int, int], largest: Any, transposed: bool, columns: int) -> Any:
        """(columns, padded rows) int8: the digits of a group of X's columns, and columns of nothing after them."""
        rows, k = X.shape
        made = self.space("digits", (columns, padded(rows)), np.int8)
        first, width = group
        made[width * self.slices :].fill(0)
        self.gpu.over(
            self._kernels["to_digits"], padded(rows), X, k, rows, padded(rows), width, first, self.slices,
            largest[first:], int(transposed), made,
        )  # fmt: skip
        return made

    def multiply(
        self,
        panels: Panels,
        X: Any,
        group: tuple[int, int],
        largest: Any,
        into: Sums,
        *,
        transposed: bool,
        decode: int,
    ) -> None:
        """Add the products of a group of X's columns to `into`."""
        gpu, (first, width) = self.gpu, group
        how = variant(gpu.arch, width * self.slices, transposed=transposed, decode=decode)
        outputs, inputs = (panels.m, panels.n) if transposed else (panels.n, panels.m)
        parts = cut(outputs, inputs, how, gpu.multiprocessors)
        if self.splits:
            parts = replace(parts, per_split=-(-parts.chunks // self.splits))
        digits = self.digits(X, group, largest, transposed, 8 * how.tiles)
        total = into.total(group, needed=parts.splits > 1)
        k = into.out.shape[1]
        kernel = gpu.kernel(HERE / "product.cu", "product", how.macros, how.headers)
        gpu.launch(
            kernel, (parts.blocks * parts.splits,), panels.codes, panels.pitch, digits, digits.shape[1], parts.blocks,
            parts.chunks, parts.per_split, outputs, width, self.slices, total, largest[first:], into.out, k, first,
            shared=how.shared_bytes,
        )  # fmt: skip
        gpu.over(
            self._kernels["dense"], outputs, panels.codes, panels.pitch, X, k, outputs, inputs, first,
            largest[first:], int(transposed), decode, int(into.begun), into.out, k, columns=width,
        )  # fmt: skip

    def to_doubles(self, total: Any, group: tuple[int, int], largest: Any, out: Any) -> None:
        """Round the integer sums of a group of columns into `out`."""
        (first, width), (rows, k) = group, out.shape
        self.gpu.over(
            self._kernels["to_doubles"], rows * width, total, rows, width, self.slices, largest[first:], out, k, first
        )


class Sums:
    """The products of one GPU, (rows, k), while they are made.

    shared: several panels add to them. They are then integers until `finish`, whatever the order.
    """

    def __init__(self, by: Multiplier, out: Any, largest: Any, *, shared: bool):
        self.by, self.out, self.largest, self.shared = by, out, largest, shared
        self.begun = False
        self._totals: dict[tuple[int, int], Any] = {}
        if shared:
            out.fill(0)

    def total(self, group: tuple[int, int], *, needed: bool) -> Any:
        """(rows, width, 2) int64 to which integers are added; None where the product may write doubles."""
        if not (needed or self.shared):
            return None
        if group not in self._totals:
            name = f"total {group}" if self.shared else "total"
            self._totals[group] = self.by.space(name, (len(self.out), group[1], 2), np.int64)
            self._totals[group].fill(0)
        return self._totals[group]

    def add(self, panels: Panels, X: Any, *, transposed: bool, decode: int) -> None:
        """Add Z X, or Z'X, of `panels`; X (rows, k) on the same GPU."""
        for group in groups(X.shape[1], self.by.slices):
            self.by.multiply(panels, X, group, self.largest, self, transposed=transposed, decode=decode)
            if not self.shared and group in self._totals:
                self.by.to_doubles(self._totals.pop(group), group, self.largest, self.out)
        self.begun = True

    def absorb(self, other: Sums) -> None:
        """Add what another GPU has summed."""
        move = self.by.gpu.cupy.asarray
        for group, total in other._totals.items():
            self._totals[group] += move(total)
        self.out += move(other.out)  # of columns that are not finite; 0 elsewhere

    def finish(self) -> Any:
        """The products as doubles, (rows, k)."""
        for group, total in self._totals.items():
            self.by.to_doubles(total, group, self.largest, self.out)
        return self.out
