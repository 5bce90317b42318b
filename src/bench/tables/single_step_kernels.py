"""Each kernel inside single-step variants: what a round spends on Z v and on Z′u."""

from __future__ import annotations

import pandas as pd

from bench.tables import _single_step as shared

TITLE = "Kernels inside single-step variants"
CAPTION = (
    "After Table 2 of Freudenberg et al. (2023): the same system solved through each kernel. Z v, Z′u and sparse "
    "are the parts of a round, means over all rounds: sparse is A_gg and its inverse, the equations S and the "
    "triangular solves of a preconditioner; the rest is dense matrices of the variant and the vectors of PCG. Round "
    "is the median with its 95 % bootstrap interval over rounds; the solve is all of them to ‖r‖/‖b‖ = 1e-11."
)


def draw(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per population, variant and kernel, of those that were solved through several."""
    found = shared.multiplying(shared.solves(frame))
    system = ["dataset", "n", "m", "trait", "variant", "preconditioner", "threads"]
    counts = found.groupby(system)["kernel"].transform("nunique") if len(found) else found["n"]
    found = found[counts > 1].sort_values([*system, "round_s", "case"], ignore_index=True)
    drawn = found[[*system, "kernel", "target"]].copy()
    drawn["zv_ms"], drawn["ztu_ms"] = (1e3 * shared.per_round(found, part) for part in ("Zv", "Ztu"))
    drawn["sparse_ms"] = 1e3 * shared.per_round(found, *shared.SPARSE)
    for end in ("", "_low", "_high"):
        drawn[f"round_ms{end}"] = 1e3 * found[f"round_s{end}"]
    drawn["rounds"], drawn["solve_s"] = found["iterations"], found["solve_time"]
    drawn["contaminated"] = found["contaminated"]
    return drawn
