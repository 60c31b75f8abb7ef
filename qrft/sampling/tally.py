"""What the samples of each problem have brought so far, and whether that is enough."""

from __future__ import annotations

import pyarrow as pa

from qrft import grading
from qrft.grading import latex
from qrft.grading.grader import equation_keys
from qrft.grading.rules import DEFAULT_RULES, Rules
from qrft.sampling.budget import Until
from qrft.sampling.requests import is_worked


class Tally:
    """What the samples of each problem have brought so far: correct samples and distinct paths."""

    def __init__(
        self, problems: pa.Table, until: Until, rules: Rules = DEFAULT_RULES, num_threads: int | None = None
    ) -> None:
        """`problems`: schema.PROBLEMS. `until` has a goal."""
        if until.goal is None:
            raise ValueError("until sets no goal: nothing would ever be enough")
        self._goal = until.goal
        self.until, self._rules, self._num_threads = until, rules, num_threads
        ids: list[str] = problems["problem_id"].to_pylist()
        self._answers = dict(zip(ids, problems["answer"].to_pylist(), strict=True))
        solutions: list[str] = problems["solution"].to_pylist()
        keys = equation_keys(solutions, rules=rules, num_threads=num_threads)
        pairs = zip(ids, solutions, keys, strict=True)
        self._gold = {name: key.tobytes() for name, solution, key in pairs if is_worked(solution)}
        self._correct: dict[str, list[bool]] = {name: [] for name in ids}  # by sample_index
        self._paths: dict[str, list[bytes | None]] = {name: [] for name in ids}

    def add(self, samples: pa.Table) -> None:
        """The next samples of some problems, each problem's by index."""
        ids = samples["problem_id"].to_pylist()
        graded = self._grade(samples["completion"], pa.array([self._answers[name] for name in ids], pa.string()))
        columns = (graded[name].to_pylist() for name in ("is_correct", "equations_status", "equation_key"))
        for name, is_correct, status, key in zip(ids, *columns, strict=True):
            is_path = is_correct and status == "ok" and key != self._gold.get(name)
            self._correct[name].append(is_correct)
            self._paths[name].append(key if is_path else None)

    def _grade(self, completions: pa.ChunkedArray, gold: pa.Array) -> pa.Table:
        graded = grading.grade(completions, gold, rules=self._rules, num_threads=self._num_threads)
        if not judges_expressions(self._rules) or not latex.needs_judging(graded):
            return graded
        with latex.Judges(self._num_threads) as judges:
            return latex.resolve(completions, pa.chunked_array([gold]), graded, judges, rules=self._rules)

    def count(self, problem_id: str, kind: str, num_samples: int | None = None) -> int:
        """How many correct samples or distinct paths are among a problem's first samples."""
        if kind == "correct":
            return sum(self._correct[problem_id][:num_samples])
        return len({path for path in self._paths[problem_id][:num_samples] if path is not None})

    def has_enough(self, problem_id: str, num_samples: int | None = None) -> bool:
        return self.count(problem_id, self.until.counts, num_samples) >= self._goal


def judges_expressions(rules: Rules) -> bool:
    """Whether Math-Verify compares answers that are expressions."""
    return rules.mode != "paper" and latex.is_available()
