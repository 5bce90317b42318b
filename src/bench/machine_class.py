"""Which measurements come from machines of one kind, so that their times may be laid side by side.

A class is what decides speed and cannot be changed by a commit: the CPU's model, the cores that the process could
use, the memory in powers of two, the GPUs, and the core that OpenBLAS chose its code for. The last stands for the
instruction sets: many virtual machines give no more than "AMD EPYC" as their model. Two hosts may be of one class;
a CI service's runners are.

Not in it: host, compiler, versions of BLAS, Python and driver, and the locked environment. They change with commits
or beside them, and what they do to speed is part of a history; a step says which of them changed with it.
"""

from __future__ import annotations

import hashlib
import json
import math
import re

import pandas as pd

from bench.errors import BenchError

FACTS = ["cpu", "cores", "memory", "gpu"]
CORE = re.compile(r"\bopenblas \S+ (\w+)")


def machine_classes(frame: pd.DataFrame) -> pd.Series:
    """The class of each row of the long table, such as "amd-epyc-2-cores-32-gib-skylakex-1f0c3a".

    A name is a readable part and a hash of the facts. Rows of jobs that never ran name no machine: they have no
    class (NA). BenchError for a row with a value that names none.
    """
    facts = frame[["host", *FACTS]].drop_duplicates()
    names = pd.Series(pd.NA, index=frame.index, dtype="string")
    for host, *of in facts.itertuples(index=False, name=None):
        here = pd.Series(True, index=frame.index)
        for column, fact in zip(["host", *FACTS], [host, *of], strict=True):
            here &= frame[column].isna() if pd.isna(fact) else frame[column].eq(fact).fillna(False).astype(bool)
        if not any(pd.isna(fact) for fact in of[:3]):
            names[here] = name(*of[:3], gpu="" if pd.isna(of[3]) else of[3], core=_core(frame.loc[here, "blas"]))
        elif frame.loc[here, "value"].notna().any():
            raise BenchError(
                f"case {frame.loc[here, 'case'].iloc[0]} has measurements without cpu, cores and memory: a history "
                "needs to know the machine; measure again with this version"
            )
    return names


def _core(blas: pd.Series) -> str:
    """The core that most sessions' OpenBLAS chose; "" where numpy has another BLAS."""
    cores = blas.dropna().str.extract(CORE, expand=False).dropna()
    return min(cores.mode(), default="")


def name(cpu: str, cores: int, memory: int, *, gpu: str = "", core: str = "") -> str:
    """The name of a class. memory: bytes; what a firmware keeps for itself does not change the class."""
    gib = 2 ** max(0, math.ceil(math.log2(memory / 2**30)))
    facts = [cpu, f"{cores} cores", f"{gib} GiB", core, gpu]
    readable = re.sub(r"[^a-z0-9]+", "-", " ".join(facts).lower()).strip("-")
    return f"{readable}-{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:6]}"
