# What every job takes. No result hangs on it: these are resources, which rerun nothing.
include: "needs.smk"


# A timed job takes all of the resource `machine`, any other job a part: no two timed jobs and no other beside one.
# An undeclared resource is unlimited, and a rule without it costs nothing: this holds also where --resources or
# --workflow-profile replace the profile's.
TIMED = 100
workflow.global_resources.setdefault("machine", TIMED)
workflow.global_resources.setdefault("gpu", 1)  # jobs that may have a GPU at once

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
