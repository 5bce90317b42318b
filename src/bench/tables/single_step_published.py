"""Published numbers beside the measured ones, and what differs."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from bench.tables import _single_step as shared

TITLE = "Published numbers beside the measured ones"
CAPTION = (
    "Numbers of papers, each beside what this run measured by the same rule, over its populations of one trait: the "
    "least and the largest. Times are not compared: machines, data and programs differ. A paper whose tables are "
    "not here was not available when this was written."
)


@dataclass(frozen=True)
class Published:
    """A number of a paper. metric, variant, preconditioner: which measured solves stand beside it."""

    source: str
    what: str
    value: float
    metric: str
    variants: tuple[str, ...]
    preconditioner: str
    differs: str


BOERNER = "Boerner & Johnston 2019, doi:10.1186/s12711-019-0499-x"
DEFLATED = "Vandenplas et al. 2018, doi:10.1186/s12711-018-0429-3"
SMALL = "their reduced dairy data set, and a stopping rule of their own"
FIELD = "their field data set, and a stopping rule of their own"
DPCG = "; 5 SNPs a subdomain, as here"
H_FORMS = ("ss_h", "ss_h_tilde", "ss_t")
PUBLISHED = (
    Published(
        BOERNER, "rounds of SS-H, SS-H~ and SS-T until 2.68e-9", 2560, "rounds_boerner_johnston", H_FORMS, "jacobi",
        "their evaluation is of many traits of Australian Angus; here it is one trait of simulated animals",
    ),
    Published(DEFLATED, "iterations of ssGBLUP, Table 3", 270, "rounds_1e9", ("ss_h",), "jacobi", SMALL),
    Published(DEFLATED, "iterations of ssSNPBLUP, Table 3", 1475, "rounds_1e9", ("sssnpblup",), "jacobi", SMALL),
    Published(DEFLATED, "iterations of ssSNPBLUP with DPCG, Table 3", 331, "rounds_1e9", ("sssnpblup",), "deflation",
              SMALL + DPCG),
    Published(DEFLATED, "iterations of ssGBLUP, Table 4", 729, "rounds_1e9", ("ss_h",), "jacobi", FIELD),
    Published(DEFLATED, "iterations of ssSNPBLUP with DPCG, Table 4", 748, "rounds_1e9", ("sssnpblup",), "deflation",
              FIELD + DPCG),
)  # fmt: skip


def draw(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per published number; none where nothing was solved."""
    found = shared.solves(frame)
    found = found[~found["trait"].str.contains("+", regex=False)] if len(found) else found
    drawn = []
    for number in PUBLISHED if len(found) else ():
        mine = found[found["variant"].isin(number.variants) & (found["preconditioner"] == number.preconditioner)]
        values = mine[number.metric].dropna()
        row = {"source": number.source, "what": number.what, "published": number.value}
        drawn.append(row | {"least": values.min(), "largest": values.max(), "note": number.differs})
    return pd.DataFrame(drawn, columns=["source", "what", "published", "least", "largest", "note"])
