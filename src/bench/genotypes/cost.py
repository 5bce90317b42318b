"""What a data set costs to make, roughly: enough to refuse it before a job starts.

The constants were measured on one core of a 2-core Zen 4 with msprime 1.4 (November 2026): chromosomes of 100 Mb
took 6.6 s for 4,100 genotyped, 12 s for 15,000, 13 s for 20,000 of 101,000 and 32 s for 40,000, in 0.41 to
0.46 GB. The pedigree's part grows with the square of the genotyped; 110,000 are said to take 6 minutes.
"""

from __future__ import annotations

from pathlib import Path

from bench.genotypes.genedrop import BLOCK, words
from bench.genotypes.packed import BLOCK_BYTES, HEADER
from bench.genotypes.spec import Fetched, Livestock, Plink, Spec

REFERENCE_LENGTH = 100_000_000  # base pairs
PROCESS_BYTES = 300_000_000  # Python, numpy, msprime, pandas
GENEALOGY_BYTES = 200_000_000  # trees and mutations of 100 Mb: hardly grows with the genotyped
INDIVIDUAL_BYTES = 500  # rows of the pedigree, .fam and record tables while they are written
GENEALOGY_SECONDS = 6.0  # recapitation and mutations of 100 Mb
PEDIGREE_SECONDS = 2.5e-8  # for each pair of genotyped, 100 Mb
FOUNDER_SECONDS = 8.0  # of livestock: 100 Mb of 500 founders
ANIMAL_SECONDS = 2e-6  # on a chromosome: its line of the pedigree read, its genes dropped
EQUATION_BYTES = 500  # of the mixed model equations of selection, an animal
FIELD_BYTES = 100  # of a table while it is written
CALL_SECONDS = 3e-8  # decode, pack, write, join
FETCHED_BYTES = 1_200_000_000  # measured: 0.84 GB for the mice
FETCHED_SECONDS = 60.0
FETCHED_DISK = 20_000_000
READ_RATE = 200e6  # bytes of a user's .bed hashed and counted in a second


def bed_bytes(n_samples: int, n_snps: int) -> int:
    """Size of a SNP-major .bed file."""
    return len(HEADER) + n_snps * -(-n_samples // 4)


def memory_needed(spec: Spec) -> int:
    """Bytes that the hungriest stage holds: a chromosome's genealogy, or the QTL dosages of all."""
    if isinstance(spec, Fetched):
        return FETCHED_BYTES
    if isinstance(spec, Plink):
        # The text files are held as Python strings, about 20 bytes for one of theirs.
        text = sum(_size(path) for path in (*spec.files()[1:], spec.phenotypes))
        return PROCESS_BYTES + 8 * BLOCK_BYTES + 20 * text
    if isinstance(spec, Livestock):
        return _livestock_memory(spec)
    individuals = sum(spec.generation_sizes()) * INDIVIDUAL_BYTES
    chromosome = int(GENEALOGY_BYTES * max(0.2, spec.chromosome_length / REFERENCE_LENGTH))
    n_qtl = sum(trait.n_qtl for trait in spec.traits)
    traits = 2 * spec.n_samples * n_qtl  # int8 dosages, twice while they are joined
    return PROCESS_BYTES + individuals + max(chromosome, traits)


def _livestock_memory(spec: Livestock) -> int:
    """Of a chromosome's gametes, or of the tables; the pruned pedigree, not known yet, is taken to be the whole."""
    sites = min(BLOCK, max(spec.chromosome_snps()))
    qtl = 16 * words(max(spec.chromosome_qtl())) * spec.animals
    codes = bed_bytes(spec.n_samples, max(sites, *spec.chromosome_qtl()))
    gametes = max(16 * words(sites) * spec.animals, qtl + 16 * len(spec.traits) * spec.animals) + codes
    gametes += int(GENEALOGY_BYTES * max(0.2, spec.chromosome_length / REFERENCE_LENGTH))
    tables = FIELD_BYTES * (spec.animals + spec.animals * spec.repeats) * (2 + len(spec.traits))
    selection = 0 if spec.selection is None else spec.chromosomes * qtl + EQUATION_BYTES * spec.animals
    return PROCESS_BYTES + 100 * spec.animals + max(gametes, tables, selection)


def disk_needed(spec: Spec) -> int:
    """Bytes written: of simulated genotypes the pieces too, since they are there until they are joined."""
    if isinstance(spec, Fetched):
        return FETCHED_DISK
    if isinstance(spec, Plink):
        return 10_000  # a manifest: the files stay where they are
    if isinstance(spec, Livestock):
        values = 8 * spec.animals * len(spec.traits) * (spec.chromosomes + 1)  # of each chromosome, and their sum
        lines = 50 * (2 * spec.animals + spec.repeats * spec.animals) + 100 * spec.n_snps
        return 2 * bed_bytes(spec.n_samples, spec.n_snps) + bed_bytes(spec.n_samples, spec.n_qtl) + values + lines
    n_qtl = sum(trait.n_qtl for trait in spec.traits)
    tables = 100 * sum(spec.generation_sizes()) * len(spec.traits) + 100 * spec.n_snps
    return 2 * bed_bytes(spec.n_samples, spec.n_snps) + bed_bytes(spec.n_samples, n_qtl) + tables


def seconds_needed(spec: Spec) -> float:
    """Seconds on one core, all chromosomes together."""
    if isinstance(spec, Fetched):
        return FETCHED_SECONDS
    if isinstance(spec, Plink):
        return 10 + _size(spec.files()[0]) / READ_RATE
    if isinstance(spec, Livestock):
        genome = spec.chromosomes * spec.chromosome_length / REFERENCE_LENGTH
        pedigrees = spec.chromosomes * ANIMAL_SECONDS * spec.animals
        genome *= 1 if spec.selection is None else 2  # the founders are drawn for the pedigree as well
        return genome * FOUNDER_SECONDS + pedigrees + 3 * bed_bytes(spec.n_samples, spec.n_snps) / READ_RATE
    n_calls = spec.n_samples * (spec.n_snps + sum(trait.n_qtl for trait in spec.traits))
    genome = spec.chromosomes * spec.chromosome_length / REFERENCE_LENGTH
    genealogy = GENEALOGY_SECONDS + PEDIGREE_SECONDS * spec.n_samples**2
    return genome * genealogy + CALL_SECONDS * n_calls


def refusal(spec: Spec, *, memory: int, disk: int, hours: float) -> str | None:
    """Why `spec` is not made here, in words; None if it is. memory, disk: bytes that may be used."""
    if (need := memory_needed(spec)) > memory:
        return f"making it needs about {need / 1e9:.1f} GB of memory, {memory / 1e9:.1f} GB can be used"
    if (need := disk_needed(spec)) > disk:
        return f"making it needs about {need / 1e9:.1f} GB of disk, {disk / 1e9:.1f} GB can be used"
    if (need := seconds_needed(spec) / 3600) > hours:
        return f"simulating it takes about {need:.0f} hours on one core, the budget is {hours:g} hours"
    return None


def _size(path: Path) -> int:
    """Bytes of a file; 0 if it is not there, which its reader will say."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
