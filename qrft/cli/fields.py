"""Options made from the fields of the settings: names, types, ranges, defaults and descriptions are declared once."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from qrft.config.section import Section

Rule = Mapping[str, Any]  # the JSON schema of one field


class Command(click.Command):
    """A command with options that are made when they are first needed: `qrft --help` shows none, and starts fast."""

    def __init__(self, *args: Any, late: Callable[[], Sequence[click.Parameter]], **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._late: Callable[[], Sequence[click.Parameter]] | None = late

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        if self._late is not None:
            self.params = [*self._late(), *self.params]
            self._late = None
        return super().get_params(ctx)


def options(kind: type[Section], **notes: str) -> list[click.Parameter]:
    """Make an option for every field. notes: by field, what is said of this command only."""
    return [option(kind, name, notes.get(name, "")) for name, field in kind.model_fields.items() if not field.exclude]


def option(kind: type[Section], name: str, note: str = "") -> click.Option:
    """Make an option for one field: a choice, a number in its range, a text, a flag, or texts given several times."""
    rule = kind.model_json_schema()["properties"][name]
    rule = {**rule, **_without_null(rule)}
    default = kind.model_fields[name].default
    repeated = "Can be repeated." if rule.get("type") == "array" else ""
    text = " ".join(filter(None, [rule["description"], repeated, note]))
    flag = f"--{name.replace('_', '-')}"
    if "type" not in rule:  # one value or several
        return click.Option(
            [flag],
            type=_type(rule["anyOf"][0]),
            multiple=True,
            callback=_one_or_several,
            default=[default],
            show_default=True,
            help=f"{text} Can be repeated.",
        )
    if rule["type"] == "boolean":
        off = f"/--no-{flag[2:]}" if default else ""
        return click.Option([flag + off], is_flag=True, default=default, show_default=bool(default), help=text)
    if rule["type"] == "array":
        return click.Option([flag], type=_type(rule["items"]), multiple=True, metavar="TEXT", help=text)
    return click.Option([flag], type=_type(rule), default=default, show_default=True, help=text)


def _one_or_several(ctx: click.Context, param: click.Parameter, values: tuple[Any, ...]) -> Any:
    return values[0] if len(values) == 1 else values


class _Mapping(click.ParamType[Any]):
    """Fields with values of their own, written as JSON."""

    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            found = json.loads(value) if isinstance(value, str) else value
        except (ValueError, RecursionError) as error:
            self.fail(f"{value[:200]!r} is not JSON: {error}.", param, ctx)
        if not isinstance(found, dict):
            self.fail(f'{value[:200]!r} is no JSON object. Expected one such as {{"logprobs": 1}}.', param, ctx)
        return found


def _without_null(rule: Rule) -> Rule:
    """Return the rule of a field without null: an option is null when it is left out."""
    others = [choice for choice in rule.get("anyOf", []) if choice != {"type": "null"}]
    return others[0] if len(others) == 1 else {}


def _type(rule: Rule) -> click.ParamType[Any]:
    if "enum" in rule:
        return click.Choice(rule["enum"])
    if rule["type"] == "object":
        return _Mapping()
    ranges: dict[str, type[click.IntRange | click.FloatRange]] = {"integer": click.IntRange, "number": click.FloatRange}
    if rule["type"] not in ranges:
        return click.STRING
    least, most = rule.get("minimum"), rule.get("maximum")
    return ranges[rule["type"]](
        rule.get("exclusiveMinimum", least),
        rule.get("exclusiveMaximum", most),
        min_open="exclusiveMinimum" in rule,
        max_open="exclusiveMaximum" in rule,
    )
