# One table of all measurements; tables and figures are pure functions of it.
from bench import PACKAGE, figures, tables

MEASUREMENTS = f"{RESULTS}/measurements.parquet"
REPORTED = expand(f"{RESULTS}/tables/{{name}}.html", name=CONFIG.tables) + expand(
    f"{RESULTS}/figures/{{name}}.svg", name=CONFIG.figures
)


rule collect:
    input:
        documents=TARGETS,
        code=from_here([f"{PACKAGE}/collect.py", f"{PACKAGE}/front.py"]),
    output:
        measurements=MEASUREMENTS,
        front=f"{RESULTS}/front.rst",
    log:
        f"{RESULTS}/logs/collect.log",
    params:
        planned=lambda w: PLANNED,
    shell:
        "python -m bench collect --documents {params.planned:q} --front {output.front:q} --out {output.measurements:q} > {log:q} 2>&1"


rule table:
    input:
        measurements=MEASUREMENTS,
        code=lambda w: from_here(tables.sources(w.name)),
    output:
        html=report(
            f"{RESULTS}/tables/{{name}}.html",
            category="Tables",
            labels={"table": "{name}"},
            caption="../report/table.rst",
        ),
        csv=f"{RESULTS}/tables/{{name}}.csv",
        markdown=f"{RESULTS}/tables/{{name}}.md",
    log:
        f"{RESULTS}/logs/tables/{{name}}.log",
    params:
        folder=lambda w, output: os.path.dirname(output.html),
    shell:
        "python -m bench table {wildcards.name} --measurements {input.measurements:q} --out {params.folder:q} > {log:q} 2>&1"


rule figure:
    input:
        measurements=MEASUREMENTS,
        code=lambda w: from_here(figures.sources(w.name)),
    output:
        svg=report(
            f"{RESULTS}/figures/{{name}}.svg",
            category="Figures",
            labels={"figure": "{name}"},
            caption="../report/figure.rst",
        ),
        pdf=f"{RESULTS}/figures/{{name}}.pdf",
        png=f"{RESULTS}/figures/{{name}}.png",
    log:
        f"{RESULTS}/logs/figures/{{name}}.log",
    params:
        folder=lambda w, output: os.path.dirname(output.svg),
    shell:
        "python -m bench figure {wildcards.name} --measurements {input.measurements:q} --out {params.folder:q} > {log:q} 2>&1"
