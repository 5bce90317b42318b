# What a run on a cluster needs beside its profile.
from pathlib import Path


# Small enough for the machine that starts the run.
localrules:
    all,
    refused,
    collect,
    table,
    figure,


onerror:
    for said in cluster.killed(Path(".snakemake/slurm_logs"), since=Path(PLANNED)):
        print(said, file=sys.stderr)
