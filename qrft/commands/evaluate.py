"""`qrft evaluate`: how often samples are right: one alone, by a vote of K, or any of K."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from qrft import core, stats
from qrft.commands.grading import COMPARED, Problems, Task, Totals, graded
from qrft.core import latex
from qrft.core.columns import as_chunked
from qrft.core.grading import VALUE_BYTES
from qrft.errors import DataError
from qrft.samples import Batch

NO_VOTE = -1
NO_VALUE = np.void(bytes(VALUE_BYTES))


def run(task: Task, maj: Sequence[int] | None = None, passes: Sequence[int] | None = None) -> dict[str, Any]:
    """The facts, with `maj1@1`, `maj@K` and `pass@K`, each a value with its 95% interval over all problems.

    maj, passes: the K's; None: powers of two, and the number of samples that every problem has. Raises DataError
    when a problem has some samples, but fewer than a K that was asked for.
    """
    problems = Problems(task)
    totals = Totals(len(problems))
    votes = _Votes(task, problems, totals)
    fewest = int(votes.num_samples[votes.num_samples > 0].min())
    default = _default_ks(fewest)
    for k in (*(maj or ()), *(passes or ())):
        votes.check(k)
    values = {"maj1@1": votes.share()}
    values |= {f"maj@{k}": votes.majority(k) for k in (default if maj is None else maj)}
    values |= {f"pass@{k}": votes.passes(k) for k in (default if passes is None else passes)}
    unsampled = int((votes.num_samples == 0).sum())
    return totals.facts() | {"num_unsampled": unsampled} | {name: _metric(value) for name, value in values.items()}


def _default_ks(fewest: int) -> list[int]:
    powers = [2**i for i in range(1, fewest.bit_length())]
    return sorted({*powers, fewest} - {1})


def _metric(values: stats.Floats) -> dict[str, float]:
    low, high = stats.interval(values)
    return {"value": float(values.mean()), "low": low, "high": high}


class _Votes:
    """Per problem: its samples, the right ones, and how many gave each other answer."""

    def __init__(self, task: Task, problems: Problems, totals: Totals) -> None:
        self._problems = problems
        problem, is_correct, answers = _read(task, problems, totals)
        self.num_samples = np.bincount(problem, minlength=len(problems))
        self.num_correct = np.bincount(problem[is_correct], minlength=len(problems))
        self._is_sampled = self.num_samples > 0
        wrong = ~is_correct & (answers != NO_VOTE)
        pairs, self._others = np.unique(problem[wrong].astype(np.int64) << 32 | answers[wrong], return_counts=True)
        self._num_others = np.bincount(pairs >> 32, minlength=len(problems))

    def check(self, k: int) -> None:
        short = np.flatnonzero(self._is_sampled & (self.num_samples < k))
        if len(short):
            name, found = self._problems.ids[int(short[0])].as_py(), self.num_samples[short[0]]
            raise DataError(
                f"K = {k}: problem_id {name!r} has {found} samples ({len(short):,} problems have too few). "
                f"Ask for a K up to {self.num_samples[self._is_sampled].min()}, or give more samples."
            )

    def share(self) -> stats.Floats:
        return self._over_all(self.num_correct[self._is_sampled] / self.num_samples[self._is_sampled])

    def majority(self, k: int) -> stats.Floats:
        rows = self._is_sampled
        num_others, num_samples = self._num_others[rows], self.num_samples[rows]
        won = stats.majority_at_k(self.num_correct[rows], self._others, num_others, num_samples, k)
        return self._over_all(won)

    def passes(self, k: int) -> stats.Floats:
        return self._over_all(
            stats.pass_at_k(self.num_correct[self._is_sampled], self.num_samples[self._is_sampled], k)
        )

    def _over_all(self, sampled: stats.Floats) -> stats.Floats:
        """A problem without samples counts as wrong."""
        values = np.zeros(len(self._problems))
        values[self._is_sampled] = sampled
        return values


def _read(
    task: Task, problems: Problems, totals: Totals
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_], npt.NDArray[np.int32]]:
    """Of each sample: its problem, whether it is right, and the number of its answer's value."""

    known: dict[bytes, int] = {}
    columns: list[tuple[npt.NDArray[Any], ...]] = []
    with closing(graded(task, problems, totals, partial(_values, task))) as parts:
        for part in parts:
            numbers = [known.setdefault(value, len(known)) for value in part.extra.dictionary.to_pylist()]
            codes = np.array([*numbers, NO_VOTE], np.int32)[part.extra.indices.fill_null(len(numbers)).to_numpy()]
            is_correct = part.grades["is_correct"].to_numpy()
            columns.append((part.batch.problem, is_correct, codes))
    problem, is_correct, answers = (np.concatenate(column) for column in zip(*columns, strict=True))
    return problem, is_correct, answers


def _values(task: Task, batch: Batch, grades: pa.Table) -> pa.DictionaryArray:
    """What each sample votes for: the value of a number, else the text of an expression; null without a vote."""
    answers = core.extract_answers(batch.completion, rules=task.rules, num_threads=1)
    status = grades["status"].combine_chunks().to_numpy(zero_copy_only=False)
    # Of expressions those that equal the gold one are right, however they are written. Only wrong ones need a text.
    texts = np.flatnonzero((status == "latex_different") & (answers.values == NO_VALUE))
    found = latex.spans(as_chunked(batch.completion), texts, answers.starts, answers.ends)
    for row, text in zip(texts, found, strict=True):
        answers.values[row] = np.void(hashlib.blake2b(text.encode(), digest_size=VALUE_BYTES).digest())
    raw = pa.Array.from_buffers(pa.binary(VALUE_BYTES), len(status), [None, pa.py_buffer(answers.values)])
    return pc.if_else(pa.array(np.isin(status, COMPARED)), raw, None).dictionary_encode()
