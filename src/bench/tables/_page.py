"""A drawn table as a self-contained HTML page, as Markdown and as plain text."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any

import pandas as pd

from bench.statistics import Interval

DIRECTIONS = {"matmul": "Z V", "rmatmul": "Z′U"}
DTYPES = {"f4": "float32", "f8": "float64"}
LEFT = "text"
DAGGER = "†"

STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; color: #222; background: #fff; margin: 1.5em; }
h1 { font-size: 1.25em; margin: 0 0 .3em; }
p { max-width: 55em; margin: .3em 0 1em; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2em .7em; text-align: right; vertical-align: top; white-space: nowrap; }
th { position: sticky; top: 0; background: #fff; border-top: 2px solid #222; border-bottom: 1px solid #222; }
th.text, td.text, th.long { text-align: left; }
td.long { text-align: left; white-space: normal; min-width: 22em; max-width: 45em; }
tbody tr:last-child td { border-bottom: 2px solid #222; }
tbody tr.first td { border-top: 1px solid #ccc; }
tbody tr:hover { background: #f2f6fa; }
tr.refused td { color: #888; font-style: italic; }
tr.contaminated td { background: #fdf3e1; }
"""


def _missing(value: Any) -> bool:
    return value is None or value is pd.NA or value != value


def _plain(value: Any) -> str:
    return str(value)


def _count(value: Any) -> str:
    return f"{int(value):,}"


def _number(value: Any) -> str:
    return str(Interval(float(value), float("nan"), float("nan")))


def _fixed(value: Any) -> str:
    return f"{value:.3f}"


def _percent(value: Any) -> str:
    return f"{100 * value:.0f} %" if value >= 0.1 else f"{100 * value:.1f} %"


def _error(value: Any) -> str:
    return f"{value:.1e}" if value else "0"


def _megabytes(value: Any) -> str:
    return f"{value / 1e6:,.1f}"


