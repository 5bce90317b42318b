# D-BLUP: each case is a study of a data set in a process of its own.
from bench.experiments import dblup
from bench.measure import PROTOCOL

DBLUP = CASES["dblup"]
TARGETS += expand(f"{RESULTS}/raw/dblup/{{case}}.json", case=DBLUP)


rule dblup:
    input:
        dataset=lambda w: manifest(DBLUP[w.case]["dataset"]),
        code=lambda w: from_here(dblup.sources(DBLUP[w.case]["variant"])),
    output:
        f"{RESULTS}/raw/dblup/{{case}}.json",
    log:
        f"{RESULTS}/logs/dblup/{{case}}.log",
    wildcard_constraints:
        case=runnable(DBLUP),
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
