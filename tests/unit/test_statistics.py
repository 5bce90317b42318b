"""Medians and ratios against closed forms, and coverage by simulation."""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import pytest
from scipy.stats import binom

from bench.statistics import (
    DRAWS,
    Interval,
    _bootstrap_medians,
    by_process,
    centre,
    median_interval,
    paired_ratio_interval,
    ratio_interval,
    superiority,
    widened,
)


def resampled_medians(values: list[float]) -> np.ndarray:
    """The whole bootstrap distribution, by listing every sample with replacement."""
    return np.median(np.array(list(itertools.product(values, repeat=len(values)))), axis=1)


@pytest.mark.parametrize("values", [[1.0, 2.0, 4.0], [3.0, 1.0, 8.0, 2.0], [5.0, 1.0, 9.0, 2.0, 7.0]])
@pytest.mark.parametrize("level", [0.5, 0.8, 0.9])
def test_median_interval_has_the_quantiles_of_the_whole_bootstrap_distribution(values, level):
    whole = resampled_medians(values)
    found = median_interval(values, level=level)
    assert found.value == np.median(values)
    for bound, tail in ((found.low, (1 - level) / 2), (found.high, (1 + level) / 2)):
        # DRAWS strata place a tail to within one of them.
        near = [np.quantile(whole, tail + e / DRAWS, method="inverted_cdf") for e in (-1, 1)]
        assert near[0] <= bound <= near[1]


@pytest.mark.parametrize("size", [2, 3, 4, 5, 6])
def test_bootstrap_medians_have_the_frequencies_of_all_samples(size):
    values = 2.0 ** np.arange(size)  # so that no two averages are equal
    medians, counts = np.unique(resampled_medians(list(values)), return_counts=True)
    drawn = _bootstrap_medians(values)
    found = np.array([np.mean(drawn == median) for median in medians])
    assert found.sum() == pytest.approx(1.0)
    assert found == pytest.approx(counts / counts.sum(), abs=1.01 / DRAWS)


def test_share_of_bootstrap_medians_below_a_value_follows_the_binomial_law():
    # The median of 5 draws from 5 lies at or below x_(2) if at least 3 draws do: P(Bin(5, 2/5) ≥ 3) = 0.31744.
    exact = sum(math.comb(5, j) * 0.4**j * 0.6 ** (5 - j) for j in (3, 4, 5))
    values = [1.0, 2.0, 3.0, 4.0, 5.0]
    just_inside = median_interval(values, level=1 - 2 * (exact - 0.001))
    just_outside = median_interval(values, level=1 - 2 * (exact + 0.001))
    assert (just_inside.low, just_outside.low) == (2.0, 3.0)


def test_five_values_give_the_interval_from_minimum_to_maximum():
    assert median_interval([3.0, 1.0, 2.0, 5.0, 4.0]) == Interval(3.0, 1.0, 5.0)


@pytest.mark.parametrize("size", [499, 500, 501, 502, 20_000])
def test_many_values_are_bounded_where_the_normal_law_of_ranks_puts_them(size):
    found = median_interval(np.arange(size, dtype=float))
    half_width = 1.96 * math.sqrt(size) / 2
    assert found.value == (size - 1) / 2
    assert found.low == pytest.approx(found.value - half_width, abs=1.5 + 0.02 * half_width)
    assert found.high == pytest.approx(found.value + half_width, abs=1.5 + 0.02 * half_width)


def test_fifteen_values_are_bounded_by_the_fourth_and_the_twelfth():
    # P(Bin(15, 4/15) ≥ 8) = 0.0262 > 0.025 > P(Bin(15, 3/15) ≥ 8) = 0.0042
    assert median_interval(np.arange(1.0, 16.0)) == Interval(8.0, 4.0, 12.0)


def test_intervals_are_the_same_every_time_and_in_any_order():
    values = np.random.default_rng(0).exponential(size=40)
    assert median_interval(values) == median_interval(values[::-1].copy())
    assert ratio_interval(values, values[:9]) == ratio_interval(values[::-1], values[:9])