# column of a drawn table → header with its unit, how a value is written
SHOWN: dict[str, tuple[str, Callable[[Any], str]]] = {
    "dataset": ("data set", _plain),
    "datasets": ("data sets", _plain),
    "experiment": ("experiment", _plain),
    "n": ("n", _count),
    "m": ("m", _count),
    "missing_rate": ("missing", _percent),
    "k": ("k", _count),
    "cases": ("cases", _count),
    "records": ("records", _count),
    "kernel": ("kernel", _plain),
    "target": ("target", _plain),
    "targets": ("targets", _plain),
    "against": ("against", _plain),
    "against_target": ("its target", _plain),
    "dtype": ("dtype", lambda value: DTYPES.get(value, str(value))),
    "dtypes": ("dtypes", _plain),
    "threads": ("threads", _plain),
    "direction": ("product", lambda value: DIRECTIONS.get(value, str(value))),
    "trait": ("trait", _plain),
    "relationship": ("relationship", _plain),
    "status": ("status", _plain),
    "reason": ("reason", _plain),
    "note": ("note", _plain),
    "method": ("method", _plain),
    "time_s": ("time (s)", _number),
    "time_ms": ("time (ms)", _number),
    "min_ms": ("min (ms)", _number),
    "min_s": ("min (s)", _number),
    "reading_gb_s": ("reading (GB/s)", _number),
    "resident_gb_s": ("resident (GB/s)", _number),
    "streamed_gb_s": ("streamed (GB/s)", _number),
    "share": ("share (%)", _number),
    "given_mb": ("given (MB)", _number),
    "taken_mb": ("taken (MB)", _number),
    "process_mb": ("process (MB)", _number),
    "cache": ("cache", _plain),
    "prepare_s": ("prepare (s)", _number),
    "solve_s": ("solve (s)", _number),
    "reml_s": ("REML (s)", _number),
    "product_s": ("a product alone (s)", _number),
    "kernel_share": ("kernel share", _percent),
    "cpu_share": ("CPU share", _percent),
    "variance_ratio": ("λ", _number),
    "standard_error": ("statistical error", _number),
    "monte_carlo_error": ("Monte Carlo error", _number),
    "truncation_error": ("truncation", _error),
    "eigen_difference": ("eigen", _number),
    "cholesky_s": ("Cholesky (s)", _number),
    "rate": ("rate (G/s)", _number),
    "rate_matmul": ("Z V (G/s)", _number),
    "rate_rmatmul": ("Z′U (G/s)", _number),
    "against_rate": ("its rate (G/s)", _number),
    "fma_bound": ("by multiply-adds", _number),
    "lookup_bound": ("by lookups", _number),
    "int8_bound": ("by 8-bit products", _number),
    "read_bound": ("by reading", _number),
    "bound": ("bound (G/s)", _number),
    "limit": ("what binds", _plain),
    "bound_share": ("of the bound", _percent),
    "fma_share": ("of FMA peak", _percent),
    "against_fma_share": ("its share", _percent),
    "read_share": ("of bandwidth", _percent),
    "blas_speedup": ("× dense BLAS f8", _number),
    "blas_matmul": ("Z V × BLAS", _number),
    "blas_rmatmul": ("Z′U × BLAS", _number),
    "decompress_speedup": ("× decompress", _number),
    "cholesky_speedup": ("× Cholesky", _number),
    "dsyrk_speedup": ("× dsyrk", _number),
    "times_as_fast": ("times as fast", _number),
    "again": ("in the second run", _number),
    "agrees": ("agrees", _plain),
    "minima_ratio": ("by minima", _number),
    "faster_share": ("first faster", _percent),
    "centred_cost": ("centring costs (%)", _number),
    "imputed_cost": ("with imputation (%)", _number),
    "rate_before": ("rate before (G/s)", _number),
    "rate_after": ("rate after (G/s)", _number),
    "change": ("change (%)", _number),
    "noise": ("noise", _percent),
    "commit": ("commit", _plain),
    "previous": ("previous commit", _plain),
    "commits_before": ("commits before", _count),
    "commits_after": ("commits after", _count),
    "beside": ("changed with it", _plain),
    "repeats": ("repeats", _count),
    "pairs": ("pairs", _count),
    "bytes_held": ("held (MB)", _megabytes),
    "bytes_per_genotype": ("B / genotype", _number),
    "bits_per_genotype": ("bits / genotype", _number),
    "peak_rss": ("peak memory (MB)", _megabytes),
    "integer_mismatches": ("wrong integers", _count),
    "rel_error": ("relative error", _error),
    "lambda": ("λ", _number),
    "h2": ("h²", _fixed),
    "var_u": ("σ²ᵤ", _number),
    "var_e": ("σ²ₑ", _number),
    "predictive_ability": ("predictive ability", _fixed),
    "predictive_ability_sd": ("sd over folds", _fixed),
    "accuracy": ("accuracy", _fixed),
    "reliability": ("mean reliability", _fixed),
    "snp_blup_error": ("SNP-BLUP error", _error),
    "iterations": ("iterations", _count),
    "ebv_error": ("EBV error", _error),
    "fma_f8": ("float64", _number),
    "fma_f4": ("float32", _number),
    "int8": ("int8", _number),
    "lookup8": ("lookups of 8", _number),
    "lookup8_far": ("of 8, eight tables", _number),
    "lookup4": ("of 4", _number),
    "read": ("read", _number),
    "copy": ("copy", _number),
    "claim": ("claim", _plain),
    "wanted": ("wanted", _plain),
    "measured": ("measured", _number),
    "unit": ("unit", _plain),
    "verdict": ("verdict", _plain),
    "expected": ("expected", _plain),
    "cell": ("decided by", _plain),
    "text": ("what is stated", _plain),
    "snp_effect_error": ("SNP-effect error", _error),
    "animals": ("animals", _count),
    "variant": ("variant", _plain),
    "preconditioner": ("preconditioner", _plain),
    "setup_s": ("set-up (s)", _number),
    "setup_rss": ("set-up memory (MB)", _megabytes),
    "bytes_declared": ("declared (MB)", _megabytes),
    "round_ms": ("round (ms)", _number),
    "rounds": ("rounds", _count),
    "passes": ("passes", _count),
    "rounds_ebv": ("to 1e-2 sd", _count),
    "final_ebv_error": ("EBV error (sd)", _error),
    "total_s": ("total (s)", _number),
    "fastest": ("fastest", _plain),
    "zv_ms": ("Z v (ms)", _number),
    "ztu_ms": ("Z′u (ms)", _number),
    "sparse_ms": ("sparse (ms)", _number),
    "liu_best": ("ssSNPBLUP with", _plain),
    "liu_rounds": ("its rounds", _count),
    "liu_ratio": ("of ssSNPBLUP", _fixed),
    "h_rounds": ("H-form rounds", _count),
    "h_ratio": ("of the H-form", _fixed),
    "fewest_other_passes": ("fewest others", _count),
    "liu_rounds_ebv": ("ssSNPBLUP", _count),
    "h_rounds_ebv": ("H-form", _count),
    "meets": ("meets", _plain),
    "group": ("group", _plain),
    "pedigree_accuracy": ("of pedigree BLUP", _fixed),
    "gain": ("gain", _fixed),
    "slope": ("slope", _fixed),
    "pedigree_slope": ("slope of pedigree BLUP", _fixed),
    "cold_rounds": ("rounds cold", _count),
    "warm_rounds": ("warm", _count),
    "rounds_saved": ("saved", _percent),
    "cold_rounds_ebv": ("to 1e-2 sd cold", _count),
    "warm_rounds_ebv": ("warm to 1e-2 sd", _count),
    "rounds_ebv_saved": ("saved to 1e-2 sd", _percent),
    "start_error": ("start (sd)", _number),
    "rounds_alone": ("rounds alone", _count),
    "products": ("products", _count),
    "products_alone": ("products alone", _count),
    "alone_s": ("alone (s)", _number),
    "source": ("source", _plain),
    "what": ("what", _plain),
    "published": ("published", _count),
    "least": ("least here", _count),
    "over": ("over", _plain),
    "fold": ("fold", _plain),
    "repeat": ("repeat", _count),
    "folds": ("folds", _count),
    "training": ("in training", _count),
    "held_out": ("held out", _count),
    "individuals": ("animals", _count),
    "steps": ("steps", _count),
    "genetic_share": ("genetic share", _fixed),
    "ability": ("ability", _number),
    "ability_phenotype": ("of phenotypes", _number),
    "mse": ("MSE", _number),
    "accuracy_ratio": ("ratio of accuracies", _number),
    "reliability_ratio": ("ratio of reliabilities", _number),
    "largest": ("largest here", _count),
    "lambda_difference": ("from eigen-REML", _error),
    "loo_mse": ("LOO MSE", _fixed),
    "cv_mse": ("5-fold MSE", _fixed),
    "measure": ("measure", _plain),
    "correlation": ("correlation", _fixed),
    "difference": ("difference from REML", _fixed),
    "better": ("better", _percent),
    "weight_correlation": ("correlation of weights", _fixed),
    "step_rss": ("memory of the step (MB)", _megabytes),
    "bytes_needed": ("expected (MB)", _megabytes),
    "cpu_s": ("CPU (s)", _number),
    "warm_s": ("warm (s)", _number),
    "warm_cpu_s": ("warm, CPU (s)", _number),
    "warm_passes": ("warm, passes", _count),
    "warm_iterations": ("warm, iterations", _count),
    "warm_kernel_share": ("warm, kernel share", _percent),
    "max_ms": ("max (ms)", _number),
    "predicted_ms": ("model (ms)", _number),
    "digits_ms": ("digits (ms)", _number),
    "kernel_ms": ("tensor cores (ms)", _number),
    "finish_ms": ("finish (ms)", _number),
    "whole_ms": ("whole call (ms)", _number),
    "bandwidth": ("TB/s", _number),
    "copy_share": ("of copying", _percent),
    "of_model": ("of the model", _percent),
    "predicted": ("model", _number),
    "reached": ("10¹² a second", _number),
}
LONG = {"reason", "note", "text", "source", "what"}
MOST_REASONS = 8  # in the footnote
NUMBER = re.compile(r"\d+")  # in a reason, which has one: `other processes took 40% of the usable cores`
GOOD = {"ok", "converged"}  # a status that nothing is wrong with
TEXT = {"dataset", "datasets", "experiment", "kernel", "method", "target", "targets", "against", "against_target",
        "dtype", "dtypes", "direction", "trait", "relationship", "status", "limit", "agrees", "commit",
        "previous", "beside",
        "claim", "wanted", "unit", "verdict", "expected", "cell", "variant", "preconditioner", "fastest", "liu_best",
        "meets", "group", "source", "what", "over", "fold", "measure"}  # fmt: skip


