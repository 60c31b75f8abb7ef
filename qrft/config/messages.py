"""What can be wrong with a recipe, in words: its keys and values, and the files and folders that it names."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from qrft.config.yaml_lines import KeyPath, dotted, shorten
from qrft.data.problems.registry import BY_NAME

BUILTIN_MODELS = ("tiny-base",)

Schema = dict[str, Any]

_HUB_NAME = re.compile(r"[A-Za-z0-9_][\w.-]*/[\w.-]+", re.ASCII)
_BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
_KINDS = {"integer": "a whole number", "number": "a number", "boolean": "true or false", "null": "null"}


# ------------------------------------------------------------------------------------------------------ keys and values


def value_faults(errors: ValidationError, schema: Schema, values: Any) -> Iterator[tuple[KeyPath, str]]:
    """The key and the text of each of pydantic's errors, in the terms of the recipe's schema, not of Python types."""
    for error in errors.errors(include_url=False):
        key = error["loc"]
        if error["type"] == "extra_forbidden":
            yield key, _unknown_key(key, schema)
            continue
        rule, key = _rule(schema, key)
        if error["type"] == "broken_rule":
            yield (*key, *error["ctx"]["at"]), error["msg"]
        elif error["type"] == "missing":
            yield key, f"missing. Allowed: {_allowed(rule)}"
        else:
            yield key, _wrong_value(key, rule, values)


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """The choice most like the word, as a sentence; none is like it: nothing."""
    near = difflib.get_close_matches(word, list(choices), 1)
    return f"Did you mean {near[0]}? " if near else ""


def _show(value: object) -> str:
    """A value as a message shows it."""
    if isinstance(value, dict):
        return "a section"
    if isinstance(value, str):
        return f"the text {shorten(repr(value))}"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return shorten(str(value))


def _unknown_key(key: KeyPath, schema: Schema) -> str:
    names = list(_rule(schema, key[:-1])[0].get("properties", {}))
    unknown = str(key[-1])
    elsewhere = [path for path in key_paths(schema) if path.rpartition(".")[2] == unknown]
    guess = f"Did you mean {elsewhere[0]}? " if elsewhere else did_you_mean(unknown, names)
    return f"unknown key. {guess}Allowed: {', '.join(names)}"


def _wrong_value(key: KeyPath, rule: Schema, values: Any) -> str:
    found = values
    for part in key:
        found = found[part]
    guess = did_you_mean(found, map(str, rule.get("enum", []))) if isinstance(found, str) else ""
    return f"found {_show(found)}. {guess}Allowed: {_allowed(rule)}{_hint(found, rule)}"


def _rule(schema: Schema, key: KeyPath) -> tuple[Schema, KeyPath]:
    """The schema of a key, and the key cut where the schema ends: pydantic goes on into unions and lists."""
    rule = schema
    for depth, part in enumerate(key):
        inner = rule.get("properties", {}).get(part) or rule.get("additionalProperties")
        if not inner:
            return rule, key[:depth]
        rule = schema["$defs"][inner["$ref"].rpartition("/")[2]] if "$ref" in inner else inner
    return rule, key


def key_paths(schema: Schema, section: KeyPath = ()) -> list[str]:
    """Every key of a schema by its dotted path, sections before their keys."""
    names = list(_rule(schema, section)[0].get("properties", {}))
    return [dotted((*section, n)) for n in names] + [k for n in names for k in key_paths(schema, (*section, n))]


def _allowed(rule: Schema) -> str:
    if "anyOf" in rule:
        return ", or ".join(_allowed(choice) for choice in rule["anyOf"])
    if "enum" in rule or "const" in rule:
        return ", ".join(map(str, rule.get("enum", [rule.get("const")])))
    if "type" not in rule:
        return "values"
    if rule["type"] == "object" and "properties" not in rule:
        return "a section with keys of your own"
    if rule["type"] == "object":
        return f"a section with the keys {', '.join(rule['properties'])}"
    if rule["type"] == "array":
        return f"a list of {_allowed(rule['items'])}{', not empty' if rule.get('minItems') else ''}"
    if rule["type"] == "string":
        longest = f", at most {rule['maxLength']} characters" if "maxLength" in rule else ""
        shortest = ", not empty" if rule.get("minLength") else ""
        return f"text of the form {rule['pattern']}{longest}" if "pattern" in rule else f"text{shortest}"
    bounds = " and ".join(f"{sign} {rule[name]}" for name, sign in _BOUNDS.items() if name in rule)
    return f"{_KINDS[rule['type']]} {bounds}".rstrip()


def _hint(found: object, rule: Schema) -> str:
    if rule.get("type") == "string" and "enum" not in rule and isinstance(found, int | float):
        return ". Put it in quotes"
    if isinstance(found, float) and found.is_integer() and abs(found) < 1e15 and "integer" in str(rule):
        return f". Write {int(found)}"
    return ""


# ---------------------------------------------------------------------------------------------------- files and folders


def local_path(text: str) -> Path:
    """Where a path of a recipe lies: absolute, `~` expanded, relative to the current directory."""
    return Path(os.path.abspath(os.path.expanduser(text)))


def path_faults(values: dict[str, Any]) -> list[tuple[KeyPath, str]]:
    """Faults of the paths among a recipe's values, which need not be valid otherwise: the key, and the text."""
    faults: list[tuple[KeyPath, str]] = []
    problems = values.get("problems")
    for split in ("train", "test"):
        found = problems.get(split) if isinstance(problems, dict) else None
        if isinstance(found, str) and (text := _problems_fault(found)):
            faults.append((("problems", split), text))
    evaluate = values.get("evaluate")
    sets = evaluate.get("problems") if isinstance(evaluate, dict) else None
    for found in sets if isinstance(sets, list) else []:
        if isinstance(found, str) and (text := _problems_fault(found)):
            faults.append((("evaluate", "problems"), text))
    gguf, models = values.get("gguf"), values.get("models")
    base_models: list[tuple[KeyPath, Any]] = [(("base_model",), values.get("base_model"))]
    files: list[tuple[KeyPath, Any]] = [(("gguf", "file"), gguf.get("file") if isinstance(gguf, dict) else None)]
    for name, model in models.items() if isinstance(models, dict) else ():
        if isinstance(model, dict):
            base_models.append((("models", name, "base_model"), model.get("base_model")))
            files.append((("models", name, "gguf_file"), model.get("gguf_file")))
    faults += [(key, text) for key, found in base_models if isinstance(found, str) and (text := _model_fault(found))]
    faults += [(key, text) for key, found in files if isinstance(found, str) and (text := _gguf_fault(found))]
    return faults


