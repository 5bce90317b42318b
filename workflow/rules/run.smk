# Beside the rules: what runs where the run was started, and what is said when jobs failed.
from pathlib import Path


# Small enough for that machine, where the others go to a cluster.
localrules:
    all,
    refused,
    collect,
    table,
    figure,


onerror:
    # make hides Snakemake's own words with the rules'.
    for job in sorted(workflow.scheduler.failed, key=str):
        for log in map(Path, job.log):
            said = f"\n{job.name} failed; {log} ends with\n{cluster.end_of(log)}"
            print(said, file=sys.stderr)
    for said in cluster.killed(Path(".snakemake/slurm_logs"), since=Path(PLANNED)):
        print(said, file=sys.stderr)
