"""A timed job has the machine to itself: the begin and end of every command are compared."""

from __future__ import annotations

from itertools import pairwise

import pytest

TIMED = "run"


def overlaps(intervals):
    """Pairs of commands that ran at the same moment, at least one of them timed."""
    found = []
    for i, (begin, end, verb) in enumerate(intervals):
        for later, _, other in intervals[i + 1 :]:
            if later < end and TIMED in (verb, other):
                found.append((verb, other, round(end - later, 3)))
        assert begin < end
    return found


def test_overlaps_are_found():
    assert overlaps([(0, 2, "run"), (1, 3, "build"), (4, 5, "run")]) == [("run", "build", 1)]
    assert overlaps([(0, 2, "build"), (1, 3, "chromosome"), (4, 5, "run")]) == []


def test_no_job_runs_beside_a_timed_one(finished):
    intervals = finished.intervals()
    assert sum(verb == TIMED for _, _, verb in intervals) > 5
    assert overlaps(intervals) == []


def test_other_jobs_do_run_side_by_side(finished):
    assert any(later[0] < earlier[1] for earlier, later in pairwise(finished.intervals()))


@pytest.mark.parametrize("arguments", [["--cores", "4"], ["--cores", "4", "--resources", "mem_mb=10000"]])
def test_a_run_without_the_profile_keeps_timed_jobs_alone_too(checkout, arguments):
    name = f"bare{len(arguments)}"
    products = {"datasets": ["sheep", "tall"], "dtypes": ["f8"], "threads": [1], "k": [1]}
    config = checkout.configure(
        name, experiments={"limits": None, "products": products, "scaling": None, "paired": None, "gblup": None}
    )
    checkout.stamps.unlink(missing_ok=True)
    checkout.succeed("--configfile", config, *arguments, profile=False)
    intervals = checkout.intervals()
    assert sum(verb == TIMED for _, _, verb in intervals) == 4
    assert overlaps(intervals) == []
