"""The arguments of the command line: a parser of each verb."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench import __version__
from bench.cluster import PROFILE
from bench.errors import BenchError

Call = Callable[[argparse.Namespace], "int | None"]

DESCRIPTION = """\
The stages of blupbench, one verb each. The Snakemake workflow calls these same verbs; by hand they are
for looking at one stage, for debugging, and for trying a kernel:

  bench machine            what this machine is, and its measured ceilings
  bench kernels            every kernel and target, and whether it can run here
  bench plan               what the configuration would run, and what it refuses and why
  bench compare BASE       whether the working tree is slower than a git ref
"""


def parser(calls: Mapping[str, Call]) -> argparse.ArgumentParser:
    """The parser of `bench`; calls: what each verb does, whose docstring describes it."""
    top = argparse.ArgumentParser(
        prog="bench", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("--version", action="version", version=f"blupbench {__version__}")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, summary: str) -> argparse.ArgumentParser:
        made = verbs.add_parser(name, help=summary, description=calls[name].__doc__ or summary)
        made.set_defaults(call=calls[name], usage_error=made.error)
        return made

    def path(at: argparse.ArgumentParser, *flags: str, help: str, **more: Any) -> None:
        more.setdefault("required", "default" not in more)
        at.add_argument(*flags, type=Path, help=help, metavar="PATH", **more)

    at = verb("machine", "what this machine is, and what it reaches at the most")
    path(at, "--limits", default=None, help="folder of compiled limits (default: compile them now)")
    at.add_argument("--compiler", default="g++", help="C++ compiler for the limits (default: g++)")
    at.add_argument("--json", action="store_true", help="print JSON instead of text")
    path(at, "--out", default=None, help="also write the JSON document here")

    at = verb("allocate", "run a command on a whole node of a Slurm cluster, and wait for it")
    path(at, "--log", help="where the command's output goes")
    path(at, "--profile", default=PROFILE, help=f"profile that names partition and account (default: {PROFILE})")
    at.add_argument("--sbatch", default="", help='options of sbatch, such as "--time=8:00:00"')
    at.add_argument("command", nargs="+", metavar="COMMAND", help="after --, the command and its arguments")

    verb("kernels", "every kernel and target: can this machine run it, and if not, why")

    at = verb("config", "print one value of the configuration, such as `results`")
    at.add_argument("key", help="a key of config/config.yaml")
    path(at, "--configfile", nargs="*", default=[], help="override files, as for snakemake")

    at = verb("plan", "the cases of a configuration, and the refusals known beforehand")
    path(at, "--configfile", nargs="*", default=[], help="override files, as for snakemake")

    at.add_argument("--json", action="store_true", help="print every case, one JSON object a line")

    at = verb("pedigree", "simulate the pedigree of a population")
    _dataset(at)
    path(at, "--out", help="pedigree table to write (TSV: id sire dam sex generation, or born herd)")

    at = verb("chromosome", "simulate one chromosome of a population with msprime")
    _dataset(at)
    path(at, "--pedigree", help="pedigree table")
    at.add_argument("--number", type=int, required=True, help="chromosome, counted from 1")
    path(at, "--out", help="folder for the chromosome's .bed, .bim and QTL candidates")

    at = verb("assemble", "join the chromosomes, draw QTL and phenotypes, write the data set")
    _dataset(at)
    path(at, "--pedigree", help="pedigree table")
    path(at, "--pieces", nargs="+", help="the chromosomes' folders, in order")
    path(at, "--out", help="folder for the data and their dataset.json")

    at = verb("dataset", "fetch a public data set, check your own, or simulate one in one go")
    _dataset(at)
    path(at, "--out", help="folder for the data and their dataset.json")
    at.add_argument("--jobs", type=int, default=1, help="chromosomes of livestock simulated at a time (default 1)")

    at = verb("genedrop", "what dropping genes and packing genotypes takes here, against the copy bandwidth")
    at.add_argument("--animals", type=int, default=1_000_000, help="of the pedigree, all genotyped (default 1000000)")
    at.add_argument("--snps", type=int, default=1667, help="on each chromosome (default 1667)")
    at.add_argument("--chromosomes", type=int, default=10, metavar="N", help="how many (default 10)")
    at.add_argument("--threads", type=int, metavar="N", default=None, help="threads (default: all cores)")
    path(at, "--out", help="folder for the .bed files, which are removed again")

    at = verb("convert", "between BLUPF90's SNP file and PLINK's .bed, .bim and .fam")
    sources = ["blupf90", "plink"]
    at.add_argument("--from", dest="source", choices=sources, required=True, metavar="NAME", help="blupf90 or plink")
    path(at, "--genotypes", help="SNP file (blupf90), or the PREFIX of .bed, .bim and .fam (plink)")
    path(at, "--map", default=None, help="map of the SNPs (blupf90): SNP_ID CHR POS")
    path(at, "--out", help="prefix of the files to write: .bed, .bim and .fam, or .txt and .map")

    at = verb("check", "genotypes against the pedigree and against themselves")
    path(at, "--genotypes", help="PREFIX of .bed, .bim and .fam")
    path(at, "--pedigree", default=None, help="pedigree: id, sire, dam")
    path(at, "--out", default=None, help="table of the problems to write (TSV)")
    at.add_argument(
        "--refuse", nargs="*", default=[], metavar="KIND", help="kinds of problems that end with status 2"
    )

    at = verb("predict", "breeding values of genotyped candidates from SNP effects")
    path(at, "--genotypes", help="PREFIX of the candidates' .bed, .bim and .fam")
    path(at, "--effects", help="parquet with the columns snp, allele, frequency, effect")
    at.add_argument("--partial", action="store_true", help="SNPs with an effect may be absent")
    path(at, "--out", help="table to write (animal, trait, ebv): .tsv, or else parquet")

    at = verb("oracle", "exact reference products of a data set, which every kernel must reproduce")
    path(at, "--dataset", help="dataset.json")
    at.add_argument("--samples", type=int, default=None, help="the first so many individuals (default: all)")
    at.add_argument("--k", type=int, default=32, help="columns (default: 32)")
    path(at, "--out", help=".npz to write")

    at = verb("build", "compile one native kernel (or `limits`, `gram`) for one target")
    at.add_argument("kernel", help="kernel name, limits, or gram")
    at.add_argument("--target", required=True, help="scalar, avx2, avx512, …")
    at.add_argument("--compiler", default="g++", help="C++ compiler (default: g++)")
    at.add_argument("--flags", default="", help="further compiler flags, in one string")
    path(at, "--out", help="folder for the library, build.json and build.log")

    at = verb("run", "run one case: verify, time, write its result document")
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

    at = verb("refuse", "write the result document of a case that cannot run here")
    at.add_argument("--case", required=True, help="the case as JSON")
    at.add_argument("--reason", required=True, help="why, in a sentence")
    at.add_argument("--n", type=int, help="individuals, where the plan knows them")
    at.add_argument("--m", type=int, help="SNPs, where the plan knows them")
    path(at, "--out", help="result document to write")

    at = verb("collect", "join result documents to one table")
    path(at, "--documents", help="file with the documents' paths, one a line")
    path(at, "--front", default=None, help="also write what the report's first page says of the run (.rst)")
    path(at, "--out", help="parquet file to write")

    _history(verb("history", "the measurements of many commits: a store, its figures, its steps"))

    at = verb("table", "write one table as CSV, HTML and Markdown")
    at.add_argument("name", help="module in bench.tables")
    path(at, "--measurements", help="parquet file of `bench collect`")
    path(at, "--out", help="folder to write to")

    at = verb("figure", "draw one figure as SVG, PDF and PNG")
    at.add_argument("name", help="module in bench.figures")
    path(at, "--measurements", help="parquet file of `bench collect`")
    path(at, "--out", help="folder to write to")

    at = verb("compare", "compare two revisions of this project: is HEAD slower than BASE?")
    at.add_argument("base", metavar="BASE", help="a git ref, such as main")
    at.add_argument("head", metavar="HEAD", nargs="?", default=".", help="another, or . (default): the working tree")
    at.add_argument("--kernels", type=_names, default=None, help="such as auto,lut5 (default: all that run here)")
    at.add_argument("--k", type=_counts, default=(1, 10, 32), help="numbers of columns (default: 1,10,32)")
    at.add_argument("--pairs", type=int, default=15, help="of times of each product, in a round (default: 15)")
    at.add_argument("--gates", type=_names, default=("counts", "counters", "time"), help="counts,counters,time: some")
    at.add_argument("--compiler", default="g++", help="C++ compiler (default: g++)")
    path(at, "--out", default=Path("results/regression"), help="folder to write to (default: results/regression)")

    at = verb("claims", "hold what README and docs state against the measurements")
    path(at, "--claims", default=Path("config/claims.yaml"), help="file of claims (default: config/claims.yaml)")
    path(at, "--measurements", nargs="*", default=None, help="parquet files (default: of the runs that claims name)")
    at.add_argument("--only", nargs="*", metavar="CLAIM", help="only these claims")
    at.add_argument("--json", action="store_true", help="print JSON, with every cell")
    path(at, "--out", default=None, help="also write claims.csv, .html, .md, .svg, .pdf and .png here")
    at.add_argument("--missing", action="store_true", help="print the configurations that have to be run first")
    at.add_argument("--fill", action="store_true", help="write docs/measured.yaml, README and docs from it")

    at = verb("solve", "evaluate a model file: breeding values, SNP effects, reliabilities")
    at.add_argument("model", type=Path, help="model file (docs/models.md)")
    path(at, "--out", help="folder to write to")
    at.add_argument("--threads", type=int, metavar="N", default=None, help="threads (default: all cores)")
    path(at, "--start", default=None, help="folder of an earlier evaluation, whose solution to start from")
    at.add_argument("--resume", action="store_true", help="go on from the checkpoint of an interrupted run in --out")
    at.add_argument("--max-steps", type=int, metavar="N", default=10_000, help="of PCG (default: 10000)")
    at.add_argument("--blupf90", action="store_true", help="write BLUPF90's `solutions` as well")
    spread = "under mpirun: what of the genotypes the ranks share, individuals or snps (docs/mpi.md)"
    at.add_argument("--ranks", choices=["individuals", "snps"], default=None, metavar="SHARE", help=spread)

    at.add_argument("--memory", metavar="BYTES", help='may be used, such as "800MB" (default: what is free)')

    at = verb("ranks", "several ranks of MPI against one process with as many threads")
    at.add_argument("--individuals", type=int, metavar="N", default=20_000, help="drawn at random (default: 20000)")
    at.add_argument("--snps", type=int, metavar="M", default=10_000, help="drawn at random (default: 10000)")
    at.add_argument("--ranks", type=int, metavar="N", default=2, help="and threads of the one process (default: 2)")
    at.add_argument("--pairs", type=int, metavar="N", default=10, help="of runs (default: 10)")
    path(at, "--out", default=None, help="also write all times as JSON here")

    at = verb("variances", "estimate the variance components of a model file")
    at.add_argument("model", type=Path, help="model file (docs/models.md), whose variances are the start")
    path(at, "--out", help="folder to write to")
    methods = "exact, simulated, eigen, lanczos, or auto (default)"
    at.add_argument("--method", metavar="NAME", default="auto", help=methods)
    at.add_argument("--simulations", type=int, metavar="N", default=15, help="simulated data sets (default: 15)")
    at.add_argument("--seed", type=int, metavar="N", default=1, help="of the simulation (default: 1)")
    at.add_argument("--max-steps", type=int, metavar="N", help="most steps (default: the method's own)")
    at.add_argument("--threads", type=int, metavar="N", default=None, help="threads (default: all cores)")
    at.add_argument("--memory", metavar="BYTES", help='may be used, such as "800MB" (default: what is free)')
    at.add_argument("--resume", action="store_true", help="go on from the rounds of an interrupted search in --out")

    at = verb("validate", "hold the breeding values of partial data against those of all (method LR)")
    for name, said in (("partial", "part of the data"), ("whole", "all")):
        at.add_argument(name, type=Path, metavar=name.upper(), help=f"folder of `bench solve` with {said}")
    path(at, "--animals", default=None, help="file of the animals to compare, an id a line (default: all)")
    path(at, "--out", default=None, help="folder for the table (CSV, HTML, Markdown)")

    at = verb("crossvalidate", "how well a model without a pedigree predicts animals that were left out")
    at.add_argument("model", type=Path, help="model file without a pedigree (docs/gblup.md)")
    path(at, "--out", help="folder to write to")
    at.add_argument("--folds", type=int, metavar="K", help="folds of animals at random")
    at.add_argument("--repeats", type=int, metavar="N", default=1, help="random folds so often (default: 1)")
    at.add_argument("--seed", type=int, metavar="N", default=1, help="of folds, intervals, simulations (default: 1)")
    at.add_argument("--by", metavar="COLUMN", help="leave out one level of a column of the records after the other")
    at.add_argument("--forward", metavar="COLUMN", help="train with smaller values of a column, test the last")
    at.add_argument("--rolling", action="store_true", help="test every value of --forward after the first")
    at.add_argument("--reml", action="store_true", help="variances by REML in each fold (default: the model's)")
    at.add_argument("--resume", action="store_true", help="go on with an interrupted run's folds in --out")
    at.add_argument("--max-steps", type=int, metavar="N", default=10_000, help="of PCG (default: 10000)")
    at.add_argument("--threads", type=int, metavar="N", default=None, help="threads (default: all cores)")

    at = verb("summary", "print the short comparison of the kernels, and what was refused")
    path(at, "--measurements", help="parquet file of `bench collect`")

    at = verb("agreement", "do two runs on this machine agree on the kernels' ratios?")
    at.add_argument("runs", type=Path, nargs=2, help="two parquet files of `bench collect`", metavar="PATH")
    path(at, "--out", default=None, help="folder for the table of all ratios (CSV, HTML, Markdown)")

    at = verb("gpu", "check, time and profile an NVIDIA GPU")
    path(at, "--out", help="folder to write to, such as results/published/gpu/NAME")
    sizes = (751_000, 102_000, 3_100_000)
    at.add_argument("--sizes", type=_counts, default=sizes, help="individuals (default: 751000,102000,3100000)")
    at.add_argument("--snps", type=int, metavar="M", default=50_241, help="default: 50241")
    at.add_argument("--seconds", type=float, metavar="S", default=520.0, help="of the whole run (default: 520)")
    at.add_argument("--draw", action="store_true", help="only draw tables and figure from the gpu.json in --out")
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
    try:
        return tuple(int(count) for count in _names(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} was given, whole numbers such as 1,10,32 were needed") from None


def json_object(text: str, flag: str) -> dict[str, Any]:
    """The value of an option that takes a JSON object."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise BenchError(f"{flag}: {text!r} is not JSON ({error})") from None
    if not isinstance(value, dict):
        raise BenchError(f'{flag}: {text!r} is not a JSON object; write {{"key": value}}')
    return value


def case(text: str) -> dict[str, Any]:
    """The value of --case."""
    from bench import experiments

    found = json_object(text, "--case")
    keys = [
        "experiment",
        *(["dataset"] if found.get("experiment") not in experiments.WITHOUT_DATA else []),
        "threads",
    ]
    if absent := [key for key in keys if key not in found]:
        raise BenchError(
            f"--case: has no {', '.join(absent)}; `bench plan --json` prints the cases of a configuration"
        )
    return found
