"""What the samples of each problem have brought so far, and whether that is enough."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa

from qrft.grading.batch import BatchGrader
from qrft.grading.paths import as_flags, gold_keys, is_cut_off, is_right_path, path_sources
from qrft.grading.rules import DEFAULT_RULES, KeepOrDrop, Rules
from qrft.sampling.budget import Until


class Tally:
    """What the samples of each problem have brought so far: correct samples and distinct paths."""

    def __init__(
        self,
        problems: pa.Table,
        until: Until,
        rules: Rules = DEFAULT_RULES,
        num_threads: int | None = None,
        cut_off: KeepOrDrop = "drop",
    ) -> None:
        """Start with no samples. `problems`: schema.PROBLEMS. `until` has a goal. `cut_off`: whether samples that the
        token limit cut off count."""
        if until.goal is None:
            raise ValueError("until sets no goal, so nothing would ever be enough")
        self._goal = until.goal
        self.until, self._rules, self._num_threads, self._cut_off = until, rules, num_threads, cut_off
        ids: list[str] = problems["problem_id"].to_pylist()
        self._answers = dict(zip(ids, problems["answer"].to_pylist(), strict=True))
        self._gold = dict(zip(ids, gold_keys(problems, rules, num_threads).to_pylist(), strict=True))
        self.sources: Counter[str] = Counter()  # of the right paths
        self._correct: dict[str, list[bool]] = {name: [] for name in ids}  # by sample_index
        self._paths: dict[str, list[bytes | None]] = {name: [] for name in ids}

    def add(self, samples: pa.Table) -> None:
        """Take the next samples of some problems, each problem's by index."""
        ids = samples["problem_id"].to_pylist()
        gold = pa.array([self._answers[name] for name in ids], pa.string())
        with BatchGrader(self._rules, self._num_threads) as grader:
            graded = grader.grade(samples["completion"], gold)
        counts = np.ones(len(ids), np.bool_) if self._cut_off == "keep" else ~is_cut_off(samples)
        is_correct, is_right = as_flags(graded["is_correct"]) & counts, is_right_path(graded) & counts
        columns = is_correct.tolist(), graded["equation_key"].to_pylist(), is_right.tolist()
        self.sources += path_sources(graded)
        for name, correct, key, right in zip(ids, *columns, strict=True):
            self._correct[name].append(correct)
            self._paths[name].append(key if right and key != self._gold[name] else None)

    def count(self, problem_id: str, kind: str, num_samples: int | None = None) -> int:
        """Count the correct samples, or the distinct paths, among a problem's first samples."""
        if kind == "correct":
            return sum(self._correct[problem_id][:num_samples])
        return len({path for path in self._paths[problem_id][:num_samples] if path is not None})

    def has_enough(self, problem_id: str, num_samples: int | None = None) -> bool:
        return self.count(problem_id, self.until.counts, num_samples) >= self._goal
