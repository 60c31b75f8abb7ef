"""Which samples to make next: round by round, cut into shards by the settings and the samples before alone.

Without `Until` there is one round: k samples of every problem. With it the first round is small, each later one doubles
what a problem has, up to k, and only problems that still lack paths go on: the tokens go where they are needed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import pyarrow as pa

from qrft import grading
from qrft.grading import latex
from qrft.grading.grader import DEFAULT_RULES, equation_keys
from qrft.sampling.api import Request
from qrft.sampling.requests import is_worked

# A kill loses at most one shard, and the context runs empty at a shard's end: about 2% of its time at 32 sequences.
SAMPLES_PER_SHARD = 2048
FIRST_ROUND = 4  # samples of every problem before the first look at what they found


@dataclass(frozen=True)
class Until:
    """A problem has enough with `count` samples that are correct, or with `count` distinct paths.

    A path is the equation list of a correct sample whose equations are all right; that of a worked gold solution does
    not count.
    """

    kind: Literal["correct", "distinct"]
    count: int


@dataclass
class Round:
    """What a round brought every problem it went over up to, and what it cost. `num_satisfied`: of all problems."""

    samples_per_problem: int
    num_problems: int = 0
    num_samples: int = 0
    num_tokens: int = 0
    num_satisfied: int = 0


class Found:
    """What the samples of each problem have found so far."""

    def __init__(
        self, problems: pa.Table, until: Until, rules: grading.Rules = DEFAULT_RULES, num_threads: int | None = None
    ) -> None:
        """`problems`: schema.PROBLEMS."""
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
        return self.count(problem_id, self.until.kind, num_samples) >= self.until.count


def judges_expressions(rules: grading.Rules) -> bool:
    """Whether Math-Verify compares answers that are expressions."""
    return rules.mode != "paper" and latex.is_available()


@dataclass
class Rounds:
    """All shards of `requests` in order; each must be given back by `add` before the next is asked for.

    requests: one a problem; their num_samples and first_sample do not count. asked: the k's asked for so far,
    ascending; a later one adds what the earlier ones left out, so that an interrupted run's shards are a whole one's.
    """

    requests: Sequence[Request]
    asked: Sequence[int]
    found: Found | None = None
    samples_per_shard: int = SAMPLES_PER_SHARD
    rounds: list[Round] = field(default_factory=list)
    finished: Counter[str] = field(default_factory=Counter)  # by finish_reason

    def __post_init__(self) -> None:
        self.num_samples = {request.problem_id: 0 for request in self.requests}  # by problem, so far
        self.num_wanted = 0  # samples there, and those of the round at hand

    def shards(self) -> Iterator[list[Request]]:
        for num_samples in self.asked:
            before = 0
            for goal in _goals(num_samples, self.found.until if self.found else None):
                wanted = self._wanted(before, goal)
                if wanted:
                    self.rounds.append(Round(goal, len(wanted)))
                    self.num_wanted = sum(self.num_samples.values()) + sum(request.num_samples for request in wanted)
                    yield from _cut(wanted, self.samples_per_shard)
                    self.rounds[-1].num_satisfied = self.num_satisfied()
                before = goal

    def _wanted(self, before: int, goal: int) -> list[Request]:
        """What every problem lacks to have `goal` samples, without those whose first `before` ones are enough."""
        wanted = []
        for request in self.requests:
            have = self.num_samples[request.problem_id]
            if have < goal and not (self.found and before and self.found.has_enough(request.problem_id, before)):
                wanted.append(replace(request, first_sample=have, num_samples=goal - have))
        return wanted

    def add(self, samples: pa.Table) -> None:
        """The samples of the latest shard, as schema.SAMPLES."""
        if self.found:
            self.found.add(samples)
        for problem_id, count in Counter(samples["problem_id"].to_pylist()).items():
            self.num_samples[problem_id] += count
        self.rounds[-1].num_samples += samples.num_rows
        self.rounds[-1].num_tokens += sum(samples["num_tokens"].to_pylist())
        self.finished.update(samples["finish_reason"].to_pylist())

    def num_satisfied(self) -> int:
        """Problems that have enough; without `Until`, those with all their samples."""
        if self.found is None:
            return sum(count >= self.asked[-1] for count in self.num_samples.values())
        return sum(self.found.has_enough(problem_id) for problem_id in self.num_samples)

    def facts(self) -> dict[str, Any]:
        """What there is now: counts, the share that ended in each way and, with `Until`, the rounds."""
        num_samples = sum(self.finished.values())
        shares = {reason: self.finished[reason] / max(1, num_samples) for reason in ("stop", "stop_text", "length")}
        facts = {
            "num_problems": len(self.requests),
            "num_samples": num_samples,
            "num_tokens": sum(done.num_tokens for done in self.rounds),
            "finish_reasons": shares,
        }
        if self.found is None:
            return facts
        return {**facts, "num_satisfied": self.num_satisfied(), "rounds": [asdict(done) for done in self.rounds]}

    def by_problem(self) -> Iterator[Mapping[str, Any]]:
        """With `Until`: where the samples went, and what they found."""
        assert self.found is not None
        for problem_id, num_samples in self.num_samples.items():
            yield {
                "problem_id": problem_id,
                "num_samples": num_samples,
                "num_correct": self.found.count(problem_id, "correct"),
                "num_distinct": self.found.count(problem_id, "distinct"),
                "is_satisfied": self.found.has_enough(problem_id),
            }


def _goals(num_samples: int, until: Until | None) -> list[int]:
    """How many samples a problem has after each round. Doubling: a problem gets less than twice what it needs."""
    if until is None:
        return [num_samples]
    goals, goal = [], max(FIRST_ROUND, until.count)
    while goal < num_samples:
        goals.append(goal)
        goal *= 2
    return [*goals, num_samples]


def _cut(requests: Sequence[Request], size: int) -> Iterator[list[Request]]:
    """Shards of at most `size` samples, of whole problems where one fits."""
    shard: list[Request] = []
    room = size
    for request in requests:
        if shard and request.num_samples > room:
            yield shard
            shard, room = [], size
        while request.num_samples > size:
            yield [replace(request, num_samples=size)]
            first, left = request.first_sample + size, request.num_samples - size
            request = replace(request, first_sample=first, num_samples=left)
        shard.append(request)
        room -= request.num_samples
    if shard:
        yield shard
