# D-BLUP: the studies that time nothing, one thread each and beside each other, and the timed gradient steps.
from bench.experiments import dblup
from bench.measure import PROTOCOL

DBLUP = CASES["dblup"]
STEPS = [name for name, case in DBLUP.items() if case["variant"] == "steps"]
TARGETS += expand(f"{RESULTS}/raw/dblup/{{case}}.json", case=DBLUP)


rule dblup_study:
    input:
        dataset=lambda w: manifest(DBLUP[w.case]["dataset"]),
        code=lambda w: from_here(dblup.sources(DBLUP[w.case]["variant"])),
    output:
        f"{RESULTS}/raw/dblup/{{case}}.json",
    log:
        f"{RESULTS}/logs/dblup/{{case}}.log",
    wildcard_constraints:
        case=runnable(name for name in DBLUP if name not in STEPS),
    params:
        case=lambda w: json.dumps(DBLUP[w.case]),
        dataset=option("--dataset"),
        memory=MEMORY_OPTION,
        version=dblup.VERSION,
    shell:
        "python -m bench run --case {params.case:q} {params.dataset} {params.memory}"
        " --out {output:q} > {log:q} 2>&1"


rule dblup_step:
    input:
        dataset=lambda w: manifest(DBLUP[w.case]["dataset"]),
        code=from_here(dblup.sources("steps")),
    output:
        f"{RESULTS}/raw/dblup/{{case}}.json",
    log:
        f"{RESULTS}/logs/dblup/{{case}}.log",
    wildcard_constraints:
        case=runnable(STEPS),
    threads: lambda w: DBLUP[w.case]["threads"]
    resources:
        machine=100,
    params:
        case=lambda w: json.dumps(DBLUP[w.case]),
        dataset=option("--dataset"),
        timing=CONFIG.timing.model_dump_json(),
        memory=MEMORY_OPTION,
        versions=(PROTOCOL, dblup.VERSION),
    shell:
        "python -m bench run --case {params.case:q} {params.dataset} --timing {params.timing:q}"
        " {params.memory} --out {output:q} > {log:q} 2>&1"
