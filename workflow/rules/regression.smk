# `snakemake regression`: is the working tree slower than a base revision? Not part of the default run.
# Without outputs: a job that ends with "slower" or "inconclusive" has failed, and its report is to stay.
rule regression:
    log:
        f"{RESULTS}/logs/regression.log",
    resources:
        machine=100,
    params:
        base=CONFIG.regression.base,
        head=CONFIG.regression.head,
        kernels=regression_kernels(),
        k=",".join(map(str, CONFIG.regression.k)),
        pairs=CONFIG.regression.pairs,
        gates=",".join(CONFIG.regression.gates),
        compiler=CONFIG.compiler,
        folder=f"{RESULTS}/regression",
    shell:
        "python -m bench compare {params.base:q} {params.head:q} {params.kernels} --k {params.k} --pairs {params.pairs}"
        " --gates {params.gates} --compiler {params.compiler:q} --out {params.folder:q} > {log:q} 2>&1"