def test_equal_values_leave_no_doubt():
    assert median_interval([2.0] * 7) == Interval(2.0, 2.0, 2.0)
    assert ratio_interval([8.0] * 7, [2.0] * 5) == Interval(4.0, 4.0, 4.0)


def test_one_value_has_no_bounds_and_none_has_no_value():
    one, none = median_interval([2.0]), median_interval([])
    assert one.value == 2.0
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    assert math.isnan(none.value)
    assert math.isnan(ratio_interval([], [1.0]).value)
    assert math.isnan(ratio_interval([1.0], [2.0, 2.1]).low)


def test_a_missing_value_makes_the_interval_missing():
    assert math.isnan(median_interval([1.0, math.nan, 2.0]).value)
    assert math.isnan(ratio_interval([1.0, 2.0], [math.nan, 1.0]).value)


def test_ratio_resamples_its_two_samples_independently():
    # The same sample on both sides: resampled together the ratio would be exactly 1.
    values = np.linspace(1, 3, 9)
    found = ratio_interval(values, values)
    assert found.value == 1.0
    assert found.low < 0.9
    assert found.high > 1.1


def test_ratio_of_halves_is_the_reciprocal_of_the_ratio_of_doubles():
    a, b = np.array([4.0, 5.0, 6.0, 7.0, 8.0]), np.array([2.0, 2.1, 2.2])
    assert ratio_interval(a, b).value == pytest.approx(6.0 / 2.1)
    assert 1 / ratio_interval(b, a).value == pytest.approx(6.0 / 2.1)


def test_paired_ratio_is_exact_where_drift_hits_both():
    drift = np.array([1.0, 10.0, 3.0, 0.1, 2.0, 5.0, 7.0])
    found = paired_ratio_interval(4 * drift, drift)
    assert (found.value, found.low, found.high) == pytest.approx((4.0, 4.0, 4.0), rel=1e-14)
    assert ratio_interval(4 * drift, drift).high > 8


def test_paired_ratio_is_the_exponential_of_the_median_log_ratio():
    a, b = np.array([2.0, 3.0, 12.0, 5.0]), np.array([1.0, 1.0, 2.0, 5.0])
    assert paired_ratio_interval(a, b).value == pytest.approx(math.exp((math.log(2) + math.log(3)) / 2))


def test_paired_ratio_of_unequal_lengths_is_an_error():
    with pytest.raises(ValueError, match="equally many values, got 2 and 3"):
        paired_ratio_interval([1.0, 2.0], [1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        (Interval(4.123, 4.049, 4.2), "4.12 [4.05, 4.20]"),
        (Interval(0.012345, 0.011, 0.0139), "0.0123 [0.0110, 0.0139]"),
        (Interval(1234.5, 1200.2, 1300.0), "1234 [1200, 1300]"),
        (Interval(12.34, 12.0, 13.0), "12.3 [12.0, 13.0]"),
        (Interval(3.2e-15, 1e-15, 4e-15), "3.20e-15 [1.00e-15, 4.00e-15]"),
        (Interval(4.0, math.nan, math.nan), "4.00"),
        (Interval(0.0, 0.0, 0.0), "0.00 [0.00, 0.00]"),
        (Interval(math.nan, math.nan, math.nan), "–"),
    ],
)
def test_interval_as_text_has_three_significant_digits(interval, text):
    assert str(interval) == text


def test_thousands_of_cells_take_seconds():
    values = np.random.default_rng(1).exponential(size=(2000, 30))
    start = time.monotonic()
    for row in values:
        median_interval(row)
        ratio_interval(row, values[0])
    assert time.monotonic() - start < 10


@pytest.mark.statistical
@pytest.mark.parametrize("size", [5, 15, 30])
def test_interval_covers_the_median_as_often_as_it_says(size):
    rng = np.random.default_rng(size)
    trials = 3000
    samples = rng.lognormal(sigma=0.5, size=(trials, size))  # median 1, skewed as times are
    found = [median_interval(sample) for sample in samples]
    covered = np.mean([i.low <= 1.0 <= i.high for i in found])
    # With bounds at the order statistics r and size + 1 − r: 1 − 2 P(Bin(size, ½) < r), whatever the law of the
    # values. Of an even number the bounds are averages of neighbours, and the probability lies between theirs.
    ordered, low = np.sort(samples[0]), found[0].low
    ranks = np.searchsorted(ordered, low, side="right"), 1 + np.searchsorted(ordered, low, side="left")
    most, least = (1 - 2 * binom.cdf(rank - 1, size, 0.5) for rank in ranks)
    error = 4 * math.sqrt(0.06 * 0.94 / trials)
    assert least - error < covered < most + error
    assert least > 0.9
    assert most < 0.97


