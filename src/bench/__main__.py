"""`python -m bench VERB`: one verb per stage. Each verb is a few lines around one function."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from bench import __version__
from bench.errors import BenchError

DESCRIPTION = """\
The stages of blupbench, one verb each. The Snakemake workflow calls these same verbs; by hand they are
for looking at one stage, for debugging, and for trying a kernel:

  bench machine            what this machine is, and its measured ceilings
  bench kernels            every kernel and target, and whether it can run here
  bench plan               what the configuration would run, and what it refuses and why
  bench compare BASE       whether the working tree is slower than a git ref
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; 0 on success, 2 with one sentence on stderr for bad input. A verb that judges has its own."""
    options = parser().parse_args(arguments)
    try:
        return options.call(options) or 0
    except BenchError as error:
        print(f"bench {options.verb}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        sys.stderr.close()
        return 0


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="bench", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("--version", action="version", version=f"blupbench {__version__}")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(call: Any, summary: str) -> argparse.ArgumentParser:
        made = verbs.add_parser(call.__name__.rstrip("_"), help=summary, description=call.__doc__ or summary)
        made.set_defaults(call=call)
        return made

    def path(at: argparse.ArgumentParser, *flags: str, help: str, **more: Any) -> None:
        more.setdefault("required", "default" not in more)
        at.add_argument(*flags, type=Path, help=help, metavar="PATH", **more)

    at = verb(machine, "what this machine is, and what it reaches at the most")
    path(at, "--limits", default=None, help="folder of compiled limits (default: compile them now)")
    at.add_argument("--compiler", default="g++", help="C++ compiler for the limits (default: g++)")
    at.add_argument("--json", action="store_true", help="print JSON instead of text")
    path(at, "--out", default=None, help="also write the JSON document here")

    verb(kernels_, "every kernel and target: can this machine run it, and if not, why")

    at = verb(config, "print one value of the configuration, such as `results`")
    at.add_argument("key", help="a key of config/config.yaml")
    path(at, "--configfile", nargs="*", default=[], help="override files, as for snakemake")

    at = verb(plan, "the cases of a configuration, and the refusals known beforehand")
    path(at, "--configfile", nargs="*", default=[], help="override files, as for snakemake")

    at.add_argument("--json", action="store_true", help="print every case, one JSON object a line")

    at = verb(pedigree, "simulate the pedigree of a population")
    _dataset(at)
    path(at, "--out", help="pedigree table to write (TSV: id sire dam sex generation)")

    at = verb(chromosome, "simulate one chromosome of a population with msprime")
    _dataset(at)
    path(at, "--pedigree", help="pedigree table")
    at.add_argument("--number", type=int, required=True, help="chromosome, counted from 1")
    path(at, "--out", help="folder for the chromosome's .bed, .bim and QTL candidates")

    at = verb(assemble, "join the chromosomes, draw QTL and phenotypes, write the data set")
    _dataset(at)
    path(at, "--pedigree", help="pedigree table")
    path(at, "--pieces", nargs="+", help="the chromosomes' folders, in order")
    path(at, "--out", help="folder for the data and their dataset.json")

    at = verb(dataset, "fetch a public data set, check your own, or simulate one in one go")
    _dataset(at)
    path(at, "--out", help="folder for the data and their dataset.json")

    at = verb(oracle, "exact reference products of a data set, which every kernel must reproduce")
    path(at, "--dataset", help="dataset.json")
    at.add_argument("--samples", type=int, default=None, help="the first so many individuals (default: all)")
    at.add_argument("--k", type=int, default=32, help="columns (default: 32)")
    path(at, "--out", help=".npz to write")

    at = verb(build, "compile one native kernel (or `limits`, `gram`) for one target")
    at.add_argument("kernel", help="kernel name, limits, or gram")
    at.add_argument("--target", required=True, help="scalar, avx2, avx512, …")
    at.add_argument("--compiler", default="g++", help="C++ compiler (default: g++)")
    at.add_argument("--flags", default="", help="further compiler flags, in one string")
    path(at, "--out", help="folder for the library, build.json and build.log")

    at = verb(run, "run one case: verify, time, write its result document")
    at.add_argument("--case", required=True, help="the case as JSON (bench plan --json prints them)")
    path(at, "--dataset", default=None, help="dataset.json (all but limits)")
    path(at, "--build", default=None, help="build.json of a native kernel, or of gram")
    path(at, "--against-build", nargs="*", default=[], help="build.json of each native partner in a paired case")
    path(at, "--oracle", default=None, help="the data set's oracle .npz (products)")
    path(at, "--limits", default=None, help="folder of compiled limits (products, limits)")
    path(at, "--reference", default=None, help="reference .npz (GBLUP: written by reference, read by solve)")
    at.add_argument("--timing", default="{}", help='repeats as JSON, such as {"least": 5, "processes": 10}')
    at.add_argument("--memory", type=int, default=None, help="bytes that may be used (default: what is free)")
    path(at, "--out", help="result document to write")

    at = verb(refuse, "write the result document of a case that cannot run here")
    at.add_argument("--case", required=True, help="the case as JSON")
    at.add_argument("--reason", required=True, help="why, in a sentence")
    at.add_argument("--n", type=int, help="individuals, where the plan knows them")
    at.add_argument("--m", type=int, help="SNPs, where the plan knows them")
    path(at, "--out", help="result document to write")

    at = verb(collect, "join result documents to one table")
    path(at, "--documents", help="file with the documents' paths, one a line")
    path(at, "--out", help="parquet file to write")

    _history(verb(history, "the measurements of many commits: a store, its figures, its steps"))

    at = verb(table, "write one table as CSV, HTML and Markdown")
    at.add_argument("name", help="module in bench.tables")
    path(at, "--measurements", help="parquet file of `bench collect`")
    path(at, "--out", help="folder to write to")

    at = verb(figure, "draw one figure as SVG, PDF and PNG")
    at.add_argument("name", help="module in bench.figures")
    path(at, "--measurements", help="parquet file of `bench collect`")
    path(at, "--out", help="folder to write to")

    at = verb(compare, "compare two revisions of this project: is HEAD slower than BASE?")
    at.add_argument("base", metavar="BASE", help="a git ref, such as main")
    at.add_argument("head", metavar="HEAD", nargs="?", default=".", help="another, or . (default): the working tree")
    at.add_argument("--kernels", type=_names, default=None, help="such as auto,lut5 (default: all that run here)")
    at.add_argument("--k", type=_counts, default=(1, 10, 32), help="numbers of columns (default: 1,10,32)")
    at.add_argument("--pairs", type=int, default=15, help="of times of each product, in a round (default: 15)")
    at.add_argument("--gates", type=_names, default=("counts", "counters", "time"), help="counts,counters,time: some")
    at.add_argument("--compiler", default="g++", help="C++ compiler (default: g++)")
    path(at, "--out", default=Path("results/regression"), help="folder to write to (default: results/regression)")

    at = verb(claims, "hold what README and docs state against the measurements")
    path(at, "--claims", default=Path("config/claims.yaml"), help="file of claims (default: config/claims.yaml)")
    path(at, "--measurements", nargs="*", default=None, help="parquet files (default: of the runs that claims name)")
    at.add_argument("--only", nargs="*", metavar="CLAIM", help="only these claims")
    at.add_argument("--json", action="store_true", help="print JSON, with every cell")
    path(at, "--out", default=None, help="also write claims.csv, .html, .md, .svg, .pdf and .png here")
    at.add_argument("--missing", action="store_true", help="print the configurations that have to be run first")
    at.add_argument("--fill", action="store_true", help="write docs/measured.yaml, README and docs from it")

    at = verb(summary, "print the short comparison of the kernels, and what was refused")
    path(at, "--measurements", help="parquet file of `bench collect`")

    at = verb(agreement, "do two runs on this machine agree on the kernels' ratios?")
    at.add_argument("runs", type=Path, nargs=2, help="two parquet files of `bench collect`", metavar="PATH")
    path(at, "--out", default=None, help="folder for the table of all ratios (CSV, HTML, Markdown)")
    return top


def _history(at: argparse.ArgumentParser) -> None:
    """The actions of `history`, all on one store."""
    actions = at.add_subparsers(dest="action", required=True, metavar="ACTION")

    def action(name: str, summary: str) -> argparse.ArgumentParser:
        made = actions.add_parser(name, help=summary, description=summary)
        made.add_argument("--store", type=Path, required=True, metavar="PATH", help="folder of the store")
        if name != "add":
            made.add_argument("--machine", nargs="+", default=None, metavar="CLASS", help="only this machine class")
            made.add_argument(
                "--repository", type=Path, default=None, metavar="PATH", help="git checkout that orders the commits"
            )
        return made

    made = action("add", "append a run's measurements, once")
    made.add_argument("measurements", type=Path, help="parquet file of `bench collect`")
    action("list", "the runs of each machine class, in order")
    made = action("figure", "rates over commits as SVG, PDF and PNG, a folder per machine class")
    made.add_argument("--out", type=Path, required=True, metavar="PATH", help="folder to write to")
    made = action("steps", "print where a kernel became faster or slower and stayed so")
    made.add_argument("--out", type=Path, default=None, metavar="PATH", help="also write CSV, HTML and Markdown here")


def _dataset(at: argparse.ArgumentParser) -> None:
    at.add_argument("--name", required=True, help="the data set's name")
    at.add_argument("--spec", required=True, help="its entry of config/datasets.yaml, as JSON")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


def _counts(text: str) -> tuple[int, ...]:
    return tuple(int(count) for count in _names(text))


def _map(text: str, flag: str) -> dict[str, Any]:
    """The value of an option that takes a JSON object."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise BenchError(f"{flag}: {text!r} is not JSON ({error})") from None
    if not isinstance(value, dict):
        raise BenchError(f'{flag}: {text!r} is not a JSON object; write {{"key": value}}')
    return value


