"""Medians and ratios with bootstrap intervals: what tables and figures say about repeated measurements.

A bootstrap median is an order statistic of the sample, so the law of its rank depends only on the number of
values and is known exactly. Ranks are drawn from it once per length, in equal strata, and looked up for every
cell afterwards. Plain resampling would not do: for 15 values the 2.5 % tail lies at a rank whose exact
probability is 2.6 %, so the noise of a few thousand resamples moves the bound by a whole rank.

Repeats of several processes come as a list of arrays, one per process: the process is then what is drawn first, since
what it settles for all its repeats (memory layout, cores) is one observation, however often it was repeated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import comb
from scipy.stats import binom

DRAWS = 4000
ONE_MIDDLE_FROM = 500  # values: the two middles of a resample are then as good as one

Values = ArrayLike
Repeats = Values | list[np.ndarray]  # of one process, or of each of several


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence bounds; the bounds are NaN where one observation gives none."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """Such as "4.12 [4.05, 4.20]": three significant digits of the value, the same places in the bounds."""
        if math.isnan(self.value):
            return "–"
        if self.value and not 1e-3 <= abs(self.value) < 1e6:
            spec = ".2e"
        else:
            spec = f".{max(0, 2 - math.floor(math.log10(abs(self.value))))}f" if self.value else ".2f"
        if math.isnan(self.low):
            return f"{self.value:{spec}}"
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


NOTHING = Interval(math.nan, math.nan, math.nan)


@cache
def _ranks(size: int, stream: int) -> np.ndarray:
    """(2, DRAWS): ranks, from 0, of the two middles (one, twice, if `size` is odd) of a resample of `size` values.

    Strata of equal probability in an order that differs between streams: two streams are independent.
    """
    half, at = (size + 1) // 2, np.arange(size + 1) / size
    if size % 2 or size > ONE_MIDDLE_FROM:
        lower = upper = np.arange(size)
        share = np.diff(binom.sf(half - 1, size, at))  # rank ≤ i if at least `half` draws are
    else:
        # Both middles are i < j if `half` draws reach up to i and `half` start at j; i = j is what remains.
        below, above = np.diff(at**half), np.diff(at**half)[::-1]
        joint = np.triu(comb(size, half) * np.outer(below, above), 1)
        joint += np.diag(np.diff(binom.sf(half - 1, size, at)) - joint.sum(axis=1))
        lower, upper = np.triu_indices(size)
        share = joint[lower, upper]
    stratum = np.searchsorted(np.cumsum(share)[:-1], (np.arange(DRAWS) + 0.5) / DRAWS)
    stratum = np.random.default_rng([stream, size]).permutation(stratum)
    return np.array([lower[stratum], upper[stratum]])


def _bootstrap_medians(values: np.ndarray, stream: int = 0) -> np.ndarray:
    """(DRAWS,) medians of samples drawn with replacement from `values`."""
    return np.sort(values)[_ranks(values.size, stream)].mean(axis=0)


def _draws(groups: list[np.ndarray], stream: int = 0) -> np.ndarray:
    """(DRAWS,) medians of resamples: of the values of one process; or, of several, of processes drawn with
    replacement and of values drawn within each (Davison & Hinkley 1997, section 3.8), the median of their medians."""
    if len(groups) == 1:
        return _bootstrap_medians(groups[0], stream)
    within = np.array([_bootstrap_medians(group, 1000 * (stream + 1) + i) for i, group in enumerate(groups)])
    chosen = np.random.default_rng([stream, len(groups)]).integers(len(groups), size=(len(groups), DRAWS))
    return np.median(within[chosen, np.arange(DRAWS)], axis=0)


def by_process(values: Values, process: Values) -> list[np.ndarray]:
    """The values of each process, in the order of the processes' numbers; one that is missing is one process."""
    values, process = np.asarray(values, dtype=float), np.nan_to_num(np.asarray(process, dtype=float), nan=-1)
    return [values[process == number] for number in np.unique(process)]


def _groups(values: Repeats) -> list[np.ndarray]:
    """Repeats as a list of arrays, one per process."""
    if isinstance(values, list) and values and isinstance(values[0], np.ndarray):
        return [np.asarray(group, dtype=float) for group in values]
    return [np.asarray(values, dtype=float)]


