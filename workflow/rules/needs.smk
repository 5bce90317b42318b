# Memory, time, GPUs and partition of a job, from its case or its data set.
from bench import needs

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