def _case(text: str) -> dict[str, Any]:
    from bench import experiments

    case = _map(text, "--case")
    keys = ["experiment", *(["dataset"] if case.get("experiment") not in experiments.WITHOUT_DATA else []), "threads"]
    if absent := [key for key in keys if key not in case]:
        raise BenchError(
            f"--case: has no {', '.join(absent)}; `bench plan --json` prints the cases of a configuration"
        )
    return case


def machine(options: argparse.Namespace) -> None:
    """Print CPU, caches, memory, BLAS, compilers and GPUs; measure what it does at the most: multiply-adds,
    table lookups, 8-bit products, reading and copying, for every instruction set that it runs."""
    from bench.inventory import describe, to_text
    from bench.record import write_json

    facts = describe(limits=options.limits, compiler=options.compiler)
    if options.out:
        write_json(options.out, facts)
    print(json.dumps(facts, indent=1) if options.json else to_text(facts))


def kernels_(options: argparse.Namespace) -> None:
    """List every kernel and target with what it is, and whether this machine can run it; if not, why."""
    from bench.inventory import kernel_lines

    print("\n".join(kernel_lines()))


def config(options: argparse.Namespace) -> None:
    """Print one value of the checked configuration."""
    from bench.config import read

    values = read(options.configfile).model_dump(mode="json")
    if options.key not in values:
        raise BenchError(f"there is no key {options.key!r}; there are {', '.join(values)}")
    print(values[options.key])


