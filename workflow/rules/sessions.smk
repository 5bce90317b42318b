# The timed sessions of products, scaling and paired: verify, then time. A job has the machine to itself.
from bench import experiments
from bench.measure import PROTOCOL


def session(w):
    return CASES[w.experiment][w.case]


def code_of(case):
    """What a change of must rerun the case: the kernel's own files and, in a pair, the partner's."""
    names = [case["kernel"], *([case["against"].split("/")[0]] if "against" in case else [])]
    return [file for name in names for file in kernels.sources(name)]


rule session:
    input:
        dataset=lambda w: manifest(session(w)["dataset"]),
        build=lambda w: built(session(w)["kernel"], session(w)["target"]),
        against_build=lambda w: built(*session(w)["against"].split("/")) if "against" in session(w) else [],
        oracle=lambda w: oracle_of(session(w)),
        limits=lambda w: LIMIT_BUILDS,
        code=lambda w: code_of(session(w)),
    output:
        f"{RESULTS}/raw/{{experiment}}/{{case}}.json",
    wildcard_constraints:
        experiment=pattern(SESSIONS),
        case=runnable(name for experiment in SESSIONS for name in CASES[experiment]),
    params:
        case=lambda w: json.dumps(session(w)),
        dataset=option("--dataset"),
        build=option("--build"),
        against_build=option("--against-build"),
        oracle=option("--oracle"),
        limits=f"{RESULTS}/build/limits",
        timing=CONFIG.timing.model_dump_json(),
        memory=MEMORY,
        versions=lambda w: (PROTOCOL, experiments.load(w.experiment).VERSION),
    threads: lambda w: session(w)["threads"]
    resources:
        machine=100,
    log:
        f"{RESULTS}/logs/{{experiment}}/{{case}}.log",
    shell:
        "python -m bench run --case {params.case:q} {params.dataset} {params.build}"
        " {params.against_build} {params.oracle} --limits {params.limits} --timing {params.timing:q}"
        " --memory {params.memory} --out {output} > {log} 2>&1"


# What cannot run here: a document that says why.
rule refused:
    output:
        f"{RESULTS}/raw/{{experiment}}/{{case}}.json",
    wildcard_constraints:
        case=pattern(REFUSED),
    log:
        f"{RESULTS}/logs/{{experiment}}/{{case}}.log",
    params:
        case=lambda w: json.dumps(session(w)),
        reason=lambda w: REFUSED[w.case],
    shell:
        "python -m bench refuse --case {params.case:q} --reason {params.reason:q} --out {output} > {log} 2>&1"
