"""Each formula against another way to get the same number."""

from __future__ import annotations

import itertools
import math

import pytest

from qrft.stats import expected_distinct, mcnemar, mean, wilson


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (1, 10), (5, 10), (10, 10), (658, 1000), (0, 1), (1, 1)])
def test_wilson_bounds_solve_the_score_equation(successes: int, trials: int) -> None:
    """The interval holds the p whose score |share - p| / sqrt(p (1 - p) / n) is at most z."""
    low, high = wilson(successes, trials, z=1.96)
    share = successes / trials
    assert 0 <= low <= share <= high <= 1
    for bound in (low, high):
        assert (share - bound) ** 2 == pytest.approx(1.96**2 * bound * (1 - bound) / trials, abs=1e-12)


def test_wilson_published_value() -> None:
    # Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_wilson_without_trials() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


def test_mcnemar_against_all_outcomes() -> None:
    """Under the null each differing pair is a fair coin: count the outcomes at least as far from half."""
    for only_first, only_second in itertools.product(range(6), repeat=2):
        pairs = only_first + only_second
        far = abs(only_first - only_second)
        coins = list(itertools.product((0, 1), repeat=pairs))
        expected = sum(abs(2 * sum(coin) - pairs) >= far for coin in coins) / len(coins)
        first = [True] * only_first + [False] * only_second + [True, False]
        second = [False] * only_first + [True] * only_second + [True, False]
        assert mcnemar(first, second) == pytest.approx(expected)


def test_mcnemar_of_equal_outcomes_and_of_many() -> None:
    assert mcnemar([], []) == mcnemar([True, False], [True, False]) == 1.0
    assert 0 < mcnemar([False] * 1000, [True] * 1000) < 1e-300  # no overflow, no zero
    with pytest.raises(ValueError, match="zip"):
        mcnemar([True], [])


@pytest.mark.parametrize("counts", [[], [1], [3], [1, 1, 1], [2, 1], [4, 2], [3, 2, 1]])
def test_expected_distinct_against_brute_force(counts: list[int]) -> None:
    """The mean over every choice of k among 7 samples, those of no path included."""
    num_samples = 7
    samples = [path for path, count in enumerate(counts) for _ in range(count)]
    samples += [None] * (num_samples - len(samples))  # type: ignore[list-item]
    for k in range(num_samples + 1):
        sizes = [len({path for path in chosen if path is not None}) for chosen in itertools.combinations(samples, k)]
        assert expected_distinct(counts, num_samples, k) == pytest.approx(sum(sizes) / math.comb(num_samples, k))


def test_mean() -> None:
    assert mean(iter([1, 2, 6])) == 3.0
    assert mean([]) == 0.0
