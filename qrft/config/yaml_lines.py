"""Turn YAML into plain values that remember their lines, and values back into text.

`read` and `set_value` make the values, and note in a `Reading` where each was written and what was wrong with it.
Nothing here knows which keys a recipe has.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import yaml

from qrft.errors import RecipeError

MAX_NODES = 10_000  # aliases expanded: nested aliases can blow a few lines up to billions of nodes

KeyPath = tuple[str | int, ...]
Place = tuple[int, str]  # the place's rank among the faults (its line), and the place in words
_SET: Place = (sys.maxsize, "--set")  # ranks after every line

# ------------------------------------------------------------------------------------------------------- YAML's rules

_TAG = "tag:yaml.org,2002:"
_MERGE = _TAG + "merge"


def _integer(text: str) -> int:
    return int(text, 0) if text[:2].lower() in ("0x", "0o") else int(text)


def _floating(text: str) -> float:
    return float(re.sub(r"\.(inf|nan)$", r"\1", text.lower()))


_SCALARS: dict[str, Callable[[str], object]] = {
    _TAG + "null": lambda text: None,
    _TAG + "bool": lambda text: {"true": True, "false": False}[text.lower()],
    _TAG + "int": _integer,
    _TAG + "float": _floating,
    _TAG + "str": str,
    _MERGE: str,
}

# YAML 1.2's plain values. PyYAML's own, of YAML 1.1, read 1e-4 as text and `on` as true.
_PLAIN = [
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+.")),
    ("merge", r"<<", ["<"]),
]


class _Loader(yaml.SafeLoader):
    pass


class _Dumper(yaml.SafeDumper):  # with the same rules, so that it quotes a text that would be read as a number
    pass


for _reader in (_Loader, _Dumper):
    _reader.yaml_implicit_resolvers = {}
    for _name, _pattern, _first in _PLAIN:
        _reader.add_implicit_resolver(_TAG + _name, re.compile(rf"(?:{_pattern})\Z"), _first)


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = None if text.isprintable() else '"'  # the other styles fold the rarer line breaks into spaces
    return dumper.represent_scalar(_TAG + "str", text, style)


_Dumper.add_representer(str, _represent_text)


def to_yaml(values: dict[str, Any]) -> str:
    """Return a text from which `read` makes equal values."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


# ------------------------------------------------------------------------------------------- what is known of a value


@dataclass
class Reading:
    """What is known of the values besides themselves: where each was written, and what was wrong."""

    name: str  # the file's
    places: dict[KeyPath, Place] = field(default_factory=dict)
    faults: list[tuple[int, str]] = field(default_factory=list)  # rank, text
    unreadable: set[KeyPath] = field(default_factory=set)  # they are None among the values, and not validated further
    num_nodes: int = 0

    def where(self, node: yaml.Node) -> Place:
        line = node.start_mark.line + 1
        return line, f"{self.name}:{line}"

    def place(self, key: KeyPath) -> Place:
        """Return the place of the key, or of the nearest section around it that is written down."""
        while key and key not in self.places:
            key = key[:-1]
        return self.places.get(key, (0, self.name))

    def fault(self, key: KeyPath, text: str, place: Place | None = None) -> None:
        rank, words = place or self.place(key)
        line = f"{words}: {dotted(key)}: {text}" if key else f"{words}: {text}"
        if (rank, line) not in self.faults:
            self.faults.append((rank, line))

    def report(self) -> str:
        """Return the faults, one per line, in the order of the file."""
        return "\n".join(text for _, text in sorted(self.faults, key=lambda fault: fault[0]))


def dotted(key: KeyPath) -> str:
    return ".".join(str(part) for part in key)


