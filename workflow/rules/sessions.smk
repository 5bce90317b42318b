# The timed sessions of products, scaling, paired and centred: verify, then time. A job has the machine to itself.
from bench import experiments
from bench.measure import PROTOCOL


rule session:
    input:
        dataset=lambda w: manifest(session(w)["dataset"]),
        build=lambda w: built(*plan.kernels_of(session(w))[0]),
        against_build=lambda w: [
            file for pair in plan.kernels_of(session(w))[1:] if (file := built(*pair))
        ],
        oracle=lambda w: oracle_of(session(w)),
        limits=lambda w: LIMIT_BUILDS,
        code=lambda w: [
            file
            for name, _ in plan.kernels_of(session(w))
            for file in from_here(kernels.sources(name))
        ],
    output:
        f"{RESULTS}/raw/{{experiment}}/{{case}}.json",
    log:
        f"{RESULTS}/logs/{{experiment}}/{{case}}.log",
    wildcard_constraints:
        experiment=pattern(SESSIONS),
        case=runnable(name for experiment in SESSIONS for name in CASES[experiment]),
    threads: lambda w: session(w)["threads"]
    resources:
        machine=100,
    params:
        case=lambda w: json.dumps(session(w)),
        dataset=option("--dataset"),
        build=option("--build"),
        against_build=option("--against-build"),
        oracle=option("--oracle"),
        limits=lambda w: f"{RESULTS}/build/limits",
        timing=CONFIG.timing.model_dump_json(),
        memory=MEMORY_OPTION,
        versions=lambda w: (PROTOCOL, experiments.load(w.experiment).VERSION),
    shell:
        "python -m bench run --case {params.case:q} {params.dataset} {params.build}"
        " {params.against_build} {params.oracle} --limits {params.limits:q} --timing {params.timing:q}"
        " {params.memory} --out {output:q} > {log:q} 2>&1"


# What cannot run here: a document that says why.
rule refused:
    output:
        f"{RESULTS}/raw/{{experiment}}/{{case}}.json",
    log:
        f"{RESULTS}/logs/{{experiment}}/{{case}}.log",
    wildcard_constraints:
        case=pattern(REFUSED),
    params:
        case=lambda w: json.dumps(session(w)),
        reason=lambda w: REFUSED[w.case],
        size=lambda w: size_option(session(w)),
    shell:
        "python -m bench refuse --case {params.case:q} --reason {params.reason:q} {params.size}"
        " --out {output:q} > {log:q} 2>&1"