def shown(drawn: pd.DataFrame) -> pd.DataFrame:
    """The table as text: headers with units; a column and its _low and _high become "value [low, high]". A dagger in
    the first column stands for a reason in the column `contaminated`, which is told below the table."""
    columns: dict[str, list[str]] = {}
    for name in drawn.columns:
        if name == "contaminated":
            continue
        if name.endswith(("_low", "_high")) and name.rpartition("_")[0] in drawn:
            continue
        _, write = SHOWN.get(name, (name, _plain))
        values = drawn[name].tolist()
        if f"{name}_low" in drawn:
            bounds = zip(values, drawn[f"{name}_low"], drawn[f"{name}_high"], strict=True)
            columns[name] = [str(Interval(float(v), float(low), float(high))) for v, low, high in bounds]
        else:
            columns[name] = ["" if _missing(value) else write(value) for value in values]
    first = next(iter(columns))
    marked = zip(columns[first], _contaminated(drawn), strict=True)
    columns[first] = [f"{text} {DAGGER}" if reason else text for text, reason in marked]
    return pd.DataFrame(columns, index=drawn.index, dtype=object)


def _contaminated(drawn: pd.DataFrame) -> list[str]:
    """Why each row's session was contaminated; "" where it was not."""
    if "contaminated" not in drawn:
        return [""] * len(drawn)
    return ["" if _missing(reason) else str(reason) for reason in drawn["contaminated"]]


