"""The pedigree of inbred lines: parents crossed in pairs, and lines made of each F1 plant, cycle after cycle."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd

from bench.genotypes.pedigree import seed_for
from bench.genotypes.selection import Evaluate
from bench.genotypes.spec import Livestock

BOTH_SEXES = 0


def simulate_lines(spec: Livestock, evaluate: Evaluate | None) -> pd.DataFrame:
    """Draw the pedigree of `spec.lines`: columns as of `herds.simulate_pedigree`, sex 0, `born` the season.

    The first cohort are inbred parents. A cycle's parents are `spec.sires` of the last finished lines: those of
    highest EBV where `evaluate` gives one, or any. Each F1 plant has two different ones. A line is selfed, one plant
    a generation (sire and dam are the same), or is a doubled haploid of the F1 plant. Trial sites are random.
    """
    assert spec.lines is not None
    rng = np.random.default_rng(seed_for(spec.seed, "pedigree"))
    lines, sizes = spec.lines, spec.cohort_sizes()
    first = np.concatenate([[0], np.cumsum(sizes)])
    columns = {
        "id": np.arange(1, spec.animals + 1),
        "sire": np.zeros(spec.animals, np.int64),
        "dam": np.zeros(spec.animals, np.int64),
        "sex": np.full(spec.animals, BOTH_SEXES),
        "born": np.repeat(np.arange(len(sizes)), sizes),
        "herd": rng.integers(1, spec.herds + 1, spec.animals),
    }
    pedigree = pd.DataFrame(columns).astype(np.int64)
    ids = columns["id"]
    finished = lines.finished()
    for before, last in pairwise(finished):
        candidates = rng.permutation(ids[first[before] : first[before + 1]])
        if evaluate is not None:
            ebv = evaluate(pedigree, before + 1)
            candidates = candidates[np.argsort(-ebv[candidates - 1], kind="stable")]
        parents = rng.permutation(candidates[: spec.sires])
        one = np.resize(np.arange(len(parents)), lines.crosses)
        other = (one + rng.integers(1, len(parents), lines.crosses)) % len(parents)
        f1 = slice(first[before + 1], first[before + 2])
        pedigree.loc[pedigree.index[f1], "sire"], pedigree.loc[pedigree.index[f1], "dam"] = (
            parents[one],
            parents[other],
        )
        mothers = np.repeat(ids[f1], lines.per_cross)
        for cohort in range(before + 2, last + 1):
            plants = pedigree.index[first[cohort] : first[cohort + 1]]
            pedigree.loc[plants, ["sire", "dam"]] = np.column_stack([mothers, mothers])
            mothers = ids[first[cohort] : first[cohort + 1]]
    if spec.groups:
        founders = pedigree.index[: first[1]]
        pedigree.loc[founders, ["sire", "dam"]] = -1
    return pedigree