def shorten(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."


# ----------------------------------------------------------------------------------------------------- text to values


def read(text: str, reading: Reading, required: str) -> dict[str, Any]:
    """Return the values of a YAML text. `required` names the keys that it must have, for the message when it is empty.

    Raises RecipeError when it is not YAML, or no mapping; other faults are noted in the reading.
    """
    root = _compose(text, lambda line: f"{reading.name}:{line}")
    if root is None:
        raise RecipeError(f"{reading.name}: the file is empty. A recipe needs at least the keys {required}")
    if not isinstance(root, yaml.MappingNode):
        found = "a list" if isinstance(root, yaml.SequenceNode) else "a single value"
        raise RecipeError(
            f"{reading.where(root)[1]}: found {found}. A recipe consists of `key: value` lines, at least {required}"
        )
    reading.places[()] = reading.where(root)
    return _Values(reading, reading.where).mapping(root, (), ())


def set_value(override: str, values: dict[str, Any], reading: Reading) -> None:
    """Put `a.b=value` into the values, with the sections that they lack. The validation finds unknown keys."""
    name, equals, text = override.partition("=")
    key: KeyPath = tuple(name.strip().split("."))
    if not equals:
        reading.fault((), f"found {override!r}. Allowed: key=value, such as seed=1", _SET)
        return
    try:
        node = _compose(text, lambda line: f"--set: {name}")
        value = None if node is None else _Values(reading, lambda _: _SET).plain(node, key, ())
    except RecipeError as error:
        reading.faults.append((_SET[0], str(error)))
        return
    reading.places = {old: at for old, at in reading.places.items() if old[: len(key)] != key}
    section: Any = values
    for depth, part in enumerate(key[:-1], 1):
        if not isinstance(section.get(part), dict):
            section[part] = {}
            reading.places[key[:depth]] = _SET
        section = section[part]
    section[key[-1]] = value
    reading.places[key] = _SET


def _compose(text: str, place: Callable[[int], str]) -> yaml.Node | None:
    """Return the node tree of a YAML text. Raises RecipeError at the place of its first syntax error."""
    try:
        node: yaml.Node | None = _Loader(text).get_single_node()
        return node
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise RecipeError(f"{place(line)}: character {error.character:#x} is not allowed in YAML. Remove it") from None
    except yaml.MarkedYAMLError as error:
        raise RecipeError(_syntax_error(text, error, place)) from None
    except (RecursionError, ValueError, OverflowError) as error:  # the latter two: an impossible \U escape
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise RecipeError(f"{place(1)}: not readable as YAML: {reason}") from None


def _syntax_error(text: str, error: yaml.MarkedYAMLError, place: Callable[[int], str]) -> str:
    mark = error.problem_mark or error.context_mark
    line = mark.line if mark else 0
    lines = text.splitlines() or [""]
    shown = lines[min(line, len(lines) - 1)]
    hint = ". Indent with spaces, not tabs" if "\t" in shown[: len(shown) - len(shown.lstrip())] else ""
    problem = ", ".join(part for part in (error.context, error.problem) if part)
    return f"{place(line + 1)}: not YAML: {problem}: {shorten(repr(shown))}{hint}"


@dataclass
class _Values:
    """Makes values of nodes. `above` are the nodes around one, by identity, since an alias may name one of them."""

    reading: Reading
    where: Callable[[yaml.Node], Place]

    def plain(self, node: yaml.Node, key: KeyPath, above: tuple[int, ...]) -> Any:
        self._refuse_endless(node, above)
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self.mapping(node, key, above)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return [self.plain(item, (*key, i), (*above, id(node))) for i, item in enumerate(node.value)]
        tag = node.tag.replace(_TAG, "!!")
        if node.tag in _SCALARS and isinstance(node, yaml.ScalarNode):
            try:
                return _SCALARS[node.tag](node.value)
            except (KeyError, ValueError):
                fault = f"found {shorten(repr(node.value))}, which can't be read as {tag.removeprefix('!!')}"
        else:
            fault = f"found the tag {tag}. Allowed: plain values without a tag"
        self.reading.fault(key, fault, self.where(node))
        self.reading.unreadable.add(key)
        return None

    def mapping(self, node: yaml.MappingNode, key: KeyPath, above: tuple[int, ...]) -> dict[str, Any]:
        """Return a section's values. Its own keys win over merged ones (<<), wherever those stand."""
        inside = (*above, id(node))
        values: dict[str, Any] = {}
        for name, value in node.value:
            if name.tag == _MERGE:
                values.update(self._merged(value, key, inside))
        own: dict[str, int] = {}
        for name, value in node.value:
            if name.tag == _MERGE:
                continue
            label = name.value if isinstance(name, yaml.ScalarNode) else "?"
            inner = (*key, label)
            if label in own:
                text = f"duplicate key, first on line {own[label]}. Keep one of them"
                self.reading.fault(inner, text, self.where(name))
                continue
            own[label] = name.start_mark.line + 1
            self.reading.places[inner] = self.where(name)
            values[label] = self.plain(value, inner, inside)
        return values

    def _merged(self, node: yaml.Node, key: KeyPath, inside: tuple[int, ...]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for source in reversed(sources):  # of several the first wins
            merged = self.plain(source, key, inside)
            values.update(merged if isinstance(merged, dict) else {"<<": merged})
        return values

    def _refuse_endless(self, node: yaml.Node, above: tuple[int, ...]) -> None:
        self.reading.num_nodes += 1
        if id(node) in above or self.reading.num_nodes > MAX_NODES:
            reason = (
                "an alias (*) names a section that contains it" if id(node) in above else f"over {MAX_NODES} values"
            )
            raise RecipeError(f"{self.where(node)[1]}: {reason}, which no recipe needs. Write the values out")
