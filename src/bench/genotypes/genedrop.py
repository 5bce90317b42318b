"""Gametes of every animal, by dropping founders' haplotypes through a pedigree (compiled: kernels/_genedrop).

Crossovers fall at random, 1 a Morgan, without interference (Haldane). A founder's gamete, and that of an unknown
parent, is a mosaic of the haplotypes given, so that there may be many more founders than haplotypes: it changes from
one to another SWITCHES times a Morgan. What a gamete inherits depends on the seed, the animal and the parent's sex
alone. Two drops with one seed are of the same meioses, whichever sites and animals each is asked for.
"""

from __future__ import annotations

import ctypes as ct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bench.genotypes.packed import PackedGenotypes
from bench.shared_library import INT, POINTER, SIZE, load

SWITCHES = 4.0  # LD at a distance of d Morgans is lower for it by exp(−4 d): by 4 % at 1 cM
NONE = -1
BLOCK = 512  # sites that are best dropped at a time: a gamete is a cache line then
FLOAT = ct.c_double
SIGNATURES = {
    "genedrop_drop": (
        None,
        [SIZE, *[POINTER] * 6, SIZE, POINTER, FLOAT, POINTER, POINTER, FLOAT, ct.c_uint64, INT, POINTER],
    ),
    "genedrop_pack": (None, [SIZE, POINTER, SIZE, POINTER, SIZE, INT, POINTER]),
    "genedrop_values": (None, [SIZE, SIZE, POINTER, SIZE, POINTER, INT, POINTER]),
}


@dataclass(frozen=True)
class Family:
    """Animals by cohort, parents in earlier ones.

    animal: (n,) int64 rows of the whole pedigree; sire, dam: (n,) int32 rows here, −1 where unknown;
    first: (cohorts + 1,) int64 where each cohort begins. pool: (n,) uint8 which founders the unknown parents come
    from; doubled: (n,) uint8, 1 where both gametes are the same, as in a doubled haploid. By default 0.
    """

    animal: np.ndarray
    sire: np.ndarray
    dam: np.ndarray
    first: np.ndarray
    pool: np.ndarray | None = None
    doubled: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.animal)

    @classmethod
    def of(cls, pedigree: pd.DataFrame, pool: np.ndarray | None = None, doubled: np.ndarray | None = None) -> Family:
        """All animals of a pedigree as `herds.simulate_pedigree` draws it."""
        sire, dam = (np.maximum(pedigree[p].to_numpy() - 1, NONE).astype(np.int32) for p in ("sire", "dam"))
        born = pedigree["born"].to_numpy()
        first = np.searchsorted(born, np.arange(born[-1] + 2))
        return cls(np.arange(len(pedigree)), sire, dam, first, pool, doubled)

    def pruned(self, rows: np.ndarray) -> tuple[Family, np.ndarray]:
        """The family of `rows` and their ancestors, and where `rows` stand in it."""
        kept = np.zeros(len(self) + 1, bool)  # the last is what −1 points to
        kept[rows] = True
        for begin, end in reversed(list(zip(self.first[:-1], self.first[1:], strict=True))):
            for parent in (self.sire, self.dam):
                kept[parent[begin:end][kept[begin:end]]] = True
        kept = np.flatnonzero(kept[:-1])
        new = np.full(len(self) + 1, NONE, np.int32)
        new[kept] = np.arange(len(kept))
        first = np.searchsorted(kept, self.first)
        pool, doubled = (None if each is None else each[kept] for each in (self.pool, self.doubled))
        family = Family(self.animal[kept], new[self.sire[kept]], new[self.dam[kept]], first, pool, doubled)
        return family, new[rows].astype(np.int64)


class Gametes:
    """Both gametes of n animals at q sites.

    bits: (n, 2, ⌈q/64⌉) uint64, the first site in the lowest bit; of the sire, then of the dam. At first all 0.
    """

    def __init__(self, library: ct.CDLL, n: int, sites: int, threads: int):
        self.bits = _aligned_zeros((n, 2, words(sites)))
        self._library, self.sites, self._threads = library, sites, threads

    def pack(self, rows: np.ndarray, room: np.ndarray | None = None) -> PackedGenotypes:
        """The genotypes of the animals `rows`, in their order; what is packed stands in `room`, of `room_to_pack`."""
        rows = np.ascontiguousarray(rows, np.int64)
        room = room_to_pack(self.sites, len(rows)) if room is None else room
        codes = room[: self.sites]
        if codes.shape != (needed := (self.sites, _stride(len(rows)))):
            raise ValueError(f"room for {codes.shape} bytes, needed {needed}")
        self._library.genedrop_pack(
            self.sites,
            self.bits.ctypes.data,
            len(rows),
            rows.ctypes.data,
            codes.shape[1],
            self._threads,
            codes.ctypes.data,
        )
        return PackedGenotypes(codes, len(rows))

    def values(self, effects: np.ndarray, rows: slice = slice(None)) -> np.ndarray:
        """(rows, traits) sums over sites of dosage × effect, of animals in a row; effects: (sites, traits)."""
        effects, bits = np.ascontiguousarray(effects, float), self.bits[rows]
        values = np.zeros((len(bits), effects.shape[1]))
        self._library.genedrop_values(
            len(bits),
            self.sites,
            bits.ctypes.data,
            effects.shape[1],
            effects.ctypes.data,
            self._threads,
            values.ctypes.data,
        )
        return values


