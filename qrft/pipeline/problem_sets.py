"""The problem sets that a run reads or draws, as steps."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from qrft.config.paths import local_path
from qrft.config.recipe import Recipe
from qrft.data.file_hashes import state
from qrft.data.problems import registry
from qrft.data.problems.own_files import read_file
from qrft.data.worked import is_worked
from qrft.pipeline.graph import Plan, Source, Step
from qrft.pipeline.stages import problems


class Sets(NamedTuple):
    """The problems to learn from, and those to be measured on."""

    train: Step
    test: Step


def add_problems(plan: Plan, recipe: Recipe) -> Sets:
    """Add the steps of problems.train, or a share of it, and of problems.test."""
    chosen = recipe.problems
    train = problems.Settings(num_problems=chosen.num_train, may_lack_answers=recipe.may_lack_answers)
    if chosen.train_fraction != 1:
        train = train.model_copy(update={"fraction": chosen.train_fraction, "fraction_seed": recipe.seed})
    test = problems.Settings(num_problems=chosen.num_test)
    return Sets(
        add_problem_set(plan, recipe, "train", chosen.train, train),
        add_problem_set(plan, recipe, "test", chosen.test, test),
    )


def add_problem_set(
    plan: Plan, recipe: Recipe, part: str, name: str, settings: problems.Settings, model: str = ""
) -> Step:
    """Add the step that draws a generated set, or reads a published one or a file; `settings` says how much of it."""
    inputs: dict[str, Step | Source] = {}
    if name in registry.GENERATED:
        settings = settings.model_copy(update={"set": name, "seed": recipe.problems.seed})
    elif name in registry.PUBLISHED and not local_path(name).is_file():
        settings = settings.model_copy(update={"set": name})
        inputs["file"] = Source(registry.locate(name))
    else:
        inputs["file"] = Source(local_path(name))
    return plan.add("problems", settings, inputs, kind="problems", part=part, model=model)


def begins_with_sft(recipe: Recipe) -> bool:
    """Return whether SFT comes first: as `start` says, or where some training problem has a worked solution.

    Raises DataError for a file that can't be read.
    """
    name, most = recipe.problems.train, recipe.problems.num_train
    if recipe.start is not None or name in registry.GENERATED or not recipe.rounds:
        return recipe.start != "base"
    is_published = name in registry.PUBLISHED and not local_path(name).is_file()
    path = registry.locate(name) if is_published else local_path(name)
    now = state(path) if path.exists() else None
    return _has_worked(path, name if is_published else None, most, now, needs_answers=not recipe.may_lack_answers)


@lru_cache
def _has_worked(path: Path, published: str | None, most: int | None, state: object, *, needs_answers: bool) -> bool:
    """Read the file once for all runs of a sweep, while its state is the same."""
    if published:
        table = registry.read(path, published).slice(0, most)
    else:
        table = read_file(path, most, needs_answers=needs_answers)
    return bool(is_worked(table).any())


def further_sets(recipe: Recipe) -> dict[str, str]:
    """Return the test sets beside problems.test, each by its part of the path in the run folder."""
    parts = {"train": "", "test": recipe.problems.test}
    for name in recipe.evaluate.problems:
        if name not in parts.values():
            part = re.sub(r"[^A-Za-z0-9._-]+", "-", set_name(name).removesuffix(".jsonl"))
            while part in parts:
                part += "-2"
            parts[part] = name
    return dict(list(parts.items())[2:])


def set_name(name: str) -> str:
    """Return the name of a set; of a file without its folders, since those differ between machines."""
    return name if name in registry.BY_NAME else local_path(name).name
