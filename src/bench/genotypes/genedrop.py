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
FLOAT = ct.c_double
SIGNATURES = {
    "genedrop_drop": (
        None,
        [SIZE, *[POINTER] * 4, SIZE, POINTER, FLOAT, SIZE, POINTER, FLOAT, ct.c_uint64, INT, POINTER],
    ),
    "genedrop_pack": (None, [SIZE, POINTER, SIZE, POINTER, INT, POINTER]),
    "genedrop_values": (None, [SIZE, SIZE, POINTER, SIZE, POINTER, INT, POINTER]),
}


@dataclass(frozen=True)
class Family:
    """Animals by cohort, parents in earlier ones.

    animal: (n,) int64 rows of the whole pedigree; sire, dam: (n,) int32 rows here, −1 where unknown;
    first: (cohorts + 1,) int64 where each cohort begins.
    """

    animal: np.ndarray
    sire: np.ndarray
    dam: np.ndarray
    first: np.ndarray

    def __len__(self) -> int:
        return len(self.animal)

    @classmethod
    def of(cls, pedigree: pd.DataFrame) -> Family:
        """All animals of a pedigree as `herds.simulate_pedigree` draws it."""
        sire, dam = (np.maximum(pedigree[p].to_numpy() - 1, NONE).astype(np.int32) for p in ("sire", "dam"))
        born = pedigree["born"].to_numpy()
        return cls(np.arange(len(pedigree)), sire, dam, np.searchsorted(born, np.arange(born[-1] + 2)))

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
        return Family(self.animal[kept], new[self.sire[kept]], new[self.dam[kept]], first), new[rows].astype(np.int64)


class Gametes:
    """Both gametes of n animals at q sites.

    bits: (n, 2, ⌈q/64⌉) uint64, the first site in the lowest bit; of the sire, then of the dam.
    """

    def __init__(self, library: ct.CDLL, bits: np.ndarray, sites: int, threads: int):
        self._library, self.bits, self.sites, self._threads = library, bits, sites, threads

    def pack(self, rows: np.ndarray) -> PackedGenotypes:
        """The genotypes of the animals `rows`, in their order: (sites, ⌈n/4⌉) bytes."""
        rows = np.ascontiguousarray(rows, np.int64)
        codes = np.zeros((self.sites, -(-len(rows) // 4)), np.uint8)
        self._library.genedrop_pack(
            self.sites, self.bits.ctypes.data, len(rows), rows.ctypes.data, self._threads, codes.ctypes.data
        )
        return PackedGenotypes(codes, len(rows))

    def values(self, effects: np.ndarray) -> np.ndarray:
        """(n, traits) sums over sites of dosage × effect; effects: (sites, traits)."""
        effects = np.ascontiguousarray(effects, float)
        values = np.zeros((len(self.bits), effects.shape[1]))
        self._library.genedrop_values(
            len(self.bits),
            self.sites,
            self.bits.ctypes.data,
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
        self._library = load(
            library, "gene dropping", SIGNATURES, prefix="genedrop", build="bench build genedrop --target scalar"
        )
        self._length, self._seed, self._switches, self._threads = length, seed, switches, threads

    def drop(self, family: Family, morgans: np.ndarray, haplotypes: np.ndarray) -> Gametes:
        """Gametes at sites with the ascending positions `morgans`; haplotypes: (any number, sites) of 0 and 1.

        Holds ⌈sites/64⌉ · 16 bytes an animal.
        """
        morgans = np.ascontiguousarray(morgans, float)
        founders = _words(haplotypes)
        gametes = np.zeros((len(family), 2, founders.shape[1]), np.uint64)
        order = (family.first, np.int64), (family.animal, np.int64), (family.sire, np.int32), (family.dam, np.int32)
        arrays = [np.ascontiguousarray(values, dtype) for values, dtype in order]
        self._library.genedrop_drop(
            len(family.first) - 1,
            *(array.ctypes.data for array in arrays),
            len(morgans),
            morgans.ctypes.data,
            self._length,
            len(founders),
            founders.ctypes.data,
            self._switches,
            self._seed,
            self._threads,
            gametes.ctypes.data,
        )
        return Gametes(self._library, gametes, len(morgans), self._threads)


def _words(haplotypes: np.ndarray) -> np.ndarray:
    """(h, q) of 0 and 1 → (h, ⌈q/64⌉) uint64, the first site in the lowest bit."""
    count, sites = haplotypes.shape
    bytes_ = np.zeros((count, -(-sites // 64) * 8), np.uint8)
    packed = np.packbits(haplotypes.astype(bool), axis=1, bitorder="little")
    bytes_[:, : packed.shape[1]] = packed
    return bytes_.view("<u8").astype(np.uint64)
