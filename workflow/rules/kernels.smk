# Native kernels, and the limits of the machine: one shared library per target, described by its build.json.
from bench.build import sources
from bench import machine


rule build:
    input:
        lambda w: from_here(sources(w.kernel)),
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
        " --flags={params.flags:q} --out {params.folder:q} > {log:q} 2>&1"


# Of the limits only what this machine runs: a session takes the widest.
LIMIT_BUILDS = expand(
    f"{RESULTS}/build/limits/{{target}}/build.json", target=machine.runnable("limits")
)
# The library of dense relationship matrices, in the build that this machine runs best.
GRAM_BUILD = f"{RESULTS}/build/gram/{machine.best_target('gram')}/build.json"
