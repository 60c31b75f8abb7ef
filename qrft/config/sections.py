"""The sections of a recipe that no other package owns: every key with its type, default and description."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import (
    BeforeValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from qrft.config import sweep
from qrft.config.section import Count, Section, Seed, broken_rule
from qrft.data.problems.own_set import ProblemSource
from qrft.data.problems.registry import GENERATED
from qrft.grading.rules import Selection, Verdicts
from qrft.sampling.api import LocalSettings, Picking
from qrft.sampling.backends import registry
from qrft.sampling.backends.registry import SamplerName
from qrft.sampling.budget import Until

MODEL_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,39}")  # a folder's; with a dot, --set could not name it
MOST_DRAWN = 1_000_000  # of a generated set: minutes of work, and a plan draws them too
# A share may be written 1/8.
Share = Annotated[float, Field(gt=0, le=1), BeforeValidator(sweep.number)]
Percent = Annotated[float, Field(ge=0, le=100)]


class Problems(Section):
    train: ProblemSource = Field(
        description="The problems to train on and to sample: the name of a set, a file (JSONL, JSON, CSV, Parquet), or "
        "a section with the names of its columns."
    )
    test: ProblemSource = Field(description="The problems to evaluate on, in the same ways.")
    num_train: Count | None = Field(
        default=None,
        validate_default=True,
        description="How many of the training problems to use. If not set, all of them.",
    )
    num_test: Count | None = Field(
        default=None,
        validate_default=True,
        description="How many problems of each test set to use. If not set, all of them.",
    )
    seed: Seed | None = Field(
        default=None,
        description="The seed from which the problems of a generated set are drawn. If not set, that of the recipe, so "
        "that runs with different seeds differ in their problems too.",
    )
    train_fraction: Share = Field(
        default=1.0,
        description="The share of the training problems to use, such as 1/8. They are drawn with the recipe's seed, "
        "and a smaller share is always part of every larger one.",
    )

    @field_validator("num_train", "num_test")
    @classmethod
    def _generated_sets_end(cls, num_problems: int | None, info: ValidationInfo) -> int | None:
        name = info.data.get(str(info.field_name).removeprefix("num_"))
        if num_problems is None and name in GENERATED:
            raise broken_rule(f"found null with {name}, which has no end. Allowed: a number of problems to draw")
        if num_problems is not None and num_problems > MOST_DRAWN and name in GENERATED:
            raise broken_rule(
                f"found {num_problems} with {name}, whose problems are drawn one by one. Allowed: 1 to {MOST_DRAWN:,}"
            )
        return num_problems


if TYPE_CHECKING:

    class SamplerSettings(LocalSettings):
        sampler: SamplerName = registry.DEFAULT
else:
    SamplerSettings = registry.combined_settings()


class Sample(SamplerSettings, Picking):
    num_samples: Count = Field(default=30, description="How many samples to draw per problem (k).")
    until: Until = Field(
        default_factory=Until,
        description="Sample each problem until it has enough correct samples or paths, instead of equally often.",
    )

    @field_validator("until")
    @classmethod
    def _goal_is_in_reach(cls, until: Until, info: ValidationInfo) -> Until:
        goal, num_samples = until.goal or 0, info.data.get("num_samples", 1)
        if until.max_samples is None and goal > num_samples:
            raise broken_rule(
                f"found {goal} paths with sample.num_samples {num_samples}. "
                "Allowed: at most that, or set until.max_samples"
            )
        return until

    @model_validator(mode="after")
    def _samples_differ(self) -> Self:
        if self.temperature == 0 and self.num_samples > 1:
            raise broken_rule(
                f"found 0 with sample.num_samples {self.num_samples}: all samples of a problem would be equal. "
                "Allowed: a temperature > 0, or num_samples 1",
                "temperature",
            )
        return self

    @model_validator(mode="after")
    def _its_sampler_reads_what_is_set(self) -> Self:
        for key in registry.unread_keys(self.sampler, dict(self)):
            raise broken_rule(
                f"found {getattr(self, key)} with sample.sampler {self.sampler}, which does not read it. "
                f"Allowed: leave it out, or choose sample.sampler {' or '.join(registry.readers(key))}",
                key,
            )
        for key, description in registry.missing_keys(self.sampler, self):
            raise broken_rule(f"missing with sample.sampler {self.sampler}. Allowed: {description}", key)
        return self


class Curate(Selection, Verdicts):
    first_samples: Count | None = Field(
        default=None,
        description="How many samples per problem and model to look at, counted from the first. If not set, all of "
        "them.",
    )
    pool: Annotated[tuple[str, ...], Field(strict=False)] = Field(
        default=(),
        description="The models whose samples are put together, so that all models are trained on one selection. If "
        "empty, each model is trained on its own samples.",
    )
    samples: Annotated[tuple[str, ...], Field(strict=False)] = Field(
        default=(),
        description="Files of samples made elsewhere (JSONL or Parquet), or folders of qrft sample, which every "
        "selection is made from too. They are matched to the problems by id, and graded as the run's own.",
    )
    pairs: Count | None = Field(
        default=None,
        description="The most preference pairs (a correct and a wrong path) to write per problem, in TRL's columns. "
        "If not set, none are written.",
    )


Counts = Annotated[tuple[Count, ...], Field(strict=False)]


class Evaluate(Section):
    greedy: bool = Field(
        default=True,
        description="Answer each problem once, greedily. If false, the accuracy is the mean over the samples.",
    )
    maj_at: Counts = Field(
        default=(), description="The values of K for maj@K: whether the most frequent answer of K samples is correct."
    )
    pass_at: Counts = Field(
        default=(),
        validate_default=True,
        description="The values of K for pass@K: whether at least one of K samples is correct.",
    )
    temperature: float = Field(
        default=0.7,
        gt=0,
        description="The temperature of the samples for maj@K and pass@K; the largest K is their number per problem.",
    )
    few_shot: Annotated[
        tuple[Annotated[int, Field(ge=0)], ...],
        Field(
            strict=False,
            min_length=1,
            description="How many worked examples to show the base model. If there are several numbers, it is measured "
            "with each.",
        ),
    ] = (0,)
    problems: Annotated[tuple[ProblemSource, ...], Field(strict=False)] = Field(
        default=(), description="Further test sets besides problems.test, each in the same ways."
    )
    max_new_tokens: Count = Field(default=512, description="The maximum length of a completion, in tokens.")

    @field_validator("maj_at", "pass_at", "few_shot")
    @classmethod
    def _each_once(cls, counts: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(counts)) < len(counts):
            raise broken_rule(f"found {list(counts)}. Allowed: each number once")
        return counts

    @field_validator("pass_at")
    @classmethod
    def _something_is_measured(cls, pass_at: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        if not pass_at and not info.data.get("maj_at", True) and not info.data.get("greedy", True):
            raise broken_rule("found nothing to measure. Allowed: evaluate.greedy true, or some maj_at or pass_at")
        return pass_at


class Figures(Section):
    icl: Percent | None = Field(default=None, description="The accuracy of the base model with examples in the prompt.")
    sft: Percent | None = Field(default=None, description="The accuracy after SFT.")
    rft: Percent | None = Field(default=None, description="The accuracy after RFT.")
    icl_maj100: Percent | None = Field(
        default=None, description="maj@100 of the base model with examples in the prompt."
    )
    sft_maj100: Percent | None = Field(default=None, description="maj@100 after SFT.")
    rft_maj100: Percent | None = Field(default=None, description="maj@100 after RFT.")
    distinct_paths: Annotated[float, Field(ge=1)] | None = Field(
        default=None, description="The number of distinct correct paths per problem, the gold one included."
    )


class Cell(Figures):
    at: dict[str, Any] = Field(
        description="The runs that the figures belong to: the name of the model, and keys of the recipe with their "
        "values."
    )


class Paper(Figures):
    source: str | None = Field(default=None, description="Where the figures were published.")
    cells: Annotated[tuple[Cell, ...], Field(strict=False)] = Field(
        default=(),
        description="Figures of single models, or of single runs of a sweep. Each is a section with the keys above, "
        "and with a section at, which says which runs they belong to: the name of the model, and keys of "
        "the recipe with their values.",
    )

    def at(self, value_of: Callable[[str], Any]) -> Paper:
        """Return the figures of one run: those of all runs, then of each cell that fits; the last wins.

        value_of: gives the run's value of a key of a cell.
        """
        figures: dict[str, Any] = {}
        for cell in self.cells:
            if all(_plain(value) == _plain(value_of(key)) for key, value in cell.at.items()):
                figures |= cell.model_dump(include={*Figures.model_fields}, exclude_none=True)
        return self.model_copy(update={**figures, "cells": ()})


def _plain(value: Any) -> Any:
    """Return a form in which settings of one meaning are equal: 1/2 and 0.5, {} and a section of nulls."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return sweep.number(value)
