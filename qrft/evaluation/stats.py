"""The statistics of the reports, each by its exact or standard formula."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Z95 = 1.959963984540054  # the normal quantile of 97.5%


def wilson(successes: float, trials: float, z: float = Z95) -> tuple[float, float]:
    """Return Wilson's score interval of a share (Wilson 1927); (0, 1) without trials."""
    if trials == 0:
        return 0.0, 1.0
    p, square = successes / trials, z * z
    center = (p + square / (2 * trials)) / (1 + square / trials)
    half = z * math.sqrt(p * (1 - p) / trials + square / (4 * trials * trials)) / (1 + square / trials)
    return max(0.0, center - half) if successes else 0.0, min(1.0, center + half) if successes < trials else 1.0


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> float:
    """Return the two-sided p-value of the exact McNemar test on paired outcomes; 1.0 where they never differ."""
    only_first = sum(a and not b for a, b in zip(first, second, strict=True))
    only_second = sum(b and not a for a, b in zip(first, second, strict=True))
    differing = only_first + only_second
    tail = sum(math.comb(differing, i) for i in range(min(only_first, only_second) + 1))
    return min(1.0, float(2 * tail / 2**differing))


def expected_distinct(counts: Sequence[int], num_samples: int, k: int) -> float:
    """Return how many distinct paths k of num_samples samples hold on average; path i was sampled counts[i] times.

    Each path is missed with the hypergeometric chance C(n - c, k) / C(n, k).
    """
    total = math.comb(num_samples, k)
    return sum(1 - math.comb(num_samples - count, k) / total for count in counts)


def mean(values: Iterable[float]) -> float:
    """Return the mean; 0.0 without values."""
    listed = list(values)
    return sum(listed) / len(listed) if listed else 0.0


# ------------------------------------------------------------------------------------------ several samples a problem

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

NUM_RESAMPLES = 2000  # the bounds of a percentile interval then move by about a twentieth of its width between seeds
MAX_EXACT = 60_000_000  # steps of exact votes, about 5 seconds of one core: beyond, votes are drawn
NEGLIGIBLE = 1e-18  # a chance that no sum shows in double precision
NUM_VOTES = 250_000  # draws in all: with 0.5 a draw at most, their mean is off by 0.001 (one standard error)


def pass_at_k(num_correct: Ints, num_samples: Ints, k: int) -> Floats:
    """Return the chance that one of k samples of a problem is right: 1 - C(n - c, k) / C(n, k) (Chen et al. 2021).

    Unbiased, and exact: whole numbers until the one division. num_samples: at least k each.
    """
    pairs, place = np.unique(np.stack([num_correct, num_samples]), axis=1, return_inverse=True)
    known = [(math.comb(n, k) - math.comb(n - c, k)) / math.comb(n, k) for c, n in pairs.T.tolist()]
    return np.array(known, np.float64)[place.reshape(-1)]


def majority_at_k(
    num_correct: Ints, others: Ints, num_others: Ints, num_samples: Ints, k: int, seed: int = 0, most: int = MAX_EXACT
) -> Floats:
    """Return the chance that the right answer wins the vote of k samples of a problem; a tie counts by its share.

    num_correct: votes for the right answer. others: votes for each other answer, problem after problem; num_others: how
    many there are of each. What is left of num_samples (at least k each) does not vote.
    The exact expectation over all choices of k. Where that would take more than `most` steps: the mean over
    NUM_VOTES random choices in all (at least 25 a problem).
    """
    if k == 1:
        return num_correct / num_samples
    ends = np.cumsum(num_others)
    tallies = [
        (c, n, tuple(sorted(others[end - size : end].tolist())))
        for c, n, end, size in zip(num_correct.tolist(), num_samples.tolist(), ends, num_others, strict=True)
    ]
    if sum(_work(*tally, k) for tally in set(tallies)) > most:
        return _drawn(num_correct, others, num_others, num_samples, k, np.random.default_rng([seed, k]))
    known = {tally: _expected_share(*tally, k) for tally in set(tallies)}
    return np.array([known[tally] for tally in tallies], np.float64)


def _work(num_correct: int, num_samples: int, others: tuple[int, ...], k: int) -> int:
    """Estimate the work of _expected_share, in steps of some 80 ns: 17 million for 1,319 problems with 200 samples."""
    if k == num_samples or not len(contested := _contested(num_correct, num_samples, max(others, default=0), k)):
        return 200
    return 4000 + len(contested) * len(_roots(num_samples, k)) * (1 + len(set(others)))


