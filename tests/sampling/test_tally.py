"""What counts towards the goal of `until`: what can be kept, and nothing else."""

from __future__ import annotations

import pyarrow as pa
import pytest
from helpers.paths import TINY

from qrft.config.load import load
from qrft.data.schema import PROBLEMS, SAMPLES
from qrft.errors import DataError
from qrft.models.find import BUILTIN
from qrft.pipeline.flow import plan
from qrft.pipeline.stages import sample
from qrft.sampling.budget import Until
from qrft.sampling.tally import Tally

PROBLEM = {"problem_id": "p", "question": "3 cats of 8", "solution": "", "answer": "24"}
SOUND, UNSOUND = "<<3*8=24>>24\n#### 24", "<<3*7=21>>21 <<21+3=24>>24\n#### 24"


def problems(**changes: str) -> pa.Table:
    return pa.Table.from_pylist([PROBLEM | changes], schema=PROBLEMS)


def samples(*texts: str, finish_reason: str = "stop") -> pa.Table:
    rows = [
        {"problem_id": "p", "sample_index": n, "completion": text, "finish_reason": finish_reason}
        for n, text in enumerate(texts)
    ]
    return pa.Table.from_pylist(rows, schema=SAMPLES)


@pytest.mark.parametrize("kind", ["correct", "distinct"])
def test_unsound_paths_count_only_where_they_are_kept(kind: str) -> None:
    for sound, number in (("off", 2), ("flag", 2), ("require", 1)):
        tally = Tally(problems(), Until(**{kind: 2}), sound=sound)  # type: ignore[arg-type]
        tally.add(samples(SOUND, UNSOUND, "#### 9"))
        assert tally.count("p", kind) == number and tally.has_enough("p") == (number == 2)


def test_a_recipe_says_what_is_kept_and_its_goal_counts_that() -> None:
    def sampling(*sets: str) -> sample.Settings:
        steps = plan(load(TINY, sets), BUILTIN["tiny-base"])
        return next(step.settings for step in steps if step.path == "round-1/samples")  # type: ignore[return-value]

    goal = "sample.until.distinct=2"
    assert sampling(goal, "curate.sound=require").sound == "require"
    plain = sampling(goal).identity()
    assert sampling(goal, "curate.sound=flag").identity() == plain and "sound" not in plain
    assert sampling("curate.sound=require").identity() == sampling().identity()  # without a goal nothing counts


def test_problems_without_answers_can_reach_no_goal() -> None:
    with pytest.raises(DataError, match="1 of 1 problems have no answer, such as problem_id 'p'"):
        Tally(problems(answer=""), Until(correct=1))
