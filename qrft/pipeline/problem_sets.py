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
from qrft.data.problems.hub import download
from qrft.data.problems.own_files import read_file
from qrft.data.problems.own_set import OwnSet, ProblemSource
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
    plan: Plan, recipe: Recipe, part: str, name: ProblemSource, settings: problems.Settings, model: str = ""
) -> Step:
    """Add the step that draws a generated set, or reads a published one or a file; `settings` says how much of it."""
    inputs: dict[str, Step | Source] = {}
    if name in registry.GENERATED:
        seed = recipe.seed if recipe.problems.seed is None else recipe.problems.seed
        settings = settings.model_copy(update={"set": name, "seed": seed})
    else:
        found = located(name)
        settings = settings.model_copy(update={"set": found.published, "columns": found.columns})
        inputs["file"] = Source(found.path)
    return plan.add("problems", settings, inputs, kind="problems", part=part, model=model)


class Located(NamedTuple):
    """Where problems lie; `published` is the name of a set, and `columns` those that a recipe names."""

    path: Path
    published: str | None = None
    columns: dict[str, str] | None = None


def located(name: ProblemSource) -> Located:
    """Find the file of a set that is not generated; what is on the hub is downloaded. Raises DataError."""
    if isinstance(name, OwnSet):
        way_out = "Give a file on this machine instead: path."
        path = local_path(name.path) if name.path else download(name.at_the_hub, str(name), way_out)
        return Located(path, columns=name.columns or None)
    if name in registry.PUBLISHED and not local_path(name).is_file():
        return Located(registry.locate(name), name)
    return Located(local_path(name))


def begins_with_sft(recipe: Recipe) -> bool:
    """Return whether SFT comes first: as `start` says, or where some training problem has a worked solution.

    Raises DataError for a file that can't be read.
    """
    name = recipe.problems.train
    if recipe.start is not None or name in registry.GENERATED or not recipe.rounds:
        return recipe.start != "base"
    path, published, columns = located(name)
    now, named = state(path) if path.exists() else None, tuple((columns or {}).items())
    most, needs_answers = recipe.problems.num_train, not recipe.may_lack_answers
    return _has_worked(path, published, named, most, now, needs_answers=needs_answers)


@lru_cache
def _has_worked(
    path: Path,
    published: str | None,
    columns: tuple[tuple[str, str], ...],
    most: int | None,
    state: object,
    *,
    needs_answers: bool,
) -> bool:
    """Read the file once for all runs of a sweep, while its state is the same."""
    if published:
        table = registry.read(path, published).slice(0, most)
    else:
        table = read_file(path, most, dict(columns), needs_answers=needs_answers)
    return bool(is_worked(table).any())


def further_sets(recipe: Recipe) -> dict[str, ProblemSource]:
    """Return the test sets beside problems.test, each by its part of the path in the run folder."""
    parts: dict[str, ProblemSource] = {"train": "", "test": recipe.problems.test}
    for name in recipe.evaluate.problems:
        if name not in parts.values():
            part = re.sub(r"[^A-Za-z0-9._-]+", "-", set_name(name).removesuffix(".jsonl"))
            while part in parts:
                part += "-2"
            parts[part] = name
    return dict(list(parts.items())[2:])


def set_name(name: ProblemSource) -> str:
    """Return the name of a set; of a file without its folders, since those differ between machines."""
    text = str(name)
    return text if text in registry.BY_NAME or (isinstance(name, OwnSet) and name.hub) else local_path(text).name
