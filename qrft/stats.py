"""The statistics of the reports, each by its exact or standard formula."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

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


# ------------------------------------------------------------------------------------------ several samples a problem

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

NUM_RESAMPLES = 2000  # the bounds of a percentile interval then move by about a twentieth of its width between seeds
NUM_VOTES = 250_000  # draws in all: with 0.5 a draw at most, their mean is off by 0.001 (one standard error)


def pass_at_k(num_correct: Ints, num_samples: Ints, k: int) -> Floats:
    """Per problem the chance that one of k of its samples is right: 1 - C(n - c, k) / C(n, k) (Chen et al. 2021).

    Unbiased, and exact: whole numbers until the one division. num_samples: at least k each.
    """
    pairs, place = np.unique(np.stack([num_correct, num_samples]), axis=1, return_inverse=True)
    known = [1 - math.comb(n - c, k) / math.comb(n, k) for c, n in pairs.T.tolist()]
    return np.array(known, np.float64)[place.reshape(-1)]


def majority_at_k(
    num_correct: Ints, others: Ints, num_others: Ints, num_samples: Ints, k: int, seed: int = 0
) -> Floats:
    """Per problem the chance that the right answer wins the vote of k of its samples; a tie counts by its share.

    num_correct: votes for the right answer. others: votes for each other answer, problem after problem; num_others: how
    many there are of each. What is left of num_samples (at least k each) does not vote.
    Exact where k is 1 or all samples, else the mean over NUM_VOTES random choices in all (at least 25 a problem).
    """
    if k == 1:
        return num_correct / num_samples
    rng = np.random.default_rng([seed, k])
    num_draws = max(25, -(-NUM_VOTES // max(len(num_correct), 1)))
    if (num_samples == k).all():
        num_draws = 1
    won = np.empty(len(num_correct), np.float64)
    step = max(1, (1 << 20) // num_draws)
    starts = np.cumsum(num_others) - num_others
    for start in range(0, len(won), step):
        part = slice(start, start + step)
        votes = _Votes(others, starts[part], num_others[part])
        won[part] = _won(num_correct[part], votes, num_samples[part], k, num_draws, rng)
    return won


class _Votes(NamedTuple):
    others: Ints
    starts: Ints  # where a problem's begin
    sizes: Ints


def _won(
    num_correct: Ints, votes: _Votes, num_samples: Ints, k: int, num_draws: int, rng: np.random.Generator
) -> Floats:
    """Draws k samples without replacement, answer by answer: how many of each is hypergeometric given those before."""
    left = num_samples - num_correct
    right = rng.hypergeometric(num_correct, left, k, (num_draws, len(left)))
    to_draw = k - right
    wins, ties = right > 0, np.ones(right.shape, np.int64)
    for place in range(votes.sizes.max(initial=0)):
        rows = np.flatnonzero(votes.sizes > place)
        counts = votes.others[votes.starts[rows] + place]
        left[rows] -= counts
        drawn = rng.hypergeometric(counts, left[rows], to_draw[:, rows])
        to_draw[:, rows] -= drawn
        wins[:, rows] &= drawn <= right[:, rows]
        ties[:, rows] += drawn == right[:, rows]
    share: Floats = (wins / ties).mean(axis=0)
    return share


def interval(values: Floats, seed: int = 0) -> tuple[float, float]:
    """A 95% interval of the mean over problems: Wilson's where every value is 0 or 1, else the percentile bootstrap."""
    if np.isin(values, (0, 1)).all():
        return wilson(int(values.sum()), len(values))
    rng = np.random.default_rng(seed)
    means = [values[rng.integers(len(values), size=len(values))].mean() for _ in range(NUM_RESAMPLES)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
