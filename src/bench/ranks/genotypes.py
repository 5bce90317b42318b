"""A genotype matrix over several ranks: each packs, counts and multiplies its share of the .bed file alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.errors import BenchError
from bench.genotypes.bim_fam import read_bim, read_fam
from bench.genotypes.packed import PackedGenotypes
from bench.machine import memory_available
from bench.matrix import GenotypeMatrix
from bench.ranks.communicator import Ranks
from bench.ranks.partitioned import By, ColumnShares, OwnRows, RowShares, row_cuts
from bench.relationships.genomic import Coding
from bench.solvers.operator import Operator


@dataclass(frozen=True)
class Spread:
    """How a matrix is spread over ranks: by individuals or by SNPs."""

    ranks: Ranks
    by: By

    def cuts(self, n: int, m: int) -> np.ndarray:
        """(size + 1,) the ranks' shares of n individuals or m SNPs. BenchError: a rank would have none."""
        cuts = row_cuts(self.ranks, n) if self.by == "individuals" else self.ranks.cuts(m)
        if not np.diff(cuts).all():
            held = f"{n} individuals in bytes of four" if self.by == "individuals" else f"{m} SNPs"
            raise BenchError(f"{held} cannot be shared among {self.ranks.size} ranks; start fewer")
        return cuts

    def share(self, packed: PackedGenotypes) -> PackedGenotypes:
        """This rank's genotypes, a view."""
        first, last = self.cuts(*packed.shape)[self.ranks.rank :][:2]
        if self.by == "snps":
            return PackedGenotypes(packed.codes[first:last], packed.n_samples, packed.path, packed.state)
        codes = packed.codes[:, first // 4 : -(-last // 4)]
        return PackedGenotypes(codes, int(last - first), packed.path)


class SharedMatrix:
    """Z (n, m) over several ranks; what `GenotypeMatrix` has of it.

    packed: all genotypes, mapped and counted; what is read of it is read from the file. own: this rank's share,
    packed for its kernel.
    """

    def __init__(self, packed: PackedGenotypes, spread: Spread, **options: Any):
        """options: of `GenotypeMatrix`; memory: bytes that this rank's share may take.

        BenchError: what that refuses; ranks of a node that need more than it has.
        """
        share = spread.share(packed)
        individuals, snps = options.pop("individuals", None), options.pop("snps", None)
        _fit_node(spread.ranks, share, options.pop("memory", None))
        self.own = GenotypeMatrix(share, **options)
        self.spread, self.individuals, self.snps = spread, individuals, snps
        self.shape, self.threads = packed.shape, self.own.threads
        self.packed = packed.counted(_counts(share, spread))
        self._cuts = spread.cuts(*packed.shape)

    @classmethod
    def from_bed(cls, prefix: str, spread: Spread, **options: Any) -> SharedMatrix:
        """The same on every rank, each of which must see PREFIX.bed, .bim and .fam."""
        bed = Path(f"{prefix}.bed")
        fam, bim = read_fam(bed.with_suffix(".fam")), read_bim(bed.with_suffix(".bim"))
        packed = PackedGenotypes.open(bed, n_samples=len(fam), n_snps=len(bim))
        ids = {"individuals": fam["id"].to_numpy(), "snps": bim["snp"].to_numpy()}
        return cls(packed, spread, **ids, **options)

    def coded(self, coding: Coding) -> Operator:
        """W as `coding` has it, on vectors that are whole on every rank. MemoryError: too many missing calls."""
        own = self.own.coded(self.own_coding(coding))
        shares = RowShares if self.spread.by == "individuals" else ColumnShares
        return shares(own, self.spread.ranks, self._cuts)

    def own_rows(self, coding: Coding) -> OwnRows:
        """This rank's rows of W, on vectors that are cut like them; for shares of individuals."""
        if self.spread.by != "individuals":
            raise ValueError("vectors can be cut only where the individuals are")
        return OwnRows(self.own.coded(coding), self.spread.ranks)

    @property
    def rows(self) -> slice:
        """Which individuals are this rank's."""
        if self.spread.by == "snps":
            return slice(0, self.shape[0])
        return slice(*(int(cut) for cut in self._cuts[self.spread.ranks.rank :][:2]))

    def own_coding(self, coding: Coding) -> Coding:
        """Of this rank's SNPs."""
        if self.spread.by == "individuals":
            return coding
        mine = slice(*self._cuts[self.spread.ranks.rank :][:2])
        return replace(coding, centre=coding.centre[mine], scale=coding.scale[mine])

    def close(self) -> None:
        self.own.close()


def _counts(share: PackedGenotypes, spread: Spread) -> np.ndarray:
    """(m, 4) of all genotypes: exact, since they are integers."""
    counts = share.code_counts()
    share.forget()
    if spread.by == "individuals":
        return spread.ranks.sum(counts)
    return spread.ranks.join(counts, np.concatenate([[0], np.cumsum(spread.ranks.gather(len(counts)))]))


def _fit_node(ranks: Ranks, share: PackedGenotypes, memory: int | None) -> None:
    """BenchError unless the shares of all ranks of this node fit its memory together, and each what it is given."""
    own = share.n_snps * -(-share.n_samples // 4)
    if memory is not None and own > memory:
        raise BenchError(
            f"{share.path}: a rank's share takes {own / 1e9:.3g} GB of memory, it may take {memory / 1e9:.3g} GB; "
            "ranks hold their shares: start more of them"
        )
    need, free = sum(ranks.on_node(own)), min(ranks.on_node(memory_available()))
    if need > free:
        raise BenchError(
            f"{share.path}: the shares of this node's ranks take {need / 1e9:.3g} GB of memory, {free / 1e9:.3g} GB "
            "can be used; spread them over more nodes"
        )
