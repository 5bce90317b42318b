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
        dataset=lambda w: unless_refused(w.experiment, w.case, manifest(session(w)["dataset"])),
        build=lambda w: unless_refused(w.experiment, w.case, built(session(w)["kernel"], session(w)["target"])),
        against_build=lambda w: unless_refused(
            w.experiment, w.case, built(*session(w)["against"].split("/")) if "against" in session(w) else []
        ),
        oracle=lambda w: unless_refused(w.experiment, w.case, oracle_of(session(w))),
        limits=lambda w: unless_refused(w.experiment, w.case, LIMIT_BUILDS),
        code=lambda w: code_of(session(w)),
    output:
        f"{RESULTS}/raw/{{experiment}}/{{case}}.json",
    wildcard_constraints:
        experiment="|".join(SESSIONS) or "(?!)",
    params:
        case=lambda w: json.dumps(session(w)),
        refused=lambda w: refusal_option(w.experiment, w.case),
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
        "python -m bench run --case {params.case:q} {params.refused} {params.dataset} {params.build}"
        " {params.against_build} {params.oracle} --limits {params.limits} --timing {params.timing:q}"
        " --memory {params.memory} --out {output} > {log} 2>&1"
