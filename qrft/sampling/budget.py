"""Which samples to make next: round by round, cut into shards by the settings and the samples before alone.

Without a goal there is one round: k samples of every problem. With it the first round is small, each later one doubles
what a problem has, up to k, and only problems that still lack paths go on: the tokens go where they are needed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from qrft.config.section import Count, Section, broken_rule
from qrft.sampling.api import Request

if TYPE_CHECKING:
    import pyarrow as pa

    from qrft.sampling.tally import Tally

# A kill loses at most one shard, and the context runs empty at a shard's end: about 2% of its time at 32 sequences.
SAMPLES_PER_SHARD = 2048
FIRST_ROUND = 4  # samples of every problem before the first look at what they found


class Until(Section):
    """When a problem has enough samples: at a number of correct ones, or of distinct paths. Empty: there is no goal.

    A path is the equation list of a correct sample whose equations are all right; that of a worked gold solution does
    not count.
    """

    correct: Count | None = Field(
        default=None, description="How many correct samples of a problem are enough; null sets no such goal."
    )
    distinct: Count | None = Field(
        default=None,
        validate_default=True,
        description="How many distinct correct paths of a problem, beside the gold one, are enough; null sets no such "
        "goal.",
    )
    max_samples: Count | None = Field(
        default=None,
        validate_default=True,
        description="The most samples of a problem on the way to the goal; null takes num_samples.",
    )

    @field_validator("distinct")
    @classmethod
    def _one_goal(cls, distinct: int | None, info: ValidationInfo) -> int | None:
        if distinct is not None and info.data.get("correct") is not None:
            raise broken_rule(f"found {distinct} beside until.correct. Allowed: one of the two")
        return distinct

    @field_validator("max_samples")
    @classmethod
    def _goal_is_in_reach(cls, max_samples: int | None, info: ValidationInfo) -> int | None:
        goal = info.data.get("correct") or info.data.get("distinct")
        if max_samples is not None and goal is None and {"correct", "distinct"} <= set(info.data):
            raise broken_rule(f"found {max_samples} without a goal. Allowed: with until.correct or until.distinct")
        if max_samples is not None and goal is not None and max_samples < goal:
            raise broken_rule(f"found {max_samples}, which can't hold {goal} paths. Allowed: a whole number >= {goal}")
        return max_samples

    @property
    def goal(self) -> int | None:
        """How many correct samples or distinct paths are enough; None without a goal."""
        return self.correct or self.distinct

    @property
    def counts(self) -> Literal["correct", "distinct"]:
        """What is counted towards the goal."""
        return "correct" if self.correct else "distinct"


@dataclass
class Round:
    """What a round brought every problem it went over up to, and what it cost. `num_satisfied`: of all problems."""

    samples_per_problem: int
    num_problems: int = 0
    num_samples: int = 0
    num_tokens: int = 0
    num_satisfied: int = 0


@dataclass
class Rounds:
    """All shards of `requests` in order; each must be given back by `add` before the next is asked for.

    requests: one a problem; their num_samples and first_sample do not count. asked: the k's asked for so far,
    ascending; a later one adds what the earlier ones left out, so that an interrupted run's shards are a whole one's.
    """

    requests: Sequence[Request]
    asked: Sequence[int]
    tally: Tally | None = None
    samples_per_shard: int = SAMPLES_PER_SHARD
    rounds: list[Round] = field(default_factory=list)
    finished: Counter[str] = field(default_factory=Counter)  # by finish_reason

    def __post_init__(self) -> None:
        self.num_samples = {request.problem_id: 0 for request in self.requests}  # by problem, so far
        self.num_wanted = 0  # samples there, and those of the round at hand

    def shards(self) -> Iterator[list[Request]]:
        for num_samples in self.asked:
            before = 0
            for goal in _goals(num_samples, self.tally.until if self.tally else None):
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
            if have < goal and not (self.tally and before and self.tally.has_enough(request.problem_id, before)):
                wanted.append(replace(request, first_sample=have, num_samples=goal - have))
        return wanted

    def add(self, samples: pa.Table) -> None:
        """The samples of the latest shard, as schema.SAMPLES."""
        if self.tally:
            self.tally.add(samples)
        for problem_id, count in Counter(samples["problem_id"].to_pylist()).items():
            self.num_samples[problem_id] += count
        self.rounds[-1].num_samples += samples.num_rows
        self.rounds[-1].num_tokens += sum(samples["num_tokens"].to_pylist())
        self.finished.update(samples["finish_reason"].to_pylist())

    def num_satisfied(self) -> int:
        """Problems that have enough; without a goal, those with all their samples."""
        if self.tally is None:
            return sum(count >= self.asked[-1] for count in self.num_samples.values())
        return sum(self.tally.has_enough(problem_id) for problem_id in self.num_samples)

    def facts(self) -> dict[str, Any]:
        """What there is now: counts, the share that ended in each way and, with a goal, the rounds."""
        num_samples = sum(self.finished.values())
        shares = {reason: self.finished[reason] / max(1, num_samples) for reason in ("stop", "stop_text", "length")}
        facts = {
            "num_problems": len(self.requests),
            "num_samples": num_samples,
            "num_tokens": sum(done.num_tokens for done in self.rounds),
            "finish_reasons": shares,
        }
        if self.tally is None:
            return facts
        return {**facts, "num_satisfied": self.num_satisfied(), "rounds": [asdict(done) for done in self.rounds]}

    def by_problem(self) -> Iterator[Mapping[str, Any]]:
        """With a goal: where the samples went, and what they found."""
        assert self.tally is not None
        for problem_id, num_samples in self.num_samples.items():
            yield {
                "problem_id": problem_id,
                "num_samples": num_samples,
                "num_correct": self.tally.count(problem_id, "correct"),
                "num_distinct": self.tally.count(problem_id, "distinct"),
                "is_satisfied": self.tally.has_enough(problem_id),
            }


def _goals(num_samples: int, until: Until | None) -> list[int]:
    """How many samples a problem has after each round. Doubling: a problem gets less than twice what it needs."""
    if until is None or until.goal is None:
        return [num_samples]
    goals, goal = [], max(FIRST_ROUND, until.goal)
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
