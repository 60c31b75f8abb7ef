"""Samples that a run does not draw from the models that it trains, as steps: those of files."""

from __future__ import annotations

from pathlib import Path

from qrft.config.paths import for_people, local_path
from qrft.config.recipe import Recipe
from qrft.data.samples.batches import files_of, without_suffix
from qrft.data.samples.pooled import OUTSIDE
from qrft.pipeline.graph import Plan, Source, Step
from qrft.pipeline.model_plan import Sampled, sample_grading
from qrft.pipeline.stages import outside


def add_outside(plan: Plan, recipe: Recipe, train_set: Step) -> dict[str, Sampled]:
    """Add what reads the files of samples and grades them, before any training: a file that does not fit is found then.

    Returns them by their source; {} where there are none.
    """
    named = {path: name for given in recipe.curate.samples for path, name in _files(given, recipe).items()}
    if not named:
        return {}
    chosen = recipe.problems
    has_part = chosen.num_train is not None or chosen.train_fraction != 1
    settings = outside.Settings(names=tuple(named.values()), skips_unknown=has_part)
    inputs: dict[str, Step | Source] = {str(number): Source(path) for number, path in enumerate(named)}
    inputs["problems"] = train_set
    samples = plan.add("outside", settings, inputs, kind="samples", model=OUTSIDE)
    asked = {"samples": samples, "problems": train_set}
    graded = plan.add("grade", sample_grading(recipe), asked, kind="graded", model=OUTSIDE)
    return {OUTSIDE: Sampled(samples, graded)}


def _files(given: str, recipe: Recipe) -> dict[Path, str]:
    """Return the files that a recipe names as one, each with what its samples without a model are called."""
    called = for_people(recipe.curate.samples)
    names = {name: without_suffix(called[name]) for name in called}
    name = names[given] if list(names.values()).count(names[given]) == 1 else called[given]
    return dict.fromkeys(files_of(local_path(given)), name)
