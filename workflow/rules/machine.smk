# What every job takes. No result hangs on it: these are resources, which rerun nothing.
from bench import needs

# A timed job takes all of the resource `machine`, any other job a part: no two timed jobs and no other beside one.
# An undeclared resource is unlimited, and a rule without it costs nothing: this holds also where --resources or
# --workflow-profile replace the profile's.
TIMED = 100
workflow.global_resources.setdefault("machine", TIMED)
workflow.global_resources.setdefault("gpu", 1)  # jobs that may have a GPU at once

ALL_CASES = {name: case for cases in CASES.values() for name, case in cases.items()}
USED = {case["dataset"] for case in ALL_CASES.values() if "dataset" in case}
# The jobs of these rules go to a scheduler as one array, which gives to all what its first one asks for.
LARGEST = needs.largest([needs.of_dataset(CONFIG.datasets[name]) for name in USED])


def needed(wildcards):
    """Memory and time of a job, from its case or its data set."""
    name = wildcards.get("case")
    if name in REFUSED:
        return needs.SMALL
    if name in ALL_CASES:
        return needs.of_case(ALL_CASES[name], CONFIG)
    return LARGEST if "dataset" in wildcards.keys() else needs.SMALL


def megabytes(wildcards, attempt):
    return needed(wildcards).megabytes(attempt)


def minutes(wildcards, attempt):
    return needed(wildcards).minutes(attempt)


def gpus(wildcards):
    """A GPU for a case whose kernel runs on one."""
    name = wildcards.get("case")
    return int(
        name in ALL_CASES and name not in REFUSED and needs.uses_gpu(ALL_CASES[name])
    )


def partition_of(cpu, gpu):
    """The partition of a job: the profile's for GPUs, or its usual one."""
    return lambda wildcards: gpu if gpus(wildcards) else cpu


PARTITIONS = set()  # that the profile names


for each in workflow.rules:
    asked = {"mem_mb": megabytes, "runtime": minutes, "gpu": gpus}
    if "machine" not in each.resources:
        each.resources["machine"] = 1
    if each.resources["machine"].value >= TIMED:
        asked["slurm_extra"] = "--exclusive"
        each.restart_times = 0  # a second try would be a chosen one
    named = [
        str(each.resources[key].raw).strip("'\"")
        for key in ("slurm_partition", "gpu_partition")
        if key in each.resources
    ]
    PARTITIONS.update(named)
    if len(named) == 2:
        asked["slurm_partition"] = partition_of(*named)
    chosen = workflow.resource_settings.overwrite_resources.get(each.name, {})
    for name, value in asked.items():
        if name not in chosen:
            each.resources[name] = value