def _bounds(draws: np.ndarray, level: float) -> tuple[float, float]:
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _known(groups: list[np.ndarray]) -> bool:
    return all(group.size > 0 and not np.isnan(group).any() for group in groups)


def _alone(groups: list[np.ndarray]) -> bool:
    """Whether there is a single observation, which gives no bounds."""
    return len(groups) == 1 and groups[0].size == 1


def centre(values: Repeats) -> float:
    """The median of one process, or the median of the medians of several."""
    return float(np.median([np.median(group) for group in _groups(values)]))


def median_interval(values: Repeats, *, level: float = 0.95) -> Interval:
    """The median of independent observations and its percentile bootstrap interval (Efron 1979).

    values: (repeats,), or a list of such arrays, one per process, which are then the outer level of the resampling.
    Its probability of covering the median, of one process: 75 % from 3 values and 94 % from 5 (both
    [minimum, maximum]), 96 % from 15, 94 % from 30. Of several processes: docs/timing.md.
    """
    groups = _groups(values)
    if not _known(groups):
        return NOTHING
    if _alone(groups):
        return Interval(float(groups[0][0]), math.nan, math.nan)
    return Interval(centre(groups), *_bounds(_draws(groups), level))


def ratio_interval(a: Repeats, b: Repeats, *, level: float = 0.95) -> Interval:
    """median(a) / median(b) of two independent samples of positive values, each resampled on its own.

    a, b: as `values` of median_interval.
    """
    a, b = _groups(a), _groups(b)
    if not (_known(a) and _known(b)):
        return NOTHING
    value = centre(a) / centre(b)
    if _alone(a) or _alone(b):
        return Interval(value, math.nan, math.nan)
    return Interval(value, *_bounds(_draws(a, 1) / _draws(b, 2), level))


def widened(interval: Interval, sd: float) -> Interval:
    """The 95 % interval of a positive number when its logarithm has a further, independent error of this standard
    deviation, which the repeats that the interval is from had in common."""
    more = 1.96 * sd
    low, high = (
        interval.value * math.exp(sign * math.hypot(math.log(bound / interval.value), more))
        for sign, bound in ((-1, interval.low), (1, interval.high))
    )
    return Interval(interval.value, low, high)


def paired_ratio_interval(a: Repeats, b: Repeats, *, level: float = 0.95) -> Interval:
    """The typical a / b of pairs taken under the same circumstances: exp of the median of log(a) − log(b).

    Pairs are resampled together, so drift that hits both sides of a pair cancels. a, b: as in median_interval.
    """
    pairs = _pairs(a, b)
    found = median_interval([np.log(x) - np.log(y) for x, y in pairs], level=level)
    return Interval(math.exp(found.value), math.exp(found.low), math.exp(found.high))


def superiority(a: Repeats, b: Repeats) -> float:
    """The share of pairs in which a is the less, ties counting half: the probability of superiority (Grissom 1994),
    an effect size that knows nothing of units. NaN without pairs."""
    signs = np.concatenate([np.sign(y - x) for x, y in _pairs(a, b)])
    return float((signs.mean() + 1) / 2) if signs.size else math.nan


def _pairs(a: Repeats, b: Repeats) -> list[tuple[np.ndarray, np.ndarray]]:
    a, b = _groups(a), _groups(b)
    sizes = [sum(group.size for group in groups) for groups in (a, b)]
    if [group.size for group in a] != [group.size for group in b]:
        raise ValueError(f"pairs need equally many values, got {sizes[0]} and {sizes[1]}")
    return list(zip(a, b, strict=True))


def agree(one: Interval, other: Interval) -> bool | None:
    """Whether two independent estimates of a positive number differ by no more than their intervals allow: the
    logarithms by at most √(h² + g²), where h and g reach from each estimate to its own bound on the other's side.

    Of two 95 % intervals of normal estimates that is true with probability 95 %. None where a bound is missing.
    """
    low, high = sorted((one, other), key=lambda interval: interval.value)
    if not all(bound > 0 for bound in (low.value, low.high, high.value, high.low)):
        return None  # NaN too
    reach = math.hypot(math.log(low.high / low.value), math.log(high.value / high.low))
    return math.log(high.value / low.value) <= reach
