# Single-step BLUP: a reference per data set, number of genotyped and set of traits, and the same equations solved by
# every variant that a view names.
from bench.experiments import single_step
from bench.measure import PROTOCOL

SINGLE_STEP = CASES["single_step"]
TARGETS += expand(f"{RESULTS}/raw/single_step/{{case}}.json", case=SINGLE_STEP)


def single_step_cases(solvers):
    return runnable(
        name for name, case in SINGLE_STEP.items() if case["solver"] in solvers
    )


rule single_step_reference:
    input:
        dataset=lambda w: manifest(SINGLE_STEP[w.case]["dataset"]),
    output:
        document=f"{RESULTS}/raw/single_step/{{case}}.json",
        reference=f"{RESULTS}/raw/single_step/{{case}}.npz",
    log:
        f"{RESULTS}/logs/single_step/{{case}}.log",
    wildcard_constraints:
        case=single_step_cases(["reference"]),
    threads: lambda w: SINGLE_STEP[w.case]["threads"]
    resources:
        machine=100,
    params:
        case=lambda w: json.dumps(SINGLE_STEP[w.case]),
        dataset=option("--dataset"),
        memory=MEMORY_OPTION,
        versions=(PROTOCOL, single_step.VERSION),
    shell:
        "python -m bench run --case {params.case:q} {params.dataset} --reference {output.reference:q}"
        " {params.memory} --out {output.document:q} > {log:q} 2>&1"


rule single_step_solve:
    input:
        dataset=lambda w: manifest(SINGLE_STEP[w.case]["dataset"]),
        build=lambda w: built(
            SINGLE_STEP[w.case]["kernel"], SINGLE_STEP[w.case]["target"]
        ),
        reference=lambda w: f"{RESULTS}/raw/single_step/{single_step.reference_of(SINGLE_STEP[w.case], SINGLE_STEP)}.npz",
        code=lambda w: from_here(
            kernels.sources(SINGLE_STEP[w.case]["kernel"])
            + single_step.sources(SINGLE_STEP[w.case]["variant"])
        ),
    output:
        f"{RESULTS}/raw/single_step/{{case}}.json",
    log:
        f"{RESULTS}/logs/single_step/{{case}}.log",
    wildcard_constraints:
        case=single_step_cases(["pcg", "warm"]),
    threads: lambda w: SINGLE_STEP[w.case]["threads"]
    resources:
        machine=100,
    params:
        case=lambda w: json.dumps(SINGLE_STEP[w.case]),
        dataset=option("--dataset"),
        build=option("--build"),
        reference=option("--reference"),
        memory=MEMORY_OPTION,
        versions=(PROTOCOL, single_step.VERSION),
    shell:
        "python -m bench run --case {params.case:q} {params.dataset} {params.build}"
        " {params.reference} {params.memory} --out {output:q} > {log:q} 2>&1"