def _expected_share(num_correct: int, num_samples: int, others: tuple[int, ...], k: int) -> float:
    """Return the sum over r, the votes for the right answer, of P(r) E[1 / (1 + ties); no other answer has more].

    Choosing k of n is drawing each with chance k/n, given that k come: so the answers' counts are independent binomials
    with a fixed sum. Where r is more than any other answer has at all, it wins whatever the others get.
    """
    most = max(others, default=0)
    if k == num_samples:
        return 1 / (1 + others.count(num_correct)) if num_correct and num_correct >= most else 0.0
    chance = k / num_samples
    right, rest = _binomial(num_correct, chance), _binomial(num_samples - num_correct, chance)
    free = np.arange(max(most + 1, k - len(rest) + 1), min(num_correct, k) + 1)
    wins = float((right[free] * rest[k - free]).sum())
    contested = _contested(num_correct, num_samples, most, k)
    if len(contested):
        wins += _contested_wins(contested, num_correct, num_samples, others, k)
    return min(1.0, wins / float(_binomial(num_samples, chance)[k]))


@lru_cache(maxsize=1 << 16)
def _contested(num_correct: int, num_samples: int, most: int, k: int) -> Ints:
    """Return the counts of right votes that may come, and that another answer, with `most` votes, may reach."""
    likely = np.flatnonzero(_binomial(num_correct, k / num_samples)[: min(k, most) + 1] > NEGLIGIBLE)
    return likely[likely > 0]


