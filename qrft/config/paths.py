"""The files, folders and sets that a recipe names: where they are, and what is wrong when they are not there."""

from __future__ import annotations

import copy
import difflib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from qrft.config.messages import did_you_mean, show
from qrft.config.yaml_lines import KeyPath
from qrft.data.problems.registry import BY_NAME
from qrft.models.names import KNOWN

_HUB_NAME = re.compile(r"[A-Za-z0-9_][\w.-]*/[\w.-]+", re.ASCII)


def local_path(text: str) -> Path:
    """Return a recipe's path as an absolute one, with `~` expanded; it is relative to the current directory."""
    return Path(os.path.abspath(os.path.expanduser(text)))


def near_recipes(path: str | Path) -> str:
    """Return a sentence that names the recipes beside a path, or else the project's own."""
    for folder in (Path(path).parent, Path("recipes")):
        names = sorted(file.name for file in local_path(str(folder)).glob("*.yaml"))
        if names:
            near = difflib.get_close_matches(Path(path).name, names, 1)
            guess = f"Did you mean {folder / near[0]}? " if near else ""
            return f"{guess}Recipes: {', '.join(str(folder / name) for name in names[:20])}"
    return "There is no recipe (*.yaml) in that folder"


def path_faults(values: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    """Yield the key and the text of each fault of a recipe's paths; its other values may be invalid."""
    for pattern, fault in _CHECKS.items():
        for key, text in _texts(values, pattern):
            if found := fault(text):
                yield key, found


def for_people(names: Iterable[str]) -> dict[str, str]:
    """Return what to call models, sets and files in what is shown or passed on: a path by its last part, or by as many
    as tell the given ones apart. The rest tells of the machine and of whoever works on it."""
    called = {name: name for name in names}
    paths = {name: local_path(name).parts for name in called if _is_path(name)}
    for name, parts in paths.items():
        others = [other for other in paths.values() if other != parts]
        length = next(n for n in range(1, len(parts) + 1) if all(other[-n:] != parts[-n:] for other in others))
        called[name] = "/".join(parts[-length:])
    return called


def without_folders(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe's values with every local path as people call it."""
    changed = copy.deepcopy(dict(values))
    found = [(key, text) for pattern in _CHECKS for key, text in _texts(changed, pattern)]
    called = for_people([text for _, text in found])
    for (*parents, last), text in found:
        inner: Any = changed
        for key in parents:
            inner = inner[key]
        if isinstance(inner[last], list):  # its items have the list's key
            inner[last] = [called.get(item, item) if isinstance(item, str) else item for item in inner[last]]
        else:
            inner[last] = called[text]
    return changed


def _is_path(name: str) -> bool:
    return name not in KNOWN and name not in BY_NAME and (os.path.isabs(name) or os.path.exists(local_path(name)))


def _texts(values: Any, pattern: Sequence[str], key: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """Yield the texts at the keys that fit the pattern: `*` is any key, and `[]` the items of a list."""
    if not pattern:
        if isinstance(values, str):
            yield key, values
    elif pattern[0] == "[]":
        for number, item in enumerate(values if isinstance(values, list) else ()):
            yield from _texts(item, pattern[1:], key if isinstance(item, str) else (*key, number))
    elif isinstance(values, dict):
        for name in values if pattern[0] == "*" else [pattern[0]]:
            yield from _texts(values.get(name), pattern[1:], (*key, name))


def _problems_fault(name: str) -> str | None:
    path = local_path(name)
    if name in BY_NAME or os.path.isfile(path):
        return None
    allowed = f"Allowed: a file (JSONL, JSON, CSV, Parquet), or one of the sets {', '.join(BY_NAME)}"
    if name and os.path.isdir(path):
        return f"{path} is a folder. {allowed}"
    guess = did_you_mean(name, [*BY_NAME, *_neighbours(name)])
    return f"found {show(name)}: no such file; looked at {path}. {guess}{allowed}"


def _problem_file_fault(file: str) -> str | None:
    if os.path.isfile(path := local_path(file)):
        return None
    guess = did_you_mean(file, _neighbours(file))
    what = "is a folder" if os.path.isdir(path) else f"found {show(file)}: no such file; looked at {path}"
    return f"{what}. {guess}Allowed: a file (JSONL, JSON, CSV, Parquet)"


def _model_fault(name: str) -> str | None:
    path = local_path(name)
    if name in KNOWN or (name and os.path.isdir(path)):
        return None
    allowed = f"Allowed: a model folder, a GGUF file, a hub name org/model, or one of {', '.join(KNOWN)}"
    if os.path.isfile(path) and path.suffix == ".gguf":
        return None
    if os.path.isfile(path):
        return f"{path} is a file. {allowed}"
    if _HUB_NAME.fullmatch(name):  # only the hub knows whether it is one
        return None
    guess = did_you_mean(name, [*KNOWN, *_neighbours(name)])
    return f"found {show(name)}: no such folder; looked at {path}. {guess}{allowed}"


def _gguf_fault(file: str) -> str | None:
    if os.path.isfile(path := local_path(file)):
        return None
    guess = did_you_mean(file, _neighbours(file))
    return f"found {show(file)}: no such file; looked at {path}. {guess}Allowed: a GGUF file, or null"


def _samples_fault(name: str) -> str | None:
    path = local_path(name)
    if os.path.isfile(path) or (os.path.isdir(path) and any(path.glob("*.parquet"))):
        return None
    allowed = "Allowed: a JSONL or Parquet file, or a folder of Parquet files"
    if name and os.path.isdir(path):
        return f"{path} has no Parquet file in it. {allowed}"
    guess = did_you_mean(name, _neighbours(name))
    return f"found {show(name)}: no such file; looked at {path}. {guess}{allowed}"


def _neighbours(name: str) -> list[str]:
    """Return the other names in the folder of a path, spelled as the path is."""
    folder = os.path.dirname(name)
    try:
        return [os.path.join(folder, other.name) for other in islice(os.scandir(local_path(folder)), 1000)]
    except (OSError, ValueError):
        return []


_CHECKS: dict[tuple[str, ...], Callable[[str], str | None]] = {
    ("base_model",): _model_fault,
    ("models", "*", "base_model"): _model_fault,
    ("problems", "train"): _problems_fault,
    ("problems", "test"): _problems_fault,
    ("evaluate", "problems", "[]"): _problems_fault,
    ("problems", "train", "path"): _problem_file_fault,
    ("problems", "test", "path"): _problem_file_fault,
    ("evaluate", "problems", "[]", "path"): _problem_file_fault,
    ("curate", "samples", "[]"): _samples_fault,
    ("gguf", "file"): _gguf_fault,
    ("models", "*", "gguf_file"): _gguf_fault,
}
