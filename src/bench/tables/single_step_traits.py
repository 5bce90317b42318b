"""Several traits at once against one after the other."""

from __future__ import annotations

import pandas as pd

from bench.tables import _single_step as shared

TITLE = "Several traits at once"
CAPTION = (
    "A solve of several traits together beside the solves of the same traits one after the other, summed: rounds "
    "until ‖r‖/‖b‖ ≤ 1e-9, products with Z or Z′ in them whatever their number of columns, and seconds. Together a "
    "product has a column a trait, which costs a kernel less than as many products of one; and what is solved is "
    "another model, in which the traits' records inform each other."
)
GROUP = ["dataset", "animals", "n", "m", "variant", "preconditioner", "kernel", "target", "threads"]
MEASURED = ["rounds", "rounds_alone", "products", "products_alone", "solve_s", "alone_s"]


def draw(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per set of traits of which each was solved alone, too."""
    found = shared.solves(frame)
    alone = {tuple(row[name] for name in (*GROUP, "trait")): row for row in found.to_dict("records")}
    drawn = []
    for row in found.to_dict("records"):
        traits = row["trait"].split("+")
        singles = [alone.get((*(row[name] for name in GROUP), trait)) for trait in traits]
        if len(traits) == 1 or None in singles:
            continue
        each = pd.DataFrame(singles)
        drawn.append(
            {name: row[name] for name in GROUP}
            | {
                "trait": row["trait"],
                "rounds": row["rounds_1e9"],
                "rounds_alone": each["rounds_1e9"].sum(min_count=len(each)),
                "products": row["passes_1e9"],
                "products_alone": each["passes_1e9"].sum(min_count=len(each)),
                "solve_s": row["seconds_1e9"],
                "alone_s": each["seconds_1e9"].sum(min_count=len(each)),
                "contaminated": _reasons([row["contaminated"], *each["contaminated"]]),
            }
        )
    made = pd.DataFrame(drawn, columns=[*GROUP, "trait", *MEASURED, "contaminated"])
    return made.sort_values([*GROUP, "trait"], ignore_index=True)


def _reasons(contaminated: list) -> str | None:
    return "; ".join(dict.fromkeys(reason for reason in contaminated if isinstance(reason, str))) or None
