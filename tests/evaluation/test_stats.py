"""Each formula against another way to get the same number."""

from __future__ import annotations

import collections
import itertools
import math

import numpy as np
import pytest

from qrft.evaluation.stats import (
    bootstrap,
    clustered,
    compare,
    expected_distinct,
    interval,
    majority_at_k,
    mcnemar,
    mean,
    pass_at_k,
    student_t,
    wilson,
)


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


def choices(answers: list[int], k: int) -> list[tuple[int, ...]]:
    return list(itertools.combinations(answers, k))


@pytest.mark.parametrize("k", [1, 2, 3, 6])
def test_pass_at_k_against_brute_force(k: int) -> None:
    correct = np.arange(7)
    expected = [np.mean([any(chosen) for chosen in choices([1] * c + [0] * (6 - c), k)]) for c in correct]
    assert pass_at_k(correct, np.full(7, 6), k) == pytest.approx(expected)


def test_one_sample_wins_its_vote_as_often_as_it_passes() -> None:
    """To the last bit, so that a report can't show two roundings of one number."""
    correct, samples = np.arange(31), np.full(31, 30)
    none = np.zeros(31, int)
    assert (majority_at_k(correct, none[:0], none, samples, 1) == pass_at_k(correct, samples, 1)).all()


def test_pass_at_k_of_many_samples() -> None:
    assert pass_at_k(np.array([1]), np.array([100_000]), 50_000) == pytest.approx([0.5])


# 1 is the right answer, 0 no answer at all.
VOTED = ("1122300", "1234567", "0000000", "1111111", "2222222", "1000000", "1112223")
VOTES = [[int(answer) for answer in votes] for votes in VOTED]


def share_of_votes(chosen: tuple[int, ...]) -> float:
    votes = collections.Counter(answer for answer in chosen if answer)
    top = [answer for answer, count in votes.items() if count == max(votes.values())]
    return (1 in top) / len(top) if top else 0.0


def tallies(num_samples: int, all_votes: list[list[int]]) -> list[np.ndarray]:
    """As majority_at_k takes them."""
    wrong = [[votes.count(i) for i in range(2, 8) if i in votes] for votes in all_votes]
    correct = np.array([votes.count(1) for votes in all_votes])
    others, num_others = np.concatenate(wrong).astype(int), np.array([len(votes) for votes in wrong])
    return [correct, others, num_others, np.full(len(all_votes), num_samples)]


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 6, 7])
def test_majority_at_k_against_brute_force(k: int) -> None:
    """Exactly, and by draws where that would take too long."""
    expected = [np.mean([share_of_votes(chosen) for chosen in choices(answers, k)]) for answers in VOTES]
    votes = tallies(7, VOTES)
    assert majority_at_k(*votes, k) == pytest.approx(expected, abs=1e-14)
    drawn = majority_at_k(*votes, k, most=0)
    assert drawn == pytest.approx(expected, abs=1e-12 if k == 7 else 0.015)
    assert (majority_at_k(*votes, k, most=0) == drawn).all()  # seeded


def test_majority_at_k_of_random_tallies_against_brute_force() -> None:
    """Many answers that tie at many counts, samples of 6 to 10."""
    rng = np.random.default_rng(0)
    for num_samples in range(6, 11):
        votes = [rng.integers(0, rng.integers(2, 8), num_samples).tolist() for _ in range(12)]
        for k in range(1, num_samples + 1):
            expected = [np.mean([share_of_votes(chosen) for chosen in choices(answers, k)]) for answers in votes]
            assert majority_at_k(*tallies(num_samples, votes), k) == pytest.approx(expected, abs=1e-13)


def test_majority_at_k_of_many_samples() -> None:
    """Two answers with no abstention: the hypergeometric tail, a tie counting half; in whole numbers."""
    c, n, k = 1100, 2000, 500
    ways = [math.comb(c, r) * math.comb(n - c, k - r) for r in range(k + 1)]
    tail = sum(2 * ways[r] if 2 * r > k else ways[r] if 2 * r == k else 0 for r in range(k + 1))
    expected = tail / (2 * math.comb(n, k))
    found = majority_at_k(np.array([c]), np.array([n - c]), np.array([1]), np.array([n]), k)
    assert found == pytest.approx([expected], abs=1e-11)
    alone = majority_at_k(np.array([3]), np.array([], int), np.array([0]), np.array([1000]), 100)
    assert alone == pytest.approx(pass_at_k(np.array([3]), np.array([1000]), 100), abs=1e-12)


