# Native kernels, and the limits of the machine: one shared library per target, described by its build.json.
from bench.build import LIMITS, sources


rule build:
    input:
        lambda w: sources(w.kernel),
    output:
        f"{RESULTS}/build/{{kernel}}/{{target}}/build.json",
    log:
        f"{RESULTS}/logs/build/{{kernel}}.{{target}}.log",
    params:
        compiler=CONFIG.compiler,
        flags=" ".join(CONFIG.compiler_flags),
        folder=lambda w, output: os.path.dirname(output[0]),
    shell:
        "python -m bench build {wildcards.kernel} --target {wildcards.target} --compiler {params.compiler:q}"
        " --flags={params.flags:q} --out {params.folder} > {log} 2>&1"


LIMIT_BUILDS = expand(
    f"{RESULTS}/build/limits/{{target}}/build.json", target=LIMITS.targets
)
