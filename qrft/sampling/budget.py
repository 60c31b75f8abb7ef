"""When a problem has enough samples, and how many samples one file holds."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from qrft.config.section import Count, Section, broken_rule

# A kill loses at most one shard, and the context runs empty at a shard's end: about 2% of its time at 32 sequences.
SAMPLES_PER_SHARD = 2048


class Until(Section):
    """When a problem has enough samples: at a number of correct ones, or of distinct paths. Empty: there is no goal.

    A path is the equation list of a correct sample whose equations are all right; that of a worked gold solution does
    not count.
    """

    correct: Count | None = Field(
        default=None,
        description="Stop sampling a problem when it has this many correct samples. If not set, there is no such goal.",
    )
    distinct: Count | None = Field(
        default=None,
        validate_default=True,
        description="Stop sampling a problem when it has this many distinct correct paths besides the gold one. If "
        "not set, there is no such goal.",
    )
    max_samples: Count | None = Field(
        default=None,
        validate_default=True,
        description="The most samples to draw per problem on the way to the goal. If not set, num_samples.",
    )

    @field_validator("distinct")
    @classmethod
    def _one_goal(cls, distinct: int | None, info: ValidationInfo) -> int | None:
        if distinct is not None and info.data.get("correct") is not None:
            raise broken_rule(f"found {distinct} together with until.correct. Allowed: one of the two")
        return distinct

    @field_validator("max_samples")
    @classmethod
    def _goal_is_in_reach(cls, max_samples: int | None, info: ValidationInfo) -> int | None:
        goal = info.data.get("correct") or info.data.get("distinct")
        if max_samples is not None and goal is None and {"correct", "distinct"} <= set(info.data):
            raise broken_rule(
                f"found {max_samples} without a goal. Allowed: null, or set until.correct or until.distinct"
            )
        if max_samples is not None and goal is not None and max_samples < goal:
            raise broken_rule(
                f"found {max_samples}, which is less than the goal of {goal} paths. Allowed: a whole number >= {goal}"
            )
        return max_samples

    @property
    def goal(self) -> int | None:
        """Return how many correct samples or distinct paths are enough; None without a goal."""
        return self.correct or self.distinct

    @property
    def counts(self) -> Literal["correct", "distinct"]:
        """Return what is counted towards the goal."""
        return "correct" if self.correct else "distinct"


NO_GOAL = Until()
