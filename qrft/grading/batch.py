"""Grading a batch of samples: by the C core, then by Math-Verify where answers are expressions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa

from qrft.grading.columns import Texts
from qrft.grading.grader import grade
from qrft.grading.latex import Judges, judges_expressions, resolve
from qrft.grading.rules import DEFAULT_RULES, Rules


class BatchGrader:
    """Grades batches by one set of rules, for as long as it is open. Use as a context manager.

    judges: whether Math-Verify compares expressions; None: if it is installed and the rules know expressions.
    """

    def __init__(
        self, rules: Rules = DEFAULT_RULES, num_threads: int | None = None, judges: bool | None = None
    ) -> None:
        self.rules, self._num_threads = rules, num_threads
        is_judging = judges_expressions(rules) if judges is None else judges
        self._judges = Judges(num_threads) if is_judging else None

    def __enter__(self) -> BatchGrader:
        return self

    def __exit__(self, *error: object) -> None:
        if self._judges:
            self._judges.__exit__(*error)

    def grade(
        self,
        completions: Texts,
        gold_answers: Texts,
        progress: Callable[[int], None] = lambda num_judged: None,
        questions: Texts | None = None,
    ) -> pa.Table:
        """Return the grades (schema.GRADED) of completions, each compared with the gold answer of its problem.

        questions: those of the problems; then the grades say which right paths are sound.
        """
        graded = self.read(completions, gold_answers, self._num_threads, questions)
        return self.judge(completions, gold_answers, graded, progress)

    def read(
        self, completions: Texts, gold_answers: Texts, num_threads: int | None, questions: Texts | None = None
    ) -> pa.Table:
        """Return the grades of the C core alone, from any thread; `judge` finishes them."""
        return grade(completions, gold_answers, questions=questions, rules=self.rules, num_threads=num_threads)

    def judge(
        self,
        completions: Texts,
        gold_answers: Texts,
        graded: pa.Table,
        progress: Callable[[int], None] = lambda num_judged: None,
    ) -> pa.Table:
        """Return the grades with their expressions judged; the same object when there is nothing to judge."""
        if self._judges is None:
            return graded
        return resolve(completions, gold_answers, graded, self._judges, rules=self.rules, progress=progress)


def of_samples(texts: pa.Array, problem: Any) -> pa.DictionaryArray:
    """Return the text of each sample's problem, such as its gold answer, with only those texts in the dictionary.

    texts: of all problems. problem: the row of each sample's problem, integers of shape (num_samples,).
    """
    rows = pa.array(problem).dictionary_encode()
    return pa.DictionaryArray.from_arrays(rows.indices, texts.take(rows.dictionary))
