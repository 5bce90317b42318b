"""What dropping genes and packing genotypes takes at scale: seconds, memory, and the copy bandwidth beside it.

The animals are a dairy pedigree's and all genotyped; founders are random haplotypes, since no time depends on theirs.
Files are written as for a data set, chromosome by chromosome, and removed again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import TypeVar

import numpy as np

from bench import measure
from bench.errors import BenchError
from bench.genotypes.genedrop import BLOCK, Family, GeneDrop, room_to_pack
from bench.genotypes.herds import simulate_pedigree
from bench.genotypes.packed import write_bed
from bench.genotypes.spec import Livestock
from bench.machine import Limits, this_machine
from bench.memory import memory_available
from bench.record import writing

Made = TypeVar("Made")
COPIED = 1 << 28  # bytes of the buffer whose half is copied over the other
LEAST = 40  # animals: a cohort of four for one sire
PER_ANIMAL = 1000  # bytes: the pedigree while it is drawn, gametes and codes of a block of sites


def rates(
    library: Path, limits: Limits, *, animals: int, snps: int, chromosomes: int, threads: int | None, out: Path
) -> dict[str, float]:
    """Seconds of wall and of processor time by part, bytes and bytes a second; `snps` on each chromosome.

    Packing reads the gametes and writes the codes; its rate is the median of the blocks of BLOCK sites, by wall time
    and by processor time (all threads' together, times their number); copying's of three copies a chromosome.
    BenchError: sizes that cannot be, too little memory.
    """
    cores = this_machine().cores
    threads = cores if threads is None else threads
    if min(animals - LEAST + 1, snps, chromosomes, threads) < 1:
        raise BenchError(f"needed at least {LEAST} animals and one SNP, chromosome and thread")
    if threads > cores:
        raise BenchError(f"asked for {threads} threads, this machine has {cores} cores")
    if (need := PER_ANIMAL * animals + COPIED + 300_000_000) > memory_available():
        raise BenchError(
            f"{animals} animals need about {need / 1e9:.1f} GB of memory, "
            f"{memory_available() / 1e9:.1f} GB are free; lower --animals"
        )
    spent: dict[str, list[measure.Sample]] = {part: [] for part in ("pedigree", "drop", "pack", "whole")}
    buffer, copies, moved = np.ones(COPIED // 8), [], []

    def timed(part: str, call: Callable[[], Made]) -> Made:
        kept: list[Made] = []
        spent[part].append(measure.once(lambda: kept.append(call())))
        return kept[0]

    herds, sires = max(1, animals // 500), max(1, animals // 2000)
    spec = Livestock(kind="livestock", animals=animals, genotyped=2, n_snps=99, herds=herds, sires=sires, n_qtl=99)
    rows = np.arange(animals)

    def blocks(drop: GeneDrop, family: Family, rng: np.random.Generator, room: np.ndarray) -> Iterator[np.ndarray]:
        morgans = np.sort(rng.random(snps))
        haplotypes = rng.integers(0, 2, (1000, snps), np.uint8)
        for begin in range(0, snps, BLOCK):
            sites = slice(begin, begin + BLOCK)
            gametes = timed("drop", lambda at=sites: drop.drop(family, morgans[at], haplotypes[:, at]))
            packed = timed("pack", lambda held=gametes: held.pack(rows, room))
            moved.append(gametes.bits.nbytes + packed.n_snps * -(-animals // 4))
            yield packed.codes[:, : -(-animals // 4)]

    with measure.exclusive(), writing(out), tempfile.TemporaryDirectory(dir=out) as scratch:
        measure.forget_peak_rss()
        family = timed("pedigree", lambda: Family.of(simulate_pedigree(spec)))
        room = room_to_pack(min(BLOCK, snps), animals)
        for chromosome in range(chromosomes):
            copies += limits.copy_rate(threads=threads, buffer=buffer, tries=3)
            drop = GeneDrop(library, length=1.0, seed=chromosome + 1, threads=threads)
            codes = blocks(drop, family, np.random.default_rng(chromosome), room)
            bed = Path(scratch) / "genotypes.bed"
            timed("whole", lambda at=bed, of=codes: write_bed(at, of))
            bed.unlink()
        peak = measure.peak_rss()
    found = {f"{part}_s": sum(s.wall for s in of) for part, of in spent.items() if of}
    found |= {f"{part}_cpu_s": sum(s.cpu for s in of) for part, of in spent.items() if of}
    full = [i for i, size in enumerate(moved) if size == max(moved)]
    found["pack_rate"] = median(moved[i] / spent["pack"][i].wall for i in full)
    found["pack_rate_cpu"] = median(threads * moved[i] / spent["pack"][i].cpu for i in full)
    found["copy_rate"] = median(copies)
    return found | {"pack_of_copy": found["pack_rate"] / found["copy_rate"], "peak_rss": float(peak)}
