"""Which rows belong to machines of one class."""

from __future__ import annotations

import pandas as pd
import pytest

from bench.collect import COLUMNS
from bench.errors import BenchError
from bench.machine_class import machine_classes, name

GIB = 2**30
HERE = {"host": "a", "cpu": "AMD EPYC", "cores": 2, "memory": 25_276_502_016, "gpu": "", "case": "c", "value": 1.0,
        "blas": "openblas 0.3.31 SkylakeX"}  # fmt: skip


def rows(*different: dict[str, object]) -> pd.DataFrame:
    table = [HERE | one for one in different]
    return pd.DataFrame({key: pd.Series([row.get(key) for row in table], dtype=of) for key, of in COLUMNS.items()})


def classes(*different: dict[str, object]) -> list[str]:
    return machine_classes(rows(*different)).tolist()


def test_a_name_is_readable_and_the_same_everywhere():
    # The hash is that of the facts, written down here: another one would begin every history anew.
    assert classes({}) == ["amd-epyc-2-cores-32-gib-skylakex-177156"]


@pytest.mark.parametrize(
    "same",
    [
        {"host": "another"},
        {"memory": 17 * GIB},
        {"memory": 32 * GIB},
        {"blas": "openblas 0.3.40 SkylakeX"},
        {"compiler": "g++ 14", "flags": "-O2", "python": "3.13", "lock_hash": "x", "driver": "2", "commit": "y"},
    ],
    ids=str,
)
def test_what_does_not_make_another_class(same):
    assert len(set(classes({}, same))) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"cpu": "Intel Xeon"},
        {"cores": 4},
        {"memory": 16 * GIB},
        {"memory": 33 * GIB},
        {"gpu": "NVIDIA H100"},
        {"host": "b", "blas": "openblas 0.3.31 Haswell"},
    ],
    ids=str,
)
def test_what_makes_another_class(other):
    assert len(set(classes({}, other))) == 2


def test_sessions_of_one_machine_are_of_one_class_whatever_blas_they_loaded():
    assert (
        len(set(classes({}, {}, {"blas": "mkl 2024 Intel"}, {"blas": "openblas 0.3.30 Zen; openblas 0.3.31 Zen"})))
        == 1
    )


def test_names_that_read_alike_are_told_apart_by_their_hash():
    one, other = name("CPU (R) 1", 2, GIB), name("CPU R 1", 2, GIB)
    assert one != other
    assert one.rpartition("-")[0] == other.rpartition("-")[0]


def test_a_name_can_be_a_folder_of_a_partition():
    made = name("Odd/CPU=µ 3.0GHz @ \\x", 1, 123, gpu="GPU: A, B")
    assert made.replace("-", "").isalnum()
    assert made.isascii()
    assert "-1-gib-" in made


def test_a_row_of_a_job_that_never_ran_has_no_class():
    assert machine_classes(rows({"cpu": None, "cores": None, "memory": None, "value": None})).isna().all()


def test_a_measurement_without_a_machine_is_said():
    with pytest.raises(BenchError, match="case c has measurements without cpu, cores and memory"):
        classes({}, {"cpu": None})