@pytest.mark.statistical
def test_ratio_and_paired_ratio_cover_the_true_ratio():
    rng = np.random.default_rng(11)
    trials, rounds = 2000, 15
    drift = rng.lognormal(sigma=1.0, size=(trials, rounds))
    a = 4 * rng.lognormal(sigma=0.1, size=(trials, rounds))
    b = rng.lognormal(sigma=0.1, size=(trials, rounds))
    plain = [ratio_interval(x, y) for x, y in zip(a, b, strict=True)]
    paired = [paired_ratio_interval(x, y) for x, y in zip(a * drift, b * drift, strict=True)]
    for intervals in (plain, paired):
        assert 0.94 < np.mean([i.low <= 4 <= i.high for i in intervals]) < 0.985
    widths = [np.median([i.high / i.low for i in intervals]) for intervals in (plain, paired)]
    assert widths[1] < 1.5 * widths[0]  # drift of a factor e costs the pairs nothing


def test_values_are_split_by_process_and_a_missing_number_is_one_process():
    split = by_process([1.0, 2.0, 3.0, 4.0], [1, 0, 1, 0])
    assert [group.tolist() for group in split] == [[2.0, 4.0], [1.0, 3.0]]
    assert [group.tolist() for group in by_process([1.0, 2.0], [math.nan, math.nan])] == [[1.0, 2.0]]


def test_several_processes_are_summarised_by_the_median_of_their_medians():
    processes = [np.array([1.0, 2.0, 9.0]), np.array([5.0]), np.array([3.0, 4.0])]
    assert centre(processes) == 3.5
    assert median_interval(processes).value == 3.5
    assert ratio_interval(processes, [7.0, 7.0]).value == 0.5


def test_one_process_in_a_list_is_as_good_as_its_values():
    values = np.random.default_rng(3).exponential(size=9)
    assert median_interval([values]) == median_interval(values)
    assert paired_ratio_interval([values], [values + 1]) == paired_ratio_interval(values, values + 1)


def test_repeats_that_are_all_equal_leave_the_bootstrap_of_the_processes():
    # All medians of five draws from 1 to 5: the interval of five values, whatever is resampled within.
    processes = [np.full(8, float(value)) for value in (3, 1, 4, 5, 2)]
    assert median_interval(processes) == Interval(3.0, 1.0, 5.0)


def test_a_missing_value_in_a_process_makes_the_interval_missing():
    assert math.isnan(median_interval([np.array([1.0, 2.0]), np.array([math.nan])]).value)
    assert math.isnan(median_interval([np.array([1.0]), np.array([])]).value)


def test_single_repeats_of_several_processes_have_bounds():
    found = median_interval([np.array([1.0]), np.array([2.0]), np.array([4.0])])
    assert (found.value, found.low, found.high) == (2.0, 1.0, 4.0)


def test_pairs_must_match_process_by_process():
    with pytest.raises(ValueError, match="equally many values, got 3 and 3"):
        paired_ratio_interval([np.ones(2), np.ones(1)], [np.ones(1), np.ones(2)])


@pytest.mark.parametrize(
    ("a", "b", "share"),
    [
        ([1.0, 1.0, 1.0, 5.0], [2.0, 3.0, 4.0, 4.0], 0.75),
        ([1.0, 2.0], [1.0, 2.0], 0.5),
        ([1.0, 1.0], [1.0, 0.5], 0.25),
    ],
)
def test_superiority_is_the_share_of_pairs_in_which_the_first_is_less(a, b, share):
    assert superiority(a, b) == share
    assert superiority([np.array(a)] * 3, [np.array(b)] * 3) == share


def test_superiority_of_nothing_is_not_a_number():
    assert math.isnan(superiority([], []))


