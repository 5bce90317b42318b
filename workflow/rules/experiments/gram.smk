# X X' by different methods: each is verified, then timed. A job has the machine to itself.
import shutil

from bench.experiments import gram
from bench.measure import PROTOCOL

GRAMS = CASES["gram"]
TARGETS += expand(f"{RESULTS}/raw/gram/{{case}}.json", case=GRAMS)


rule gram:
    input:
        dataset=lambda w: manifest(GRAMS[w.case]["dataset"]),
        build=lambda w: (
            f"{RESULTS}/build/gram/{GRAMS[w.case]['target']}/build.json"
            if GRAMS[w.case]["method"] == "gram"
            else []
        ),
    output:
        f"{RESULTS}/raw/gram/{{case}}.json",
    log:
        f"{RESULTS}/logs/gram/{{case}}.log",
    wildcard_constraints:
        case=runnable(GRAMS),
    threads: lambda w: GRAMS[w.case]["threads"]
    resources:
        machine=100,
    params:
        case=lambda w: json.dumps(GRAMS[w.case]),
        dataset=option("--dataset"),
        build=option("--build"),
        timing=CONFIG.timing.model_dump_json(),
        memory=MEMORY_OPTION,
        versions=(PROTOCOL, gram.VERSION),
        # A program that has been installed since runs the case that was refused without it.
        program=lambda w: shutil.which(GRAMS[w.case]["method"]) is not None,
    shell:
        "python -m bench run --case {params.case:q} {params.dataset} {params.build} --timing {params.timing:q}"
        " {params.memory} --out {output:q} > {log:q} 2>&1"