@lru_cache(maxsize=1 << 8)
def _roots(num_samples: int, k: int) -> npt.NDArray[np.complex128]:
    """Return the roots of unity that tell x^k from the powers above it whose coefficients are not negligible.

    Their number is odd, so that all but the first are pairs of conjugates, of which one of each is returned.
    """
    likely = int(np.flatnonzero(_binomial(num_samples, k / num_samples) > NEGLIGIBLE / 100)[-1])
    size = max(k, likely) + 1 | 1
    roots: npt.NDArray[np.complex128] = np.exp(2j * np.pi / size * np.arange(size // 2 + 1))
    return roots


@lru_cache(maxsize=1 << 7)
def _partial_sums(votes: int, num_samples: int, k: int) -> tuple[npt.NDArray[np.complex128], ...]:
    """Return for r = 0, 1, .. the generating function of fewer than r of an answer's votes, and of r, at the roots."""
    roots, most = _roots(num_samples, k), min(votes, k)
    terms = _binomial(votes, k / num_samples)[: most + 1, None] * roots ** np.arange(most + 1)[:, None]
    return np.cumsum([np.zeros_like(roots), *terms], axis=0), terms


def _contested_wins(right: Ints, num_correct: int, num_samples: int, others: tuple[int, ...], k: int) -> float:
    """Return the part of these counts of right votes, not yet divided by the chance that k come.

    What is asked for is the coefficient of x^k in the product of the answers' generating functions, read off at the
    roots of unity. 1 / (1 + ties) is the integral of y^ties over [0, 1], which Gauss and Legendre's nodes give exactly,
    the factor y standing at each count of r.
    """
    chance, roots = k / num_samples, _roots(num_samples, k)
    ties = [min(sum(votes >= r for votes in others), (k - r) // r) for r in right.tolist()]
    nodes, weights = (np.concatenate(parts) for parts in zip(*map(_unit_legendre, ties), strict=True))
    r = np.repeat(right, [most // 2 + 1 for most in ties])  # a row a count and node
    silent = num_samples - num_correct - sum(others)
    product = np.repeat([(1 - chance + chance * roots) ** silent], len(r), axis=0)
    for votes, count in Counter(others).items():
        below, terms = _partial_sums(votes, num_samples, k)
        tied = np.where(r <= votes, nodes, 0)[:, None] * terms[np.minimum(r, votes)]
        product *= (below[np.minimum(r, votes + 1)] + tied) ** count
    back = roots ** (r - k)[:, None] * np.where(np.arange(len(roots)), 2, 1)
    coefficients = (product * back).real.sum(axis=1) / (2 * len(roots) - 1)
    return float((_binomial(num_correct, chance)[r] * weights * coefficients).sum())


@lru_cache(maxsize=1 << 12)
def _unit_legendre(degree: int) -> tuple[Floats, Floats]:
    """Return nodes and weights that integrate a polynomial of that degree over [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(degree // 2 + 1)
    return (nodes + 1) / 2, weights / 2


@lru_cache(maxsize=1 << 14)
def _binomial(trials: int, chance: float) -> Floats:
    """Return the chances of 0 .. trials successes; 0 < chance < 1."""
    j = np.arange(1, trials + 1)
    log_ratios = np.log((trials - j + 1) / j) + math.log(chance) - math.log1p(-chance)
    chances: Floats = np.exp(trials * math.log1p(-chance) + np.cumsum([0.0, *log_ratios]))
    return chances


def _drawn(
    num_correct: Ints, others: Ints, num_others: Ints, num_samples: Ints, k: int, rng: np.random.Generator
) -> Floats:
    num_draws = max(25, -(-NUM_VOTES // max(len(num_correct), 1)))
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
    """Draw k samples without replacement, answer by answer: how many of each is hypergeometric given those before."""
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


def interval(values: Floats, clusters: Clusters = None, seed: int = 0) -> tuple[float, float]:
    """Return a 95% interval of the mean over problems: Wilson's if all values are 0 or 1, otherwise the bootstrap's.

    clusters: where they are known, the problems of one count together (`clustered`).
    """
    if clusters is not None:
        return _clustered_share(values, clusters)
    if np.isin(values, (0, 1)).all():
        return wilson(int(values.sum()), len(values))
    return bootstrap(values, seed)


def summary(values: Floats, clusters: Clusters = None) -> dict[str, float]:
    """Return the mean over problems as `value`, with its 95% interval, `low` to `high`."""
    low, high = interval(values, clusters)
    return {"value": float(values.mean()), "low": low, "high": high}


def bootstrap(values: Floats, seed: int = 0) -> tuple[float, float]:
    """Return the 95% percentile interval of the mean over NUM_RESAMPLES resamplings of the problems (Efron 1979).

    For the paired bootstrap of two models, give each problem's own difference.
    """
    rng = np.random.default_rng(seed)
    means = [values[rng.integers(len(values), size=len(values))].mean() for _ in range(NUM_RESAMPLES)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def compare(first: Floats, second: Floats, clusters: Clusters = None, seed: int = 0) -> dict[str, float | None]:
    """Compare two models on the same problems, row-aligned.

    Returns the mean `difference` (second minus first), its paired interval `low` to `high`, and the `p_value`, which is
    None unless every value is 0 or 1. Where no clusters are known, these are the bootstrap's and the exact McNemar
    test's; otherwise Student's over the clusters, because McNemar's test takes the problems as independent.
    """
    change, are_outcomes = second - first, np.isin([first, second], (0, 1)).all()
    if clusters is not None:
        value, low, high, chance = clustered(change, clusters)
        return {
            "difference": value,
            "low": max(low, -1),
            "high": min(high, 1),
            "p_value": chance if are_outcomes else None,
        }
    low, high = bootstrap(change, seed)
    p_value = mcnemar(first.astype(bool).tolist(), second.astype(bool).tolist()) if are_outcomes else None
    return {"difference": float(change.mean()), "low": low, "high": high, "p_value": p_value}


# ------------------------------------------------------------------------------------------- problems of one wording

Clusters = npt.NDArray[Any] | None  # the cluster of each problem, by any label; None where none is known


class Tested(NamedTuple):
    """A mean, its 95% interval, and the p-value of its difference from 0."""

    value: float
    low: float
    high: float
    p_value: float


def clustered(
    values: Floats, *labels: npt.NDArray[Any], weights: Floats | None = None, confidence: float = 0.95
) -> Tested:
    """Return the mean of values that depend on each other where they share a label, with Student's interval.

    labels: row-aligned with the values, one array for each way in which they are clustered: question wordings alone, or
    wordings and seeds. The variance is the cluster-robust one; for several ways the sums over their intersections are
    added and subtracted (Cameron, Gelbach and Miller 2011), and it is at least that of each way alone. The degrees of
    freedom are those of the way with the fewest clusters.
    """
    weights = np.ones(len(values)) if weights is None else weights
    value = float(np.average(values, weights=weights))
    shares = weights * (values - value) / weights.sum()
    codes = [np.unique(label, return_inverse=True)[1].reshape(-1) for label in labels]
    fewest = min(int(code.max()) + 1 for code in codes)
    if fewest < 2:
        return Tested(value, -math.inf, math.inf, 1.0)
    alone = [_variance(shares, code) for code in codes]
    subsets = [s for size in range(1, len(codes) + 1) for s in itertools.combinations(codes, size)]
    variance = max(sum((-1) ** (len(s) + 1) * _variance(shares, *s) for s in subsets), *alone, 0.0)
    half = student_t(fewest - 1, confidence) * math.sqrt(variance)
    p_value = 1 - _within(abs(value) / math.sqrt(variance), fewest - 1) if variance else float(value == 0)
    return Tested(value, value - half, value + half, p_value)


def _variance(shares: Floats, *codes: Ints) -> float:
    """Return the variance of a sum whose parts are independent unless all their codes are equal."""
    sums = np.bincount(np.unique(np.stack(codes), axis=1, return_inverse=True)[1].reshape(-1), shares)
    return float((sums**2).sum()) * len(sums) / (len(sums) - 1)


def _clustered_share(values: Floats, clusters: npt.NDArray[Any]) -> tuple[float, float]:
    """Return the interval of a share: for outcomes Wilson's, for as many independent problems as would vary as much.

    Where all outcomes are equal, nothing tells how much the problems of a cluster depend on each other: each counts.
    """
    share, low, high, _ = clustered(values, clusters)
    if not np.isin(values, (0, 1)).all() or math.isinf(low):
        return max(low, 0.0), min(high, 1.0)
    quantile = student_t(len(np.unique(clusters)) - 1)
    variance = ((high - share) / quantile) ** 2
    size = min(share * (1 - share) / variance, len(values)) if variance else len(values)
    return wilson(share * size, size, quantile if variance else Z95)


# ---------------------------------------------------------------------------------------------- several runs, and fits


class Line(NamedTuple):
    """A least-squares line."""

    slope: float
    intercept: float
    r2: float

    def at(self, x: float) -> float:
        """Return the line's height at x."""
        return self.intercept + self.slope * x


@lru_cache(maxsize=1 << 10)
def student_t(df: int, confidence: float = 0.95) -> float:
    """Return how far from 0 Student's t lies with this confidence at most, by bisection of its distribution.

    Abramowitz and Stegun 1964, 26.7.3 and 26.7.4: sums of powers of the cosine of atan(t / sqrt(df)). df: from 1 on.
    """
    low, high = 0.0, 1.0
    while _within(high, df) < confidence:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, df) < confidence else (low, middle)
    return low


def _within(t: float, df: int) -> float:
    """Return the chance that |T| < t."""
    angle = math.atan(t / math.sqrt(df))
    is_odd, square = df % 2, math.cos(angle) ** 2
    term = math.cos(angle) if is_odd else 1.0
    total = 0.0
    for j in range(df // 2):
        total += term
        term *= square * (2 * j + 1 + is_odd) / (2 * j + 2 + is_odd)
    return 2 / math.pi * (angle + math.sin(angle) * total) if is_odd else math.sin(angle) * total


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Return Student's interval of the mean of independent values, such as seeds; infinite for fewer than two."""
    if len(values) < 2:
        return -math.inf, math.inf
    if min(values) == max(values):
        return values[0], values[0]
    center, spread = float(np.mean(values)), float(np.std(values, ddof=1))
    half = student_t(len(values) - 1, confidence) * spread / math.sqrt(len(values))
    return center - half, center + half


def line_fit(xs: Sequence[float], ys: Sequence[float]) -> Line | None:
    """Fit y on x by least squares, with R²; None for a constant x.

    R² is 1 where y is constant: the line holds all there is to explain.
    """
    x, y = np.asarray(xs, np.float64), np.asarray(ys, np.float64)
    spread = float(((x - x.mean()) ** 2).sum()) if len(x) else 0.0
    if len(set(x.tolist())) < 2 or not spread:
        return None
    slope = float(((x - x.mean()) * (y - y.mean())).sum()) / spread
    intercept = float(y.mean()) - slope * float(x.mean())
    left, whole = float(((y - intercept - slope * x) ** 2).sum()), float(((y - y.mean()) ** 2).sum())
    return Line(slope, intercept, 1 - left / whole if whole else 1.0)
