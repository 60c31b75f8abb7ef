"""The statistics of the reports, each by its exact or standard formula."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

Z95 = 1.959963984540054  # the normal quantile of 97.5%


def wilson(successes: int, trials: int, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval of a share (Wilson 1927); (0, 1) without trials."""
    if trials == 0:
        return 0.0, 1.0
    p, square = successes / trials, z * z
    center = (p + square / (2 * trials)) / (1 + square / trials)
    half = z * math.sqrt(p * (1 - p) / trials + square / (4 * trials * trials)) / (1 + square / trials)
    return max(0.0, center - half), min(1.0, center + half)


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> float:
    """Two-sided p-value of the exact McNemar test on paired outcomes; 1.0 where they never differ."""
    only_first = sum(a and not b for a, b in zip(first, second, strict=True))
    only_second = sum(b and not a for a, b in zip(first, second, strict=True))
    differing = only_first + only_second
    tail = sum(math.comb(differing, i) for i in range(min(only_first, only_second) + 1))
    return min(1.0, float(2 * tail / 2**differing))


def expected_distinct(counts: Sequence[int], num_samples: int, k: int) -> float:
    """How many different paths k samples drawn from num_samples hold on average, a path seen counts[i] times.

    Each path is missed with the hypergeometric chance C(n - c, k) / C(n, k).
    """
    total = math.comb(num_samples, k)
    return sum(1 - math.comb(num_samples - count, k) / total for count in counts)


def mean(values: Iterable[float]) -> float:
    """The mean; 0.0 of nothing."""
    listed = list(values)
    return sum(listed) / len(listed) if listed else 0.0