def _gguf_fault(file: str) -> str | None:
    if os.path.isfile(path := local_path(file)):
        return None
    allowed = f"{did_you_mean(file, _beside(file))}Allowed: a GGUF file, or null"
    return f"found {_show(file)}: no such file; looked at {path}. {allowed}"


def near_recipes(path: str | Path) -> str:
    """The recipes beside a path, or else the project's own."""
    for folder in (Path(path).parent, Path("recipes")):
        names = sorted(file.name for file in local_path(str(folder)).glob("*.yaml"))
        if names:
            near = difflib.get_close_matches(Path(path).name, names, 1)
            guess = f"Did you mean {folder / near[0]}? " if near else ""
            return f"{guess}Recipes: {', '.join(str(folder / name) for name in names[:20])}"
    return "No recipes (*.yaml) are there"


def _problems_fault(name: str) -> str | None:
    path = local_path(name)
    if name in BY_NAME or os.path.isfile(path):
        return None
    allowed = f"Allowed: a JSONL or Parquet file, or one of the sets {', '.join(BY_NAME)}"
    if name and os.path.isdir(path):
        return f"{path} is a folder. {allowed}"
    guess = did_you_mean(name, [*BY_NAME, *_beside(name)])
    return f"found {_show(name)}: no such file; looked at {path}. {guess}{allowed}"


def _model_fault(name: str) -> str | None:
    path = local_path(name)
    if name in BUILTIN_MODELS or (name and os.path.isdir(path)):
        return None
    allowed = f"Allowed: a model folder, a hub name org/model, or a built-in model: {', '.join(BUILTIN_MODELS)}"
    if os.path.isfile(path):
        return f"{path} is a file. {allowed}"
    if _HUB_NAME.fullmatch(name):  # only the hub knows whether it is one
        return None
    guess = did_you_mean(name, [*BUILTIN_MODELS, *_beside(name)])
    return f"found {_show(name)}: no such folder; looked at {path}. {guess}{allowed}"


def _beside(name: str) -> list[str]:
    """What else lies in the folder of a path, spelled as the path is."""
    folder = os.path.dirname(name)
    try:
        return [os.path.join(folder, other.name) for other in islice(os.scandir(local_path(folder)), 1000)]
    except (OSError, ValueError):
        return []
