"""How a product is cut: into groups of columns, blocks of outputs and, where these are too few, along the inputs."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from itertools import pairwise

from bench.kernels._cuda.architectures import SHARED
from bench.kernels._cuda.panels import ROW
from bench.kernels.gpu_2bit import DIGITS, wgmma

ROWS, WARPS = 512, 8  # outputs and warps of a block
LARGE = 160 << 10  # bytes of shared memory that the larger of two geometries takes
# A block's sums stay below 2³¹ up to 131,000 SNPs (a dosage may stand for 64 times itself) and 8 million individuals.
LIMIT = {False: 65_536, True: 4 << 20}


@dataclass(frozen=True)
class Variant:
    """A compilation of product.cu."""

    tiles: int
    chunk: int
    stages: int
    transposed: bool
    decode: int
    wgmma: bool

    @property
    def macros(self) -> dict[str, int]:
        return {name.upper(): int(value) for name, value in vars(self).items()}

    @property
    def headers(self) -> dict[str, str]:
        return {"wgmma.h": wgmma.header(self.tiles)} if self.wgmma else {}

    @property
    def shared_bytes(self) -> int:
        """The stages, or the sums of a tile of each warp at the end."""
        genotypes = ROWS * self.chunk // 4 if self.transposed else self.chunk * ROW
        columns = 8 * self.tiles
        return max(self.stages * (genotypes + columns * self.chunk), WARPS * 16 * (columns + 2) * 4)


def variant(arch: str, digits: int, *, transposed: bool, decode: int) -> Variant:
    """For `digits` columns of digits."""
    tiles, hopper = -(-digits // 8), arch == "sm_90a"
    if hopper:
        tiles = next(t for t in wgmma.TILES if t >= tiles)
    chunk, stages = (256, 3) if transposed else (128, 4)
    if SHARED[arch] < LARGE:
        chunk, stages = 128, 3
    return Variant(tiles, chunk, stages, transposed, decode, hopper)


def variants(arch: str) -> list[Variant]:
    """All that a device of this architecture may be asked for."""
    cases = itertools.product(range(8, DIGITS + 1, 8), (False, True), range(3))
    return list(dict.fromkeys(variant(arch, d, transposed=t, decode=decode) for d, t, decode in cases))


def groups(k: int, slices: int) -> list[tuple[int, int]]:
    """(first, width) of the groups of columns that are multiplied together, as equal as can be."""
    count = -(-k // (DIGITS // slices))
    edges = [k * g // count for g in range(count + 1)]
    return [(a, b - a) for a, b in pairwise(edges)]


@dataclass(frozen=True)
class Cut:
    """blocks: of outputs. chunks: of all inputs. per_split: of a block."""

    blocks: int
    chunks: int
    per_split: int

    @property
    def splits(self) -> int:
        return -(-self.chunks // self.per_split)


def cut(outputs: int, inputs: int, of: Variant, multiprocessors: int) -> Cut:
    """The number of splits with which the last wave of blocks leaves the fewest multiprocessors idle.

    A split costs: its sums are added in memory, which takes the place of 1 to 3 percent of a product's reading.
    """
    blocks, chunks = -(-outputs // ROWS), -(-inputs // of.chunk)
    least = -(-chunks * of.chunk // LIMIT[of.transposed])
    most = max(least, min(64, chunks // 4))

    def cost(splits: int) -> float:
        waves = -(-blocks * splits // multiprocessors)
        return waves / splits * (1 + 0.002 * splits) * (1 if splits == 1 else 1.02)

    splits = min(range(least, most + 1), key=cost)
    return Cut(blocks, chunks, -(-chunks // splits))
