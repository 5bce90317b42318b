"""Is there anything to explain? A trait needs more records than fixed effects, and differences beyond them."""

from __future__ import annotations

import numpy as np

from bench.errors import BenchError
from bench.models.design import Design

NOTHING = 1e-8  # of the deviations from the mean, what is left by a quick fit that is good to 1e-10
ROUNDING = 1e-12  # of the size of the records: deviations that are rounding


def check_variation(design: Design, left: Design) -> None:
    """BenchError if the fixed effects leave nothing of a trait.

    design: the records as they were read; left: the same less a fit of the fixed effects (`Design.less_fixed`).
    """
    observed = design.records.observed
    for j, trait in enumerate(design.records.traits):
        y, rest = (of.records.y[observed[:, j], j] for of in (design, left))
        columns = fixed_columns(design, j)
        if y.size <= columns and trait not in design.estimable.unchecked:
            raise BenchError(
                f"trait {trait!r} has {y.size} records and {columns} fixed effects to estimate from them; more "
                "records than fixed effects are needed"
            )
        deviations = float(np.linalg.norm(y - y.mean()))
        if deviations <= ROUNDING * np.linalg.norm(y) or np.linalg.norm(rest) <= NOTHING * deviations:
            raise BenchError(f"trait {trait!r} does not vary around its fixed effects: there is nothing to explain")


def fixed_columns(design: Design, trait: int) -> int:
    """How many fixed effects of a trait have an equation."""
    terms = zip(design.fixed_terms, design.estimable.kept, strict=True)
    return sum(int(kept[:, term.traits.index(trait)].sum()) for term, kept in terms if trait in term.traits)
