"""`python -m bench VERB`: one verb per stage. Each verb is a few lines around one function."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import arguments as command_line
from bench.data_verbs import assemble, check, chromosome, convert, dataset, genedrop, pedigree, predict
from bench.errors import BenchError
from bench.memory import bytes_of

if TYPE_CHECKING:
    from bench.ranks.communicator import Ranks

FAULT = 70  # EX_SOFTWARE of sysexits.h
INTERRUPTED = 130  # as shells say it of Ctrl-C


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; 0 on success, 2 with one sentence on stderr for bad input. A verb that judges has its own.

    A fault of this program is 70 and a traceback: Python's own status for it, 1, is a verdict of `compare`.
    """
    options, unknown = parser().parse_known_args(arguments)
    if unknown:  # argparse would print the usage of `bench`, which names no option
        options.usage_error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        return options.call(options) or 0
    except BenchError as error:
        print(f"bench {options.verb}: {error}", file=sys.stderr)
        return 2
    except MemoryError as error:
        print(f"bench {options.verb}: out of memory ({error}); close programs or use less data", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"bench {options.verb}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except Exception:
        traceback.print_exc()
        return FAULT


def parser() -> argparse.ArgumentParser:
    """The arguments of all verbs."""
    return command_line.parser(VERBS)


def machine(options: argparse.Namespace) -> None:
    """Print CPU, caches, memory, BLAS, compilers and GPUs; measure what it does at the most: multiply-adds,
    table lookups, 8-bit products, reading and copying, for every instruction set that it runs."""
    from bench.inventory import describe, to_text
    from bench.record import write_json

    if options.limits is None:
        print("bench machine: compiling and measuring, about a minute", file=sys.stderr)
    facts = describe(limits=options.limits, compiler=options.compiler)
    if options.out:
        write_json(options.out, facts)
    print(json.dumps(facts, indent=1) if options.json else to_text(facts))


def allocate(options: argparse.Namespace) -> int:
    """Run a command on a node of its own and wait: sbatch --wait --exclusive, with the partition and account of the
    profile. Its output goes to the log, whose end is printed; the exit code is the command's."""
    from bench.cluster import allocate, end_of

    how = {"log": options.log, "profile": options.profile, "options": shlex.split(options.sbatch)}
    status = allocate(options.command, **how)
    print(end_of(options.log))
    print(f"log: {options.log}\nexit code: {status}")
    return status


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

    case = command_line.case(options.case)
    if "dataset" in case and options.dataset is None:
        raise BenchError(f"--dataset: the case needs the dataset.json of {case['dataset']}")
    set_threads(case["threads"])
    timing = command_line.json_object(options.timing, "--timing")
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

    case = command_line.case(options.case)
    size = {key: value for key, value in (("n", options.n), ("m", options.m)) if value}
    version = experiments.load(case["experiment"]).VERSION
    doc = Document(experiments.identity(case) | size, collect_provenance(version=version))
    doc.refuse(options.reason).write(options.out)


def collect(options: argparse.Namespace) -> None:
    """Join result documents to the long table that every table and figure reads."""
    from bench import collect as collecting
    from bench import front

    try:
        paths = [Path(line) for line in options.documents.read_text().splitlines() if line]
    except OSError as error:
        raise BenchError(f"{options.documents}: cannot be read ({error.strerror}); it lists the documents") from None
    frame = collecting.collect(paths)
    if options.front:
        front.write(frame, options.front)
    collecting.write(frame, options.out)


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
    make, failed = history_report.figures if options.action == "figure" else history_report.steps, []
    for rows in parts:
        try:
            print(make(rows, order, options.out))
        except BenchError as error:  # one class that timed no product is no reason to draw no other
            failed.append(error)
    if len(failed) == len(parts):
        raise failed[0]
    for error in failed:
        print(f"bench history: left out: {error}", file=sys.stderr)


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
    if not (top / "src" / "bench").is_dir():  # below the root git would unpack a part of a commit
        raise BenchError(f"{top} has no src/bench; run this in the root of the checkout")
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


def solve(options: argparse.Namespace) -> int:
    """Solve the mixed model of a model file, single-step where it names genotypes, and write solutions.parquet
    (animal, trait, ebv, reliability), the other effects, SNP effects, the convergence and a log. Status 1: the solver
    did not reach the tolerance; the solutions are those of its last step, and --resume goes on. With --ranks, started
    by mpirun, several processes share the genotypes, and rank 0 writes."""
    if options.ranks is not None:
        from bench.ranks import start

        return start.together(lambda ranks: _solve(options, ranks))
    return _solve(options, None)


def _solve(options: argparse.Namespace, ranks: Ranks | None) -> int:
    from bench.evaluation.solve import Settings, evaluate
    from bench.ranks.genotypes import Spread

    settings = Settings(
        threads=options.threads,
        start=options.start,
        resume=options.resume,
        max_steps=options.max_steps,
        memory=options.memory and bytes_of(options.memory, of="--memory"),
        blupf90=options.blupf90,
        spread=None if ranks is None else Spread(ranks, options.ranks),
    )
    return 0 if evaluate(options.model, options.out, settings) else 1


def ranks(options: argparse.Namespace) -> None:
    """Time GBLUP in N ranks of one thread against one process of N threads: fresh processes, paired, in random order,
    with an interval of the ratio, for each way to share the genotypes (docs/mpi.md)."""
    from bench.ranks.compare import compare

    made = compare(options.individuals, options.snps, ranks=options.ranks, pairs=options.pairs, out=options.out)
    print(made.text())


def variances(options: argparse.Namespace) -> int:
    """Estimate the variance components of a model file, from its own as a start, and write variances.yaml (what
    replaces them), tables with standard errors, heritabilities, the trace and a log. Exactly, by AI-REML, where it
    fits; for one trait by simulated scores at any size. Status 1: it did not converge."""
    from bench.evaluation.variances import Settings, estimate_variances

    names = ("method", "simulations", "seed", "max_steps", "threads", "resume")
    settings = Settings(
        **{name: getattr(options, name) for name in names},
        memory=options.memory and bytes_of(options.memory, of="--memory"),
    )
    return 0 if estimate_variances(options.model, options.out, settings) else 1


def validate(options: argparse.Namespace) -> None:
    """Compare the breeding values of an evaluation with part of the data with those of one with all, of the same
    animals: bias, dispersion, ratio of accuracies (the method LR), with intervals."""
    from bench.evaluation import validate as validating

    drawn = validating.validate(options.partial, options.whole, animals=options.animals)
    if options.out:
        validating.write(drawn, options.out)
    print(validating.to_text(drawn))


def crossvalidate(options: argparse.Namespace) -> int:
    """Predict animals that were left out, in random folds, by a column such as family, or forward in time, with all
    that is learned from the training animals alone; write correlations, slopes, biases and squared errors with
    intervals, the predictions, a figure and a log. Status 1: a fold did not converge."""
    from bench.evaluation.crossvalidate import Settings
    from bench.evaluation.crossvalidate import crossvalidate as run_folds

    settings = Settings(**{name: getattr(options, name) for name in Settings.__dataclass_fields__})
    return 0 if run_folds(options.model, options.out, settings) else 1


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


def gpu(options: argparse.Namespace) -> int:
    """Check, time and profile the first NVIDIA GPU with data that are generated on it, into gpu.json, which is whole
    after every step; then draw measurements.parquet, tables and a roofline beside it. Status 1: a product was wrong,
    or the GPU was lost."""
    from bench.gpu.run import Settings, measure_and_draw, report

    if options.draw:
        print(report.write(options.out))
        return 0
    return measure_and_draw(options.out, Settings(sizes=options.sizes, snps=options.snps, seconds=options.seconds))


CALLS = (
    machine, genedrop, allocate, kernels_, config, plan, pedigree, chromosome, assemble, dataset, convert, check,
    predict, oracle, build, run, refuse, collect, history, table, figure, compare, claims, solve, ranks,
    variances, validate, crossvalidate, summary, agreement, gpu,
)  # fmt: skip
VERBS = {call.__name__.rstrip("_"): call for call in CALLS}  # kernels_ would hide the package


if __name__ == "__main__":
    sys.exit(main())
