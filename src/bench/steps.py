"""Where a series of measurements jumps to another level and stays there.

The model is that of asv's step detection (airspeed velocity, asv/step_detect.py), after Friedrich et al. (2008), J.
Comput. Graph. Stat. 17:201, doi:10.1198/106186008X285591: levels that are constant in pieces, plus noise. Of all
ways to cut y₁ … yₙ into pieces of at least LEAST values, the one is taken that minimises

    Σ_pieces ( γ + Σ_{i in piece} |yᵢ − median of the piece| ),   γ = √(2π)/4 · σ · (2 ln n + PENALTY)

by dynamic programming, exactly. The sum of absolute deviations, and not of their squares, makes outliers cheap to
keep. So that two of them make no piece with a third value beside them, LEAST values of a piece lie within NEAR · σ of
its median; only pieces of less than 2 · LEAST values need to be asked.

asv chooses γ by an information criterion; here it is in units of the noise, as in Yao (1988),
doi:10.1016/0167-7152(88)90118-6. Cutting normal noise at a given place lowers the sum by √(2π)/4 · σ · χ²₁ in the
limit (the likelihood-ratio law of a median), so what stands in brackets is a bound on the largest of many dependent
χ²₁. σ comes from the median absolute difference of neighbours, which steps hardly touch.
"""

from __future__ import annotations

import math
from heapq import heappush, heappushpop

import numpy as np
from numpy.typing import ArrayLike

LEAST = 3  # values of a piece: a step is believed once three commits show it
NEAR = 4.0
PENALTY = 8.0
QUIET = 0.002  # the least σ: of logarithms, 0.2 %; below lies what a clock and a layout of memory do


def noise(values: ArrayLike) -> float:
    """Standard deviation of the noise about the levels: 1.4826/√2 of the median |difference of neighbours|."""
    return 1.4826 / math.sqrt(2) * float(np.median(np.abs(np.diff(np.asarray(values, dtype=float)))))


def find_steps(values: ArrayLike, *, quiet: float = QUIET) -> list[int]:
    """The index of the first value of each new level, in the order of the series; [] where there is one level.

    values: (n,) in order, logarithms of times; NaN stands for nothing measured and is passed over. quiet: the least
    standard deviation that noise is taken to have.
    """
    values = np.asarray(values, dtype=float)
    at = np.flatnonzero(np.isfinite(values))
    y = values[at].tolist()
    n = len(y)
    if n < 2 * LEAST:
        return []
    sigma = max(noise(y), quiet)
    gamma = math.sqrt(2 * math.pi) / 4 * sigma * (2 * math.log(n) + PENALTY)
    least, start = [0.0] + [math.inf] * n, [0] * (n + 1)  # of the first j values: least sum, begin of its last piece
    for i in range(n - LEAST + 1):
        if math.isinf(least[i]):
            continue
        for j, deviation in enumerate(_deviations(y[i:]), start=i + 1):
            total = least[i] + gamma + deviation
            if j - i >= LEAST and total < least[j] - 1e-12 * gamma and _together(y[i:j], sigma):
                least[j], start[j] = total, i
    found, j = [], n
    while (j := start[j]) > 0:
        found.append(int(at[j]))
    return found[::-1]


def _together(piece: list[float], sigma: float) -> bool:
    middle = sorted(piece)[len(piece) // 2]
    return len(piece) >= 2 * LEAST or sum(abs(value - middle) <= NEAR * sigma for value in piece) >= LEAST


def _deviations(values: list[float]) -> list[float]:
    """Σ |y − median| over the first 1, 2, … values: the sum of the upper half less that of the lower."""
    low: list[float] = []  # the lower half, negated: its largest first
    high: list[float] = []
    below = above = 0.0
    found = []
    for value in values:
        if len(low) > len(high):
            up = -heappushpop(low, -value)
            below += value - up
            heappush(high, up)
            above += up
        else:
            down = heappushpop(high, value)
            above += value - down
            heappush(low, -down)
            below += down
        found.append(above - below - low[0] * (len(low) - len(high)))
    return found
