"""Options that are settings too: each has the default, the range and the choices of the key with its name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args

import click
import pytest
from click.testing import CliRunner
from pydantic import Field, ValidationError

from qrft.cli import fields
from qrft.cli.main import main
from qrft.config.pretrain import PretrainRecipe
from qrft.config.recipe import Model, Recipe
from qrft.config.section import Count, Section
from qrft.config.sections import Evaluate, Problems
from qrft.config.training import Training
from qrft.grading.rules import Selection
from qrft.sampling.api import SamplingParams, Temperature

# Options that have the name of a key, but another meaning or form; by command.
OTHERS = {
    ("run", "name"): "replaces the recipe's name, so it has no default of its own",
    ("sample", "adapter"): "a file to sample with; train.adapter says what is trained",
    ("sample", "problems"): "a file or a name; the recipe has a section and a list",
    ("sample", "num_samples"): "has to be given",
    ("sample", "until"): "kind=N",
    ("sample", "few_shot"): "one number; the recipe measures several",
    ("grade", "problems"): "a file or a name; the recipe has a section and a list",
    ("grade", "sound"): "a flag; only what is kept can be required",
    ("curate", "problems"): "a file or a name; the recipe has a section and a list",
    ("curate", "gold"): "whether gold solutions come along; the recipe's section says where gold answers are from",
    ("curate", "pairs"): "a file to write; the recipe says how many per problem",
    ("evaluate", "problems"): "a file or a name; the recipe has a section and a list",
    ("browse", "problems"): "a file or a name; the recipe has a section and a list",
    ("browse", "sound"): "a flag; only what is kept can be required",
    ("ask", "num_samples"): "one is the greedy answer",
    ("ask", "temperature"): "of several answers or of one",
    ("ask", "max_new_tokens"): "the run's own",
    ("ask", "sampler"): "what runs here",
    ("export", "max_new_tokens"): "the run's own",
    ("export", "problems"): "a file or a name; the recipe has a section and a list",
    ("init", "train"): "a file or a name; the recipe has a section",
    ("init", "test"): "a file or a name; the recipe has a section",
    ("import", "problems"): "a file or a name; the recipe has a section and a list",
}
OTHER_KEYS = {
    (Problems, "seed"),  # draws the problems, and follows the recipe's
    (Evaluate, "temperature"),  # the samples that are voted on can't be greedy
    (Model, "sampler"),  # of a teacher, which a server samples or nothing
    (Model, "server"),
}


def sections(kind: type[Section]) -> Iterator[type[Section]]:
    yield kind
    for field in kind.model_fields.values():
        for part in (field.annotation, *get_args(field.annotation)):
            if isinstance(part, type) and issubclass(part, Section):
                yield from sections(part)


SECTIONS = [*sections(Recipe), PretrainRecipe, Training, SamplingParams]


def options() -> Iterator[tuple[str, click.Option]]:
    for name, command in main.commands.items():
        for option in command.get_params(click.Context(command, parent=click.Context(main, **main.context_settings))):
            if isinstance(option, click.Option):
                yield name, option


def key_of(option: click.Option) -> str:
    return str(option.name).removeprefix("no_")


def rule_of(kind: type[Section], name: str) -> dict[str, Any]:
    rule = dict(kind.model_json_schema()["properties"][name])
    others = [choice for choice in rule.get("anyOf", []) if choice != {"type": "null"}]
    return rule | (others[0] if others else {})  # of one value or several, the one


def bounds(option: click.Option) -> dict[str, float]:
    kind = option.type
    if not isinstance(kind, click.IntRange | click.FloatRange):
        return {}
    least, most = "exclusiveMinimum" if kind.min_open else "minimum", "exclusiveMaximum" if kind.max_open else "maximum"
    found = {least: kind.min, most: kind.max}
    return {name: bound for name, bound in found.items() if bound is not None}


def default_of(option: click.Option) -> Any:
    try:
        return click.Command("x", params=[option]).make_context("x", []).params[str(option.name)]
    except click.MissingParameter:
        return None


def differences(option: click.Option, kind: type[Section]) -> list[str]:
    """What an option and the key with its name do not have in common."""
    name = key_of(option)
    rule = rule_of(kind, name)
    if isinstance(option.flag_value, str):  # short for one of the key's values
        return [] if option.flag_value in rule["enum"] else [f"flag value: {option.flag_value}, not of {rule['enum']}"]
    pairs = {
        "default": (default_of(option), kind.model_fields[name].default),
        "choices": ([*option.type.choices] if isinstance(option.type, click.Choice) else None, rule.get("enum")),
        "range": (bounds(option), {limit: rule[limit] for limit in sorted(rule) if limit.endswith("imum")}),
        "is a flag": (option.is_flag, rule.get("type") == "boolean"),
    }
    return [f"{what}: {found}, not {wanted}" for what, (found, wanted) in pairs.items() if found != wanted]


def all_differences(command: str, option: click.Option) -> list[str]:
    kinds = [kind for kind in SECTIONS if key_of(option) in kind.model_fields and (kind, option.name) not in OTHER_KEYS]
    found = [f"{kind.__name__}: {text}" for kind in kinds for text in differences(option, kind)]
    return [f"{command} {option.opts[0]}: {text}" for text in found]


def test_an_option_is_the_key_with_its_name() -> None:
    checked = [
        (command, option)
        for command, option in options()
        if any(key_of(option) in kind.model_fields for kind in SECTIONS) and (command, option.name) not in OTHERS
    ]
    assert [text for command, option in checked for text in all_differences(command, option)] == []
    assert len(checked) >= 40
    names = {option.name for _, option in checked}
    assert {"mode", "keep", "dedup", "max_per_problem", "top_p", "seed", "stop", "prompt", "quant", "server"} <= names


def test_the_exceptions_are_needed() -> None:
    for command, name in OTHERS:
        option = next(option for where, option in options() if (where, option.name) == (command, name))
        assert all_differences(command, option), f"{command} {name} is as its key: no exception"
    evaluate = fields.option(Evaluate, "temperature")
    assert differences(evaluate, SamplingParams) == ["range: {'exclusiveMinimum': 0}, not {'minimum': 0}"]


@pytest.mark.parametrize(
    ("option", "text"),
    [
        (
            click.Option(["--temperature"], type=click.FloatRange(0), default=1.0),
            "sample --temperature: Sample: default: 1.0, not 0.7",
        ),
        (
            click.Option(["--top-p"], type=click.FloatRange(0, 2, min_open=True), default=1.0),
            "sample --top-p: Sample: range: {'exclusiveMinimum': 0, 'maximum': 2}, "
            "not {'exclusiveMinimum': 0, 'maximum': 1}",
        ),
        (
            click.Option(["--max-new-tokens"], type=click.INT, default=512),
            "sample --max-new-tokens: Sample: range: {}, not {'minimum': 1}",
        ),
        (
            click.Option(["--keep"], type=click.Choice(["farthest", "first"]), default="farthest"),
            "sample --keep: Curate: choices: ['farthest', 'first'], "
            "not ['farthest', 'first', 'random', 'shortest', 'longest']",
        ),
        (click.Option(["--no-dedup"], is_flag=True), "sample --no-dedup: Curate: default: False, not True"),
        (
            click.Option(["--no-parity", "parity"], flag_value="never"),
            "sample --no-parity: Gguf: flag value: never, not of ['off', 'once', 'always']",
        ),
        (click.Option(["--packing"], default=True), "sample --packing: Train: is a flag: False, not True"),
    ],
)
def test_an_option_that_is_not_its_key_is_told(option: click.Option, text: str) -> None:
    """What is written by hand, and wrong: so the test above would fail."""
    assert text in all_differences("sample", option)


# ------------------------------------------------------------------------------------------------ how they are made


class Example(Section):
    count: Count = Field(default=3, description="A count.")
    share: float = Field(default=0.5, gt=0, le=1, description="A share.")
    below: float = Field(default=0.5, ge=0, lt=1, description="Less than one.")
    limit: Annotated[int, Field(ge=2, le=9)] | None = Field(default=None, description="A limit.")
    kind: Literal["a", "b"] = Field(default="a", description="A kind.")
    text: Annotated[str, Field(min_length=1)] | None = Field(default=None, description="A text.")
    texts: Annotated[tuple[str, ...], Field(strict=False)] = Field(default=(), description="Texts.")
    degrees: Temperature = Field(default=0.5, description="One or several.")
    on: bool = Field(default=True, description="A switch.")
    off: bool = Field(default=False, description="Another switch.")


def parsed(*words: str) -> dict[str, Any]:
    command = click.Command("x", params=fields.options(Example))
    return command.make_context("x", list(words)).params


def test_every_form_of_a_field_is_an_option() -> None:
    assert Example.model_validate(parsed()) == Example()
    words = "--count 4 --share 1 --below 0 --limit 9 --kind b --text t --texts a --texts b --no-on --off"
    words += " --degrees 1 --degrees 2"
    found = Example.model_validate(parsed(*words.split()))
    assert found == Example(
        count=4,
        share=1,
        below=0,
        limit=9,
        kind="b",
        text="t",
        texts=("a", "b"),
        degrees=(1, 2),
        on=False,
        off=True,
    )


@pytest.mark.parametrize(
    "value", ["-1", "0", "0.5", "0.999", "1", "1.5", "2", "3", "9", "10", "4294967296", "1e400", "x"]
)
@pytest.mark.parametrize("kind", [Example, SamplingParams, Selection])
def test_an_option_takes_what_its_key_takes(kind: type[Section], value: str) -> None:
    for option in fields.options(kind):
        rule = rule_of(kind, str(option.name))
        if rule.get("type") not in ("integer", "number"):
            continue
        try:
            kind.model_validate({str(option.name): (int if rule["type"] == "integer" else float)(value)})
            is_right = True
        except (ValidationError, ValueError):
            is_right = False
        try:
            click.Command("x", params=[option]).make_context("x", [option.opts[0], value])
            is_taken = True
        except click.BadParameter:
            is_taken = False
        assert is_taken == is_right or value == "1e400", option.name  # infinity is the model's to refuse


def test_the_help_is_the_description_of_the_field() -> None:
    shown = CliRunner().invoke(click.Command("x", params=fields.options(Example, count="Said here.")), ["--help"])
    lines = [" ".join(line.split()) for line in shown.output.splitlines()]
    assert "--count INTEGER RANGE A count. Said here. [default: 3; x>=1]" in lines
    assert "--share FLOAT RANGE A share. [default: 0.5; 0<x<=1]" in lines
    assert "--below FLOAT RANGE Less than one. [default: 0.5; 0<=x<1]" in lines
    assert "--limit INTEGER RANGE A limit. [2<=x<=9]" in lines
    assert "--kind [a|b] A kind. [default: a]" in lines
    assert "--text TEXT A text." in lines
    assert "--texts TEXT Texts. Can be repeated." in lines
    assert "--degrees FLOAT RANGE One or several. Can be repeated. [default: 0.5; x>=0]" in lines
    assert "--on / --no-on A switch. [default: on]" in lines
    assert "--off Another switch." in lines


def test_no_help_speaks_of_null() -> None:
    """An option that is not given is what null is in a recipe: the words of a field have to fit both."""
    assert [option.opts[0] for _, option in options() if "null" in str(option.help)] == []