def test_an_interval_is_widened_in_squares_of_logarithms():
    found = widened(Interval(2.0, 2 * math.exp(-0.3), 2 * math.exp(0.6)), 0.4 / 1.96)
    assert found.value == 2.0
    assert (found.low, found.high) == pytest.approx((2 * math.exp(-0.5), 2 * math.exp(math.hypot(0.6, 0.4))))
    assert widened(Interval(2.0, 1.0, 3.0), 0.0) == Interval(2.0, pytest.approx(1.0), pytest.approx(3.0))
    assert math.isnan(widened(Interval(2.0, math.nan, math.nan), 0.1).low)


def times(
    rng, processes: int, repeats: int, *, between: float, within: float, wander: float = 0.0
) -> list[np.ndarray]:
    """Log-normal times around 1 s: what a process settles, the noise of its repeats, a level that wanders in it."""
    level = rng.normal(0, between, (processes, 1)) + np.cumsum(rng.normal(0, wander, (processes, repeats)), axis=1)
    return list(np.exp(level + rng.normal(0, within, (processes, repeats))))


def coverage(estimate, trials: int = 400, truth: float = 1.0) -> float:
    found = [estimate() for _ in range(trials)]
    return float(np.mean([interval.low <= truth <= interval.high for interval in found]))


@pytest.mark.statistical
@pytest.mark.parametrize(
    ("processes", "between", "least", "most"),
    [
        (1, 0.03, 0.25, 0.50),  # one process does not know the others
        (2, 0.03, 0.65, 0.83),
        (3, 0.03, 0.84, 0.96),
        (5, 0.03, 0.93, 1.0),
        (10, 0.03, 0.93, 1.0),
        (5, 0.0, 0.97, 1.0),  # to the wide side where they do not differ
    ],
)
def test_the_interval_of_several_processes_covers_what_they_have_in_common(processes, between, least, most):
    rng = np.random.default_rng([7, processes])
    found = coverage(lambda: median_interval(times(rng, processes, 10, between=between, within=0.02)))
    assert least <= found <= most


@pytest.mark.statistical
@pytest.mark.parametrize(("processes", "least"), [(3, 0.90), (5, 0.94)])
def test_ratios_of_several_processes_cover_the_true_ratio(processes, least):
    rng = np.random.default_rng([8, processes])

    def one() -> list[np.ndarray]:
        return times(rng, processes, 10, between=0.03, within=0.02)

    def pair() -> Interval:
        drift = [np.exp(np.cumsum(rng.normal(0, 0.05, 10))) for _ in range(processes)]
        sides = ([x * d for x, d in zip(one(), drift, strict=True)] for _ in range(2))
        return paired_ratio_interval(*sides)

    assert coverage(lambda: ratio_interval(one(), one())) >= least
    assert coverage(pair) >= least - 0.03


@pytest.mark.statistical
def test_repeats_whose_level_wanders_are_covered_less_the_more_there_are():
    rng = np.random.default_rng(9)
    found = [
        coverage(lambda size=size: median_interval(times(rng, 1, size, between=0.0, within=0.02, wander=0.01)))
        for size in (5, 15, 30)
    ]
    assert 0.70 < found[0] < 0.90
    assert 0.42 < found[1] < 0.64
    assert 0.20 < found[2] < 0.40


@pytest.mark.statistical
def test_a_ratio_of_sessions_widened_by_their_drift_covers_the_true_ratio():
    rng = np.random.default_rng(10)

    def session_ratios() -> tuple[Interval, Interval]:
        machine = np.exp(rng.normal(0, 0.1, 12))  # twelve sessions; the limits tell the machine's speed in each
        a, b = (machine[i] * times(rng, 1, 10, between=0.0, within=0.02)[0] for i in (0, 1))
        sd = float(np.log(machine).std(ddof=1))
        plain = ratio_interval(a, b)
        return plain, widened(plain, math.sqrt(2) * sd)

    found = [session_ratios() for _ in range(400)]
    plain, wide = (np.mean([side[i].low <= 1.0 <= side[i].high for side in found]) for i in (0, 1))
    assert plain < 0.4
    assert 0.90 < wide < 0.99