def plan(options: argparse.Namespace) -> None:
    """Print how many cases the configuration has, and why some cannot run here; with --json the cases themselves,
    a line each, a refused one with its reason."""
    from bench.config import read
    from bench.inventory import plan_lines
    from bench.plan import all_cases, refusal

    config = read(options.configfile)
    if not options.json:
        print("\n".join(plan_lines(config)))
        return
    for experiment, cases in all_cases(config).items():
        for name, case in cases.items():
            print(json.dumps({"id": name, "experiment": experiment, "refused": refusal(case, config), "case": case}))


def pedigree(options: argparse.Namespace) -> None:
    """Simulate a pedigree: founders, then generations of selected sires and many dams."""
    from bench.genotypes.stages import make_pedigree

    make_pedigree(_map(options.spec, "--spec"), name=options.name, out=options.out)


def chromosome(options: argparse.Namespace) -> None:
    """Simulate one chromosome through a pedigree (msprime) and thin its sites to the panel's share."""
    from bench.genotypes.stages import make_chromosome

    make_chromosome(
        _map(options.spec, "--spec"),
        name=options.name,
        pedigree=options.pedigree,
        chromosome=options.number,
        folder=options.out,
    )


def assemble(options: argparse.Namespace) -> None:
    """Join chromosomes to one PLINK data set with pedigree, true breeding values and phenotypes."""
    from bench.genotypes.stages import make_simulated

    make_simulated(
        _map(options.spec, "--spec"),
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

    made = make_dataset(_map(options.spec, "--spec"), name=options.name, folder=options.out)
    lines, warnings = dataset_lines(made)
    print("\n".join(lines))
    for warning in warnings:
        print(f"bench dataset: warning: {warning}", file=sys.stderr)


def oracle(options: argparse.Namespace) -> None:
    """Compute Z V and Z'U of integers and normals by an independent path."""
    from bench.genotypes.dataset import Dataset
    from bench.genotypes.packed import PackedGenotypes
    from bench.oracle import Oracle

    data = Dataset.read(options.dataset)
    if data.status != "ok":  # nothing to check against: the sessions read the refusal from the manifest
        packed = PackedGenotypes.from_dosages(_empty_dosages())
    else:
        packed = data.packed()
        packed = packed.head(min(options.samples or packed.n_samples, packed.n_samples))
    Oracle.compute(packed, options.k).write(options.out)


def _empty_dosages() -> Any:
    import numpy as np

    return np.zeros((1, 1), np.int8)


def build(options: argparse.Namespace) -> None:
    """Compile one target with the given compiler; build.json says how, or why it could not be done."""
    import shlex

    from bench.build import build as compile_

    made = compile_(
        options.kernel,
        options.target,
        options.out,
        compiler=options.compiler,
        flags=tuple(shlex.split(options.flags)),
    )
    print(f"{made.name}/{made.target}: {made.reason or made.library}")


def run(options: argparse.Namespace) -> None:
    """Run one case of an experiment, in several fresh processes where --timing says so, and write its result
    document, whole or not at all."""
    from bench import experiments, processes
    from bench.provenance import set_threads

    case = _case(options.case)
    if "dataset" in case and options.dataset is None:
        raise BenchError(f"--dataset: the case needs the dataset.json of {case['dataset']}")
    set_threads(case["threads"])
    timing = _map(options.timing, "--timing")
    count = timing.pop("processes", 1)
    if not isinstance(count, int) or count < 1:
        raise BenchError(f"--timing: `processes` is {count!r}, a whole number of 1 or more was needed")
    files = experiments.Files(
        dataset=options.dataset or Path(),
        build=options.build,
        against_builds=tuple(options.against_build),
        oracle=options.oracle,
        limits=options.limits,
        reference=options.reference,
        timing=timing,
        memory=options.memory,
    )
    processes.run(case, files, count).write(options.out)


def refuse(options: argparse.Namespace) -> None:
    """Write a document without observations: what was asked for, and why it cannot be had here."""
    from bench import experiments
    from bench.provenance import collect_provenance
    from bench.record import Document

    case = _case(options.case)
    size = {key: value for key, value in (("n", options.n), ("m", options.m)) if value}
    version = experiments.load(case["experiment"]).VERSION
    doc = Document(experiments.identity(case) | size, collect_provenance(version=version))
    doc.refuse(options.reason).write(options.out)


def collect(options: argparse.Namespace) -> None:
    """Join result documents to the long table that every table and figure reads."""
    from bench import collect as collecting

    try:
        paths = [Path(line) for line in options.documents.read_text().splitlines() if line]
    except OSError as error:
        raise BenchError(f"{options.documents}: cannot be read ({error.strerror}); it lists the documents") from None
    collecting.write(collecting.collect(paths), options.out)


def history(options: argparse.Namespace) -> None:
    """Keep the measurements of many commits in one store of parquet files, a part per machine class; list them,
    draw each kernel's rate over the commits, find the steps. Machine classes are never compared."""
    from bench import history as store

    if options.action == "add":
        print(store.add(options.measurements, options.store))
        return
    frame, order = store.in_order(store.read(options.store, options.machine), options.repository)
    if options.action == "list":
        print("\n".join([*store.runs(frame), f"Commits are {order}; * had changes that were not committed."]))
        return
    from bench import history_report

    parts = [frame] if options.machine else [rows for _, rows in frame.groupby("machine_class")]
    for rows in parts:
        made = history_report.figures if options.action == "figure" else history_report.steps
        print(made(rows, order, options.out))


def table(options: argparse.Namespace) -> None:
    """Write one table of the report."""
    from bench import collect as collecting
    from bench import tables

    tables.write(options.name, collecting.read(options.measurements), options.out)


def figure(options: argparse.Namespace) -> None:
    """Draw one figure of the report."""
    from bench import collect as collecting
    from bench import figures

    figures.write(options.name, collecting.read(options.measurements), options.out)


def compare(options: argparse.Namespace) -> int:
    """Build both revisions apart, compare them in one session, and write regression.json, .md, .csv, .html and a
    figure. Status 0: nothing is slower; 1: something is slower, or wrong; 3: some of it is inconclusive."""
    from bench.provenance import set_threads

    set_threads(1)
    from bench.regression import gate, report, revisions

    top, folder = Path.cwd(), options.out.absolute()
    settings = gate.Settings(options.kernels, options.k, options.pairs, options.gates, options.compiler)
    base, head = (revisions.revision(ref, top, folder) for ref in (options.base, options.head))
    made = gate.compare(base, head, settings, folder)
    report.write(made, folder)
    print(report.to_markdown(made).split("<details>")[0])
    print(f"{options.out}/regression.md")
    return made.exit_status


def claims(options: argparse.Namespace) -> int:
    """Print for every claim of config/claims.yaml what is wanted, what was measured here, and whether it holds.

    Exit status: 0 all hold or are expected not to, 1 one does not hold, 3 one is inconclusive or not measured."""
    from bench.claims import pages, spec, verdict

    known = spec.read(options.claims)
    chosen = verdict.chosen(known, options.only)
    if options.missing:
        print("\n".join(verdict.missing(known.model_copy(update={"claims": chosen}))))
        return 0
    if options.measurements:
        measured, unreadable = verdict.given_tables(known, options.measurements), []
    else:
        measured, unreadable = verdict.own_tables(known)
    for fault in unreadable:
        print(f"bench claims: left out: {fault}", file=sys.stderr)
    findings = verdict.judge_all(chosen, measured)
    if options.fill:
        recorded = pages.record(known, findings, measured, pages.read())
        pages.write(recorded)
        print("\n".join(["filled from docs/measured.yaml:", *map(str, pages.fill_all(recorded, known))]))
        return 0
    if options.out:
        verdict.write(findings, options.out)
    print(json.dumps(verdict.to_json(findings), indent=1) if options.json else verdict.to_text(findings))
    return verdict.status(findings)


def summary(options: argparse.Namespace) -> None:
    """Print the comparison table for the terminal."""
    from bench import collect as collecting
    from bench import tables

    print(tables.load("summary").to_text(collecting.read(options.measurements)))


def agreement(options: argparse.Namespace) -> None:
    """Print in what share of the cells the kernel ratios of two runs agree within their intervals, and which do
    not."""
    from bench import agreement as agreeing
    from bench import collect as collecting

    drawn = agreeing.compare(*map(collecting.read, options.runs))
    if options.out:
        agreeing.write(drawn, options.out)
    print(agreeing.to_text(drawn))


if __name__ == "__main__":
    sys.exit(main())
