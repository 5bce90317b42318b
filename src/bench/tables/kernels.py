"""What each kernel costs besides its products: preparation, memory, and whether it is right."""

from __future__ import annotations

import pandas as pd

from bench.tables import _cells

TITLE = "Kernels: preparation, memory, correctness"
CAPTION = (
    "Prepare is the time from the packed genotypes to the first product. Held is what the prepared matrix "
    "keeps in memory, vectors not counted; peak memory is the largest resident set of the whole process, "
    "Python and the reference products included. Before its clock starts every kernel multiplies integers, "
    "where each result must equal the reference exactly (wrong integers counts those that do not), and "
    "normal deviates in float64 or float32, where the error is relative to the largest entry (allowed: "
    "1e-12 and 1e-4); the worst of all k and both products is shown. Grey rows did not run, or were wrong "
    "and were not timed."
)
WORST = {
    "integer_mismatches": "max",
    "rel_error": "max",
    "prepare_time": "median",
    "bytes_held": "max",
    "peak_rss": "max",
}


def draw(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per data set, kernel, target, dtype and threads, with status and reason."""
    rows = frame[frame["experiment"] == "products"]
    place = rows.groupby("case")[[*_cells.PLACE, "status", "reason", "contaminated"]].first()
    drawn = place.sort_values(_cells.PLACE)
    found = {
        metric: rows[rows["metric"] == metric].groupby("case")["value"].agg(how).reindex(drawn.index)
        for metric, how in WORST.items()
    }
    genotypes = (drawn["n"] * drawn["m"]).astype("float64")
    per_genotype = found["bytes_held"] / genotypes
    values = {
        "prepare_s": found["prepare_time"],
        "bytes_held": found["bytes_held"],
        "bytes_per_genotype": per_genotype,
        "bits_per_genotype": 8 * per_genotype,
        "peak_rss": found["peak_rss"],
        "integer_mismatches": found["integer_mismatches"],
        "rel_error": found["rel_error"],
    }
    told = {"status": drawn["status"], "reason": drawn["reason"], "contaminated": drawn["contaminated"]}
    return drawn[_cells.PLACE].assign(**values, **told).reset_index(drop=True)
