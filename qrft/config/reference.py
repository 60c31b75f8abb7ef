"""docs/recipe.md: every key of a recipe, with what it may be, its default and its meaning, from the models."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator

from qrft.config.load import json_schema
from qrft.config.messages import Schema, allowed
from qrft.config.pretrain import PretrainRecipe
from qrft.config.recipe import Recipe
from qrft.config.training import Train
from qrft.data.problems.own_set import OwnSet
from qrft.sampling.backends import registry

Row = tuple[str, str, str, str]  # key, allowed, default, meaning

COMMAND = "qrft schema --markdown > docs/recipe.md"
INTRODUCTION = f"""\
# The keys of a recipe

<!-- Written by `{COMMAND}` from the descriptions in the code. Change those, not this page. -->

A recipe is a YAML file for [`qrft run`](commands.md). It needs a `name`, `problems`, and `base_model` or `models`;
every other key has a default. Below, "not set" means left out, or null.
`--set KEY=VALUE` overrides a key by its path, such as `--set sample.num_samples=100`. Unknown keys and wrong values are
all reported at once, each with its line. `qrft schema` prints the keys as a JSON schema, for editors.
"""
PRETRAIN = """\
# The keys of a pre-training recipe

A recipe for `qrft pretrain` makes a small base model from scratch, or a family of them.
"""
OWN_SET = """\
Instead of a name, problems may be a section: a file whose columns have names of their own. `problems.test` has the same
keys as `problems.train`, and so has each item of `evaluate.problems`.

```yaml
problems:
  train: {path: train.csv, question: Prompt, answer: Result, solution: Steps, format: boxed}
  test: {hub: org/name, file: data/test-00000-of-00001.parquet, question: prompt, answer: target}
```
"""
TRAIN_KEYS = frozenset(Train.model_fields)


def markdown() -> str:
    """Return docs/recipe.md."""
    parts = [INTRODUCTION, *_tables(json_schema(Recipe)), PRETRAIN, *_tables(json_schema(PretrainRecipe))]
    return "\n".join(parts)


def _tables(schema: Schema) -> Iterator[str]:
    """Yield a table of the keys at the top, then one for every section, under its name."""
    yield _table(_top_rows(schema))
    for name, rule in schema["properties"].items():
        section = _section(rule, schema)
        if section is not None and not _overrides_train(name, section):
            path = f"{name}.<name>" if "additionalProperties" in rule else name
            yield f"## {name}\n\n{rule['description']}\n"
            yield _table(_rows(section, schema, path))
            if name == "problems":
                yield OWN_SET
                yield _table(_rows(schema["$defs"][OwnSet.__name__], schema, "problems.train"))


def _top_rows(schema: Schema) -> Iterator[Row]:
    """Yield a row for each key at the top; a section with a table of its own is a link to that."""
    for name, rule in schema["properties"].items():
        section, default = _section(rule, schema), _default(name, rule, schema)
        if section is None or _overrides_train(name, section):
            yield _row(name, rule, section, default)
        else:
            yield f"[`{name}`](#{name})", "a section", default, rule["description"]


def _rows(section: Schema, schema: Schema, path: str) -> Iterator[Row]:
    """Yield a row for each key of a section, and of the sections in it."""
    for name, rule in section["properties"].items():
        key, inner = f"{path}.{name}", _section(rule, schema)
        if inner is None or _overrides_train(key, inner):
            yield _row(key, rule, inner, _default(name, rule, section))
        else:
            yield from _rows(inner, schema, key)


def _row(key: str, rule: Schema, section: Schema | None, default: str) -> Row:
    if section is not None:
        own = "".join(f", and {name}" for name in section["properties"] if name not in TRAIN_KEYS)
        return f"`{key}`", f"the keys of [train](#train){own}", default, rule["description"]
    section_name, _, name = key.rpartition(".")
    readers = registry.readers(name) if section_name == "sample" else []
    note = f" Only with sampler {' or '.join(readers)}." if readers else ""
    return f"`{key}`", allowed(rule), default, f"{rule['description']}{note}"


def _section(rule: Schema, schema: Schema) -> Schema | None:
    """Return the schema of a section, also of one whose keys are names; None for a value."""
    of_names = rule.get("additionalProperties")
    reference = rule.get("$ref") or (of_names.get("$ref") if isinstance(of_names, dict) else None)
    found: Schema | None = schema["$defs"][reference.rpartition("/")[2]] if reference else None
    return found


def _overrides_train(key: str, section: Schema) -> bool:
    """Whether the keys of a section are those of `train`, where they are told."""
    return key != "train" and section["properties"].keys() >= TRAIN_KEYS


def _default(name: str, rule: Schema, section: Schema) -> str:
    if name in section.get("required", []):
        return "required"
    if "default" not in rule:
        return ""
    default = rule["default"]
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"


def _table(rows: Iterable[Row]) -> str:
    lines = [("key", "allowed", "default", "meaning"), ("---",) * 4, *rows]
    return "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)


def _cell(text: str) -> str:
    """Return a text that Markdown shows as it is, outside of code."""
    if text.startswith(("`", "[`")):
        return text
    return re.sub(r"<(?=[\w/])", "&lt;", re.sub(r"[|*]", r"\\\g<0>", text))
