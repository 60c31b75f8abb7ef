"""Recipes from files, and settings from `--set`, with all faults reported at once.

`qrft.config.yaml_lines` makes values from a text, `qrft.config.messages` and `paths` word what is wrong with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, overload

from pydantic import ValidationError

from qrft.config import sweep, yaml_lines
from qrft.config.messages import did_you_mean, value_faults
from qrft.config.paths import local_path, near_recipes, path_faults
from qrft.config.pretrain import PretrainRecipe
from qrft.config.recipe import KEYS, SCHEMA, Recipe
from qrft.config.section import Section
from qrft.config.study import study_faults
from qrft.config.training import Training
from qrft.errors import RecipeError

MAX_BYTES = 256 * 1024  # a recipe is about 2 kB: a larger file was named by mistake
REQUIRED = ("name", "base_model", "problems")

S = TypeVar("S", bound=Section)


@overload
def load(path: str | Path, overrides: Sequence[str] = ()) -> Recipe: ...
@overload
def load(path: str | Path, overrides: Sequence[str], kind: type[S]) -> S: ...
def load(path: str | Path, overrides: Sequence[str] = (), kind: type[Section] = Recipe) -> Section:
    """Read and validate a recipe.

    overrides: `key.path=value` each, the value in YAML, the later one winning; `--set` on the command line.
    Raises RecipeError, one line per fault: `file:line: key: what was found. What is allowed`.
    """
    reading = yaml_lines.Reading(str(path))
    required = ", ".join(REQUIRED if kind is Recipe else kind.model_json_schema()["required"])
    values = yaml_lines.read(_read_text(path), reading, required)
    for override in overrides:
        yaml_lines.set_value(override, values, reading)
    _check_kind(str(path), values, kind)
    recipe = _validate(values, reading, kind)
    if kind is Recipe:
        for key, text in path_faults(values):
            reading.fault(key, text)
        for key, text in [*sweep.faults(values, KEYS, _faults_of), *study_faults(values, KEYS), *_cell_faults(values)]:
            reading.fault(key, text)
    if reading.faults:
        raise RecipeError(reading.report())
    assert recipe is not None  # no recipe without a fault
    return recipe


def _check_kind(path: str, values: Mapping[str, Any], kind: type[Section]) -> None:
    """Refuse a recipe of the other command by one RecipeError, instead of one per key."""
    commands: dict[str, type[Section]] = {"qrft run": Recipe, "qrft pretrain": PretrainRecipe}
    fits = {command: len(values.keys() & other.model_fields.keys()) for command, other in commands.items()}
    command = max(fits, key=fits.__getitem__)
    if kind in commands.values() and kind is not commands[command] and fits[command] > len(values) / 2:
        raise RecipeError(f"{path}: its keys are those of a recipe for `{command}`. Give it to that command")


def load_training(values: Mapping[str, Any], overrides: Sequence[str] = ()) -> Training:
    """Make the settings of one training, from Python and from `--set`. Raises RecipeError, one line per fault."""
    reading = yaml_lines.Reading("train")
    given = dict(values)
    for override in overrides:
        yaml_lines.set_value(override.removeprefix("train."), given, reading)  # as a recipe and messages spell the keys
    found = _validate(given, reading, Training)
    if reading.faults:
        raise RecipeError(reading.report())
    assert found is not None  # none without a fault
    return found


def _read_text(path: str | Path) -> str:
    """Return the text of a recipe's file. Raises RecipeError when it can't be read or is not UTF-8."""
    full = local_path(str(path))
    try:
        with open(full, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such recipe; looked at {full}. {near_recipes(path)}") from None
    except IsADirectoryError:
        raise RecipeError(f"{path}: is a folder; a recipe is a YAML file. {near_recipes(Path(path) / 'x')}") from None
    except (OSError, ValueError) as error:
        raise RecipeError(f"{path}: can't be read at {full}: {getattr(error, 'strerror', error)}") from None
    if len(data) > MAX_BYTES:
        most = MAX_BYTES // 1024
        raise RecipeError(f"{path}: is larger than {most} KiB, so it is not a recipe. Name the recipe's file")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = f"0x{data[error.start]:02x}"
        raise RecipeError(f"{path}:{line}: byte {byte} is not UTF-8 text. Save the file as UTF-8") from None


def _validate(values: dict[str, Any], reading: yaml_lines.Reading, kind: type[S]) -> S | None:
    try:
        return kind.model_validate(values)
    except ValidationError as errors:
        for key, text in value_faults(errors, kind.model_json_schema(), values):
            if key not in reading.unreadable:
                reading.fault(key, text)
        return None


def _cell_faults(values: Mapping[str, Any]) -> Iterator[tuple[yaml_lines.KeyPath, str]]:
    """Yield what is wrong with the keys of published figures: one that no run has would hide its figures."""
    paper = values.get("paper")
    cells = paper.get("cells") if isinstance(paper, dict) else None
    for place, cell in enumerate(cells if isinstance(cells, list) else ()):
        at = cell.get("at") if isinstance(cell, dict) else None
        for key in at if isinstance(at, dict) else ():
            paths = ["model"] if key == "model" else sweep.matches(str(key), KEYS)
            where = ("paper", "cells", place, "at", key)
            if not paths:
                guess = did_you_mean(str(key), [*KEYS, *(path.rpartition(".")[2] for path in KEYS)])
                yield where, f"unknown key. {guess}Allowed: model, and keys of a recipe"
            elif len(paths) > 1:
                yield where, f"could mean {' or '.join(paths)}. Allowed: one of them, written out"


def _faults_of(values: dict[str, Any]) -> list[tuple[yaml_lines.KeyPath, str]]:
    """Return all faults of a recipe's values."""
    found = list(path_faults(values))
    try:
        Recipe.model_validate(values)
    except ValidationError as errors:
        found += value_faults(errors, SCHEMA, values)
    return found


def dump(recipe: Section) -> str:
    """Return the whole recipe in YAML, defaults spelled out; it loads back equal."""
    return yaml_lines.to_yaml(recipe.model_dump(mode="json"))


def json_schema(kind: type[Section] = Recipe) -> dict[str, Any]:
    """Return the JSON schema of a recipe, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **kind.model_json_schema()}
