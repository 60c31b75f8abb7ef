"""Which samples to make next: pass by pass, cut into shards by nothing but the settings and the samples so far.

Without a goal there is one pass: k samples of every problem. With one the first pass is small, each later one doubles
what a problem has, up to k, and only problems that still lack paths go on: the tokens go where they are needed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pyarrow as pa

from qrft.sampling.api import Request
from qrft.sampling.budget import SAMPLES_PER_SHARD, Until
from qrft.sampling.tally import Tally

FIRST_PASS = 4  # samples of every problem before they are first counted


@dataclass
class Pass:
    """How many samples each problem of a pass has after it, and its cost. `num_satisfied` counts all problems."""

    samples_per_problem: int
    num_problems: int = 0
    num_samples: int = 0
    num_tokens: int = 0
    num_satisfied: int = 0


@dataclass
class Passes:
    """All shards of `requests` in order; the samples of each must be given to `add` before the next is asked for.

    requests: one a problem; their num_samples and first_sample do not count. asked: the k's asked for so far,
    ascending; a later one adds what the earlier ones left out, so that an interrupted run's shards are a whole one's.
    """

    requests: Sequence[Request]
    asked: Sequence[int]
    tally: Tally | None = None
    samples_per_shard: int = SAMPLES_PER_SHARD
    passes: list[Pass] = field(default_factory=list)
    finished: Counter[str] = field(default_factory=Counter)  # by finish_reason

    def __post_init__(self) -> None:
        self.num_samples = {request.problem_id: 0 for request in self.requests}  # by problem, so far
        self.num_wanted = 0  # the samples so far, and those of the pass at hand

    def shards(self) -> Iterator[list[Request]]:
        for num_samples in self.asked:
            before = 0
            for goal in _goals(num_samples, self.tally.until if self.tally else None):
                wanted = self._wanted(before, goal)
                if wanted:
                    self.passes.append(Pass(goal, len(wanted)))
                    self.num_wanted = sum(self.num_samples.values()) + sum(request.num_samples for request in wanted)
                    yield from _cut(wanted, self.samples_per_shard)
                    self.passes[-1].num_satisfied = self.num_satisfied()
                before = goal

    def _wanted(self, before: int, goal: int) -> list[Request]:
        """Return what each problem lacks to have `goal` samples, without those that had enough after `before`."""
        wanted = []
        for request in self.requests:
            have = self.num_samples[request.problem_id]
            if have < goal and not (self.tally and before and self.tally.has_enough(request.problem_id, before)):
                wanted.append(replace(request, first_sample=have, num_samples=goal - have))
        return wanted

    def add(self, samples: pa.Table) -> None:
        """Take the samples of the latest shard, as schema.SAMPLES."""
        if self.tally:
            self.tally.add(samples)
        for problem_id, count in Counter(samples["problem_id"].to_pylist()).items():
            self.num_samples[problem_id] += count
        self.passes[-1].num_samples += samples.num_rows
        self.passes[-1].num_tokens += sum(samples["num_tokens"].to_pylist())
        self.finished.update(samples["finish_reason"].to_pylist())

    def skip(self, shard: Sequence[Request]) -> None:
        """Take the latest shard as made, by another command, without its samples: nothing but a goal looks at them."""
        assert self.tally is None
        for request in shard:
            self.num_samples[request.problem_id] += request.num_samples

    def num_satisfied(self) -> int:
        """Count the problems that have enough; without a goal, those with all their samples."""
        if self.tally is None:
            return sum(count >= self.asked[-1] for count in self.num_samples.values())
        return sum(self.tally.has_enough(problem_id) for problem_id in self.num_samples)

    def facts(self) -> dict[str, Any]:
        """Return what there is now: counts, the share that ended in each way and, with a goal, the passes."""
        num_samples = sum(self.finished.values())
        shares = {reason: self.finished[reason] / max(1, num_samples) for reason in ("stop", "stop_text", "length")}
        facts = {
            "num_problems": len(self.requests),
            "num_samples": num_samples,
            "num_tokens": sum(done.num_tokens for done in self.passes),
            "finish_reasons": shares,
        }
        if self.tally is None:
            return facts
        # The key is older than the word "pass", and is in people's manifests.
        facts |= {"num_satisfied": self.num_satisfied(), "rounds": [asdict(done) for done in self.passes]}
        return {**facts, "told_apart_by": dict(self.tally.sources.most_common())}

    def by_problem(self) -> Iterator[Mapping[str, Any]]:
        """Yield, if there is a goal, how many samples each problem got and what they brought."""
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
    """Return how many samples a problem has after each pass. Doubling gives it less than twice what it needs."""
    if until is None or until.goal is None:
        return [num_samples]
    goals, goal = [], max(FIRST_PASS, until.goal)
    while goal < num_samples:
        goals.append(goal)
        goal *= 2
    return [*goals, num_samples]


def _cut(requests: Sequence[Request], size: int) -> Iterator[list[Request]]:
    """Yield shards of at most `size` samples; a problem that fits into one is not divided."""
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
