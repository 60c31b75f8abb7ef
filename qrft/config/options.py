"""Settings from the options of a command, or from the arguments of a Python function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from qrft.config.messages import value_faults
from qrft.config.section import Section
from qrft.config.yaml_lines import dotted
from qrft.errors import UsageError

S = TypeVar("S", bound=Section)


def from_options(kind: type[S], values: Mapping[str, Any]) -> S:
    """Make settings from a command's options, or from a Python function's arguments, which have the same names.

    Raises UsageError with a line per fault, such as `--top-p: found 2. Allowed: a number > 0 and <= 1.`
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as errors:
        faults = value_faults(errors, _without_null(kind.model_json_schema()), values)
        lines = [f"--{dotted(key).replace('_', '-')}: {text}." for key, text in faults]
        raise UsageError("\n".join(lines)) from None


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema as options have it, which are left out instead of being null."""

    def only(rule: dict[str, Any]) -> dict[str, Any]:
        choices = [choice for choice in rule.get("anyOf", []) if choice != {"type": "null"}]
        return choices[0] if len(choices) == 1 else rule

    return {**schema, "properties": {name: only(rule) for name, rule in schema["properties"].items()}}