def test_interval() -> None:
    assert interval(np.array([1.0, 0.0, 1.0, 1.0])) == wilson(3, 4)
    values = np.random.default_rng(1).beta(2, 3, 4000)
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert interval(values) == pytest.approx((values.mean() - half, values.mean() + half), abs=half / 10)


def test_paired_bootstrap_of_a_difference() -> None:
    """Models that mostly agree: the interval is that of the problems' differences, far narrower than of two samples."""
    rng = np.random.default_rng(2)
    first = (rng.random(3000) < 0.5).astype(float)
    second = np.where(rng.random(3000) < 0.05, 1.0, first)
    low, high = bootstrap(second - first)
    half = 1.96 * (second - first).std() / math.sqrt(3000)
    middle = (second - first).mean()
    assert (low, high) == pytest.approx((middle - half, middle + half), abs=half / 10)
    assert bootstrap(np.zeros(5)) == (0.0, 0.0)


# -------------------------------------------------------------------------------------------- problems of one wording


def test_student_t_published_values() -> None:
    # Any table of Student's t, two-sided.
    assert [student_t(df) for df in (1, 4, 29)] == pytest.approx([12.706, 2.776, 2.045], abs=5e-4)
    assert [student_t(df, 0.99) for df in (1, 4, 29)] == pytest.approx([63.657, 4.604, 2.756], abs=5e-4)


def test_problems_each_in_a_cluster_of_its_own_give_students_interval() -> None:
    values = np.random.default_rng(0).normal(size=40)
    half = student_t(39) * values.std(ddof=1) / math.sqrt(40)
    found = clustered(values, np.arange(40))
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half))


def test_equal_clusters_count_as_their_means() -> None:
    means = np.random.default_rng(1).normal(size=12)
    half = student_t(11) * means.std(ddof=1) / math.sqrt(12)
    found = clustered(np.repeat(means, 50), np.repeat(np.arange(12), 50))
    assert found.high - found.value == pytest.approx(half)


def test_clusters_that_never_differ_or_stand_alone_tell_nothing_more() -> None:
    assert clustered(np.full(6, 0.0), np.arange(6) // 2) == (0.0, 0.0, 0.0, 1.0)
    assert clustered(np.array([1.0, 2.0]), np.zeros(2)) == (1.5, -math.inf, math.inf, 1.0)
    assert interval(np.ones(100), np.arange(100) // 10) == wilson(100, 100)


def coverage(num_seeds: int, wording: float, both_ways: bool, trials: int = 400) -> float:
    """How often the interval of a mean over seeds and 40 wordings, each with an effect of its own, holds the truth."""
    rng = np.random.default_rng(3)
    seeds, wordings = (code.ravel() for code in np.indices((num_seeds, 40)))
    held = 0
    for _ in range(trials):
        seed, word = rng.normal(0, 0.1, num_seeds), rng.normal(0, wording, 40)
        values = seed[seeds] + word[wordings] + rng.normal(0, 0.3, len(seeds))
        found = clustered(values, *((seeds, wordings) if both_ways else (seeds,)))
        held += found.low <= 0 <= found.high
    return held / trials


def test_seeds_and_wordings_are_counted_both_ways() -> None:
    assert coverage(10, wording=0.5, both_ways=True) > 0.93
    assert coverage(10, wording=0.5, both_ways=False) < 0.7, "seeds alone do not cover other wordings"
    assert 0.93 < coverage(10, wording=0.0, both_ways=True) < 0.99


def test_a_pair_on_few_wordings_is_not_significant_for_having_many_problems() -> None:
    """No wording is won on average; McNemar's test takes 50 problems of each as 50 proofs."""
    rng, found, mcnemars = np.random.default_rng(5), 0, 0
    clusters = np.repeat(np.arange(20), 50)
    for _ in range(200):
        first, second = (np.clip(0.5 + rng.normal(0, 0.3, 20), 0, 1)[clusters] > rng.random(1000) for _ in range(2))
        pair = first.astype(float), second.astype(float)
        p_value = compare(*pair, clusters)["p_value"]
        assert p_value is not None
        found += p_value < 0.05
        mcnemars += mcnemar(first.tolist(), second.tolist()) < 0.05
    assert found <= 16 and mcnemars > 100, (found, mcnemars)
