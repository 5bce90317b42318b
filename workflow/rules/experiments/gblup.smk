# GBLUP: a reference (REML, Cholesky, reliabilities, cross-validation) per data set, trait and
# relationship, and the same system solved by PCG through every kernel.
from bench.experiments import gblup
from bench.measure import PROTOCOL

GBLUP = CASES["gblup"]
TARGETS += expand(f"{RESULTS}/raw/gblup/{{case}}.json", case=GBLUP)
REFERENCES = [name for name, case in GBLUP.items() if case["solver"] == "cholesky"]
SOLVES = [name for name, case in GBLUP.items() if case["solver"] == "pcg"]


rule gblup_reference:
    input:
        dataset=lambda w: manifest(GBLUP[w.case]["dataset"]),
        build=GRAM_BUILD,
    output:
        document=f"{RESULTS}/raw/gblup/{{case}}.json",
        reference=f"{RESULTS}/raw/gblup/{{case}}.npz",
    log:
        f"{RESULTS}/logs/gblup/{{case}}.log",
    wildcard_constraints:
        case=runnable(REFERENCES),
    threads: lambda w: GBLUP[w.case]["threads"]
    resources:
        machine=100,
    params:
        case=lambda w: json.dumps(GBLUP[w.case]),
        dataset=option("--dataset"),
        build=option("--build"),
        memory=MEMORY_OPTION,
        versions=(PROTOCOL, gblup.VERSION),
    shell:
        "python -m bench run --case {params.case:q} {params.dataset} {params.build}"
        " --reference {output.reference:q} {params.memory} --out {output.document:q} > {log:q} 2>&1"


rule gblup_solve:
    input:
        dataset=lambda w: manifest(GBLUP[w.case]["dataset"]),
        build=lambda w: built(GBLUP[w.case]["kernel"], GBLUP[w.case]["target"]),
        reference=lambda w: f"{RESULTS}/raw/gblup/{gblup.reference_of(GBLUP[w.case], GBLUP)}.npz",
        code=lambda w: from_here(kernels.sources(GBLUP[w.case]["kernel"])),
    output:
        f"{RESULTS}/raw/gblup/{{case}}.json",
    log:
        f"{RESULTS}/logs/gblup/{{case}}.log",
    wildcard_constraints:
        case=runnable(SOLVES),
    threads: lambda w: GBLUP[w.case]["threads"]
    resources:
        machine=100,
    params:
        case=lambda w: json.dumps(GBLUP[w.case]),
        dataset=option("--dataset"),
        build=option("--build"),
        reference=option("--reference"),
        memory=MEMORY_OPTION,
        versions=(PROTOCOL, gblup.VERSION),
    shell:
        "python -m bench run --case {params.case:q} {params.dataset} {params.build}"
        " {params.reference} {params.memory} --out {output:q} > {log:q} 2>&1"
