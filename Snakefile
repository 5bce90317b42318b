# The main job: simulate or fetch, build, verify, time, solve, collect, compare, show.
# What to run is config/, how to run it is profiles/, what a step does is `python -m bench VERB`.
import json
import os
import re
import shlex
import sys

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

from bench import config as configuration
from bench import cluster, guard, kernels, machine, plan
from bench.errors import BenchError
from bench.record import write_text

min_version("9.3")


report: "workflow/report/report.rst"


# Used only where asked for: `apptainer build envs/blupbench.sif envs/apptainer.def`, then
# `snakemake --software-deployment-method apptainer`.
container: "envs/blupbench.sif"


configfile: "config/datasets.yaml"
configfile: "config/config.yaml"


try:
    CONFIG = configuration.check(config)
    if CONFIG.node:  # the same cases on the node that starts the run and on every other
        machine.assume(CONFIG.node)
    CASES = plan.all_cases(CONFIG)
except BenchError as error:
    raise WorkflowError(str(error))

RESULTS = CONFIG.results
PLANNED = f"{RESULTS}/planned.txt"  # the documents of this configuration: thousands do not fit a command line
TARGETS = []
SESSIONS = []

# The retry of what an earlier run was refused (no network, no compiler), and one run at a time.
if workflow.is_main_process and not guard.only_looks(sys.argv):
    guard.forget_refusals(RESULTS, flags=CONFIG.compiler_flags)


onstart:
    cluster.check(workflow.executor_plugin.name, PARTITIONS, node=CONFIG.node)
    guard.hold(RESULTS)
    write_text(PLANNED, "\n".join(TARGETS) + "\n")


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/kernels.smk"


for name in CASES:

    include: f"workflow/rules/experiments/{name}.smk"


include: "workflow/rules/sessions.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/regression.smk"


rule all:
    default_target: True
    input:
        f"{RESULTS}/measurements.parquet",
        REPORTED,
        TARGETS,  # so that a document that is gone is made again


include: "workflow/rules/run.smk"
include: "workflow/rules/machine.smk"  # last: it goes over all rules
