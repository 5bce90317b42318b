"""Step detection against all segmentations, and at its edges."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.steps import LEAST, NEAR, PENALTY, QUIET, _deviations, find_steps, noise


def brute_force(y: np.ndarray) -> float:
    """The least penalised sum over every segmentation, by listing them all."""
    n, sigma = len(y), max(1.4826 / math.sqrt(2) * float(np.median(np.abs(np.diff(y)))), QUIET)
    gamma = math.sqrt(2 * math.pi) / 4 * sigma * (2 * math.log(n) + PENALTY)
    found = math.inf
    for count in range(n // LEAST):
        for cuts in itertools.combinations(range(LEAST, n), count):
            pieces = np.split(y, cuts)
            if all(
                np.sum(np.abs(p - np.sort(p)[len(p) // 2]) <= NEAR * sigma) >= LEAST or len(p) > 5 for p in pieces
            ):
                found = min(found, sum(gamma + np.abs(piece - np.median(piece)).sum() for piece in pieces))
    return found


def penalised(y: np.ndarray, cuts: list[int]) -> float:
    gamma = math.sqrt(2 * math.pi) / 4 * max(noise(y), QUIET) * (2 * math.log(len(y)) + PENALTY)
    return sum(gamma + np.abs(piece - np.median(piece)).sum() for piece in np.split(y, cuts))


@pytest.mark.parametrize("seed", range(30))
def test_no_other_segmentation_is_better(seed):
    rng = np.random.default_rng(seed)
    y = rng.standard_normal(13) * 0.02 + np.repeat(rng.choice([0, 0.1, 0.4], 3), (4, 4, 5))
    assert penalised(y, find_steps(y)) == pytest.approx(brute_force(y))


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40))
@settings(max_examples=100, deadline=None)
def test_running_deviations_are_those_about_the_median(values):
    direct = [np.abs(np.array(values[:i]) - np.median(values[:i])).sum() for i in range(1, len(values) + 1)]
    assert _deviations(values) == pytest.approx(direct, abs=1e-9)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 5.0], [0, 0, 0, 9, 9], [2.0] * 50, [math.nan] * 9])
def test_too_few_values_or_one_level_have_no_step(values):
    assert find_steps(values) == []


def test_a_step_without_noise_is_found_where_it_is():
    assert find_steps([0.0] * 7 + [0.1] * 5) == [7]
    assert find_steps([0.0] * 4 + [-0.5] * 3 + [0.3] * 6) == [4, 7]


def test_what_is_as_small_as_the_clock_s_own_noise_is_no_step():
    assert find_steps([0.0] * 10 + [QUIET / 2] * 10) == []


def test_nothing_measured_is_passed_over_and_does_not_move_the_step():
    values = [0.0, math.nan, 0.0, 0.0, 0.0, math.nan, math.inf, 0.2, 0.2, math.nan, 0.2]
    assert find_steps(values) == [7]


def wobbling(*levels: float) -> np.ndarray:
    """Levels with a noise of 1 % on them, always the same."""
    return np.array(levels) + 0.01 * np.random.default_rng(0).standard_normal(len(levels))


@pytest.mark.parametrize("count", [1, 2])
def test_outliers_are_no_step_until_a_third(count):
    for size in (0.1, 0.5, -3.0):
        assert find_steps(wobbling(*[0.0] * 10, *[size] * count, *[0.0] * 10)) == []
        assert find_steps(wobbling(*[0.0] * 10, *[size] * count)) == []
    assert find_steps(wobbling(*[0.0] * 10, *[0.5] * LEAST, *[0.0] * 10)) == [10, 10 + LEAST]


def test_the_last_commits_are_a_step_once_there_are_enough():
    assert find_steps(wobbling(*[0.0] * 10, *[0.3] * (LEAST - 1))) == []
    assert find_steps(wobbling(*[0.0] * 10, *[0.3] * LEAST)) == [10]


def test_the_sign_and_the_level_do_not_matter():
    values = wobbling(*[0.0] * 8, *[0.2] * 9, *[0.1] * 12)
    assert find_steps(values) == find_steps(-values) == find_steps(values + 7) == [8, 17]


def test_noise_is_the_standard_deviation_and_hardly_sees_steps():
    values = np.random.default_rng(0).standard_normal(5000) * 0.03
    assert noise(values) == pytest.approx(0.03, rel=0.05)
    assert noise(values + np.repeat([0, 1, 3, 2, 5], 1000)) == pytest.approx(0.03, rel=0.05)
