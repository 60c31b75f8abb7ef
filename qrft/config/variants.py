"""Which runs a recipe stands for: the combinations of a sweep, and within a run the recipe of each model."""

from __future__ import annotations

from typing import Any, NamedTuple

from qrft.config import sweep
from qrft.config.recipe import KEYS, Model, Recipe
from qrft.config.sections import Paper
from qrft.config.training import Train, merged


class Variant(NamedTuple):
    """A run of a sweep: the folder's name, the sweep's keys with the run's values, and what it runs."""

    name: str
    settings: dict[str, Any]
    recipe: Recipe


def expand_sweep(recipe: Recipe) -> list[Variant]:
    """Return the runs of a sweep, each a recipe without a sweep; such a recipe is itself the only run."""
    if not recipe.sweep:
        return [Variant("", {}, recipe)]
    values = recipe.model_dump(mode="json", exclude={"sweep", "study"})  # a study tells of all runs together
    found = []
    for name, settings in sweep.combinations(recipe.sweep):
        own = Recipe.model_validate(sweep.substituted(values, settings, recipe.sweep, KEYS))
        found.append(Variant(name, settings, own))
    return found


def split_models(recipe: Recipe) -> dict[str, Recipe]:
    """Return a recipe of one base_model for each model but the teachers, by name; without models, the name is ""."""
    trained = {name: model for name, model in recipe.models.items() if name not in recipe.teachers}
    own = {name: _of_model(recipe, model) for name, model in trained.items()} or {"": recipe}
    return {name: each.model_copy(update={"paper": _figures(recipe, name, each)}) for name, each in own.items()}


def _of_model(recipe: Recipe, model: Model) -> Recipe:
    train = Train.model_validate(merged(recipe.train, model.train))
    gguf = recipe.gguf.model_copy(update={"file": model.gguf_file})
    return recipe.model_copy(update={"models": {}, "base_model": model.base_model, "train": train, "gguf": gguf})


def _figures(recipe: Recipe, model: str, own: Recipe) -> Paper:
    """Return the figures published for this run and model: cells are compared with every value that the run has."""
    if not recipe.paper.cells:
        return recipe.paper
    values = own.model_dump(mode="json") | {"models": recipe.model_dump(mode="json", include={"models"})["models"]}
    for stage in ("sft", "rft"):
        values[stage] = values["train"] | values[stage]
    values["sample"]["num_samples"] = recipe.curate.first_samples or recipe.sample.num_samples

    def value_of(key: str) -> Any:
        return model if key == "model" else sweep.value_at(values, sweep.matches(key, KEYS)[0])

    return recipe.paper.at(value_of)