class GeneDrop:
    """Drops along one chromosome. library: the compiled genedrop.cc (`bench.build.installed("genedrop")`).

    length: of the chromosome in Morgans. seed: one for each chromosome.
    """

    def __init__(self, library: Path, *, length: float, seed: int, switches: float = SWITCHES, threads: int = 1):
        self._library = load(library, "gene dropping", SIGNATURES, prefix="genedrop", build="bench build genedrop")
        self._length, self._seed, self._switches, self._threads = length, seed, switches, threads

    def drop(
        self, family: Family, morgans: np.ndarray, haplotypes: np.ndarray, pools: np.ndarray | None = None
    ) -> Gametes:
        """Gametes at sites with the ascending positions `morgans`; haplotypes: (any number, sites) of 0 and 1.

        pools: (pools, 2) of each pool of founders its first haplotype and one past its last; by default one, of all.
        Holds ⌈sites/64⌉ · 16 bytes an animal.
        """
        gametes = self.room(len(family), len(morgans))
        self.continue_drop(gametes, family, 0, len(family.first) - 1, morgans, haplotypes, pools)
        return gametes

    def room(self, n: int, sites: int) -> Gametes:
        """Gametes to be filled by `continue_drop`."""
        return Gametes(self._library, n, sites, self._threads)

    def continue_drop(
        self,
        gametes: Gametes,
        family: Family,
        begin: int,
        end: int,
        morgans: np.ndarray,
        haplotypes: np.ndarray,
        pools: np.ndarray | None = None,
    ) -> None:
        """Fill in the gametes of the cohorts `begin` to `end` − 1, zeros as yet; earlier cohorts are there."""
        morgans, founders, n = np.ascontiguousarray(morgans, float), _words(haplotypes), len(family)
        pools = np.array([[0, len(founders)]]) if pools is None else pools
        pool, doubled = (np.zeros(n) if each is None else each for each in (family.pool, family.doubled))
        if len(pools) <= pool.max(initial=0):
            raise ValueError(f"animals of the pool {pool.max()} of founders, there are {len(pools)} pools")
        arrays = [
            np.ascontiguousarray(values, dtype)
            for values, dtype in (
                (family.first[begin : end + 1], np.int64),
                (family.animal, np.int64),
                (family.sire, np.int32),
                (family.dam, np.int32),
                (pool, np.uint8),
                (doubled, np.uint8),
                (pools, np.int64),
            )
        ]
        *rows, ranges = arrays
        self._library.genedrop_drop(
            end - begin,
            *(array.ctypes.data for array in rows),
            len(morgans),
            morgans.ctypes.data,
            self._length,
            ranges.ctypes.data,
            founders.ctypes.data,
            self._switches,
            self._seed,
            self._threads,
            gametes.bits.ctypes.data,
        )


def room_to_pack(sites: int, n: int) -> np.ndarray:
    """(sites, ≥ ⌈n/4⌉) bytes where n animals can be packed: each site begins a cache line."""
    return _aligned_zeros((sites, _stride(n) // 8)).view(np.uint8)


def _stride(n: int) -> int:
    return -(-n // 256) * 64


def _aligned_zeros(shape: tuple[int, ...]) -> np.ndarray:
    """uint64 from the beginning of a cache line on."""
    size = int(np.prod(shape))
    room = np.zeros(size + 8, np.uint64)
    begin = -room.ctypes.data // 8 % 8
    return room[begin : begin + size].reshape(shape)


def words(sites: int) -> int:
    """Words of 64 sites that a gamete takes."""
    return -(-sites // 64)


def _words(haplotypes: np.ndarray) -> np.ndarray:
    """(h, q) of 0 and 1 → (h, ⌈q/64⌉) uint64, the first site in the lowest bit."""
    count, sites = haplotypes.shape
    bytes_ = np.zeros((count, 8 * words(sites)), np.uint8)
    packed = np.packbits(haplotypes.astype(bool), axis=1, bitorder="little")
    bytes_[:, : packed.shape[1]] = packed
    return bytes_.view("<u8").astype(np.uint64)