def footnote(drawn: pd.DataFrame) -> str:
    """What the daggers mean: each kind of reason once, with the rows that it is told of and the range of its number;
    "" where there is none."""
    found: dict[str, tuple[set[int], list[int]]] = {}
    for row, said in enumerate(_contaminated(drawn)):
        for reason in filter(None, said.split("; ")):
            rows, numbers = found.setdefault(NUMBER.sub("{}", reason, count=1), (set(), []))
            rows.add(row)
            numbers += [int(number) for number in NUMBER.findall(reason)[:1]]
    kinds = [
        f"{len(rows)} of {len(drawn)} rows: {kind.replace('{}', _range(numbers), 1).replace('%', ' %', 1)}"
        for kind, (rows, numbers) in found.items()
    ]
    if len(kinds) > MOST_REASONS:
        kinds[MOST_REASONS:] = [f"… and {len(kinds) - MOST_REASONS} more reasons, in the CSV file"]
    return f"{DAGGER} Contaminated: something else disturbed the machine ({'; '.join(kinds)})." if kinds else ""


def _range(numbers: list[int]) -> str:
    ends = [f"{end}" for end in sorted({min(numbers), max(numbers)})] if numbers else []
    return " to ".join(ends)


def header(name: str) -> str:
    return SHOWN.get(name, (name, _plain))[0]


def to_html(drawn: pd.DataFrame, title: str, caption: str) -> str:
    """One page without any other file; rows whose status is none of GOOD are grey."""
    escape = html.escape
    text = shown(drawn)
    head = "".join(f'<th class="{_class(name)}">{escape(header(name))}</th>' for name in text.columns)
    status = drawn["status"].tolist() if "status" in drawn else ["ok"] * len(drawn)
    disturbed = _contaminated(drawn)
    body, before = [], None
    for i, row in enumerate(text.itertuples(index=False, name=None)):
        name = row[0].removesuffix(f" {DAGGER}")
        kinds = {"first": name != before, "refused": status[i] not in GOOD, "contaminated": disturbed[i]}
        kind, before = " ".join(c for c, on in kinds.items() if on), name
        cells = "".join(
            f'<td class="{_class(column)}">{escape(value)}</td>'
            for column, value in zip(text.columns, row, strict=True)
        )
        body.append(f'<tr class="{kind}">{cells}</tr>')
    nothing = "" if body else "<p><strong>There is nothing to show: no measurement belongs here.</strong></p>\n"
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n<p>{escape(caption)}</p>\n{nothing}"
        f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n"
        + "\n".join(body)
        + f"\n</tbody>\n</table>\n<p>{escape(footnote(drawn))}</p>\n</body>\n</html>\n"
    )


def _class(name: str) -> str:
    return "long" if name in LONG else LEFT if name in TEXT else ""


def to_markdown(drawn: pd.DataFrame, title: str, caption: str) -> str:
    """A GitHub table under a heading."""
    text = shown(drawn)

    def line(values: list[str]) -> str:
        return "| " + " | ".join(value.replace("|", "\\|").replace("\n", " ") for value in values) + " |"

    rule = line([":--" if _class(name) else "--:" for name in text.columns])
    rows = [line(list(row)) for row in text.itertuples(index=False, name=None)]
    head = [line([header(name) for name in text.columns]), rule]
    below = ["", footnote(drawn)] if footnote(drawn) else []
    return "\n".join([f"# {title}", "", caption, "", *head, *rows, *below, ""])


def to_lines(drawn: pd.DataFrame) -> list[str]:
    """Aligned columns for a terminal, the header first."""
    text = shown(drawn)
    columns = [[header(name), *text[name]] for name in text.columns]
    widths = [max(map(len, column)) for column in columns]
    left = [bool(_class(name)) for name in text.columns]
    return [
        "  ".join(v.ljust(w) if at else v.rjust(w) for v, w, at in zip(row, widths, left, strict=True)).rstrip()
        for row in zip(*columns, strict=True)
    ]
