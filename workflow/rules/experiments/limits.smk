# What the machine can do at the most, per target and number of threads.
from bench.experiments import limits
from bench.measure import PROTOCOL

TARGETS += expand(f"{RESULTS}/raw/limits/{{case}}.json", case=CASES["limits"])


rule limits:
    input:
        limits=LIMIT_BUILDS,
    output:
        f"{RESULTS}/raw/limits/{{case}}.json",
    log:
        f"{RESULTS}/logs/limits/{{case}}.log",
    wildcard_constraints:
        case=runnable(CASES["limits"]),
    threads: lambda w: CASES["limits"][w.case]["threads"]
    resources:
        machine=100,
    params:
        case=lambda w: json.dumps(CASES["limits"][w.case]),
        limits=lambda w: f"{RESULTS}/build/limits",
        versions=(PROTOCOL, limits.VERSION),
    shell:
        "python -m bench run --case {params.case:q} --limits {params.limits:q} --out {output:q} > {log:q} 2>&1"
