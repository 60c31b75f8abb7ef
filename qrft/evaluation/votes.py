"""Votes of samples: the value that each answers, and from these maj@K and pass@K of each problem."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from qrft import grading
from qrft.evaluation import stats
from qrft.grading import latex
from qrft.grading.columns import as_chunked
from qrft.grading.grader import VALUE_BYTES
from qrft.grading.paths import COMPARED, Flags, as_names

NO_VOTE = -1
NO_VALUE = np.void(bytes(VALUE_BYTES))


def values(completions: Any, grades: pa.Table, rules: grading.Rules, num_threads: int | None = 1) -> pa.DictionaryArray:
    """Return what each sample votes for: the value of a number, or the text of an expression; null without a vote.

    grades: schema.GRADED, row-aligned with the completions.
    """
    answers = grading.extract_answers(completions, rules=rules, num_threads=num_threads)
    status = as_names(grades["status"])
    # An expression that equals the gold one is right, however it is written, so only wrong ones need their text.
    is_text = (status == "latex_different") & (answers.values == NO_VALUE)
    return _values(completions, answers, is_text, np.isin(status, COMPARED))


def votes_for(completions: Any, answers: grading.Answers) -> pa.DictionaryArray:
    """Return what each sample votes for where there is no gold answer: as `values`, and any expression by its text."""
    status = answers.statuses.cast(pa.string()).to_numpy(zero_copy_only=False)
    return _values(completions, answers, status == "expression", np.isin(status, ("ok", "expression")))


def _values(completions: Any, answers: grading.Answers, is_text: Flags, has_vote: Flags) -> pa.DictionaryArray:
    """Return the values of the answers, and in place of a value the text of those that are to have it."""
    texts = np.flatnonzero(is_text)
    expressions = latex.spans(as_chunked(completions), texts, answers.starts, answers.ends)
    for row, text in zip(texts, expressions, strict=True):
        answers.values[row] = np.void(hashlib.blake2b(text.encode(), digest_size=VALUE_BYTES).digest())
    raw = pa.Array.from_buffers(pa.binary(VALUE_BYTES), len(has_vote), [None, pa.py_buffer(answers.values)])
    return pc.if_else(pa.array(has_vote), raw, None).dictionary_encode()


def codes(voted: pa.DictionaryArray, known: dict[bytes, int]) -> npt.NDArray[np.int32]:
    """Return a number for each value, the same for equal ones, or NO_VOTE. `known` goes from batch to batch."""
    numbers = [known.setdefault(value, len(known)) for value in voted.dictionary.to_pylist()]
    codes_of = np.array([*numbers, NO_VOTE], np.int32)
    votes: npt.NDArray[np.int32] = codes_of[voted.indices.fill_null(len(numbers)).to_numpy()]
    return votes


def correct_share(num_problems: int, problem: npt.NDArray[Any], grades: pa.Table) -> stats.Floats:
    """Return the share of right samples of each problem, 0 without samples; for a greedy answer it is 1 or 0."""
    is_correct = grades["is_correct"].to_numpy()
    return Votes(num_problems, problem, is_correct, np.full(len(problem), NO_VOTE, np.int32)).share()


class Ballots:
    """The votes of samples, batch by batch: what a batch votes for is read in any thread, and counted in order."""

    def __init__(self, num_problems: int, rules: grading.Rules) -> None:
        self._num_problems, self._rules = num_problems, rules
        self._known: dict[bytes, int] = {}
        self._columns: list[tuple[npt.NDArray[Any], ...]] = []

    def read(self, completions: Any, grades: pa.Table, num_threads: int | None = 1) -> pa.DictionaryArray:
        return values(completions, grades, self._rules, num_threads)

    def add(self, problem: npt.NDArray[Any], grades: pa.Table, voted: pa.DictionaryArray) -> None:
        """Count a batch. problem: the row of each sample's problem. voted: what `read` made of the batch."""
        self._columns.append((problem, grades["is_correct"].to_numpy(), codes(voted, self._known)))

    def votes(self) -> Votes:
        problem, is_correct, answers = (np.concatenate(column) for column in zip(*self._columns, strict=True))
        return Votes(self._num_problems, problem, is_correct, answers)


class Votes:
    """The votes of each problem: how many samples it has, how many are right, and how many gave each other answer.

    problem, is_correct, answers: for each sample, its problem's row, whether it is right, and its answer's code.
    """

    def __init__(
        self,
        num_problems: int,
        problem: npt.NDArray[Any],
        is_correct: npt.NDArray[np.bool_],
        answers: npt.NDArray[np.int32],
    ) -> None:
        self.num_samples = np.bincount(problem, minlength=num_problems)
        self._num_correct = np.bincount(problem[is_correct], minlength=num_problems)
        self._is_sampled = self.num_samples > 0
        wrong = ~is_correct & (answers != NO_VOTE)
        pairs, self._others = np.unique(problem[wrong].astype(np.int64) << 32 | answers[wrong], return_counts=True)
        self._num_others = np.bincount(pairs >> 32, minlength=num_problems)

    def share(self) -> stats.Floats:
        """Return maj1@1: the share of right samples. As below, a problem without samples counts as wrong."""
        rows = self._is_sampled
        return self._over_all(self._num_correct[rows] / self.num_samples[rows])

    def majority(self, k: int) -> stats.Floats:
        """Return maj@k of each problem. Here and in `passes`, every problem with samples must have at least k."""
        rows = self._is_sampled
        tallies = self._num_correct[rows], self._others, self._num_others[rows], self.num_samples[rows]
        return self._over_all(stats.majority_at_k(*tallies, k))

    def passes(self, k: int) -> stats.Floats:
        rows = self._is_sampled
        return self._over_all(stats.pass_at_k(self._num_correct[rows], self.num_samples[rows], k))

    def measures(self, maj_at: Iterable[int], pass_at: Iterable[int]) -> dict[str, stats.Floats]:
        """Return the value of each measure for each problem, by the measure's name: "maj@8", "pass@8"."""
        scores = {f"maj@{k}": self.majority(k) for k in maj_at}
        return scores | {f"pass@{k}": self.passes(k) for k in pass_at}

    def _over_all(self, sampled: stats.Floats) -> stats.Floats:
        scores = np.zeros(len(self.num_samples))
        scores[self._is_sampled] = sampled
        return scores
