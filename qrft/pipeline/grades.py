"""The grades of what was sampled for the training problems, as steps, and the vote for their answers before them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from qrft.config.recipe import Recipe
from qrft.data.samples import pooled
from qrft.pipeline.graph import Plan, Source, Step
from qrft.pipeline.model_plan import sample_grading, train_rules
from qrft.pipeline.stages import vote

VOTED = "voted"  # the part of the problems with the answers that won


class Sampled(NamedTuple):
    """What was sampled of a model, and its grades."""

    samples: Step
    graded: Step


class Grades:
    """Adds a grade step for all that is sampled: at once, or with `gold.vote` once the first round has voted.

    The vote is held once, for all models of the run together; later rounds are held against the same answers.
    """

    def __init__(self, plan: Plan, recipe: Recipe, train_set: Step) -> None:
        self._plan, self._recipe = plan, recipe
        self.problems = train_set  # with the answers that samples are held against
        self._waits = recipe.gold.vote is not None
        self._sampled: dict[str, Step] = {}
        self._graded: dict[str, Step] = {}

    def add(self, source: str, samples: Step) -> None:
        """Grade these samples. source: what a pool calls them."""
        self._sampled[source] = samples
        if not self._waits:
            asked = {"samples": samples, "problems": self.problems}
            grading = sample_grading(self._recipe)
            phase, model = samples.phase, samples.model
            self._graded[source] = self._plan.add("grade", grading, asked, kind="graded", phase=phase, model=model)

    def vote(self) -> None:
        """Let all samples so far vote, if the recipe has a vote and it is still to come, and grade them."""
        chosen = self._recipe
        if chosen.gold.vote is None or not self._waits:
            return
        self._waits = False
        names = tuple(self._sampled) if len(self._sampled) > 1 else ("",)
        settings = vote.Settings(
            share=chosen.gold.vote,
            sources=names,
            rules=train_rules(chosen),
            first_samples=chosen.curate.first_samples,
        )
        inputs: dict[str, Step | Source] = {"problems": self.problems}
        inputs |= {pooled.input_names(name)[0]: one for name, one in zip(names, self._sampled.values(), strict=True)}
        self.problems = self._plan.add("vote", settings, inputs, kind="problems", part=VOTED)
        for source, samples in self._sampled.items():
            self.add(source, samples)

    def of(self, sources: Mapping[str, Step]) -> dict[str, Sampled]:
        """Return samples with their grades."""
        return {source: Sampled(samples, self._graded[source]) for source, samples in sources.items()}
