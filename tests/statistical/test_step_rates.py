"""How often step detection is wrong, and what it finds: the figures of docs/history.md."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from bench.steps import find_steps

pytestmark = pytest.mark.statistical
SERIES = 400
PAGE = (Path(__file__).parents[2] / "docs" / "history.md").read_text(encoding="utf-8")


def stated(row: str) -> float:
    """The share that the page states in the row of its table that begins so."""
    (line,) = [line for line in PAGE.splitlines() if line.startswith(f"| {row}")]
    (percent,) = re.findall(r"(\d+) %", line.split("|")[2])
    return int(percent) / 100


def found(before: int, after: int, size: float, noise: float, rng: np.random.Generator) -> bool:
    """Whether exactly one step is found, within two commits of where it is."""
    values = np.repeat([0.0, size], [before, after]) + noise * rng.standard_normal(before + after)
    steps = find_steps(values)
    return len(steps) == 1 and abs(steps[0] - before) <= 2


@pytest.mark.parametrize("length", [6, 10, 30, 100])
def test_noise_without_a_step_shows_none_at_the_stated_rate(length):
    rng = np.random.default_rng(length)
    wrong = sum(bool(find_steps(0.03 * rng.standard_normal(length))) for _ in range(SERIES))
    rate = stated("series of 6 to 100 commits without a step")
    assert wrong <= SERIES * rate + 3 * np.sqrt(SERIES * rate)


@pytest.mark.parametrize(
    ("row", "before", "after", "noise"),
    [
        ("step of 10 % in the middle of 20 commits, noise 2 %", 10, 10, 0.02),
        ("step of 10 % in the middle of 40 commits, noise 4 %", 20, 20, 0.04),
        ("step of 10 %, noise 2 %, three commits after it", 17, 3, 0.02),
    ],
)
@pytest.mark.parametrize("size", [np.log(1.1), -np.log(1.1)])
def test_a_step_of_ten_per_cent_is_found_with_the_stated_power(row, before, after, noise, size):
    rng = np.random.default_rng([before, after])
    right = sum(found(before, after, size, noise, rng) for _ in range(SERIES))
    assert right >= SERIES * stated(row) - 3 * np.sqrt(SERIES / 4)
