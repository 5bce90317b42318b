# The variance ratio from one block-Lanczos run. A job has the machine to itself.
from bench.experiments import lanczos_reml
from bench.measure import PROTOCOL

LANCZOS_REML = CASES["lanczos_reml"]
TARGETS += expand(f"{RESULTS}/raw/lanczos_reml/{{case}}.json", case=LANCZOS_REML)


rule lanczos_reml:
    input:
        dataset=lambda w: manifest(LANCZOS_REML[w.case]["dataset"]),
        build=lambda w: built(
            LANCZOS_REML[w.case]["kernel"], LANCZOS_REML[w.case]["target"]
        ),
        code=lambda w: from_here(kernels.sources(LANCZOS_REML[w.case]["kernel"])),
    output:
        f"{RESULTS}/raw/lanczos_reml/{{case}}.json",
    log:
        f"{RESULTS}/logs/lanczos_reml/{{case}}.log",
    wildcard_constraints:
        case=runnable(LANCZOS_REML),
    threads: lambda w: LANCZOS_REML[w.case]["threads"]
    resources:
        machine=100,
    params:
        case=lambda w: json.dumps(LANCZOS_REML[w.case]),
        dataset=option("--dataset"),
        build=option("--build"),
        memory=MEMORY_OPTION,
        versions=(PROTOCOL, lanczos_reml.VERSION),
    shell:
        "python -m bench run --case {params.case:q} {params.dataset} {params.build} {params.memory}"
        " --out {output:q} > {log:q} 2>&1"
