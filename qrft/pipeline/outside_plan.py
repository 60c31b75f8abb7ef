"""Samples that a run does not draw from the models that it trains, as steps: those of files and of teachers."""

from __future__ import annotations

from pathlib import Path

from qrft.config.paths import for_people, local_path
from qrft.config.recipe import TEACHER, Model, Recipe
from qrft.config.sections import Sample
from qrft.data.samples.batches import files_of, without_suffix
from qrft.data.samples.pooled import OUTSIDE
from qrft.grading.rules import Verdicts
from qrft.models.wording import Wording
from qrft.pipeline.graph import Plan, Source, Step
from qrft.pipeline.model_plan import drawing, seed_of
from qrft.pipeline.stages import outside, sample
from qrft.sampling.backends import registry


def add_teachers(plan: Plan, recipe: Recipe, train_set: Step) -> dict[str, Step]:
    """Add the sampling of each teacher by its server; {} where there is none."""
    num_trained, found = len(recipe.models) - len(recipe.teachers), {}
    for number, (name, teacher) in enumerate(recipe.teachers.items(), num_trained):
        settings = _asking(recipe, name, teacher, seed_of(recipe, number, 1))
        found[name] = plan.add("sample", settings, {"problems": train_set}, kind="samples", model=name)
    return found


def _asking(recipe: Recipe, name: str, teacher: Model, seed: int) -> sample.Settings:
    """Return how a teacher is sampled: as often and as long as the models that learn from it, by its own server.

    What its server applies a chat template to is the question alone.
    """
    sampler = {key: value for key, value in dict(Sample()).items() if key in registry.all_keys()}
    sampler |= registry.own_values(TEACHER, dict(teacher)) | {"sampler": TEACHER}
    wording = Wording() if teacher.chat else recipe.wording
    told = teacher.system or recipe.system if teacher.chat else None
    return drawing(recipe, sampler, wording, seed=seed, model=name, server_system=told)


def add_outside(plan: Plan, recipe: Recipe, train_set: Step) -> dict[str, Step]:
    """Add what reads the files of samples, before any training: a file that does not fit is found then.

    Returns them by their source; {} where there are none.
    """
    named = {path: name for given in recipe.curate.samples for path, name in _files(given, recipe).items()}
    if not named:
        return {}
    chosen = recipe.problems
    has_part = chosen.num_train is not None or chosen.train_fraction != 1
    own = recipe.curate.model_dump(include={*Verdicts.model_fields})
    settings = outside.Settings(names=tuple(named.values()), skips_unknown=has_part, **own)
    inputs: dict[str, Step | Source] = {str(number): Source(path) for number, path in enumerate(named)}
    inputs["problems"] = train_set
    return {OUTSIDE: plan.add("outside", settings, inputs, kind="samples", model=OUTSIDE)}


def _files(given: str, recipe: Recipe) -> dict[Path, str]:
    """Return the files that a recipe names as one, each with what its samples without a model are called."""
    called = for_people(recipe.curate.samples)
    names = {name: without_suffix(called[name]) for name in called}
    name = names[given] if list(names.values()).count(names[given]) == 1 else called[given]
    return dict.fromkeys(files_of(local_path(given)), name)
