"""Accuracy by the form in which an answer is looked for: the one that was asked for, and more lenient ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from qrft.evaluation.stats import Floats
from qrft.grading.batch import BatchGrader
from qrft.grading.grader import extract_answers, parse_numbers
from qrft.grading.paths import COMPARED, Flags, as_flags, by_verdict
from qrft.grading.rules import AnswerFormat, Rules

# found: an answer in the asked form, right or wrong. strict: right in the asked form. flexible: the same, and where
# there is none, right in the first other form. last_number: the last number of the text is right.
NAMES = ("found", "strict", "flexible", "last_number")


def in_form(rules: Rules, answer_format: AnswerFormat) -> Rules:
    """Return the rules that look for the answer in another form."""
    return rules.model_copy(update={"mode": "default", "answer_format": answer_format, "marker": None})


def are_right(completions: Any, gold: pa.DictionaryArray, rules: Rules, num_threads: int | None) -> Flags:
    """Return whether the answers are numbers that equal the gold ones, as `grading.grade` says: in a tenth of its time,
    which goes into equations."""
    answers = extract_answers(completions, rules=rules, num_threads=num_threads)
    golds = parse_numbers(gold.dictionary, rules=rules, num_threads=num_threads)
    row = gold.indices.to_numpy()
    found, wanted = (as_flags(pc.equal(read.statuses, "ok")) for read in (answers, golds))
    flags: Flags = found & wanted[row] & (answers.values == golds.values[row])
    return flags


class Shares:
    """The share of each problem's samples with each of NAMES, batch by batch. Use as a context manager.

    judges: whether Math-Verify compares expressions; None: if it is installed and the rules know them. The last number
    is none.
    """

    def __init__(
        self, num_problems: int, rules: Rules, num_threads: int | None = None, judges: bool | None = None
    ) -> None:
        self._any, self._last = BatchGrader(in_form(rules, "auto"), num_threads, judges), in_form(rules, "last-number")
        self._num_threads = num_threads
        self._num_samples = np.zeros(num_problems, np.int64)
        self._counts = {name: np.zeros(num_problems) for name in NAMES}

    def __enter__(self) -> Shares:
        self._any.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._any.__exit__(*error)

    def add(self, problem: npt.NDArray[Any], completions: Any, gold: pa.DictionaryArray, graded: pa.Table) -> None:
        """Count a batch, row-aligned. problem: each sample's; gold: its answer (batch.of_samples); graded: by the
        rules, schema.GRADED."""
        size = len(self._num_samples)
        self._num_samples += np.bincount(problem, minlength=size)
        for name, flags in self._flags(completions, gold, graded).items():
            self._counts[name] += np.bincount(problem[flags], minlength=size)

    def _flags(self, completions: Any, gold: pa.DictionaryArray, graded: pa.Table) -> dict[str, Flags]:
        status = graded["status"].cast(pa.string())  # many times as fast as names that are Python's objects
        found, strict = as_flags(pc.is_in(status, value_set=pa.array(COMPARED))), as_flags(graded["is_correct"])
        told = by_verdict(graded)  # in whatever form
        flexible, others = strict.copy(), ~found & ~told
        texts, golds = completions.filter(pa.array(others)), gold.filter(pa.array(others))
        flexible[others] = as_flags(self._any.grade(texts, golds)["is_correct"])
        last = np.where(told, strict, are_right(completions, gold, self._last, self._num_threads))
        return dict(zip(NAMES, (found, strict, flexible, last), strict=True))

    def shares(self) -> dict[str, Floats]:
        """Return each share, 0 for a problem without samples."""
        return {name: counts / np.maximum(self._num_samples, 1) for name, counts in self._counts.items()}
