"""The verbs that make, convert and look at data sets; `bench.__main__` has the others."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench import arguments as command_line
from bench.errors import BenchError


def pedigree(options: argparse.Namespace) -> None:
    """Simulate a pedigree: founders, then generations of selected sires and many dams."""
    from bench.genotypes.stages import make_pedigree

    entry = command_line.json_object(options.spec, "--spec")
    make_pedigree(entry, name=options.name, out=options.out, genedrop=_genedrop)


def chromosome(options: argparse.Namespace) -> None:
    """Simulate one chromosome through a pedigree (msprime) and thin its sites to the panel's share."""
    from bench.genotypes.stages import make_chromosome

    make_chromosome(
        command_line.json_object(options.spec, "--spec"),
        name=options.name,
        pedigree=options.pedigree,
        chromosome=options.number,
        folder=options.out,
        genedrop=_genedrop,
    )


def _genedrop() -> Path:
    """The compiled gene drop, made at its first use."""
    from bench.build import installed

    made = installed("genedrop")
    if made.library is None:
        raise BenchError(f"livestock needs a compiled gene drop: {made.reason}")
    return made.library


def genedrop(options: argparse.Namespace) -> None:
    """Drop genes through a dairy pedigree and pack all genotypes, chromosome by chromosome; print seconds, memory,
    bytes a second, and how fast this machine copies."""
    from bench.build import installed
    from bench.machine import Limits
    from bench.population_rates import rates

    limits = installed("limits")
    if limits.library is None:
        raise BenchError(f"the copy bandwidth needs the compiled limits: {limits.reason}")
    if not options.out.is_dir():
        raise BenchError(f"{options.out}: no such folder; name one with room for a chromosome's .bed file")
    sizes = {key: getattr(options, key) for key in ("animals", "snps", "chromosomes", "threads", "out")}
    for name, value in rates(_genedrop(), Limits(limits.library), **sizes).items():
        print(f"{name}\t{value:.4g}", flush=True)


def assemble(options: argparse.Namespace) -> None:
    """Join chromosomes to one PLINK data set with pedigree, true breeding values and phenotypes."""
    from bench.genotypes.stages import make_simulated

    make_simulated(
        command_line.json_object(options.spec, "--spec"),
        name=options.name,
        pedigree=options.pedigree,
        pieces=options.pieces,
        folder=options.out,
    )


def dataset(options: argparse.Namespace) -> None:
    """Make a data set in one go: fetch a public one by sha256, check your own PLINK files and phenotypes (no
    copy is made), or simulate all stages one after the other. Without a network, a fetched data set that
    BENCH_DATA does not hold gets a manifest that says refused."""
    from bench.genotypes.stages import make_dataset
    from bench.inventory import dataset_lines
    from bench.machine import this_machine

    if options.jobs < 1:
        raise BenchError(f"--jobs: {options.jobs} chromosomes at a time; at least 1 was needed")
    made = make_dataset(
        command_line.json_object(options.spec, "--spec"),
        name=options.name,
        folder=options.out,
        genedrop=_genedrop,
        jobs=options.jobs,
        memory=this_machine().usable_memory,
    )
    lines, warnings = dataset_lines(made)
    print("\n".join(lines))
    for warning in warnings:
        print(f"bench dataset: warning: {warning}", file=sys.stderr)


def convert(options: argparse.Namespace) -> None:
    """Write PLINK's .bed, .bim and .fam from BLUPF90's SNP file (and map), or the other way round. The allele that
    BLUPF90 counts is B in the .bim."""
    from bench.exchange.snp_file import from_plink, to_plink

    if options.source == "blupf90":
        n, m = to_plink(options.genotypes, options.out, map_file=options.map)
    elif options.map is None:
        n, m = from_plink(options.genotypes, options.out)
    else:
        raise BenchError("--map: the .bim file is the map; leave it out with --from plink")
    print(f"{options.out}: {n} individuals × {m} SNPs")


def check(options: argparse.Namespace) -> None:
    """Look for offspring and parents that are opposing homozygotes, duplicated genotypes, few calls and SNPs that do
    not vary; report all, and refuse the kinds that are asked for."""
    from bench.candidates import check_files
    from bench.genotypes.checks import refuse as refuse_problems
    from bench.genotypes.dataset import write_table

    report = check_files(options.genotypes, options.pedigree)
    print(report)
    if options.out:
        write_table(options.out, report.problems())
    refuse_problems(report, options.refuse)


def predict(options: argparse.Namespace) -> None:
    """Predict the breeding values of genotyped candidates, without records of theirs, from SNP effects."""
    from bench.candidates import predict_candidates
    from bench.inventory import counted

    made = predict_candidates(options.genotypes, options.effects, options.out, partial=options.partial)
    sizes = counted(made["animal"].nunique(), "candidate"), counted(made["trait"].nunique(), "trait")
    print(f"{options.out}: {', '.join(sizes)}")
