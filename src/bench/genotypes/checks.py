"""Genotypes against the pedigree and against themselves: opposing homozygotes, duplicates, call rates, variation.

One pass over the packed codes, a block of SNPs at a time: the block is turned into bits, a row per individual, and
pairs of individuals are compared 64 SNPs at once by AND and a count of bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bench.errors import BenchError
from bench.genotypes.packed import PackedGenotypes

BLOCK_BYTES = 4 << 20  # of one bit plane of a block
PAIRS = 8192  # compared at a time: the rows gathered for them stay in cache
WORD = 64  # SNPs in a word of a plane
NO_CALL = 0x55  # a byte of four missing calls
LOW = np.uint8(0x55)  # the lower bit of each of a byte's four codes
MIX = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Limits:
    """From where on a finding is a problem.

    conflicts: share of opposing homozygotes among the SNPs called in both, 1 % as in BLUPF90's PREGSF90; genotyping
    errors alone stay well below. individual_call_rate, snp_call_rate: the lowest that is no problem.
    """

    conflicts: float = 0.01
    individual_call_rate: float = 0.9
    snp_call_rate: float = 0.9


@dataclass(frozen=True)
class GenotypeReport:
    """What the genotypes of n individuals at m SNPs look like.

    individual_call_rate: (n,). snp_call_rate: (m,). monomorphic: (m,) whether all calls of a SNP are the same, or
    none was made. parents: a row per genotyped pair of offspring and parent, with the columns offspring, parent
    (ids), opposing (SNPs at which they are different homozygotes), compared (SNPs called in both) and share.
    duplicates: a row per individual whose calls are those of an earlier one, with the columns first and second (ids).
    """

    individuals: np.ndarray
    snps: np.ndarray
    individual_call_rate: np.ndarray
    snp_call_rate: np.ndarray
    monomorphic: np.ndarray
    parents: pd.DataFrame
    duplicates: pd.DataFrame
    limits: Limits

    def problems(self) -> pd.DataFrame:
        """A row per problem: kind, item (id of an individual or SNP), other (id, or empty) and value."""
        conflicts = self.parents[self.parents["share"] > self.limits.conflicts]
        alone, snp = self.individual_call_rate, self.snp_call_rate
        few, seldom = alone < self.limits.individual_call_rate, snp < self.limits.snp_call_rate
        parts = {
            "conflict": (conflicts["offspring"], conflicts["parent"], conflicts["share"]),
            "duplicate": (self.duplicates["first"], self.duplicates["second"], np.nan),
            "individual call rate": (self.individuals[few], "", alone[few]),
            "SNP call rate": (self.snps[seldom], "", snp[seldom]),
            "monomorphic": (self.snps[self.monomorphic], "", np.nan),
        }
        tables = [
            pd.DataFrame({"item": np.asarray(item), "other": np.asarray(other), "value": np.asarray(value, float)})
            .assign(kind=kind)
            .astype({"item": str, "other": str})
            for kind, (item, other, value) in parts.items()
            if len(item)
        ]
        columns = ["kind", "item", "other", "value"]
        return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)

    def sentences(self) -> dict[str, str]:
        """A sentence for each kind of problem that there is, with how many and the first ones."""
        problems = self.problems()
        of = {kind: problems[problems["kind"] == kind] for kind in SENTENCES}
        return {kind: SENTENCES[kind](self, found) for kind, found in of.items() if len(found)}

    def __str__(self) -> str:
        lines = [
            f"{self.individuals.size} individuals × {self.snps.size} SNPs, call rate "
            f"{self.snp_call_rate.mean():.4g}; {len(self.parents)} pairs of offspring and parent compared"
        ]
        found = self.sentences()
        lines += [f"{kind}: {found.get(kind, 'none')}" for kind in SENTENCES]
        return "\n".join(lines)


def _conflicts(report: GenotypeReport, found: pd.DataFrame) -> str:
    return (
        f"{len(found)} of {len(report.parents)} pairs of offspring and parent are opposing homozygotes at more than "
        f"{report.limits.conflicts:.3g} of the SNPs, such as {_named(found)}"
    )


def _duplicates(report: GenotypeReport, found: pd.DataFrame) -> str:
    return f"{len(found)} individuals have the calls of another one, such as {_named(found)}"


def _individual_calls(report: GenotypeReport, found: pd.DataFrame) -> str:
    return (
        f"{len(found)} of {report.individuals.size} individuals have a call rate below "
        f"{report.limits.individual_call_rate:.3g}, such as {_named(found)}"
    )


def _snp_calls(report: GenotypeReport, found: pd.DataFrame) -> str:
    return (
        f"{len(found)} of {report.snps.size} SNPs have a call rate below {report.limits.snp_call_rate:.3g}, "
        f"such as {_named(found)}"
    )


def _monomorphic(report: GenotypeReport, found: pd.DataFrame) -> str:
    return f"{len(found)} of {report.snps.size} SNPs do not vary, such as {_named(found)}"


def _named(found: pd.DataFrame) -> str:
    """The first three."""
    shown = []
    for item, other, value in found[["item", "other", "value"]].head(3).itertuples(index=False):
        number = "" if np.isnan(value) else f" ({value:.3g})"
        shown.append(f"{item!r}{f' and {other!r}' if other else ''}{number}")
    return ", ".join(shown)


SENTENCES = {
    "conflict": _conflicts,
    "duplicate": _duplicates,
    "individual call rate": _individual_calls,
    "SNP call rate": _snp_calls,
    "monomorphic": _monomorphic,
}


def refuse(report: GenotypeReport, kinds: Iterable[str] = ("conflict", "duplicate")) -> None:
    """BenchError with the first ids if the report has problems of these kinds; all of them in one sentence."""
    found, said = report.sentences(), []
    for kind in kinds:
        if kind not in SENTENCES:
            raise BenchError(f"there is no check {kind!r} of genotypes; there are {', '.join(SENTENCES)}")
        if kind in found:
            said.append(found[kind])
    if said:
        raise BenchError(f"genotypes: {'; '.join(said)}")


def parent_pairs(sire: np.ndarray, dam: np.ndarray, genotyped: np.ndarray) -> np.ndarray:
    """(pairs, 2) of offspring and parent as places in `genotyped`, where both are.

    sire, dam: (n,) rows of the pedigree's animals' parents, −1 where unknown. genotyped: (g,) rows in the pedigree.
    """
    place = np.full(len(sire) + 1, -1)  # the last is what −1 points to
    place[genotyped] = np.arange(len(genotyped))
    pairs = [np.column_stack([np.arange(len(genotyped)), place[parent[genotyped]]]) for parent in (sire, dam)]
    both = np.concatenate(pairs)
    return both[both[:, 1] >= 0]


def check_genotypes(
    packed: PackedGenotypes,
    *,
    individuals: Sequence[str] | np.ndarray,
    snps: Sequence[str] | np.ndarray,
    pairs: np.ndarray | None = None,
    limits: Limits | None = None,
) -> GenotypeReport:
    """Look at all genotypes once, at those that seem duplicated twice.

    individuals: (n,) ids; snps: (m,); pairs: (pairs, 2) rows of offspring and parent (`parent_pairs`).
    Memory: about 20 BLOCK_BYTES and 16 B per pair.
    """
    ids, names = np.asarray(individuals), np.asarray(snps)
    if (ids.size, names.size) != packed.shape:
        raise BenchError(
            f"{packed.path or 'genotypes'}: {packed.n_samples} individuals × {packed.n_snps} SNPs, but "
            f"{ids.size} and {names.size} ids"
        )
    pairs = np.empty((0, 2), int) if pairs is None else pairs
    n, m = packed.shape
    called, hashes = np.zeros(n, np.int64), np.zeros(n, np.uint64)
    opposing, compared = np.zeros(len(pairs), np.int64), np.zeros(len(pairs), np.int64)
    for number, block in enumerate(packed.blocks(_block_snps(n))):
        first, second, calls = bit_planes(packed, block)
        called += np.bitwise_count(calls).sum(axis=1, dtype=np.int64)
        _add_hashes(hashes, (first, second, calls), number)
        _count_pairs(pairs, (first, second, calls), opposing, compared)
    counts = packed.code_counts()
    calls = counts[:, [0, 2, 3]]
    parents = pd.DataFrame({"offspring": ids[pairs[:, 0]], "parent": ids[pairs[:, 1]]})
    parents = parents.assign(opposing=opposing, compared=compared, share=opposing / np.maximum(compared, 1))
    twins = _confirmed(packed, _same_hash(hashes, called))
    return GenotypeReport(
        ids,
        names,
        called / m,
        calls.sum(axis=1) / n,
        calls.max(axis=1) == calls.sum(axis=1),
        parents,
        pd.DataFrame({"first": ids[twins[:, 0]], "second": ids[twins[:, 1]]}),
        limits or Limits(),
    )


def _block_snps(n_samples: int) -> int:
    """SNPs of a block: whole words, of at most BLOCK_BYTES in all."""
    return WORD * min(max(1, BLOCK_BYTES // (8 * n_samples)), 1024)


def bit_planes(packed: PackedGenotypes, snps: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three (n, words) uint64 planes: homozygous for the first allele, for the second, called. A bit per SNP; those
    past the last SNP are 0."""
    stride = -(-packed.n_samples // 4)
    codes = packed.codes[snps, :stride]
    if rest := -len(codes) % WORD:
        codes = np.concatenate([codes, np.full((rest, stride), NO_CALL, np.uint8)])
    low, high = codes & LOW, (codes >> 1) & LOW
    planes = ((low | high) ^ LOW, low & high, (low & ~high) ^ LOW)
    first, second, called = (_by_individual(plane)[: packed.n_samples] for plane in planes)
    return first, second, called


def _by_individual(plane: np.ndarray) -> np.ndarray:
    """(SNPs, s) bytes with a bit for each of four individuals (0, 2, 4, 6) → (4s, words) uint64, a bit per SNP."""
    two = plane[0::2] | plane[1::2] << 1  # of a byte's individual q: SNPs 2t and 2t+1 at the bits 2q and 2q+1
    four = two.reshape(-1, 4, plane.shape[1])
    out = np.empty((len(four), plane.shape[1], 4), np.uint8)
    for q in range(4):
        out[:, :, q] = four[:, 0] >> 2 * q & 3
        for t in range(1, 4):
            out[:, :, q] |= (four[:, t] >> 2 * q & 3) << 2 * t
    return np.ascontiguousarray(out.reshape(len(four), -1).T).view(np.uint64)


def _count_pairs(
    pairs: np.ndarray,
    planes: tuple[np.ndarray, np.ndarray, np.ndarray],
    opposing: np.ndarray,
    compared: np.ndarray,
) -> None:
    first, second, called = planes
    for start in range(0, len(pairs), PAIRS):
        some = slice(start, start + PAIRS)
        i, j = pairs[some].T
        different = (first[i] & second[j]) | (second[i] & first[j])
        opposing[some] += np.bitwise_count(different).sum(axis=1, dtype=np.int64)
        compared[some] += np.bitwise_count(called[i] & called[j]).sum(axis=1, dtype=np.int64)


def _add_hashes(hashes: np.ndarray, planes: Iterable[np.ndarray], block: int) -> None:
    """hashes (n,) += a random function of each word and its place, so that equal sums mean equal words, nearly so."""
    rng = np.random.default_rng([7, block])
    for plane in planes:
        words = plane ^ rng.integers(0, 2**64, plane.shape[1], np.uint64)
        words *= MIX
        words ^= words >> np.uint64(29)
        words *= MIX
        words ^= words >> np.uint64(32)
        hashes += words.sum(axis=1, dtype=np.uint64)


def _same_hash(hashes: np.ndarray, called: np.ndarray) -> np.ndarray:
    """(pairs, 2) rows of individuals with the same hash, the earliest one first; those without a call left out."""
    rows = np.flatnonzero(called > 0)
    _, earliest, group = np.unique(hashes[rows], return_index=True, return_inverse=True)
    pairs = np.column_stack([rows[earliest[group]], rows])
    return pairs[pairs[:, 0] != pairs[:, 1]]


def _confirmed(packed: PackedGenotypes, pairs: np.ndarray) -> np.ndarray:
    """Those of the pairs whose codes are the same at all SNPs."""
    same = np.ones(len(pairs), bool)
    if not len(pairs):
        return pairs
    for block in packed.blocks(max(1, BLOCK_BYTES // (4 * len(pairs)))):
        i, j = ((packed.codes[block][:, rows // 4] >> (2 * (rows % 4)).astype(np.uint8)) & 3 for rows in pairs.T)
        same &= (i == j).all(axis=0)
    return pairs[same]
