# Populations: simulated chromosome by chromosome, fetched by sha256, or the user's own.
from bench.genotypes.spec import VERSIONS
from bench.oracle import VERSION as ORACLE_VERSION


rule pedigree:
    output:
        f"{RESULTS}/data/{{dataset}}/work/pedigree.tsv",
    log:
        f"{RESULTS}/logs/data/{{dataset}}/pedigree.log",
    wildcard_constraints:
        dataset=datasets_of("simulated", "livestock"),
    params:
        version=lambda w: VERSIONS[CONFIG.datasets[w.dataset].kind],
        spec=lambda w: spec(w.dataset),
    shell:
        "python -m bench pedigree --name {wildcards.dataset} --spec {params.spec:q} --out {output:q} > {log:q} 2>&1"


rule chromosome:
    input:
        f"{RESULTS}/data/{{dataset}}/work/pedigree.tsv",
    output:
        temp(directory(f"{RESULTS}/data/{{dataset}}/work/chromosome{{number}}")),
    log:
        f"{RESULTS}/logs/data/{{dataset}}/chromosome{{number}}.log",
    wildcard_constraints:
        dataset=datasets_of("simulated", "livestock"),
    params:
        version=lambda w: VERSIONS[CONFIG.datasets[w.dataset].kind],
        spec=lambda w: spec(w.dataset),
    shell:
        "python -m bench chromosome --name {wildcards.dataset} --spec {params.spec:q} --pedigree {input:q}"
        " --number {wildcards.number} --out {output:q} > {log:q} 2>&1"


rule assemble:
    input:
        pedigree=f"{RESULTS}/data/{{dataset}}/work/pedigree.tsv",
        pieces=lambda w: [
            f"{RESULTS}/data/{w.dataset}/work/chromosome{number + 1}"
            for number in range(CONFIG.datasets[w.dataset].chromosomes)
        ],
    output:
        f"{RESULTS}/data/{{dataset}}/dataset.json",
    log:
        f"{RESULTS}/logs/data/{{dataset}}/assemble.log",
    wildcard_constraints:
        dataset=datasets_of("simulated", "livestock"),
    params:
        version=lambda w: VERSIONS[CONFIG.datasets[w.dataset].kind],
        spec=lambda w: spec(w.dataset),
        folder=lambda w, output: os.path.dirname(output[0]),
    shell:
        "python -m bench assemble --name {wildcards.dataset} --spec {params.spec:q} --pedigree {input.pedigree:q}"
        " --pieces {input.pieces:q} --out {params.folder:q} > {log:q} 2>&1"


rule fetch:
    output:
        f"{RESULTS}/data/{{dataset}}/dataset.json",
    log:
        f"{RESULTS}/logs/data/{{dataset}}/fetch.log",
    wildcard_constraints:
        dataset=datasets_of("fetched"),
    params:
        version=VERSIONS["fetched"],
        spec=lambda w: spec(w.dataset),
        folder=lambda w, output: os.path.dirname(output[0]),
    shell:
        "python -m bench dataset --name {wildcards.dataset} --spec {params.spec:q} --out {params.folder:q} > {log:q} 2>&1"


# The user's own: read where they lie, so that an edit of them counts.
rule import_own:
    input:
        lambda w: own_files(w.dataset),
    output:
        f"{RESULTS}/data/{{dataset}}/dataset.json",
    log:
        f"{RESULTS}/logs/data/{{dataset}}/import.log",
    wildcard_constraints:
        dataset=datasets_of("plink"),
    params:
        version=VERSIONS["plink"],
        spec=lambda w: spec(w.dataset),
        folder=lambda w, output: os.path.dirname(output[0]),
    shell:
        "python -m bench dataset --name {wildcards.dataset} --spec {params.spec:q} --out {params.folder:q} > {log:q} 2>&1"


rule oracle:
    input:
        f"{RESULTS}/data/{{dataset}}/dataset.json",
    output:
        f"{RESULTS}/oracle/{{dataset}}.{{samples}}.k{{k}}.npz",
    log:
        f"{RESULTS}/logs/oracle/{{dataset}}.{{samples}}.k{{k}}.log",
    wildcard_constraints:
        samples=r"all|\d+",
        k=r"\d+",
    params:
        version=ORACLE_VERSION,
        samples=lambda w: "" if w.samples == "all" else f"--samples {w.samples}",
    shell:
        "python -m bench oracle --dataset {input:q} {params.samples} --k {wildcards.k} --out {output:q} > {log:q} 2>&1"
