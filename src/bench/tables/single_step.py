"""Every single-step solve: set-up, rounds, memory, and how far its EBVs are from the reference."""

from __future__ import annotations

import pandas as pd

from bench.tables import _single_step as shared

TITLE = "Single-step BLUP by every variant"
CAPTION = (
    "n genotyped animals of the pedigree's, m SNPs. Set-up is the time to prepare a variant and its preconditioner, "
    "with the growth of memory at its peak; reading the data, A⁻¹ and the equations, which all need, are not in it. "
    "Round is the median time of a round of PCG with its 95 % bootstrap interval over rounds; the solve is all of "
    "them to ‖r‖/‖b‖ = 1e-11. Rounds and passes are those until 1e-9; a pass is one product of a vector a trait "
    "with Z or Z′. EBV error: the largest difference from the reference at the end, in genetic standard deviations. "
    "Of ssGTBLUP and APY it is what their approximation of H costs; of another variant above 1e-5 it would be "
    "wrong, and not shown here."
)


def draw(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per population, traits, variant, preconditioner, kernel and threads."""
    found = shared.solves(frame)
    found = found.sort_values([*shared.POPULATION, "rounds_1e9", "variant", "case"], ignore_index=True)
    drawn = found[shared.SOLVE].copy()
    drawn["setup_s"], drawn["setup_rss"] = found["setup_time"], found["setup_rss"]
    for end in ("", "_low", "_high"):
        drawn[f"round_ms{end}"] = 1e3 * found[f"round_s{end}"]
    drawn["solve_s"] = found["solve_time"]
    drawn["rounds"], drawn["passes"] = found["rounds_1e9"], found["passes_1e9"]
    drawn["rounds_ebv"] = found["rounds_ebv_1e2"]
    drawn["final_ebv_error"], drawn["contaminated"] = found["final_ebv_error"], found["contaminated"]
    return drawn
