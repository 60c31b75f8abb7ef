"""Gold by vote: samples answer the problems that have no answer, and what enough of them say counts as the gold one."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from qrft import grading
from qrft.data.schema import PROBLEMS, VOTES
from qrft.data.worked import has_answer
from qrft.evaluation.votes import NO_VOTE, codes, votes_for
from qrft.grading.columns import as_bytes, as_chunked

Ints = npt.NDArray[np.int64]


class Voted(NamedTuple):
    """What a batch votes for: the problem and the value of each sample that counts, and each value as it is written."""

    problem: npt.NDArray[Any]
    values: pa.DictionaryArray
    texts: list[str]


class Poll:
    """The votes for the answers of those problems that have none, batch by batch.

    A value wins that more samples of its problem answer than any other, and at least a share of all its samples: one
    without a readable answer counts, too. Numbers vote by their values, expressions by their texts.
    """

    def __init__(self, problems: pa.Table, rules: grading.Rules) -> None:
        """Start without votes. problems: schema.PROBLEMS."""
        self._problems, self._rules, self._is_open = problems, rules, ~has_answer(problems)
        self._known: dict[bytes, int] = {}
        self._texts: list[str] = []
        self._columns: list[tuple[npt.NDArray[Any], npt.NDArray[np.int32]]] = []

    def read(self, problem: npt.NDArray[Any], completions: Any, num_threads: int | None = 1) -> Voted:
        """Read a batch, in any thread. problem: the row of each sample's problem."""
        rows = np.flatnonzero(self._is_open[problem])
        texts = as_chunked(completions).take(pa.array(rows))
        answers = grading.extract_answers(texts, rules=self._rules, num_threads=num_threads)
        voted = votes_for(texts, answers)
        _, first = np.unique(voted.indices.drop_null().to_numpy(), return_index=True)
        rows_of = np.flatnonzero(voted.indices.is_valid().to_numpy(zero_copy_only=False))[first]
        written = texts.take(pa.array(rows_of)).to_pylist()
        spans = zip(written, answers.starts[rows_of], answers.ends[rows_of], strict=True)
        return Voted(
            problem[rows], voted, [as_bytes(text)[start:end].decode(errors="replace") for text, start, end in spans]
        )

    def add(self, voted: Voted) -> None:
        """Count a batch."""
        for value, text in zip(voted.values.dictionary.to_pylist(), voted.texts, strict=True):
            if value not in self._known:
                self._texts.append(text)
                self._known[value] = len(self._known)
        self._columns.append((voted.problem, codes(voted.values, self._known)))

    def votes(self, least: float) -> pa.Table:
        """Return schema.VOTES: what won, with at least this share, of each problem that has no answer."""
        problem, answers = (np.concatenate(column) for column in zip(*self._columns, strict=True))
        won, most = _winners(len(self._is_open), problem, answers, least)
        rows = np.flatnonzero(self._is_open)
        texts = [self._texts[code] if code != NO_VOTE else "" for code in won[rows]]
        num_samples = np.bincount(problem, minlength=len(self._is_open))
        ids = self._problems["problem_id"].take(pa.array(rows))
        return pa.table([ids, texts, most[rows], num_samples[rows]], names=VOTES.names).cast(VOTES)


def _winners(
    num_problems: int, problem: npt.NDArray[Any], answers: npt.NDArray[Any], least: float
) -> tuple[Ints, Ints]:
    """Return the code that won each problem, or NO_VOTE, and how many votes its most frequent one has."""
    won, most = np.full(num_problems, NO_VOTE, np.int64), np.zeros(num_problems, np.int64)
    has_vote = answers != NO_VOTE
    pairs, counts = np.unique(problem[has_vote].astype(np.int64) << 32 | answers[has_vote], return_counts=True)
    order = np.lexsort((-counts, pairs >> 32))
    of, counts, choices = (pairs >> 32)[order], counts[order], (pairs & 0xFFFFFFFF)[order]
    asked, first = np.unique(of, return_index=True)
    after = np.minimum(first + 1, len(of) - 1)
    ties = (after > first) & (of[after] == asked) & (counts[after] == counts[first])
    enough = counts[first] >= least * np.bincount(problem, minlength=num_problems)[asked] - ROUNDING
    most[asked] = counts[first]
    won[asked] = np.where(enough & ~ties, choices[first], NO_VOTE)
    return won, most


ROUNDING = 1e-9  # a third of 3 samples is one of them


def with_votes(problems: pa.Table, votes: pa.Table) -> pa.Table:
    """Return the problems with the answers that won."""
    won = dict(zip(votes["problem_id"].to_pylist(), votes["answer"].to_pylist(), strict=True))
    ids, own = problems["problem_id"].to_pylist(), problems["answer"].to_pylist()
    answers = pa.array([won.get(name, answer) for name, answer in zip(ids, own, strict=True)], pa.string())
    place = PROBLEMS.get_field_index("answer")
    return problems.set_column(place, PROBLEMS.field(place), answers)
