"""What is wrong with the values of some settings, in words: the key, what was found, what is allowed."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import ValidationError

from qrft.config.yaml_lines import KeyPath, dotted, shorten

Schema = dict[str, Any]

_BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
_KINDS = {"integer": "a whole number", "number": "a number", "boolean": "true or false", "null": "null"}


def value_faults(errors: ValidationError, schema: Schema, values: Any) -> Iterator[tuple[KeyPath, str]]:
    """Yield the key and the text of each of pydantic's errors, in terms of the JSON schema instead of Python types."""
    for error in errors.errors(include_url=False):
        key = _without_tags(schema, error["loc"])
        if error["type"] == "extra_forbidden":
            yield key, _unknown_key(key, schema)
            continue
        rule, key = _rule(schema, key)
        if error["type"] == "broken_rule":
            yield (*key, *error["ctx"]["at"]), error["msg"]
        elif error["type"] == "missing":
            yield key, f"missing. Allowed: {allowed(rule)}"
        else:
            yield key, _wrong_value(key, rule, values)


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return a sentence that names the choice most like the word; nothing where none is like it."""
    near = difflib.get_close_matches(word, list(choices), 1)
    return f"Did you mean {near[0]}? " if near else ""


def show(value: object) -> str:
    """Return a value as messages show it."""
    if isinstance(value, dict):
        return "a section"
    if isinstance(value, str):
        return f"the text {shorten(repr(value))}"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return shorten(str(value))


def _unknown_key(key: KeyPath, schema: Schema) -> str:
    names = list(_keys_of(_rule(schema, key[:-1])[0]))
    unknown = str(key[-1])
    elsewhere = [path for path in key_paths(schema) if path.rpartition(".")[2] == unknown]
    guess = f"Did you mean {elsewhere[0]}? " if elsewhere else did_you_mean(unknown, names)
    return f"unknown key. {guess}Allowed: {', '.join(names)}"


def _wrong_value(key: KeyPath, rule: Schema, values: Any) -> str:
    found = values
    for part in key:
        found = found[part]
    guess = did_you_mean(found, map(str, rule.get("enum", []))) if isinstance(found, str) else ""
    return f"found {show(found)}. {guess}Allowed: {allowed(rule)}{_hint(found, rule)}"


def _without_tags(schema: Schema, key: KeyPath) -> KeyPath:
    """Return the key without pydantic's names for the choices of a union, which stand before the keys of a section."""
    found: KeyPath = ()
    is_tag = False
    for part in key:
        if not is_tag:
            found = (*found, part)
        rule, reached = _rule(schema, found)
        is_tag = not is_tag and "oneOf" in rule and reached == found
    return found


def _rule(schema: Schema, key: KeyPath) -> tuple[Schema, KeyPath]:
    """Return the schema of a key, and the key up to where the schema ends: pydantic's go on into unions and lists."""
    rule = schema
    for depth, part in enumerate(key):
        inner = _keys_of(rule).get(str(part)) or rule.get("additionalProperties")
        if isinstance(part, int) and "oneOf" in rule.get("items", {}):
            inner = rule["items"]
        if not inner:
            return rule, key[:depth]
        rule = _resolved(schema, inner)
    return rule, key


def _keys_of(rule: Schema) -> Schema:
    """Return the keys of a section, or of the section that a union has among its choices."""
    choices = [choice["properties"] for choice in rule.get("oneOf", [rule]) if "properties" in choice]
    return choices[0] if choices else {}


def _resolved(schema: Schema, rule: Schema) -> Schema:
    """Return a rule with what it refers to, also in the choices of a union."""
    if "$ref" in rule:
        return dict(schema["$defs"][rule["$ref"].rpartition("/")[2]])
    if "oneOf" in rule:
        return {**rule, "oneOf": [_resolved(schema, choice) for choice in rule["oneOf"]]}
    return rule


def key_paths(schema: Schema, section: KeyPath = ()) -> list[str]:
    """Return every key of a schema by its dotted path, sections before their keys."""
    names = list(_rule(schema, section)[0].get("properties", {}))
    return [dotted((*section, n)) for n in names] + [k for n in names for k in key_paths(schema, (*section, n))]


def allowed(rule: Schema) -> str:
    """Return the values that a key may have, in words."""
    if choices := rule.get("anyOf") or rule.get("oneOf"):
        return ", or ".join(allowed(choice) for choice in choices)
    if "enum" in rule or "const" in rule:
        return _choices(rule)
    if "$ref" in rule:
        return "a section"
    kind = rule.get("type")
    if kind == "object":
        names = rule.get("properties")
        return f"a section with the keys {', '.join(names)}" if names else "a section with keys of your own"
    if kind == "array":
        return f"a list of {_items(rule['items'])}{', at least one' if rule.get('minItems') else ''}"
    if kind == "string":
        longest = f", at most {rule['maxLength']} characters" if "maxLength" in rule else ""
        shortest = ", not empty" if rule.get("minLength") else ""
        return f"text of the form {rule['pattern']}{longest}" if "pattern" in rule else f"text{shortest}"
    return f"{_KINDS[kind]} {_bounds(rule)}".rstrip() if kind else "values"


def _items(rule: Schema) -> str:
    """Return what the items of a list may be, in the plural."""
    if "enum" in rule or "const" in rule:
        return _choices(rule)
    if "oneOf" in rule:
        return "texts and sections"
    plurals = {"integer": "whole numbers", "number": "numbers", "string": "texts"}
    words = plurals.get(rule.get("type", ""), "sections" if "$ref" in rule else "values")
    return f"{words} {'that are not empty' if rule.get('minLength') else _bounds(rule)}".rstrip()


def _choices(rule: Schema) -> str:
    return ", ".join(map(str, rule.get("enum", [rule.get("const")])))


def _bounds(rule: Schema) -> str:
    return " and ".join(f"{sign} {rule[name]}" for name, sign in _BOUNDS.items() if name in rule)


def _hint(found: object, rule: Schema) -> str:
    if rule.get("type") == "string" and "enum" not in rule and isinstance(found, int | float):
        return ". Put it in quotes"
    if isinstance(found, float) and not math.isfinite(found):
        return ", and finite"
    if isinstance(found, float) and found.is_integer() and abs(found) < 1e15 and "integer" in str(rule):
        return f". Write {int(found)}"
    return ""
