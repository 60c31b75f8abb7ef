"""What the samples of each problem have brought so far, and whether that is enough."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa

from qrft.data.worked import has_answer
from qrft.errors import DataError
from qrft.grading.batch import BatchGrader
from qrft.grading.paths import as_flags, gold_keys, is_cut_off, is_right_path, is_sound, path_sources
from qrft.grading.rules import DEFAULT_RULES, KeepOrDrop, Rules, Sound
from qrft.sampling.budget import Until


def _check_answers(problems: pa.Table) -> None:
    without = np.flatnonzero(~has_answer(problems))
    if len(without):
        name = problems["problem_id"][int(without[0])].as_py()
        raise DataError(
            f"until: {len(without):,} of {problems.num_rows:,} problems have no answer, such as problem_id "
            f"{name[:60]!r}, so none of their samples can count towards the goal. Leave until out, or give answers."
        )


class Tally:
    """What the samples of each problem have brought so far: correct samples and distinct paths."""

    def __init__(
        self,
        problems: pa.Table,
        until: Until,
        rules: Rules = DEFAULT_RULES,
        num_threads: int | None = None,
        *,
        cut_off: KeepOrDrop = "drop",
        sound: Sound = "off",
    ) -> None:
        """Start with no samples. `problems`: schema.PROBLEMS. `until` has a goal. Only what can be kept counts:
        `cut_off` says whether samples that the token limit cut off do, `sound` whether unsound ones do.

        Raises DataError for problems without answers.
        """
        if until.goal is None:
            raise ValueError("until sets no goal, so nothing would ever be enough")
        _check_answers(problems)
        self._goal = until.goal
        self.until, self._rules, self._num_threads = until, rules, num_threads
        self._cut_off, self._sound = cut_off, sound
        ids: list[str] = problems["problem_id"].to_pylist()
        self._answers = dict(zip(ids, problems["answer"].to_pylist(), strict=True))
        self._questions = dict(zip(ids, problems["question"].to_pylist(), strict=True))
        self._gold = dict(zip(ids, gold_keys(problems, rules, num_threads).to_pylist(), strict=True))
        self.sources: Counter[str] = Counter()  # of the right paths
        self._correct: dict[str, list[bool]] = {name: [] for name in ids}  # by sample_index
        self._paths: dict[str, list[bytes | None]] = {name: [] for name in ids}

    def add(self, samples: pa.Table) -> None:
        """Take the next samples of some problems, each problem's by index."""
        ids = samples["problem_id"].to_pylist()
        gold = pa.array([self._answers[name] for name in ids], pa.string())
        with BatchGrader(self._rules, self._num_threads) as grader:
            graded = grader.grade(samples["completion"], gold, questions=self._asked(ids))
        counts = np.ones(len(ids), np.bool_) if self._cut_off == "keep" else ~is_cut_off(samples)
        counts &= is_sound(graded) if self._sound == "require" else True
        is_correct, is_right = as_flags(graded["is_correct"]) & counts, is_right_path(graded) & counts
        columns = is_correct.tolist(), graded["equation_key"].to_pylist(), is_right.tolist()
        self.sources += path_sources(graded)
        for name, correct, key, right in zip(ids, *columns, strict=True):
            self._correct[name].append(correct)
            self._paths[name].append(key if right and key != self._gold[name] else None)

    def _asked(self, ids: list[str]) -> pa.Array | None:
        if self._sound != "require":
            return None
        return pa.array([self._questions[name] for name in ids], pa.large_string()).dictionary_encode()

    def count(self, problem_id: str, kind: str, num_samples: int | None = None) -> int:
        """Count the correct samples, or the distinct paths, among a problem's first samples."""
        if kind == "correct":
            return sum(self._correct[problem_id][:num_samples])
        return len({path for path in self._paths[problem_id][:num_samples] if path is not None})

    def has_enough(self, problem_id: str, num_samples: int | None = None) -> bool:
        return self.count(problem_id, self.until.counts, num_samples) >= self._goal
